//! The clock of an ephemeral server: `GET`, `PUT` and `DELETE /clock`.
//!
//! Subtasks expire by it, and tokens of the access file. Dates of signatures are compared with the system's clock, because SDKs sign
//! with theirs.

use std::sync::Arc;

use axum::Json;
use serde::{Deserialize, Serialize};

use super::{TestControl, parse_object};
use crate::api::check_is_loaded;
use crate::domain::Timestamp;
use crate::internal::Internal;
use crate::maintenance;
use crate::web::error::Error;

/// The moments that the end of a subtask can have are those from 1970 to 2106.
const EARLIEST: &str = "1970-01-01T00:00:00Z";
const LATEST: &str = "2100-01-01T00:00:00Z";

const NANOSECONDS: f64 = 1e9;

/// The response of each operation.
#[derive(Debug, Serialize)]
pub(super) struct ClockReading {
    now: String,
    offset_seconds: f64,
}

/// The body of `PUT`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockSetting {
    now: Option<String>,
    offset_seconds: Option<f64>,
}

pub(super) async fn get_clock(control: Arc<TestControl>, _: Arc<Internal>) -> Result<Json<ClockReading>, Error> {
    let (now, offset) = (control.clock.now(), control.clock.offset_nanoseconds());
    Ok(Json(ClockReading { now: now.to_string(), offset_seconds: offset as f64 / NANOSECONDS }))
}

/// Sets the clock. Before the response, the subtasks that have expired by it are deleted.
pub(super) async fn set_clock(
    control: Arc<TestControl>,
    internal: Arc<Internal>,
    body: Vec<u8>,
) -> Result<Json<ClockReading>, Error> {
    let offset = parse(&body, Timestamp::now())?;
    change_clock(control, internal, offset).await
}

pub(super) async fn reset_clock(
    control: Arc<TestControl>,
    internal: Arc<Internal>,
) -> Result<Json<ClockReading>, Error> {
    change_clock(control, internal, 0).await
}

async fn change_clock(
    control: Arc<TestControl>,
    internal: Arc<Internal>,
    offset_nanoseconds: i64,
) -> Result<Json<ClockReading>, Error> {
    check_is_loaded(&internal.api.readiness)?;
    control.clock.set_offset_nanoseconds(offset_nanoseconds);
    if let Some(age) = control.retain_finished {
        let (store, clock) = (internal.api.store.clone(), control.clock.clone());
        let expired = tokio::task::spawn_blocking(move || maintenance::expire_all(&store, age, clock.now()));
        let expired = expired.await.map_err(|error| Error::Internal(error.to_string()))??;
        internal.metrics.count_expired(expired);
    }
    get_clock(control, internal).await
}

/// The offset from the system's clock, in nanoseconds, that the body asks for.
fn parse(body: &[u8], system: Timestamp) -> Result<i64, Error> {
    let setting: ClockSetting = parse_object(body).map_err(|reason| Error::input("body", reason))?;
    let (now, name) = match setting {
        ClockSetting { now: Some(now), offset_seconds: None } => {
            let now: Timestamp = now.parse().map_err(|error| Error::input("now", format!("{error}")))?;
            (now, "now")
        }
        // A larger number than fits becomes the largest that does, which is out of range.
        ClockSetting { now: None, offset_seconds: Some(offset) } => {
            (system.shifted((offset * NANOSECONDS) as i64), "offset_seconds")
        }
        _ => return Err(Error::input("body", "must have one of now and offset_seconds")),
    };
    let is_in_range = [EARLIEST, LATEST].map(|limit| limit.parse::<Timestamp>());
    match is_in_range {
        [Ok(earliest), Ok(latest)] if (earliest..latest).contains(&now) => Ok(now.nanoseconds_since(system)),
        _ => Err(Error::input(name, "must give a time in the years 1970 to 2099")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(body: &str) -> Result<i64, String> {
        parse(body.as_bytes(), "2026-01-01T00:00:00Z".parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_clock_is_set_to_a_time_or_by_an_offset() {
        let second = 1_000_000_000;
        for (body, seconds) in [
            (r#"{"now":"2026-01-02T00:00:00Z"}"#, 86_400),
            (r#"{"now":"2025-12-31T23:59:59+00:00"}"#, -1),
            (r#"{"offset_seconds":3600}"#, 3600),
            (r#"{"offset_seconds":-7.0,"now":null}"#, -7),
            (r#"{"now":"1970-01-01T00:00:00Z"}"#, -1_767_225_600),
        ] {
            assert_eq!(offset(body), Ok(seconds * second), "{body}");
        }
        assert_eq!(offset(r#"{"now":"2026-01-01T00:00:00.000000001Z"}"#), Ok(1));
        assert_eq!(offset(r#"{"offset_seconds":0.5}"#), Ok(second / 2));
    }

    #[test]
    fn an_invalid_setting_is_refused_with_the_broken_rule() {
        let range = "must give a time in the years 1970 to 2099";
        for (body, reason) in [
            ("", "body must be a JSON object"),
            ("{", "body is not valid: EOF"),
            (r#"["2030-01-01T00:00:00Z",null]"#, "body must be a JSON object"),
            ("{}", "body must have one of now and offset_seconds"),
            (r#"{"now":null}"#, "body must have one of"),
            (r#"{"now":"2030-01-01T00:00:00Z","offset_seconds":1}"#, "body must have one of"),
            (r#"{"now":1}"#, "body is not valid: invalid type: integer"),
            (r#"{"now":"tomorrow"}"#, "now must be an RFC 3339 date and time"),
            (r#"{"offset":"1h"}"#, "body is not valid: unknown field `offset`"),
            (r#"{"now":"2030-01-01T00:00:00Z","now":"2030-01-01T00:00:00Z"}"#, "body is not valid: duplicate field"),
            (r#"{"now":"2030-01-01T00:00:00Z"}x"#, "body is not valid: trailing characters"),
            (r#"{"now":"1969-12-31T23:59:59Z"}"#, &format!("now {range}")),
            (r#"{"now":"2100-01-01T00:00:00Z"}"#, &format!("now {range}")),
            (r#"{"offset_seconds":1e300}"#, &format!("offset_seconds {range}")),
            (r#"{"offset_seconds":-3e9}"#, &format!("offset_seconds {range}")),
            (r#"{"offset_seconds":1e999}"#, "body is not valid: number out of range"),
        ] {
            let said = offset(body).unwrap_err();
            assert!(said.starts_with(reason), "{body}: {said}");
        }
    }
}

//! The faults of an ephemeral server: `GET`, `PUT` and `DELETE /faults`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{TestControl, parse_object};
use crate::internal::Internal;
use crate::web::error::Error;
use crate::web::faults::{FaultPoint, FaultRule, FaultRules, FaultSpec, FaultStatus, Scope};

/// The most rules at once.
const MAX_RULES: usize = 100;

/// The longest delay: ten minutes.
const MAX_LATENCY_MS: u64 = 600_000;

/// The body of `PUT`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleList<'a> {
    #[serde(borrow)]
    rules: Vec<&'a RawValue>,
}

/// A rule of that body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleInput {
    operation: Option<String>,
    route: Option<String>,
    status: Option<u16>,
    latency_ms: Option<u64>,
    ratio: Option<f64>,
    times: Option<u64>,
    seed: Option<u64>,
}

/// The response of each operation.
#[derive(Debug, Serialize)]
pub(super) struct Faults {
    rules: Vec<RuleReport>,
}

/// A rule, and how many requests it has hit.
#[derive(Debug, Serialize)]
struct RuleReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    latency_ms: u64,
    ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    seed: u64,
    hits: u64,
}

pub(super) async fn list_faults(control: Arc<TestControl>, _: Arc<Internal>) -> Result<Json<Faults>, Error> {
    Ok(Json(report(&control.faults)))
}

pub(super) async fn set_faults(
    control: Arc<TestControl>,
    _: Arc<Internal>,
    body: Vec<u8>,
) -> Result<Json<Faults>, Error> {
    control.faults.replace(parse(&body, control.faults.points())?);
    Ok(Json(report(&control.faults)))
}

pub(super) async fn clear_faults(control: Arc<TestControl>, _: Arc<Internal>) -> Result<Json<Faults>, Error> {
    control.faults.replace(Vec::new());
    Ok(Json(report(&control.faults)))
}

fn report(faults: &FaultRules) -> Faults {
    let of_rule = |rule: &FaultRule| {
        let FaultSpec { scope, status, latency, ratio, times, seed } = rule.spec;
        let (operation, route) = match scope {
            Scope::Public => (None, None),
            Scope::Operation(id) => (Some(id), None),
            Scope::Route(path) => (None, Some(path)),
        };
        let status = status.map(|status| match status {
            FaultStatus::Internal => 500,
            FaultStatus::Unavailable => 503,
        });
        let latency_ms = latency.as_millis() as u64;
        RuleReport { operation, route, status, latency_ms, ratio, times, seed, hits: rule.hits() }
    };
    Faults { rules: faults.current().iter().map(of_rule).collect() }
}

/// Reads the rules of a body.
fn parse(body: &[u8], points: &[FaultPoint]) -> Result<Vec<FaultSpec>, Error> {
    let list: RuleList<'_> = parse_object(body).map_err(|reason| Error::input("body", reason))?;
    if list.rules.len() > MAX_RULES {
        return Err(Error::input("rules", format!("must be at most {MAX_RULES}")));
    }
    let rules = list.rules.iter().zip(1..).map(|(rule, position)| {
        parse_rule(rule.get(), points).map_err(|reason| Error::input("rule", format!("{position} {reason}")))
    });
    rules.collect()
}

fn parse_rule(text: &str, points: &[FaultPoint]) -> Result<FaultSpec, String> {
    let RuleInput { operation, route, status, latency_ms, ratio, times, seed } = parse_object(text.as_bytes())?;
    let scope = match (operation, route) {
        (None, None) => Scope::Public,
        (Some(id), None) => {
            let known = points.iter().find(|point| point.id == id);
            Scope::Operation(known.ok_or("must name an operation by its operationId, as CountSubJobs")?.id)
        }
        (None, Some(path)) => {
            let known = points.iter().find(|point| point.path == path);
            Scope::Route(known.ok_or("must name a route by its template, as /subjobs/v1/{project_id}/summary")?.path)
        }
        (Some(_), Some(_)) => return Err("must have operation or route, not both".into()),
    };
    let status = match status {
        None => None,
        Some(500) => Some(FaultStatus::Internal),
        Some(503) => Some(FaultStatus::Unavailable),
        Some(_) => return Err("must have status 500 or 503".into()),
    };
    let latency_ms = latency_ms.unwrap_or(0);
    if status.is_none() && latency_ms == 0 {
        return Err("must have status or latency_ms".into());
    }
    if latency_ms > MAX_LATENCY_MS {
        return Err(format!("must have latency_ms of at most {MAX_LATENCY_MS}"));
    }
    let ratio = ratio.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&ratio) {
        return Err("must have a ratio from 0 to 1".into());
    }
    if times == Some(0) {
        return Err("must have times of at least 1".into());
    }
    let latency = Duration::from_millis(latency_ms);
    Ok(FaultSpec { scope, status, latency, ratio, times, seed: seed.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [FaultPoint; 1] =
        [FaultPoint { id: "CountSubJobs", path: "/v1/{project_id}/count", is_public: true }];

    fn read(rules: &str) -> Result<Vec<FaultSpec>, String> {
        parse(format!("{{\"rules\":[{rules}]}}").as_bytes(), &POINTS).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_reported_as_they_were_given() {
        let faults = FaultRules::new(POINTS.to_vec());
        let rules = [
            r#"{"status":503}"#,
            r#"{"operation":"CountSubJobs","status":500,"latency_ms":600000,"ratio":0.25,"times":3,"seed":7}"#,
            r#"{"route":"/v1/{project_id}/count","latency_ms":1,"ratio":0}"#,
        ];
        faults.replace(read(&rules.join(",")).unwrap());
        let expected = serde_json::json!({ "rules": [
            { "status": 503, "latency_ms": 0, "ratio": 1.0, "seed": 0, "hits": 0 },
            { "operation": "CountSubJobs", "status": 500, "latency_ms": 600_000, "ratio": 0.25, "times": 3, "seed": 7, "hits": 0 },
            { "route": "/v1/{project_id}/count", "latency_ms": 1, "ratio": 0.0, "seed": 0, "hits": 0 },
        ]});
        assert_eq!(serde_json::to_value(report(&faults)).unwrap(), expected);
    }

    #[test]
    fn an_invalid_rule_is_refused_with_its_position_and_the_broken_rule() {
        for (rule, reason) in [
            ("{}", "must have status or latency_ms"),
            (r#"{"latency_ms":0}"#, "must have status or latency_ms"),
            (r#"{"status":404}"#, "must have status 500 or 503"),
            (r#"{"status":"503"}"#, "is not valid: invalid type: string"),
            (r#"{"status":503,"latency_ms":600001}"#, "must have latency_ms of at most 600000"),
            (r#"{"latency_ms":-1}"#, "is not valid: invalid value: integer `-1`"),
            (r#"{"latency_ms":1.5}"#, "is not valid: invalid type: floating point"),
            (r#"{"status":503,"ratio":1.1}"#, "must have a ratio from 0 to 1"),
            (r#"{"status":503,"ratio":-0.1}"#, "must have a ratio from 0 to 1"),
            (r#"{"status":503,"times":0}"#, "must have times of at least 1"),
            (r#"{"status":503,"operation":"Count"}"#, "must name an operation by its operationId"),
            (r#"{"status":503,"route":"/v1/p/count"}"#, "must name a route by its template"),
            (r#"{"status":503,"operation":"CountSubJobs","route":"/"}"#, "must have operation or route, not both"),
            (r#"{"status":503,"statuz":503}"#, "is not valid: unknown field `statuz`"),
            (r#"{"status":503,"status":500}"#, "is not valid: duplicate field `status`"),
            ("1", "must be a JSON object"),
            ("[null,null,503,null,null,null,null]", "must be a JSON object"),
        ] {
            let said = read(&format!("{{\"status\":500}},{rule}")).unwrap_err();
            assert!(said.starts_with(&format!("rule 2 {reason}")), "{rule}: {said}");
        }
        let many = |number| vec![r#"{"status":500}"#; number].join(",");
        assert_eq!(read(&many(MAX_RULES)).map(|rules| rules.len()), Ok(MAX_RULES));
        assert_eq!(read(&many(MAX_RULES + 1)), Err("rules must be at most 100".into()));
        for (body, reason) in [
            ("", "body must be a JSON object"),
            ("{}", "body is not valid: missing field `rules`"),
            ("[[]]", "body must be a JSON object"),
            (r#"{"rules":[],"more":1}"#, "body is not valid: unknown field `more`"),
            (r#"{"rules":[],"rules":[]}"#, "body is not valid: duplicate field"),
        ] {
            let said = parse(body.as_bytes(), &POINTS).unwrap_err().to_string();
            assert!(said.starts_with(reason), "{body}: {said}");
        }
    }
}

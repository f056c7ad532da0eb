//! What a test controls in an ephemeral server over the internal listener: its subtasks, its faults and its clock.

mod clock;
mod faults;
mod reset;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::IntoResponse;
use http::Method;
use serde::Deserialize;

use self::clock::{get_clock, reset_clock, set_clock};
use self::faults::{clear_faults, list_faults, set_faults};
use self::reset::reset_all;
use super::Internal;
use crate::domain::SettableClock;
use crate::web::body::Payload;
use crate::web::concurrency::Permit;
use crate::web::error::Error;
use crate::web::faults::FaultRules;
use crate::web::media_type;
use crate::web::operation::Operation;

/// The most bytes of a body.
const MAX_BODY: usize = 64 * 1024;

const JSON: &str = "application/json";

/// What a test controls.
#[derive(Debug)]
pub struct TestControl {
    /// The faults of both listeners.
    pub faults: Arc<FaultRules>,
    /// The clock by which subtasks and tokens expire.
    pub clock: SettableClock,
    /// How long subtasks are kept after their end; without it for ever.
    pub retain_finished: Option<Duration>,
}

type Row = Operation<Arc<Internal>>;

/// The operations. None of them needs a credential.
pub(super) fn operations(control: &Arc<TestControl>) -> Vec<Row> {
    vec![
        without_body("ResetAll", Method::POST, "/reset", control, reset_all),
        without_body("ListFaults", Method::GET, "/faults", control, list_faults),
        with_json("SetFaults", Method::PUT, "/faults", control, set_faults),
        without_body("ClearFaults", Method::DELETE, "/faults", control, clear_faults),
        without_body("GetClock", Method::GET, "/clock", control, get_clock),
        with_json("SetClock", Method::PUT, "/clock", control, set_clock),
        without_body("ResetClock", Method::DELETE, "/clock", control, reset_clock),
    ]
}

/// Makes an operation whose request has no body.
fn without_body<F, R>(
    id: &'static str,
    method: Method,
    path: &'static str,
    control: &Arc<TestControl>,
    operation: fn(Arc<TestControl>, Arc<Internal>) -> F,
) -> Row
where
    F: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoResponse + 'static,
{
    let control = control.clone();
    let answer = move |internal, request: Request| {
        let control = control.clone();
        async move {
            Payload::ignored(request.into_body()).ignore(&mut Permit::uncounted()).await?;
            operation(control, internal).await
        }
    };
    Operation::new(id, method, path, None, answer)
}

/// The same, of an operation whose request has a JSON body.
fn with_json<F, R>(
    id: &'static str,
    method: Method,
    path: &'static str,
    control: &Arc<TestControl>,
    operation: fn(Arc<TestControl>, Arc<Internal>, Vec<u8>) -> F,
) -> Row
where
    F: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoResponse + 'static,
{
    let control = control.clone();
    let answer = move |internal, request: Request| {
        let control = control.clone();
        async move {
            let (parts, body) = request.into_parts();
            if !media_type::is(&parts.headers, JSON) {
                return Err(Error::MediaType(JSON));
            }
            let mut payload = Payload::small(body, MAX_BODY);
            payload.read_all().await?;
            operation(control, internal, payload.into_bytes().0).await
        }
    };
    Operation::new(id, method, path, None, answer)
}

/// Parses a JSON object. For an array serde would take the values of the fields in their order.
fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err("must be a JSON object".into());
    }
    serde_json::from_slice(json).map_err(|error| format!("is not valid: {error}"))
}

//! Whether the process lives, and whether it should get requests.

use std::sync::Arc;

use axum::extract::State;

use super::Internal;
use crate::readiness::Phase;
use crate::web::error::{Error, Unavailable};

pub(super) async fn healthz() -> &'static str {
    "alive\n"
}

pub(super) async fn readyz(State(internal): State<Arc<Internal>>) -> Result<&'static str, Error> {
    match internal.api.readiness.phase() {
        Phase::Loading => Err(Unavailable::Starting.into()),
        Phase::Ready => {
            internal.api.store.check()?;
            Ok("ready\n")
        }
        Phase::Draining | Phase::Abandoned => Err(Unavailable::Draining.into()),
    }
}

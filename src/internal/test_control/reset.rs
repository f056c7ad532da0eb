//! ResetAll: `POST /reset` makes the server as it was when it started.

use std::sync::Arc;

use axum::Json;

use super::TestControl;
use crate::api::check_is_loaded;
use crate::internal::Internal;
use crate::internal::reset::Reset;
use crate::web::error::Error;

/// Clears the faults, resets the clock, deletes all subtasks of all projects, and forgets the signed reports, so that an equal one
/// is applied again.
pub(super) async fn reset_all(control: Arc<TestControl>, internal: Arc<Internal>) -> Result<Json<Reset>, Error> {
    // Before the phase is checked, so that the drain waits for each reset that begins.
    let _running = internal.reports.begin();
    check_is_loaded(&internal.api.readiness)?;
    control.faults.replace(Vec::new());
    control.clock.set_offset_nanoseconds(0);
    internal.report_limits.replay_cache.forget_accepted();
    let store = internal.api.store.clone();
    let deleted = tokio::task::spawn_blocking(move || store.reset_all());
    let deleted = deleted.await.map_err(|error| Error::Internal(error.to_string()))??;
    Ok(Json(Reset { deleted }))
}

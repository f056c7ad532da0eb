//! Builds what an ephemeral server has for its tests. No other server has any of it.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{self, Api};
use crate::domain::SettableClock;
use crate::internal::{self, Internal, REPORT, TestControl, TestOperations};
use crate::metrics::Metrics;
use crate::web::faults::{FaultPoint, FaultRules};
use crate::web::operation::Operation;

/// The control of a server that keeps subtasks for `retain_finished`.
pub(super) fn new(retain_finished: Option<Duration>) -> Arc<TestControl> {
    let point = |is_public| move |(id, path)| FaultPoint { id, path, is_public };
    let public = api::operations();
    let of_public = public.iter().map(|operation| (operation.id, operation.path)).map(point(true));
    // Without those that control the faults.
    let internal = internal::operations(&TestOperations::ResetOfProject);
    let of_internal = internal.iter().map(|operation| (operation.id, operation.path)).map(point(false));
    let faults = Arc::new(FaultRules::new(of_public.chain(of_internal).collect()));
    Arc::new(TestControl { faults, clock: SettableClock::default(), retain_finished })
}

/// The operations of the public listener, which fail as the rules say.
pub(super) fn public_operations(control: &TestControl) -> Vec<Operation<Arc<Api>>> {
    control.faults.inject(true, api::operations(), |_, _| ())
}

/// The operations of the internal listener, which fail as the rules say.
pub(super) fn internal_operations(
    control: &TestControl,
    tests: &TestOperations,
    metrics: &Arc<Metrics>,
) -> Vec<Operation<Arc<Internal>>> {
    let metrics = metrics.clone();
    control.faults.inject(false, internal::operations(tests), move |id, error| {
        if id == REPORT {
            metrics.count_report(error.status());
        }
    })
}

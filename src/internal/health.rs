//! Whether the process lives, and whether it should get requests.

use std::sync::Arc;

use axum::extract::State;

use super::Internal;
use crate::api::Api;
use crate::overview::State as ServerState;
use crate::web::error::{Error, Unavailable};

pub(super) async fn healthz() -> &'static str {
    "alive\n"
}

pub(super) async fn readyz(State(internal): State<Arc<Internal>>) -> Result<&'static str, Error> {
    check(&internal.api).map(|()| "ready\n")
}

/// Whether the server should get requests.
pub(super) fn is_ready(api: &Api) -> bool {
    check(api).is_ok()
}

fn check(api: &Api) -> Result<(), Error> {
    match ServerState::of(&api.readiness, &api.store) {
        ServerState::Starting => Err(Unavailable::Starting.into()),
        ServerState::Ready => Ok(()),
        ServerState::Draining => Err(Unavailable::Draining.into()),
        ServerState::Failed(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::{AccessHandle, AccessSource};
    use crate::api::ConcurrencyLimit;
    use crate::domain::JobTypes;
    use crate::internal::ReportLimits;
    use crate::metrics::Metrics;
    use crate::overview::Overview;
    use crate::readiness::{Phase, Readiness};
    use crate::store::Store;
    use crate::web::waiters::Waiters;

    #[tokio::test]
    async fn a_server_with_a_counter_mismatch_is_not_ready() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let text = "[identity]\nurl = \"http://127.0.0.1:1\"".to_owned();
        let access = AccessHandle::open(AccessSource::Text(text), Vec::new(), metrics.identity().unwrap());
        let (store, readiness) = (Arc::new(Store::drifted_by(3)), Arc::<Readiness>::default());
        let job_types = Arc::new(JobTypes::default());
        let overview = Overview::new(store.clone(), metrics.clone(), readiness.clone(), job_types.clone());
        let api = Api {
            store,
            access: Arc::new(access.unwrap()),
            job_types,
            readiness,
            limit: Arc::new(ConcurrencyLimit::new(1)),
            waiters: Arc::new(Waiters::new(1)),
            overview: Arc::new(overview),
        };
        let internal = Arc::new(Internal {
            api: Arc::new(api),
            metrics,
            report_limits: Arc::new(ReportLimits::new(Duration::ZERO)),
            reports: Arc::default(),
        });
        internal.api.readiness.enter(Phase::Ready);
        assert_eq!(readyz(State(internal.clone())).await.unwrap(), "ready\n");
        while internal.api.store.recount(100).unwrap().is_none() {}
        let refused = readyz(State(internal)).await.unwrap_err();
        assert_eq!(refused.status(), 500);
        assert_eq!(refused.to_string(), "the counters do not match the records: off by 3");
    }
}

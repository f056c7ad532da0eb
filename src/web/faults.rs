//! Faults that a test asks for: delays and errors of chosen operations. Only `--ephemeral` injects them.
//!
//! A fault comes before all decisions of its operation, and after its path and method have been found. Its error is a value as any
//! other, so the response, the log and the metrics are those of an error of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use tokio::time::sleep;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::error::{Error, Unavailable};
use super::operation::Operation;

/// An operation that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPoint {
    /// Its `operationId` in `docs/openapi.yaml`.
    pub id: &'static str,
    /// Its path template.
    pub path: &'static str,
    /// Whether the public listener has it.
    pub is_public: bool,
}

/// The operations to which a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every operation of the public listener.
    Public,
    /// The operation with this id.
    Operation(&'static str),
    /// Every operation with this path template.
    Route(&'static str),
}

impl Scope {
    fn contains(self, point: FaultPoint) -> bool {
        match self {
            Self::Public => point.is_public,
            Self::Operation(id) => point.id == id,
            Self::Route(path) => point.path == path,
        }
    }
}

/// The error that a fault is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultStatus {
    /// 500, as after an error of the server.
    Internal,
    /// 503, as of an overloaded server.
    Unavailable,
}

/// What a rule does to a request, and to which.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultSpec {
    /// The operations.
    pub scope: Scope,
    /// The error; without it the request is processed after the delay.
    pub status: Option<FaultStatus>,
    /// The delay before the error or the processing.
    pub latency: Duration,
    /// The part of the requests that the rule hits, 0 to 1.
    pub ratio: f64,
    /// After how many hits the rule ends; without it never.
    pub times: Option<u64>,
    /// Chooses which requests are hit: the same seed hits the same ones in the order of their arrival.
    pub seed: u64,
}

/// A rule, and how often it was used.
#[derive(Debug)]
pub struct FaultRule {
    /// What it does.
    pub spec: FaultSpec,
    /// The requests of its scope that it has decided on.
    seen: AtomicU64,
    hits: AtomicU64,
}

impl FaultRule {
    fn new(spec: FaultSpec) -> Self {
        Self { spec, seen: AtomicU64::new(0), hits: AtomicU64::new(0) }
    }

    /// How many requests it has hit.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Decides on the next request of its scope.
    fn hits_next(&self) -> bool {
        let (number, seed) = (self.seen.fetch_add(1, Ordering::Relaxed), self.spec.seed);
        // The upper 53 bits of a hash are a number from 0 to below 1.
        let chance = (xxh3_64_with_seed(&number.to_le_bytes(), seed) >> 11) as f64 / (1_u64 << 53) as f64;
        let is_left = |hits: u64| self.spec.times.is_none_or(|times| hits < times).then_some(hits + 1);
        chance < self.spec.ratio && self.hits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left).is_ok()
    }
}

/// The rules of a server.
#[derive(Debug)]
pub struct FaultRules {
    points: Vec<FaultPoint>,
    current: ArcSwap<Vec<FaultRule>>,
}

impl FaultRules {
    /// No rules, for a server with these operations.
    pub fn new(points: Vec<FaultPoint>) -> Self {
        Self { points, current: ArcSwap::default() }
    }

    /// The operations that can fail.
    pub fn points(&self) -> &[FaultPoint] {
        &self.points
    }

    /// The rules now.
    pub fn current(&self) -> Arc<Vec<FaultRule>> {
        self.current.load_full()
    }

    /// Replaces all rules. Of several that hit a request, the first one decides.
    pub fn replace(&self, specs: Vec<FaultSpec>) {
        self.current.store(Arc::new(specs.into_iter().map(FaultRule::new).collect()));
    }

    /// Applies the rules to a request: waits, and fails.
    async fn apply(&self, point: FaultPoint) -> Result<(), Error> {
        let fault = {
            let rules = self.current.load();
            let mut of_point = rules.iter().filter(|rule| rule.spec.scope.contains(point));
            of_point.find(|rule| rule.hits_next()).map(|rule| (rule.spec.latency, rule.spec.status))
        };
        let Some((latency, status)) = fault else { return Ok(()) };
        if !latency.is_zero() {
            sleep(latency).await;
        }
        match status {
            None => Ok(()),
            Some(FaultStatus::Internal) => Err(Error::Internal("a rule of /faults".into())),
            Some(FaultStatus::Unavailable) => Err(Unavailable::Overloaded.into()),
        }
    }

    /// Makes those of a listener's operations fail that a rule can name. `is_public` is whether it is the public one. `on_failure` is called with the id and the error of each failure, in
    /// place of the metrics of the operation's own.
    pub fn inject<S: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        is_public: bool,
        operations: Vec<Operation<S>>,
        on_failure: impl Fn(&'static str, &Error) + Clone + Send + Sync + 'static,
    ) -> Vec<Operation<S>> {
        let inject = |operation: Operation<S>| {
            let is_it = |point: &FaultPoint| point.id == operation.id && point.is_public == is_public;
            let Some(point) = self.points.iter().copied().find(is_it) else { return operation };
            let (rules, on_failure) = (self.clone(), on_failure.clone());
            let layer = from_fn(move |request: Request, next: Next| {
                let (rules, on_failure) = (rules.clone(), on_failure.clone());
                async move {
                    rules.apply(point).await.inspect_err(|error| on_failure(point.id, error))?;
                    Ok::<_, Error>(next.run(request).await)
                }
            });
            Operation { handler: operation.handler.route_layer(layer), direct: None, ..operation }
        };
        operations.into_iter().map(inject).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: FaultPoint = FaultPoint { id: "Count", path: "/count", is_public: true };
    const REPORT: FaultPoint = FaultPoint { id: "Report", path: "/report", is_public: false };

    fn spec(scope: Scope, status: FaultStatus) -> FaultSpec {
        FaultSpec { scope, status: Some(status), latency: Duration::ZERO, ratio: 1.0, times: None, seed: 0 }
    }

    fn rules(specs: Vec<FaultSpec>) -> FaultRules {
        let rules = FaultRules::new(vec![COUNT, REPORT]);
        rules.replace(specs);
        rules
    }

    /// The statuses of the next requests, 200 for one without a fault.
    async fn statuses(rules: &FaultRules, point: FaultPoint, requests: usize) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..requests {
            statuses.push(rules.apply(point).await.map_or_else(|error| error.status().as_u16(), |()| 200));
        }
        statuses
    }

    #[tokio::test]
    async fn a_rule_applies_to_its_scope() {
        for (scope, count, report) in
            [(Scope::Public, 503, 200), (Scope::Operation("Report"), 200, 503), (Scope::Route("/count"), 503, 200)]
        {
            let rules = rules(vec![spec(scope, FaultStatus::Unavailable)]);
            assert_eq!(statuses(&rules, COUNT, 1).await, [count], "{scope:?}");
            assert_eq!(statuses(&rules, REPORT, 1).await, [report], "{scope:?}");
        }
    }

    #[tokio::test]
    async fn the_first_rule_that_hits_decides_until_it_ends() {
        let first = FaultSpec { times: Some(2), ..spec(Scope::Public, FaultStatus::Internal) };
        let rules = rules(vec![first, spec(Scope::Public, FaultStatus::Unavailable)]);
        assert_eq!(statuses(&rules, COUNT, 4).await, [500, 500, 503, 503]);
        assert_eq!(rules.current().iter().map(FaultRule::hits).collect::<Vec<_>>(), [2, 2]);
    }

    #[tokio::test]
    async fn a_ratio_hits_that_part_of_the_requests_and_a_seed_the_same_ones() {
        let with = |ratio, seed| FaultSpec { ratio, seed, ..spec(Scope::Public, FaultStatus::Unavailable) };
        let hit = async |ratio, seed| statuses(&rules(vec![with(ratio, seed)]), COUNT, 1000).await;
        let hits = |statuses: &[u16]| statuses.iter().filter(|status| **status == 503).count();
        assert_eq!((hits(&hit(0.0, 0).await), hits(&hit(1.0, 0).await)), (0, 1000));
        let some = hit(0.3, 0).await;
        assert!((250..350).contains(&hits(&some)), "{}", hits(&some));
        assert_eq!(hit(0.3, 0).await, some);
        assert_ne!(hit(0.3, 1).await, some);
    }

    #[tokio::test(start_paused = true)]
    async fn a_latency_delays_a_request_with_an_error_or_without() {
        let slow = FaultSpec { latency: Duration::from_secs(3), ..spec(Scope::Public, FaultStatus::Internal) };
        for (spec, status) in [(slow.clone(), 500), (FaultSpec { status: None, ..slow }, 200)] {
            let (rules, start) = (rules(vec![spec]), tokio::time::Instant::now());
            assert_eq!(statuses(&rules, COUNT, 1).await, [status]);
            assert_eq!(start.elapsed(), Duration::from_secs(3));
        }
    }
}

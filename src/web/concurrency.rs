//! Limits how many requests are worked on at once; one more is refused at once instead of making all of them slow.
//!
//! A permit is held by a request that is worked on, and released by one that waits: for the identity service, or for its own body.
//! Bodies that are waited for have a smaller limit of their own, and a short time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::error::Unavailable;
use crate::readiness::{Phase, Readiness};

/// How many requests may be worked on for each whose body may be waited for.
const REQUESTS_PER_BODY: u32 = 4;

/// How long the body of a public request may take, at most 64 KiB of it, once it is waited for.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The requests of the public API under way, and how many there may be.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    max: u32,
    acquired: AtomicU32,
    max_body_waits: u32,
    body_waits: AtomicU32,
    identity_waits: AtomicU32,
}

/// A permit to work on a request, released when dropped.
#[derive(Debug)]
pub struct Permit {
    /// None of a request that is not limited.
    limit: Option<Arc<ConcurrencyLimit>>,
    is_held: bool,
}

impl ConcurrencyLimit {
    /// A limit of `max` requests, and of a quarter of that, but at least one, whose bodies are waited for.
    pub fn new(max: u32) -> Self {
        let max_body_waits = (max / REQUESTS_PER_BODY).max(1);
        Self { max, acquired: 0.into(), max_body_waits, body_waits: 0.into(), identity_waits: 0.into() }
    }

    /// How many are under way: worked on, or waiting.
    pub fn in_flight(&self) -> u32 {
        self.acquired.load(Ordering::Relaxed) + self.waiting_for_bodies() + self.waiting_for_identity()
    }

    /// How many wait for their own bodies.
    pub fn waiting_for_bodies(&self) -> u32 {
        self.body_waits.load(Ordering::Relaxed)
    }

    /// How many wait for the identity service.
    pub fn waiting_for_identity(&self) -> u32 {
        self.identity_waits.load(Ordering::Relaxed)
    }

    /// A permit, or why there is none now. A draining server still answers what reaches it.
    pub fn try_acquire(self: &Arc<Self>, readiness: &Readiness) -> Result<Permit, Unavailable> {
        check_is_loaded(readiness)?;
        increment_up_to(&self.acquired, self.max)?;
        Ok(Permit { limit: Some(self.clone()), is_held: true })
    }
}

/// Whether everything has been taken in, or why nothing can be answered yet.
pub fn check_is_loaded(readiness: &Readiness) -> Result<(), Unavailable> {
    match readiness.phase() {
        Phase::Ready | Phase::Draining => Ok(()),
        Phase::Loading => Err(Unavailable::Starting),
        Phase::Ending | Phase::Abandoned => Err(Unavailable::Draining),
    }
}

/// One more, if that is not more than `max`.
fn increment_up_to(acquired: &AtomicU32, max: u32) -> Result<(), Unavailable> {
    let one_more = |acquired| (acquired < max).then_some(acquired + 1);
    let acquired = acquired.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    acquired.map(drop).map_err(|_| Unavailable::Overloaded)
}

/// One that waits, until it is dropped.
struct WaitGuard<'a>(&'a AtomicU32);

impl<'a> WaitGuard<'a> {
    fn begin(count: &'a AtomicU32, max: u32) -> Result<Self, Unavailable> {
        increment_up_to(count, max).map(|()| Self(count))
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permit {
    /// The permit of a request that is not limited, as a report.
    pub fn unbounded() -> Self {
        Self { limit: None, is_held: false }
    }

    /// Waits for what the identity service says. If it is not there at once, the permit is released, and acquired again after.
    pub async fn await_identity<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Unavailable> {
        // How many may wait is the connections' bound.
        self.release_while(answer, |limit| (&limit.identity_waits, u32::MAX)).await
    }

    /// Waits for the request's own body. If it is not there at once, the permit is released, and acquired again after; meanwhile
    /// the body has one of the permits for bodies, for at most [`BODY_TIMEOUT`].
    pub async fn await_body<T>(&mut self, body: impl Future<Output = T>) -> Result<T, Unavailable> {
        match self.limit {
            None => Ok(body.await),
            Some(_) => {
                let in_time = self
                    .release_while(timeout(BODY_TIMEOUT, body), |limit| (&limit.body_waits, limit.max_body_waits))
                    .await?;
                in_time.map_err(|_| Unavailable::TimedOut)
            }
        }
    }

    async fn release_while<T>(
        &mut self,
        wait: impl Future<Output = T>,
        counter_and_max: impl FnOnce(&ConcurrencyLimit) -> (&AtomicU32, u32),
    ) -> Result<T, Unavailable> {
        let mut wait = pin!(wait);
        if let Poll::Ready(at_once) = std::future::poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await {
            return Ok(at_once);
        }
        let Some(limit) = self.limit.clone() else { return Ok(wait.await) };
        let (count, max) = counter_and_max(&limit);
        let waiting = WaitGuard::begin(count, max)?;
        self.release();
        let awaited = wait.await;
        drop(waiting);
        increment_up_to(&limit.acquired, limit.max)?;
        self.is_held = true;
        Ok(awaited)
    }

    fn release(&mut self) {
        if let Some(limit) = &self.limit
            && std::mem::take(&mut self.is_held)
        {
            limit.acquired.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;

    use super::*;

    fn limit(max: u32) -> (Arc<ConcurrencyLimit>, Readiness) {
        let (limit, readiness) = (Arc::new(ConcurrencyLimit::new(max)), Readiness::default());
        readiness.enter(Phase::Ready);
        (limit, readiness)
    }

    #[test]
    fn a_request_past_the_limit_is_refused() {
        let (limit, readiness) = (Arc::new(ConcurrencyLimit::new(2)), Readiness::default());
        assert_eq!(limit.try_acquire(&readiness).unwrap_err(), Unavailable::Starting);
        readiness.enter(Phase::Ready);
        let first = limit.try_acquire(&readiness).unwrap();
        let _second = limit.try_acquire(&readiness).unwrap();
        assert_eq!(limit.try_acquire(&readiness).unwrap_err(), Unavailable::Overloaded);
        assert_eq!(limit.in_flight(), 2);
        drop(first);
        assert!(limit.try_acquire(&readiness).is_ok());
        readiness.enter(Phase::Draining);
        assert!(limit.try_acquire(&readiness).is_ok());
    }

    #[test]
    fn no_permit_before_everything_is_loaded() {
        let (limit, readiness) = (Arc::new(ConcurrencyLimit::new(1)), Readiness::default());
        readiness.enter(Phase::Draining);
        assert_eq!(limit.try_acquire(&readiness).unwrap_err(), Unavailable::Draining);
        assert_eq!(limit.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_wait_for_the_identity_service_releases_the_permit() {
        let (limit, readiness) = limit(1);
        for is_full_again in [false, true] {
            let mut permit = limit.try_acquire(&readiness).unwrap();
            let (answer, answered) = oneshot::channel();
            let (asked, ()) = tokio::join!(permit.await_identity(answered), async {
                assert_eq!(limit.waiting_for_identity(), 1);
                let other = limit.try_acquire(&readiness).unwrap();
                answer.send("good").unwrap();
                if is_full_again {
                    std::mem::forget(other);
                }
            });
            let expected = if is_full_again { Err(Unavailable::Overloaded) } else { Ok(Ok("good")) };
            assert_eq!(asked, expected);
            drop(permit);
            assert_eq!(limit.in_flight(), u32::from(is_full_again));
        }
    }

    #[tokio::test]
    async fn a_permit_is_kept_without_a_wait() {
        let (limit, readiness) = limit(1);
        let mut permit = limit.try_acquire(&readiness).unwrap();
        assert_eq!(permit.await_identity(ready(1)).await, Ok(1));
        assert_eq!(permit.await_body(ready(2)).await, Ok(2));
        assert_eq!(limit.try_acquire(&readiness).unwrap_err(), Unavailable::Overloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_have_a_quarter_of_the_limit_and_five_seconds() {
        let (limit, readiness) = limit(8);
        let start = tokio::time::Instant::now();
        let stalled = async || limit.try_acquire(&readiness).unwrap().await_body(pending::<()>()).await;
        let (first, second, third, ()) = tokio::join!(stalled(), stalled(), stalled(), async {
            assert_eq!((limit.waiting_for_bodies(), limit.in_flight()), (2, 2));
        });
        assert_eq!((first, second), (Err(Unavailable::TimedOut), Err(Unavailable::TimedOut)));
        assert_eq!(third, Err(Unavailable::Overloaded));
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
        assert_eq!(limit.in_flight(), 0);
    }

    /// As when its caller goes away.
    #[tokio::test]
    async fn whoever_stops_waiting_leaves_nothing_behind() {
        let (limit, readiness) = limit(4);
        let mut permit = limit.try_acquire(&readiness).unwrap();
        for _ in 0..3 {
            let gave_up = timeout(Duration::from_millis(1), permit.await_body(pending::<()>())).await;
            assert!(gave_up.is_err());
            assert_eq!(limit.in_flight(), 0);
        }
        assert_eq!(Permit::unbounded().await_identity(ready(1)).await, Ok(1));
    }
}

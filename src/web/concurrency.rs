//! The concurrency limit: a request beyond it gets 503 at once, instead of slowing down all others.
//!
//! A request holds a permit while it is processed, and releases it while it waits for the identity service or for its own
//! body. Waits for bodies have a smaller limit of their own and a timeout.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::error::Unavailable;
use crate::readiness::{Phase, Readiness};

/// The ratio of the concurrency limit to the limit of waits for bodies.
const REQUESTS_PER_BODY: u32 = 4;

/// How long a public request may wait for its body, of which at most 64 KiB are read.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The limit of public requests in flight, and how many there are.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    max: u32,
    acquired: AtomicU32,
    max_body_waits: u32,
    body_waits: AtomicU32,
    identity_waits: AtomicU32,
}

/// A permit to process a request, released when dropped.
#[derive(Debug)]
pub struct Permit {
    /// `None` if the request is not limited.
    limit: Option<Arc<ConcurrencyLimit>>,
    is_held: bool,
    /// Whether a wait for the body ends after [`BODY_TIMEOUT`].
    has_body_timeout: bool,
}

impl ConcurrencyLimit {
    /// A limit of `max` requests, and of a quarter of that, at least one, for waits for bodies.
    pub fn new(max: u32) -> Self {
        let max_body_waits = (max / REQUESTS_PER_BODY).max(1);
        Self { max, acquired: 0.into(), max_body_waits, body_waits: 0.into(), identity_waits: 0.into() }
    }

    /// The number of requests in flight: processed or waiting.
    pub fn in_flight(&self) -> u32 {
        self.acquired.load(Ordering::Relaxed) + self.waiting_for_bodies() + self.waiting_for_identity()
    }

    /// The number of requests that wait for their bodies.
    pub fn waiting_for_bodies(&self) -> u32 {
        self.body_waits.load(Ordering::Relaxed)
    }

    /// The number of requests that wait for the identity service.
    pub fn waiting_for_identity(&self) -> u32 {
        self.identity_waits.load(Ordering::Relaxed)
    }

    /// Acquires a permit. A draining server still gives permits.
    ///
    /// # Errors
    ///
    /// If the limit is reached, or the server is still loading or about to end.
    pub fn try_acquire(self: &Arc<Self>, readiness: &Readiness) -> Result<Permit, Unavailable> {
        check_is_loaded(readiness)?;
        increment_up_to(&self.acquired, self.max)?;
        Ok(Permit { limit: Some(self.clone()), is_held: true, has_body_timeout: true })
    }
}

/// Checks that the server has recovered and imported everything and is not about to end.
///
/// # Errors
///
/// `Starting` before that, `Draining` at the end.
pub fn check_is_loaded(readiness: &Readiness) -> Result<(), Unavailable> {
    match readiness.phase() {
        Phase::Ready | Phase::Draining => Ok(()),
        Phase::Loading => Err(Unavailable::Starting),
        Phase::Ending | Phase::Abandoned => Err(Unavailable::Draining),
    }
}

/// Adds one, unless `max` is reached.
fn increment_up_to(acquired: &AtomicU32, max: u32) -> Result<(), Unavailable> {
    let one_more = |acquired| (acquired < max).then_some(acquired + 1);
    let acquired = acquired.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    acquired.map(drop).map_err(|_| Unavailable::Overloaded)
}

/// A counted wait. Dropping it subtracts it.
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
    /// The permit of a request that is not limited and whose body has a rule of its own, as a report's has.
    pub fn unbounded() -> Self {
        Self { limit: None, is_held: false, has_body_timeout: false }
    }

    /// The permit of a request that counts for no limit, but waits for its body no longer than others.
    pub fn uncounted() -> Self {
        Self { limit: None, is_held: false, has_body_timeout: true }
    }

    /// Waits for an answer of the identity service. If it is not ready at once, the permit is released during the wait.
    ///
    /// # Errors
    ///
    /// If there is no permit after the wait.
    pub async fn await_identity<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Unavailable> {
        // The number of connections limits these waits.
        self.release_while(answer, |limit| (&limit.identity_waits, u32::MAX)).await
    }

    /// Waits for the request's own body. If it is not ready at once, the permit is released during the wait, which lasts at
    /// most [`BODY_TIMEOUT`] and counts towards the limit of waits for bodies.
    ///
    /// # Errors
    ///
    /// If that limit is reached, the wait times out, or there is no permit after it.
    pub async fn await_body<T>(&mut self, body: impl Future<Output = T>) -> Result<T, Unavailable> {
        if !self.has_body_timeout {
            return Ok(body.await);
        }
        let body = timeout(BODY_TIMEOUT, body);
        let in_time = self.release_while(body, |limit| (&limit.body_waits, limit.max_body_waits)).await?;
        in_time.map_err(|_| Unavailable::TimedOut)
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
    fn a_request_beyond_the_limit_is_refused() {
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
    fn there_is_no_permit_before_the_server_is_loaded() {
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
    async fn a_future_that_is_ready_at_once_releases_no_permit() {
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

    #[tokio::test(start_paused = true)]
    async fn a_request_that_counts_for_no_limit_waits_for_its_body_no_longer() {
        let start = tokio::time::Instant::now();
        assert_eq!(Permit::uncounted().await_body(pending::<()>()).await, Err(Unavailable::TimedOut));
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
    }

    /// The wait is cancelled when the caller closes its connection.
    #[tokio::test]
    async fn a_cancelled_wait_releases_its_counts() {
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

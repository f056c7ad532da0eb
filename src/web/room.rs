//! Room for a bounded number of requests; one more is sent away at once instead of making all of them slow.
//!
//! A place is held by a request that is worked on, never by one that waits: for the identity service, or for its own body.
//! Bodies that are waited for have a share of their own, which is smaller, and a short time.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::error::Unavailable;
use crate::readiness::{Phase, Readiness};

/// How much smaller the share of bodies that are waited for is than the room.
const ROOM_PER_BODY: u32 = 4;

/// How long the body of a public request may take, at most 64 KiB of it, once it is waited for.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The requests of the public API under way, and how many there may be.
#[derive(Debug)]
pub struct Room {
    max: u32,
    taken: AtomicU32,
    max_bodies: u32,
    bodies: AtomicU32,
    identity: AtomicU32,
}

/// A place in the room, free again when dropped.
#[derive(Debug)]
pub struct Place<'a> {
    /// None of a request that no room bounds.
    room: Option<&'a Room>,
    is_taken: bool,
}

impl Room {
    /// Room for `max` requests, and for a quarter of that, but at least one, whose bodies are waited for.
    pub fn new(max: u32) -> Self {
        let max_bodies = (max / ROOM_PER_BODY).max(1);
        Self { max, taken: 0.into(), max_bodies, bodies: 0.into(), identity: 0.into() }
    }

    /// How many are under way: worked on, or waiting.
    pub fn under_way(&self) -> u32 {
        self.taken.load(Ordering::Relaxed) + self.bodies_awaited() + self.identity_awaited()
    }

    /// How many wait for their own bodies.
    pub fn bodies_awaited(&self) -> u32 {
        self.bodies.load(Ordering::Relaxed)
    }

    /// How many wait for the identity service.
    pub fn identity_awaited(&self) -> u32 {
        self.identity.load(Ordering::Relaxed)
    }

    /// A place, or why there is none now. A draining server still answers what reaches it.
    pub fn enter(&self, readiness: &Readiness) -> Result<Place<'_>, Unavailable> {
        loaded(readiness)?;
        take_one(&self.taken, self.max)?;
        Ok(Place { room: Some(self), is_taken: true })
    }
}

/// Whether everything has been taken in, or why nothing can be answered yet.
pub fn loaded(readiness: &Readiness) -> Result<(), Unavailable> {
    match readiness.phase() {
        Phase::Ready | Phase::Draining => Ok(()),
        Phase::Loading => Err(Unavailable::Starting),
        Phase::Ending | Phase::Abandoned => Err(Unavailable::Draining),
    }
}

/// One more, if that is not more than `max`.
fn take_one(taken: &AtomicU32, max: u32) -> Result<(), Unavailable> {
    let one_more = |taken| (taken < max).then_some(taken + 1);
    let taken = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    taken.map(drop).map_err(|_| Unavailable::Overloaded)
}

/// One that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU32, max: u32) -> Result<Self, Unavailable> {
        take_one(count, max).map(|()| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place<'_> {
    /// The place of a request that no room bounds, as a report.
    pub fn unbounded() -> Self {
        Self { room: None, is_taken: false }
    }

    /// Waits for what the identity service says. If it is not there at once, the place is given up, and taken again after.
    pub async fn await_identity<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Unavailable> {
        // How many may wait is the connections' bound.
        self.step_out(answer, |room| (&room.identity, u32::MAX)).await
    }

    /// Waits for the request's own body. If it is not there at once, the place is given up, and taken again after; meanwhile the
    /// body has one of the places for bodies, for at most [`BODY_TIMEOUT`].
    pub async fn await_body<T>(&mut self, body: impl Future<Output = T>) -> Result<T, Unavailable> {
        match self.room {
            None => Ok(body.await),
            Some(_) => {
                let in_time =
                    self.step_out(timeout(BODY_TIMEOUT, body), |room| (&room.bodies, room.max_bodies)).await?;
                in_time.map_err(|_| Unavailable::TimedOut)
            }
        }
    }

    async fn step_out<T>(
        &mut self,
        wait: impl Future<Output = T>,
        among: impl FnOnce(&Room) -> (&AtomicU32, u32),
    ) -> Result<T, Unavailable> {
        let mut wait = pin!(wait);
        if let Poll::Ready(at_once) = std::future::poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await {
            return Ok(at_once);
        }
        let Some(room) = self.room else { return Ok(wait.await) };
        let (count, max) = among(room);
        let waiting = Waiting::begin(count, max)?;
        self.leave();
        let awaited = wait.await;
        drop(waiting);
        take_one(&room.taken, room.max)?;
        self.is_taken = true;
        Ok(awaited)
    }

    fn leave(&mut self) {
        if let Some(room) = self.room
            && std::mem::take(&mut self.is_taken)
        {
            room.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;

    use super::*;

    fn room(max: u32) -> (Room, Readiness) {
        let (room, readiness) = (Room::new(max), Readiness::default());
        readiness.enter(Phase::Ready);
        (room, readiness)
    }

    #[test]
    fn one_too_many_is_sent_away_and_takes_no_place() {
        let (room, readiness) = (Room::new(2), Readiness::default());
        assert_eq!(room.enter(&readiness).unwrap_err(), Unavailable::Starting);
        readiness.enter(Phase::Ready);
        let first = room.enter(&readiness).unwrap();
        let _second = room.enter(&readiness).unwrap();
        assert_eq!(room.enter(&readiness).unwrap_err(), Unavailable::Overloaded);
        assert_eq!(room.under_way(), 2);
        drop(first);
        assert!(room.enter(&readiness).is_ok());
        readiness.enter(Phase::Draining);
        assert!(room.enter(&readiness).is_ok());
    }

    #[test]
    fn what_is_half_loaded_has_no_room() {
        let (room, readiness) = (Room::new(1), Readiness::default());
        readiness.enter(Phase::Draining);
        assert_eq!(room.enter(&readiness).unwrap_err(), Unavailable::Draining);
        assert_eq!(room.under_way(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_the_identity_service_holds_no_place_and_needs_one_again() {
        let (room, readiness) = room(1);
        for is_full_again in [false, true] {
            let mut place = room.enter(&readiness).unwrap();
            let (answer, answered) = oneshot::channel();
            let (asked, ()) = tokio::join!(place.await_identity(answered), async {
                assert_eq!(room.identity_awaited(), 1);
                let other = room.enter(&readiness).unwrap();
                answer.send("good").unwrap();
                if is_full_again {
                    std::mem::forget(other);
                }
            });
            let expected = if is_full_again { Err(Unavailable::Overloaded) } else { Ok(Ok("good")) };
            assert_eq!(asked, expected);
            drop(place);
            assert_eq!(room.under_way(), u32::from(is_full_again));
        }
    }

    #[tokio::test]
    async fn what_is_there_at_once_keeps_its_place() {
        let (room, readiness) = room(1);
        let mut place = room.enter(&readiness).unwrap();
        assert_eq!(place.await_identity(ready(1)).await, Ok(1));
        assert_eq!(place.await_body(ready(2)).await, Ok(2));
        assert_eq!(room.enter(&readiness).unwrap_err(), Unavailable::Overloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_waited_for_in_a_quarter_of_the_room_and_for_five_seconds() {
        let (room, readiness) = room(8);
        let start = tokio::time::Instant::now();
        let stalled = async || room.enter(&readiness).unwrap().await_body(pending::<()>()).await;
        let (first, second, third, ()) = tokio::join!(stalled(), stalled(), stalled(), async {
            assert_eq!((room.bodies_awaited(), room.under_way()), (2, 2));
        });
        assert_eq!((first, second), (Err(Unavailable::TimedOut), Err(Unavailable::TimedOut)));
        assert_eq!(third, Err(Unavailable::Overloaded));
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
        assert_eq!(room.under_way(), 0);
    }

    /// As when its caller goes away.
    #[tokio::test]
    async fn whoever_stops_waiting_leaves_nothing_behind() {
        let (room, readiness) = room(4);
        let mut place = room.enter(&readiness).unwrap();
        for _ in 0..3 {
            let gave_up = timeout(Duration::from_millis(1), place.await_body(pending::<()>())).await;
            assert!(gave_up.is_err());
            assert_eq!(room.under_way(), 0);
        }
        assert_eq!(Place::unbounded().await_identity(ready(1)).await, Ok(1));
    }
}

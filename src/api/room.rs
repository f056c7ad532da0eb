//! Room for a bounded number of requests; one more is sent away at once instead of making all of them slow.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::readiness::{Phase, Readiness};
use crate::web::error::Unavailable;

/// The requests of the public API being worked on, and how many there may be.
#[derive(Debug)]
pub struct Room {
    max: u32,
    taken: AtomicU32,
}

/// A place in the room, free again when dropped.
#[derive(Debug)]
pub struct Place<'a>(&'a Room);

impl Room {
    /// Room for `max` requests.
    pub fn new(max: u32) -> Self {
        Self { max, taken: AtomicU32::new(0) }
    }

    /// How many are being worked on.
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// A place, or why there is none now. A draining server still answers what reaches it.
    pub fn enter(&self, readiness: &Readiness) -> Result<Place<'_>, Unavailable> {
        loaded(readiness)?;
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Place(self)),
            Err(_) => Err(Unavailable::Overloaded),
        }
    }
}

/// Whether everything has been taken in, or why nothing can be answered yet.
pub fn loaded(readiness: &Readiness) -> Result<(), Unavailable> {
    match readiness.phase() {
        Phase::Ready | Phase::Draining => Ok(()),
        Phase::Loading => Err(Unavailable::Starting),
        Phase::Abandoned => Err(Unavailable::Draining),
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_sent_away_and_takes_no_place() {
        let (room, readiness) = (Room::new(2), Readiness::default());
        assert_eq!(room.enter(&readiness).unwrap_err(), Unavailable::Starting);
        readiness.enter(Phase::Ready);
        let first = room.enter(&readiness).unwrap();
        let _second = room.enter(&readiness).unwrap();
        assert_eq!(room.enter(&readiness).unwrap_err(), Unavailable::Overloaded);
        assert_eq!(room.taken(), 2);
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
        assert_eq!(room.taken(), 0);
    }
}

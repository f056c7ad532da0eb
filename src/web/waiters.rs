//! Limits how many requests wait for a change of what is stored.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Unavailable;

/// The requests that may wait at once.
#[derive(Debug)]
pub struct Waiters {
    max: u32,
    free: Arc<Semaphore>,
}

/// The right to wait, released when dropped.
#[derive(Debug)]
pub struct Waiter {
    _permit: OwnedSemaphorePermit,
}

impl Waiters {
    /// A limit of `max` requests.
    pub fn new(max: u32) -> Self {
        Self { max, free: Arc::new(Semaphore::new(max as usize)) }
    }

    /// How many wait now.
    pub fn waiting(&self) -> u32 {
        self.max.saturating_sub(u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX))
    }

    /// The right to wait.
    ///
    /// # Errors
    ///
    /// If as many wait already as may.
    pub fn try_acquire(&self) -> Result<Waiter, Unavailable> {
        let permit = self.free.clone().try_acquire_owned().map_err(|_| Unavailable::Overloaded)?;
        Ok(Waiter { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_above_the_limit_is_refused() {
        let waiters = Waiters::new(2);
        let first = waiters.try_acquire().unwrap();
        let _second = waiters.try_acquire().unwrap();
        assert_eq!(waiters.try_acquire().unwrap_err(), Unavailable::Overloaded);
        assert_eq!(waiters.waiting(), 2);
        drop(first);
        assert_eq!(waiters.waiting(), 1);
        assert!(waiters.try_acquire().is_ok());
    }
}

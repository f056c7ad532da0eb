//! How many subtasks of a principal's reports the store may be working on, so that another's report waits for few.
//!
//! The store takes reports one after another. What one principal has handed over is therefore what another waits for: a
//! report that is larger than a share, or many that together are a share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A share: two groups of those that a store on a disk makes durable at once.
const SHARE: u32 = 32 * 1024;

/// The shares of all principals that use theirs.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<Arc<str>, Arc<Semaphore>>>);

impl Shares {
    /// So much of the principal's share, if it is free now. A larger report takes all of it.
    pub(super) fn try_take(self: &Arc<Self>, principal: &str, sub_jobs: usize) -> Option<Share> {
        let mut share = self.find(principal);
        share.permit = share.semaphore.clone().try_acquire_many_owned(permits(sub_jobs)).ok();
        share.permit.is_some().then_some(share)
    }

    /// The same, once it is free.
    pub(super) async fn take(self: &Arc<Self>, principal: &str, sub_jobs: usize) -> Share {
        let mut share = self.find(principal);
        // The semaphore is never closed.
        share.permit = share.semaphore.clone().acquire_many_owned(permits(sub_jobs)).await.ok();
        share
    }

    fn find(self: &Arc<Self>, principal: &str) -> Share {
        let principal: Arc<str> = principal.into();
        let mut used = self.lock();
        let semaphore = used.entry(principal.clone()).or_insert_with(|| Arc::new(Semaphore::new(SHARE as usize)));
        Share { semaphore: semaphore.clone(), permit: None, principal, shares: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn permits(sub_jobs: usize) -> u32 {
    u32::try_from(sub_jobs).unwrap_or(SHARE).min(SHARE)
}

/// A part of a principal's share, or a wait for one; free again when dropped.
#[derive(Debug)]
pub(super) struct Share {
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    principal: Arc<str>,
    shares: Arc<Shares>,
}

impl Drop for Share {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut used = self.shares.lock();
        // The map's own and this one. Others take theirs under the lock only.
        if Arc::strong_count(&self.semaphore) == 2 {
            used.remove(&self.principal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = SHARE as usize;

    #[tokio::test]
    async fn a_principal_has_one_large_report_or_some_small_ones_in_the_store() {
        let shares = Arc::<Shares>::default();
        let large = shares.try_take("a", 10 * ALL).unwrap();
        assert!(shares.try_take("a", 1).is_none());
        let other = shares.try_take("b", 10 * ALL).unwrap();
        let (next, ()) = tokio::join!(shares.take("a", ALL - 1), async { drop(large) });
        assert!(shares.try_take("a", 2).is_none());
        let small = shares.try_take("a", 1).unwrap();
        assert_eq!(shares.lock().len(), 2);
        drop((next, small));
        assert_eq!(shares.lock().len(), 1);
        drop(other);
        assert!(shares.lock().is_empty());
    }
}

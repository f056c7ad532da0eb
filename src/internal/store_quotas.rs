//! How many subtasks of a principal's reports the store may be working on, so that another's report waits for few.
//!
//! The store takes reports one after another. What one principal has handed over is therefore what another waits for: a
//! report that is larger than a quota, or many that together are a quota.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A quota: two groups of those that a store on a disk makes durable at once.
const QUOTA: u32 = 32 * 1024;

/// The quotas of all principals that use theirs.
#[derive(Debug, Default)]
pub(super) struct StoreQuotas(Mutex<HashMap<Arc<str>, Arc<Semaphore>>>);

impl StoreQuotas {
    /// So much of the principal's quota, if it is free now. A larger report takes all of it.
    pub(super) fn try_acquire(self: &Arc<Self>, principal: &str, sub_jobs: usize) -> Option<QuotaPermit> {
        let mut permit = self.find(principal);
        permit.permit = permit.semaphore.clone().try_acquire_many_owned(permits(sub_jobs)).ok();
        permit.permit.is_some().then_some(permit)
    }

    /// The same, once it is free.
    pub(super) async fn acquire(self: &Arc<Self>, principal: &str, sub_jobs: usize) -> QuotaPermit {
        let mut permit = self.find(principal);
        // The semaphore is never closed.
        permit.permit = permit.semaphore.clone().acquire_many_owned(permits(sub_jobs)).await.ok();
        permit
    }

    fn find(self: &Arc<Self>, principal: &str) -> QuotaPermit {
        let principal: Arc<str> = principal.into();
        let mut used = self.lock();
        let semaphore = used.entry(principal.clone()).or_insert_with(|| Arc::new(Semaphore::new(QUOTA as usize)));
        QuotaPermit { semaphore: semaphore.clone(), permit: None, principal, store_quotas: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn permits(sub_jobs: usize) -> u32 {
    u32::try_from(sub_jobs).unwrap_or(QUOTA).min(QUOTA)
}

/// A part of a principal's quota, or a wait for one; free again when dropped.
#[derive(Debug)]
pub(super) struct QuotaPermit {
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    principal: Arc<str>,
    store_quotas: Arc<StoreQuotas>,
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut used = self.store_quotas.lock();
        // The map's own and this one. Others take theirs under the lock only.
        if Arc::strong_count(&self.semaphore) == 2 {
            used.remove(&self.principal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = QUOTA as usize;

    #[tokio::test]
    async fn a_principal_has_one_large_report_or_some_small_ones_in_the_store() {
        let store_quotas = Arc::<StoreQuotas>::default();
        let large = store_quotas.try_acquire("a", 10 * ALL).unwrap();
        assert!(store_quotas.try_acquire("a", 1).is_none());
        let other = store_quotas.try_acquire("b", 10 * ALL).unwrap();
        let (next, ()) = tokio::join!(store_quotas.acquire("a", ALL - 1), async { drop(large) });
        assert!(store_quotas.try_acquire("a", 2).is_none());
        let small = store_quotas.try_acquire("a", 1).unwrap();
        assert_eq!(store_quotas.lock().len(), 2);
        drop((next, small));
        assert_eq!(store_quotas.lock().len(), 1);
        drop(other);
        assert!(store_quotas.lock().is_empty());
    }
}

//! Limits how many subtasks of one principal are in the store's queue at once.
//!
//! The store processes reports one after another. So a report of another principal waits for what is in the queue: for one large
//! report, or for several that together fill a quota.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The subtasks of one quota: twice as many as a store on a disk writes as one group.
const QUOTA: u32 = 32 * 1024;

/// The quotas of the principals that use any of theirs.
#[derive(Debug, Default)]
pub(super) struct StoreQuotas(Mutex<HashMap<Arc<str>, Arc<Semaphore>>>);

impl StoreQuotas {
    /// Acquires that many subtasks of the principal's quota, if they are free now. A report larger than the quota acquires all of it.
    pub(super) fn try_acquire(self: &Arc<Self>, principal: &str, sub_jobs: usize) -> Option<QuotaPermit> {
        let mut permit = self.find(principal);
        permit.permit = permit.semaphore.clone().try_acquire_many_owned(permits(sub_jobs)).ok();
        permit.permit.is_some().then_some(permit)
    }

    /// Waits until that many subtasks of the principal's quota are free and acquires them.
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

/// An acquired part of a principal's quota, or a wait for one; released when dropped.
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
        // One reference is the map's and one this. New references are made under the lock only.
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
    async fn a_principal_enqueues_one_large_report_or_several_small_ones() {
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

//! A mutex whose value is complete even after a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose value no panic can leave half changed.
pub(super) fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

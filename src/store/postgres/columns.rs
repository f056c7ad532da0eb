//! Columns of a subtask, as the types of the domain. `None`: not a value that this program writes.

use crate::domain::{Status, Version};

pub(super) fn status(number: i16) -> Option<Status> {
    Status::ALL.get(usize::try_from(number).ok()?).copied()
}

pub(super) fn version(number: i64) -> Option<Version> {
    Version::try_from(u64::try_from(number).ok()?).ok()
}

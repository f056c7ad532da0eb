//! How many connections the limit of open files leaves room for, beside everything else that needs a descriptor.

use super::reserve::RESERVE_CONNECTIONS;
use crate::store::STORE_DESCRIPTORS;

/// Standard streams, the runtime's own, signals, both listeners, and a few that the process was started with.
const PROCESS_DESCRIPTORS: u64 = 24;

/// Read one at a time, but by several parts at once: the access file and its secrets at a reload, a load file, files of the
/// system for names and time.
const FILE_DESCRIPTORS: u64 = 16;

/// Connections to the identity service, with name look-ups.
const IDENTITY_DESCRIPTORS: u64 = 48;

/// A connection of each listener that has been accepted and not yet given a place.
const ACCEPTED_DESCRIPTORS: u64 = 2;

/// What is left to connections of a limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DescriptorBudget {
    /// The limit of open files.
    pub(super) limit: u64,
    /// What everything but the listeners' connections may need of it.
    pub(super) reserved: u64,
}

impl DescriptorBudget {
    /// Under the limit of this process.
    pub(super) fn of_this_process(has_data_dir: bool) -> std::io::Result<Self> {
        let (limit, _) = rlimit::Resource::NOFILE.get()?;
        Ok(Self::new(limit, has_data_dir))
    }

    fn new(limit: u64, has_data_dir: bool) -> Self {
        let store = if has_data_dir { STORE_DESCRIPTORS } else { 0 };
        Self {
            limit,
            reserved: PROCESS_DESCRIPTORS
                + FILE_DESCRIPTORS
                + IDENTITY_DESCRIPTORS
                + ACCEPTED_DESCRIPTORS
                + RESERVE_CONNECTIONS as u64
                + store,
        }
    }

    /// The connections that each of the two listeners may have: as many as wanted, if there are descriptors for them.
    pub(super) fn max_connections(self, wanted: usize) -> usize {
        let each = self.limit.saturating_sub(self.reserved) / 2;
        wanted.min(usize::try_from(each).unwrap_or(usize::MAX)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_everything_else_leaves() {
        for (limit, has_data_dir, wanted, expected) in [
            (20_000, true, 4096, 4096),
            (u64::MAX, true, usize::MAX, (u64::MAX / 2) as usize - 109),
            (1024, false, 4096, 451),
            (1024, true, 4096, 403),
            (400, true, 4096, 91),
            (400, true, 50, 50),
            (256, false, 4096, 67),
            (256, true, 4096, 19),
            (64, false, 4096, 1),
            (0, true, 4096, 1),
        ] {
            let budget = DescriptorBudget::new(limit, has_data_dir);
            assert_eq!(budget.max_connections(wanted), expected, "{budget:?}");
        }
    }
}

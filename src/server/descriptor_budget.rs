//! How many connections the limit of open files allows, after everything else that needs a file descriptor.

use super::reserve::RESERVE_CONNECTIONS;
use crate::store::STORE_DESCRIPTORS;

/// Standard streams, the runtime, signals, both listeners, and a few that the process inherited.
const PROCESS_DESCRIPTORS: u64 = 24;

/// Files open for a short time: the access file and its secrets at a reload, a load file, the system's files for host names
/// and time.
const FILE_DESCRIPTORS: u64 = 16;

/// Connections to the identity service and DNS look-ups.
const IDENTITY_DESCRIPTORS: u64 = 48;

/// One connection of each listener that has been accepted and has no permit yet.
const ACCEPTED_DESCRIPTORS: u64 = 2;

/// How the limit of open files is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DescriptorBudget {
    /// The limit of open files.
    pub(super) limit: u64,
    /// What is reserved for everything but the listeners' connections.
    pub(super) reserved: u64,
}

impl DescriptorBudget {
    /// The budget of this process, from its soft limit.
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

    /// How many connections each of the two listeners may have: as many as wanted, or fewer if descriptors are scarce.
    pub(super) fn max_connections(self, wanted: usize) -> usize {
        let each = self.limit.saturating_sub(self.reserved) / 2;
        wanted.min(usize::try_from(each).unwrap_or(usize::MAX)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_the_descriptors_that_are_not_reserved() {
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

//! How many connections the limit of open files allows, after everything else that needs a file descriptor.

use super::reserve::RESERVE_CONNECTIONS;
use crate::config::Config;
use crate::store::STORE_DESCRIPTORS;

/// Standard streams, the runtime, signals, both listeners, and a few that the process inherited.
const PROCESS_DESCRIPTORS: u64 = 24;

/// Files open for a short time: the access file and its secrets at a reload, a load file, the system's files for host names
/// and time.
const FILE_DESCRIPTORS: u64 = 16;

/// Connections to the identity service and DNS look-ups.
const IDENTITY_DESCRIPTORS: u64 = 48;

/// The connection to a collector of spans, a lost one, and DNS look-ups.
const COLLECTOR_DESCRIPTORS: u64 = 8;

/// Connections to a database in addition to those that write: two for counts, three for lists, background work and changes.
const DATABASE_READERS: u64 = 5;

/// The runtime of the connections that write to a database: two for polling, one to wake it, one for signals.
const WRITER_RUNTIME: u64 = 4;

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
    pub(super) fn of_this_process(config: &Config) -> std::io::Result<Self> {
        let (limit, _) = rlimit::Resource::NOFILE.get()?;
        let collector = if config.traces.is_some() { COLLECTOR_DESCRIPTORS } else { 0 };
        Ok(Self::new(limit, store_descriptors(config) + collector))
    }

    /// `configured` is what the store and the collector need.
    fn new(limit: u64, configured: u64) -> Self {
        Self {
            limit,
            reserved: PROCESS_DESCRIPTORS
                + FILE_DESCRIPTORS
                + IDENTITY_DESCRIPTORS
                + ACCEPTED_DESCRIPTORS
                + RESERVE_CONNECTIONS as u64
                + configured,
        }
    }

    /// How many connections each of the two listeners may have: as many as wanted, or fewer if descriptors are scarce.
    pub(super) fn max_connections(self, wanted: usize) -> usize {
        let each = self.limit.saturating_sub(self.reserved) / 2;
        wanted.min(usize::try_from(each).unwrap_or(usize::MAX)).max(1)
    }
}

/// What the store needs. A lost connection to a database may still be open while the next one is made.
fn store_descriptors(config: &Config) -> u64 {
    match (&config.data_dir, &config.store) {
        (Some(_), _) => STORE_DESCRIPTORS,
        (None, Some(_)) => 2 * (u64::from(config.store_lanes) + DATABASE_READERS) + WRITER_RUNTIME,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_the_descriptors_that_are_not_reserved() {
        for (limit, store, wanted, expected) in [
            (20_000, STORE_DESCRIPTORS, 4096, 4096),
            (u64::MAX, STORE_DESCRIPTORS, usize::MAX, (u64::MAX / 2) as usize - 109),
            (1024, 0, 4096, 451),
            (1024, STORE_DESCRIPTORS, 4096, 403),
            (400, STORE_DESCRIPTORS, 4096, 91),
            (400, STORE_DESCRIPTORS, 50, 50),
            (256, 0, 4096, 67),
            (256, STORE_DESCRIPTORS, 4096, 19),
            (256, 14, 4096, 60),
            (64, 0, 4096, 1),
            (0, STORE_DESCRIPTORS, 4096, 1),
        ] {
            let budget = DescriptorBudget::new(limit, store);
            assert_eq!(budget.max_connections(wanted), expected, "{budget:?}");
        }
    }

    #[test]
    fn a_database_needs_two_descriptors_for_each_of_its_connections_and_a_runtime() {
        let config = Config::on_any_port(crate::access::AccessSource::Text(String::new()));
        assert_eq!(store_descriptors(&config), 0);
        let url = "postgres://u@h/d".parse().unwrap();
        let store = Some(crate::store::Target::new(url, None, None).unwrap());
        assert_eq!(store_descriptors(&Config { store, ..config.clone() }), 18);
        assert_eq!(store_descriptors(&Config { data_dir: Some("d".into()), ..config }), STORE_DESCRIPTORS);
    }
}

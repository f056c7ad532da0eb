//! Counters by key: a job type and a status.

use crate::domain::{CountFilter, JobType, JobTypes, Status};

/// A job type and a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CounterKey(u16);

impl CounterKey {
    /// One more than the highest index of a key.
    pub(super) const MAX: usize = JobTypes::MAX * Status::COUNT;

    /// The key of a removed record; no counter has it.
    pub(super) const NONE: Self = Self(u16::MAX);

    pub(super) fn new(job_type: JobType, status: Status) -> Self {
        Self((job_type.index() * Status::COUNT + status as usize) as u16)
    }

    /// The job type.
    pub(super) fn job_type(self) -> JobType {
        JobType::from_index(usize::from(self.0) / Status::COUNT)
    }

    pub(super) fn status(self) -> Status {
        Status::ALL[usize::from(self.0) % Status::COUNT]
    }

    /// The number of the key: dense, from zero.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn matches(self, filter: &CountFilter) -> bool {
        let (job_type, status) = (usize::from(self.0) / Status::COUNT, usize::from(self.0) % Status::COUNT);
        filter.job_types.contains(job_type) && filter.status.is_none_or(|wanted| wanted as usize == status)
    }
}

/// The keys that match a filter, as a set that is asked many times.
#[derive(Debug)]
pub(super) struct KeySet([u64; CounterKey::MAX.div_ceil(64)]);

impl KeySet {
    /// The job of the filter plays no part.
    pub(super) fn of(filter: &CountFilter) -> Self {
        let mut set = [0; CounterKey::MAX.div_ceil(64)];
        for key in (0..CounterKey::MAX as u16).map(CounterKey).filter(|key| key.matches(filter)) {
            set[key.index() / 64] |= 1 << (key.index() % 64);
        }
        Self(set)
    }

    /// False for [`CounterKey::NONE`].
    pub(super) fn contains(&self, key: CounterKey) -> bool {
        self.0.get(key.index() / 64).is_some_and(|word| word >> (key.index() % 64) & 1 == 1)
    }
}

/// A counter for every key: of all projects together.
#[derive(Debug, Clone)]
pub(super) struct DenseCounters(Box<[u32]>);

impl DenseCounters {
    pub(super) fn new(job_types: usize) -> Self {
        Self(vec![0; job_types * Status::COUNT].into())
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, key: CounterKey) -> u64 {
        self.0[key.index()].into()
    }

    /// The counters that are not zero.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CounterKey, u32)> {
        let counters = self.0.iter().enumerate().filter(|(_, count)| **count != 0);
        counters.map(|(key, &count)| (CounterKey(key as u16), count))
    }

    pub(super) fn add(&mut self, key: CounterKey, change: i32) {
        let count = &mut self.0[key.index()];
        *count = count.wrapping_add_signed(change);
    }
}

/// The counters of one job type, by status.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    job_type: u32,
    counts: [u32; Status::COUNT],
}

impl Row {
    fn iter(&self) -> impl Iterator<Item = (CounterKey, u32)> {
        let first = self.job_type as usize * Status::COUNT;
        self.counts.iter().enumerate().map(move |(status, &count)| (CounterKey((first + status) as u16), count))
    }

    fn sum(&self, filter: &CountFilter) -> u64 {
        if !filter.job_types.contains(self.job_type as usize) {
            return 0;
        }
        match filter.status {
            Some(status) => self.counts[status as usize].into(),
            None => self.counts.iter().map(|&count| u64::from(count)).sum(),
        }
    }
}

/// The counters of a job or of a project: of the types that it has only, since most have few of the types that there are.
#[derive(Debug)]
pub(super) enum Counters {
    /// At most two, in place; a count of zero means that its place is free.
    Few([CounterKey; 2], [u32; 2]),
    /// A row for each type with a counter that is not zero.
    #[expect(clippy::box_collection, reason = "the box keeps the common case at 16 bytes")]
    Rows(Box<Vec<Row>>),
}

impl Default for Counters {
    fn default() -> Self {
        Self::Few([CounterKey(0); 2], [0; 2])
    }
}

impl Counters {
    pub(super) fn add(&mut self, key: CounterKey, change: i32) {
        match self {
            Self::Few(keys, counts) => {
                let taken = (0..2).find(|&at| counts[at] != 0 && keys[at] == key);
                if let Some(at) = taken.or_else(|| (0..2).find(|&at| counts[at] == 0)) {
                    keys[at] = key;
                    counts[at] = counts[at].wrapping_add_signed(change);
                } else {
                    let few = [(keys[0], counts[0]), (keys[1], counts[1]), (key, change as u32)];
                    let mut rows = Vec::new();
                    few.into_iter().for_each(|(key, count)| add_to_row(&mut rows, key, count as i32));
                    *self = Self::Rows(Box::new(rows));
                }
            }
            Self::Rows(rows) => add_to_row(rows, key, change),
        }
    }

    /// The counters that are not zero.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CounterKey, u32)> {
        let (few, rows) = match self {
            Self::Few(keys, counts) => ([(keys[0], counts[0]), (keys[1], counts[1])], &[][..]),
            Self::Rows(rows) => ([(CounterKey(0), 0); 2], &rows[..]),
        };
        few.into_iter().chain(rows.iter().flat_map(Row::iter)).filter(|(_, count)| *count != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn sum(&self, filter: &CountFilter) -> u64 {
        let count = |key: CounterKey, count: u32| if key.matches(filter) { u64::from(count) } else { 0 };
        match self {
            Self::Few(keys, counts) => count(keys[0], counts[0]) + count(keys[1], counts[1]),
            Self::Rows(rows) => rows.iter().map(|row| row.sum(filter)).sum(),
        }
    }
}

fn add_to_row(rows: &mut Vec<Row>, key: CounterKey, change: i32) {
    let (job_type, status) = (u32::from(key.0) / Status::COUNT as u32, usize::from(key.0) % Status::COUNT);
    let at = rows.iter().position(|row| row.job_type == job_type).unwrap_or_else(|| {
        // One at a time: most jobs have subtasks of one type.
        rows.reserve_exact(1);
        rows.push(Row { job_type, counts: [0; Status::COUNT] });
        rows.len() - 1
    });
    let counts = &mut rows[at].counts;
    counts[status] = counts[status].wrapping_add_signed(change);
    if *counts == [0; Status::COUNT] {
        rows.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_counters_are_small() {
        assert_eq!((size_of::<Counters>(), size_of::<Row>()), (16, 32));
    }

    proptest! {
        /// Adds and subtracts at random, and compares every sum with a plain list.
        #[test]
        fn counters_agree_with_a_list(steps in proptest::collection::vec((0..5usize, 0..7usize, any::<bool>()), 0..90)) {
            let types = JobTypes::default();
            let types: Vec<_> = types.iter().collect();
            let (mut counters, mut list) = (Counters::default(), Vec::new());
            for (job_type, status, add) in steps {
                let kind = (types[job_type], Status::ALL[status]);
                let at = list.iter().position(|&other| other == kind);
                let change = match (add, at) {
                    (true, _) => { list.push(kind); 1 }
                    (false, Some(at)) => { list.swap_remove(at); -1 }
                    (false, None) => continue,
                };
                let key = CounterKey::new(kind.0, kind.1);
                prop_assert_eq!((key.job_type(), key.status()), kind);
                counters.add(key, change);
                prop_assert_eq!(counters.is_empty(), list.is_empty());
                let mut keys: Vec<_> =
                    counters.iter().flat_map(|(key, count)| std::iter::repeat_n(key, count as usize)).collect();
                keys.sort_unstable();
                let mut truth: Vec<_> = list.iter().map(|&(job_type, status)| CounterKey::new(job_type, status)).collect();
                truth.sort_unstable();
                prop_assert_eq!(keys, truth);
                for status in Status::ALL.into_iter().map(Some).chain([None]) {
                    for wanted in [&types[..], &types[..1], &types[1..3], &[]] {
                        let job_types = wanted.iter().copied().collect();
                        let filter = CountFilter { status, job_types, job_id: None };
                        let matches = |kind: &&(_, _)| wanted.contains(&kind.0) && status.is_none_or(|s| s == kind.1);
                        let truth = list.iter().filter(matches).count() as u64;
                        prop_assert_eq!(counters.sum(&filter), truth);
                        let set = KeySet::of(&filter);
                        prop_assert_eq!(set.contains(key), key.matches(&filter));
                        prop_assert!(!set.contains(CounterKey::NONE));
                    }
                }
            }
        }
    }
}

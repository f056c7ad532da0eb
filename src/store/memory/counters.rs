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

/// A counter for every key.
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

    fn sum(&self, filter: &CountFilter) -> u64 {
        let rows = self.0.chunks_exact(Status::COUNT).enumerate();
        let rows = rows.filter(|(job_type, _)| filter.job_types.contains(*job_type));
        match filter.status {
            Some(status) => rows.map(|(_, row)| u64::from(row[status as usize])).sum(),
            None => rows.flat_map(|(_, row)| row).map(|&count| u64::from(count)).sum(),
        }
    }
}

/// The counters that are not zero: for jobs, which are many and mostly have subtasks of one type in a few statuses.
#[derive(Debug)]
pub(super) enum JobCounters {
    /// At most two, in place; a count of zero means that its place is free.
    Few([CounterKey; 2], [u32; 2]),
    #[expect(clippy::box_collection, reason = "the box keeps the common case at 16 bytes")]
    Many(Box<Vec<(CounterKey, u32)>>),
}

impl Default for JobCounters {
    fn default() -> Self {
        Self::Few([CounterKey(0); 2], [0; 2])
    }
}

impl JobCounters {
    pub(super) fn add(&mut self, key: CounterKey, change: i32) {
        match self {
            Self::Few(keys, counts) => {
                let taken = (0..2).find(|&at| counts[at] != 0 && keys[at] == key);
                if let Some(at) = taken.or_else(|| (0..2).find(|&at| counts[at] == 0)) {
                    keys[at] = key;
                    counts[at] = counts[at].wrapping_add_signed(change);
                } else {
                    let [first, second] = [0, 1].map(|at| (keys[at], counts[at]));
                    *self = Self::Many(Box::new(vec![first, second, (key, change as u32)]));
                }
            }
            Self::Many(counters) => match counters.iter().position(|(other, _)| *other == key) {
                Some(at) => {
                    counters[at].1 = counters[at].1.wrapping_add_signed(change);
                    if counters[at].1 == 0 {
                        counters.swap_remove(at);
                    }
                }
                None => counters.push((key, change as u32)),
            },
        }
    }

    /// The counters that are not zero.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CounterKey, u32)> {
        let (few, many) = match self {
            Self::Few(keys, counts) => ([(keys[0], counts[0]), (keys[1], counts[1])], &[][..]),
            Self::Many(counters) => ([(CounterKey(0), 0); 2], &counters[..]),
        };
        few.into_iter().chain(many.iter().copied()).filter(|(_, count)| *count != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn sum(&self, filter: &CountFilter) -> u64 {
        let count = |key: CounterKey, count: u32| if key.matches(filter) { u64::from(count) } else { 0 };
        match self {
            Self::Few(keys, counts) => count(keys[0], counts[0]) + count(keys[1], counts[1]),
            Self::Many(counters) => counters.iter().map(|&(key, of_key)| count(key, of_key)).sum(),
        }
    }
}

/// A project's counters: those that are not zero while they are few, then all of them, which are summed up faster.
#[derive(Debug)]
pub(super) enum ProjectCounters {
    Sparse(JobCounters),
    Dense(DenseCounters),
}

/// The most counters that are kept one by one.
const MAX_SPARSE: usize = 16;

impl Default for ProjectCounters {
    fn default() -> Self {
        Self::Sparse(JobCounters::default())
    }
}

impl ProjectCounters {
    /// `keys` is how many keys there are.
    pub(super) fn add(&mut self, key: CounterKey, change: i32, keys: usize) {
        match self {
            Self::Dense(dense) => dense.add(key, change),
            Self::Sparse(sparse) => {
                sparse.add(key, change);
                if matches!(sparse, JobCounters::Many(counters) if counters.len() > MAX_SPARSE) {
                    let mut dense = DenseCounters(vec![0; keys].into());
                    sparse.iter().for_each(|(key, count)| dense.add(key, count as i32));
                    *self = Self::Dense(dense);
                }
            }
        }
    }

    /// The counters that are not zero.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = (CounterKey, u32)> + '_> {
        match self {
            Self::Sparse(sparse) => Box::new(sparse.iter()),
            Self::Dense(dense) => Box::new(dense.iter()),
        }
    }

    pub(super) fn sum(&self, filter: &CountFilter) -> u64 {
        match self {
            Self::Sparse(sparse) => sparse.sum(filter),
            Self::Dense(dense) => dense.sum(filter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_counters_are_small() {
        assert_eq!(size_of::<JobCounters>(), 16);
        assert!(size_of::<ProjectCounters>() <= 24);
    }

    proptest! {
        /// Adds and subtracts at random, and compares every sum with a plain list.
        #[test]
        fn all_kinds_of_counters_agree_with_a_list(steps in proptest::collection::vec((0..5usize, 0..7usize, any::<bool>()), 0..90)) {
            let types = JobTypes::default();
            let types: Vec<_> = types.iter().collect();
            let keys = types.len() * Status::COUNT;
            let (mut of_project, mut of_job, mut list) = (ProjectCounters::default(), JobCounters::default(), Vec::new());
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
                of_project.add(key, change, keys);
                of_job.add(key, change);
                prop_assert_eq!(of_job.is_empty(), list.is_empty());
                let mut counters: Vec<_> = of_job.iter().collect();
                counters.sort_unstable();
                let mut others: Vec<_> = of_project.iter().collect();
                others.sort_unstable();
                prop_assert_eq!(others, counters);
                for status in Status::ALL.into_iter().map(Some).chain([None]) {
                    for wanted in [&types[..], &types[..1], &types[1..3], &[]] {
                        let job_types = wanted.iter().copied().collect();
                        let filter = CountFilter { status, job_types, job_id: None };
                        let matches = |kind: &&(_, _)| wanted.contains(&kind.0) && status.is_none_or(|s| s == kind.1);
                        let truth = list.iter().filter(matches).count() as u64;
                        prop_assert_eq!(of_project.sum(&filter), truth);
                        prop_assert_eq!(of_job.sum(&filter), truth);
                        let set = KeySet::of(&filter);
                        prop_assert_eq!(set.contains(key), key.matches(&filter));
                        prop_assert!(!set.contains(CounterKey::NONE));
                    }
                }
            }
        }
    }
}

//! Counts by cell, a cell being one job type in one status.

use crate::domain::{CountFilter, JobType, Status};

/// One job type in one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cell(u16);

impl Cell {
    pub(super) fn new(job_type: JobType, status: Status) -> Self {
        Self((job_type.index() * Status::COUNT + status as usize) as u16)
    }

    /// The number of the job type.
    pub(super) fn job_type(self) -> usize {
        usize::from(self.0) / Status::COUNT
    }

    pub(super) fn status(self) -> Status {
        Status::ALL[usize::from(self.0) % Status::COUNT]
    }

    /// The number of the cell: dense, from zero.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn matches(self, filter: &CountFilter) -> bool {
        let (job_type, status) = (usize::from(self.0) / Status::COUNT, usize::from(self.0) % Status::COUNT);
        filter.job_types.contains(job_type) && filter.status.is_none_or(|wanted| wanted as usize == status)
    }
}

/// Every cell's count: for projects, which are few and have subtasks of many kinds.
#[derive(Debug, Clone)]
pub(super) struct Dense(Box<[u32]>);

impl Dense {
    pub(super) fn new(job_types: usize) -> Self {
        Self(vec![0; job_types * Status::COUNT].into())
    }

    /// A tally of as many types, all zero.
    pub(super) fn empty_like(&self) -> Self {
        Self(vec![0; self.0.len()].into())
    }

    /// How many cells there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, cell: Cell) -> u64 {
        self.0[usize::from(cell.0)].into()
    }

    /// The cells that are not zero.
    pub(super) fn cells(&self) -> impl Iterator<Item = (Cell, u32)> {
        let cells = self.0.iter().enumerate().filter(|(_, count)| **count != 0);
        cells.map(|(cell, &count)| (Cell(cell as u16), count))
    }

    pub(super) fn add(&mut self, cell: Cell, change: i32) {
        let count = &mut self.0[usize::from(cell.0)];
        *count = count.wrapping_add_signed(change);
    }

    pub(super) fn sum(&self, filter: &CountFilter) -> u64 {
        let rows = self.0.chunks_exact(Status::COUNT).enumerate();
        let rows = rows.filter(|(job_type, _)| filter.job_types.contains(*job_type));
        match filter.status {
            Some(status) => rows.map(|(_, row)| u64::from(row[status as usize])).sum(),
            None => rows.flat_map(|(_, row)| row).map(|&count| u64::from(count)).sum(),
        }
    }
}

/// The cells that are not zero: for jobs, which are many and mostly have subtasks of one type in a few statuses.
#[derive(Debug)]
pub(super) enum Sparse {
    /// At most two cells, in place; a count of zero means that its cell is free.
    Few([Cell; 2], [u32; 2]),
    #[expect(clippy::box_collection, reason = "the box keeps the common case at 16 bytes")]
    Many(Box<Vec<(Cell, u32)>>),
}

impl Default for Sparse {
    fn default() -> Self {
        Self::Few([Cell(0); 2], [0; 2])
    }
}

impl Sparse {
    pub(super) fn add(&mut self, cell: Cell, change: i32) {
        match self {
            Self::Few(cells, counts) => {
                let taken = (0..2).find(|&at| counts[at] != 0 && cells[at] == cell);
                if let Some(at) = taken.or_else(|| (0..2).find(|&at| counts[at] == 0)) {
                    cells[at] = cell;
                    counts[at] = counts[at].wrapping_add_signed(change);
                } else {
                    let [first, second] = [0, 1].map(|at| (cells[at], counts[at]));
                    *self = Self::Many(Box::new(vec![first, second, (cell, change as u32)]));
                }
            }
            Self::Many(cells) => match cells.iter().position(|(other, _)| *other == cell) {
                Some(at) => {
                    cells[at].1 = cells[at].1.wrapping_add_signed(change);
                    if cells[at].1 == 0 {
                        cells.swap_remove(at);
                    }
                }
                None => cells.push((cell, change as u32)),
            },
        }
    }

    /// The cells that are not zero.
    pub(super) fn cells(&self) -> impl Iterator<Item = (Cell, u32)> {
        let (few, many) = match self {
            Self::Few(cells, counts) => ([(cells[0], counts[0]), (cells[1], counts[1])], &[][..]),
            Self::Many(cells) => ([(Cell(0), 0); 2], &cells[..]),
        };
        few.into_iter().chain(many.iter().copied()).filter(|(_, count)| *count != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells().next().is_none()
    }

    pub(super) fn sum(&self, filter: &CountFilter) -> u64 {
        let count = |cell: Cell, count: u32| if cell.matches(filter) { u64::from(count) } else { 0 };
        match self {
            Self::Few(cells, counts) => count(cells[0], counts[0]) + count(cells[1], counts[1]),
            Self::Many(cells) => cells.iter().map(|&(cell, of_cell)| count(cell, of_cell)).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobTypes;
    use proptest::prelude::*;

    #[test]
    fn a_sparse_tally_is_small() {
        assert_eq!(size_of::<Sparse>(), 16);
    }

    proptest! {
        /// Adds and takes away at random, and compares every sum with a plain list.
        #[test]
        fn both_tallies_agree_with_a_list(steps in proptest::collection::vec((0..4usize, 0..7usize, any::<bool>()), 0..60)) {
            let types = JobTypes::default();
            let types: Vec<_> = types.iter().collect();
            let (mut dense, mut sparse, mut list) = (Dense::new(types.len()), Sparse::default(), Vec::new());
            for (job_type, status, add) in steps {
                let kind = (types[job_type], Status::ALL[status]);
                let at = list.iter().position(|&other| other == kind);
                let change = match (add, at) {
                    (true, _) => { list.push(kind); 1 }
                    (false, Some(at)) => { list.swap_remove(at); -1 }
                    (false, None) => continue,
                };
                dense.add(Cell::new(kind.0, kind.1), change);
                sparse.add(Cell::new(kind.0, kind.1), change);
                prop_assert_eq!(sparse.is_empty(), list.is_empty());
                let mut cells: Vec<_> = sparse.cells().collect();
                cells.sort_unstable();
                prop_assert!(dense.cells().eq(cells));
                for status in Status::ALL.into_iter().map(Some).chain([None]) {
                    for wanted in [&types[..], &types[..1], &types[1..3], &[]] {
                        let job_types = wanted.iter().copied().collect();
                        let filter = CountFilter { status, job_types, job_id: None };
                        let matches = |kind: &&(_, _)| wanted.contains(&kind.0) && status.is_none_or(|s| s == kind.1);
                        let truth = list.iter().filter(matches).count() as u64;
                        prop_assert_eq!(dense.sum(&filter), truth);
                        prop_assert_eq!(sparse.sum(&filter), truth);
                    }
                }
            }
        }
    }
}

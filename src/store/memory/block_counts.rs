//! The number of records by key in each block of an ordered list, by which the k-th match is found without a scan.
//!
//! 64 blocks form a group. A group has a column for each key that occurs in it: the count of every block, and their sum. To find the
//! k-th match, groups are skipped by their sums, then blocks by their counts.

use super::block::PLACES;
use super::counters::{CounterKey, KeySet};

/// The number of blocks of a group.
const GROUP: usize = 64;

#[derive(Debug)]
struct Column {
    key: CounterKey,
    sum: u32,
    counts: [u16; GROUP],
}

/// A block has at most 1,024 records, so that a number fits 16 bits.
const _: () = assert!(PLACES <= u16::MAX as usize);

/// The counts of all blocks, by key.
#[derive(Debug, Default)]
pub(super) struct BlockCounts {
    /// The columns of each group, in the order of their keys.
    groups: Vec<Vec<Column>>,
}

impl BlockCounts {
    /// Changes the count of a key in a block.
    pub(super) fn add(&mut self, block: usize, key: CounterKey, change: i16) {
        let (group, at) = (block / GROUP, block % GROUP);
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, Vec::new);
        }
        let columns = &mut self.groups[group];
        let found = columns.binary_search_by_key(&key, |column| column.key);
        let column = found.unwrap_or_else(|column| {
            columns.reserve_exact(1);
            columns.insert(column, Column { key, sum: 0, counts: [0; GROUP] });
            column
        });
        let Column { sum, counts, .. } = &mut columns[column];
        *sum = sum.wrapping_add_signed(change.into());
        counts[at] = counts[at].wrapping_add_signed(change);
        if *sum == 0 {
            columns.remove(column);
        }
    }

    /// How many records have a key of the set.
    pub(super) fn total(&self, keys: &KeySet) -> u64 {
        let columns = self.groups.iter().flatten().filter(|column| keys.contains(column.key));
        columns.map(|column| u64::from(column.sum)).sum()
    }

    /// From block `from` on, the first one that has more matches than are to be skipped; those of the blocks before it are
    /// skipped.
    pub(super) fn find(&self, keys: &KeySet, from: usize, skip: &mut u64) -> Option<usize> {
        let mut first = from % GROUP;
        for (group, columns) in self.groups.iter().enumerate().skip(from / GROUP) {
            let matching = || columns.iter().filter(|column| keys.contains(column.key));
            let sum: u64 = matching().map(|column| u64::from(column.sum)).sum();
            if first == 0 && sum <= *skip {
                *skip -= sum;
                continue;
            }
            let mut counts = [0u32; GROUP];
            for column in matching() {
                counts.iter_mut().zip(column.counts).for_each(|(all, count)| *all += u32::from(count));
            }
            for (at, count) in counts.into_iter().enumerate().skip(first) {
                if u64::from(count) > *skip {
                    return Some(group * GROUP + at);
                }
                *skip -= u64::from(count);
            }
            first = 0;
        }
        None
    }

    /// The counts after the blocks have moved to other indexes.
    pub(super) fn moved(&self, to: impl Fn(usize) -> usize) -> Self {
        let mut moved = Self::default();
        self.iter().for_each(|(block, key, count)| moved.add(to(block), key, count as i16));
        moved
    }

    /// Every count that is not zero, with its block and key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, CounterKey, u16)> {
        let columns =
            self.groups.iter().enumerate().flat_map(|(group, columns)| columns.iter().map(move |of| (group, of)));
        let numbers = columns
            .flat_map(|(group, column)| (0..GROUP).map(move |at| (group * GROUP + at, column.key, column.counts[at])));
        numbers.filter(|(_, _, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CountFilter, JobTypes, Status};

    #[test]
    fn the_kth_match_is_found_and_empty_blocks_are_skipped() {
        let types: Vec<_> = JobTypes::default().iter().collect();
        let mut counts = BlockCounts::default();
        let key = |at: usize| CounterKey::new(types[at % 3], Status::ALL[at % 7]);
        let mut list = Vec::new();
        for at in 0..3000 {
            let block = at / 10 * (1 + at / 1000);
            counts.add(block, key(at), 1);
            list.push((block, key(at)));
        }
        for at in (0..3000).step_by(3) {
            counts.add(list[at].0, list[at].1, -1);
        }
        let list: Vec<_> = list.into_iter().enumerate().filter(|(at, _)| at % 3 != 0).map(|(_, of)| of).collect();
        for (status, from) in [(None, 0), (Some(Status::Success), 0), (Some(Status::Failed), 100), (None, 333)] {
            let filter = CountFilter { status, job_types: types[1..].iter().copied().collect(), job_id: None };
            let matching: Vec<_> = list
                .iter()
                .filter(|(block, key)| *block >= from && key.matches(&filter))
                .map(|(block, _)| *block)
                .collect();
            for k in 0..matching.len() + 3 {
                let mut skip = k as u64;
                let found = counts.find(&KeySet::of(&filter), from, &mut skip);
                assert_eq!(found, matching.get(k).copied());
                if let Some(found) = found {
                    let before = matching.iter().filter(|block| **block < found).count();
                    assert_eq!(skip as usize, k - before);
                }
            }
        }
    }
}

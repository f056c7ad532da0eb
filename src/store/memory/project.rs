//! The records of one project, in the order of their first report.
//!
//! A record's place is its number in that order. Places are not reused, so the order needs no list of its own. A block that is mostly
//! empty is compacted; when hardly any place is in use, the project is renumbered.

use std::hash::BuildHasher as _;

use hashbrown::DefaultHashBuilder;

use super::block::{Block, PLACES, Record};
use super::block_counts::BlockCounts;
use super::counters::{CounterKey, KeySet};
use super::deltas::JobNumber;
use super::index::Tables;
use crate::domain::SubJobId;
use crate::store::end_time::EndTime;

/// The number of places from which on a project has an index; before that, a search is linear.
const UNINDEXED: u32 = 16;

/// One project's records.
#[derive(Debug, Default)]
pub(super) struct ProjectRecords {
    blocks: Vec<Block>,
    /// `None` while there is one block.
    counts: Option<Box<BlockCounts>>,
    index: Option<Box<Tables>>,
    /// The place of the next record.
    next: u32,
    live: u32,
    /// Records before this place were stored before the start.
    pub(super) settled: u32,
}

fn split(place: u32) -> (usize, u16) {
    (place as usize / PLACES, (place as usize % PLACES) as u16)
}

fn place(block: usize, offset: u16) -> u32 {
    block as u32 * PLACES as u32 + u32::from(offset)
}

impl ProjectRecords {
    /// The place that the next record gets.
    pub(super) fn end(&self) -> u32 {
        self.next
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Whether the project must be renumbered: few places are in use, or none is left.
    pub(super) fn is_sparse(&self) -> bool {
        self.next == u32::MAX || self.blocks.len() > 1024 && self.live < self.next / 64
    }

    #[cfg(test)]
    pub(super) fn use_up_places(&mut self) {
        self.next = u32::MAX;
    }

    pub(super) fn find(&self, id: &SubJobId, hasher: &DefaultHashBuilder) -> Option<u32> {
        match &self.index {
            Some(index) => index.find(hasher.hash_one(id), |number| self.is(number, id)),
            None => self.blocks.first()?.search(id).map(u32::from),
        }
    }

    /// Whether the record at that place is of this subtask.
    pub(super) fn is(&self, at: u32, id: &SubJobId) -> bool {
        let (block, offset) = split(at);
        self.blocks.get(block).is_some_and(|block| block.is(offset, id))
    }

    pub(super) fn get(&self, at: u32) -> Option<Record> {
        let (block, offset) = split(at);
        self.blocks.get(block)?.get(offset)
    }

    /// The key of the record at that place; none if there is no record.
    pub(super) fn key(&self, at: u32) -> CounterKey {
        let (block, offset) = split(at);
        self.blocks.get(block).map_or(CounterKey::NONE, |block| block.key(offset))
    }

    /// Appends the record of a new subtask. Returns its place.
    pub(super) fn create(&mut self, record: Record, hasher: &DefaultHashBuilder) -> u32 {
        let at = self.next;
        let (block, offset) = split(at);
        if self.next == UNINDEXED {
            let mut index = Tables::default();
            self.iter_from(0).for_each(|(at, record)| index.insert(hasher.hash_one(&record.id), at));
            self.index = Some(Box::new(index));
        }
        if let Some(index) = &mut self.index {
            index.insert(hasher.hash_one(&record.id), at);
        }
        if self.next == PLACES as u32 {
            let mut counts = BlockCounts::default();
            self.blocks[0].jobs_and_keys(0).for_each(|(_, _, key)| counts.add(0, key, 1));
            self.counts = Some(Box::new(counts));
        }
        if let Some(counts) = &mut self.counts {
            counts.add(block, record.key, 1);
        }
        if self.blocks.len() <= block {
            if self.blocks.is_empty() {
                self.blocks.reserve_exact(1);
            }
            self.blocks.resize_with(block + 1, Block::default);
        }
        self.blocks[block].push(offset, record);
        self.next += 1;
        self.live += 1;
        at
    }

    /// Replaces the record at a place, which has key `old`, by another one of the same subtask.
    pub(super) fn replace(&mut self, at: u32, old: CounterKey, record: Record) {
        let (block, offset) = split(at);
        if let Some(counts) = self.counts.as_mut().filter(|_| old != record.key) {
            counts.add(block, old, -1);
            counts.add(block, record.key, 1);
        }
        self.blocks[block].replace(offset, record);
    }

    /// The job and the key of every record from a place on.
    pub(super) fn jobs_and_keys(&self, from: u32) -> impl Iterator<Item = (u32, JobNumber, CounterKey)> {
        let (first, offset) = split(from);
        let blocks = self.blocks.iter().enumerate().skip(first);
        blocks.flat_map(move |(block, of)| {
            let of = of.jobs_and_keys(if block == first { offset } else { 0 });
            of.map(move |(offset, job, key)| (place(block, offset), job, key))
        })
    }

    pub(super) fn set_details(&mut self, at: u32, details: u64) {
        let (block, offset) = split(at);
        self.blocks[block].set_details(offset, details);
    }

    /// Removes a record, which has that identifier and key.
    pub(super) fn remove(&mut self, at: u32, id: &SubJobId, key: CounterKey, hasher: &DefaultHashBuilder) {
        let (block, offset) = split(at);
        if let Some(index) = &mut self.index {
            index.remove(hasher.hash_one(id), |other| other == at);
        }
        if let Some(counts) = &mut self.counts {
            counts.add(block, key, -1);
        }
        self.blocks[block].remove(offset);
        self.live -= 1;
    }

    /// The places of the records with a key of the set, without the first `skip` of them, at most `limit`.
    pub(super) fn page(&self, keys: &KeySet, mut skip: u64, limit: usize) -> Vec<u32> {
        let (mut found, mut from) = (Vec::new(), 0);
        while found.len() < limit {
            let next = match &self.counts {
                Some(counts) => counts.find(keys, from, &mut skip),
                None => (from < self.blocks.len()).then_some(from),
            };
            let Some(block) = next else { break };
            let matching = self.blocks[block].matching(keys).skip(skip as usize);
            found.extend(matching.take(limit - found.len()).map(|offset| place(block, offset)));
            (skip, from) = (0, block + 1);
        }
        found
    }

    /// Every record from a place on.
    pub(super) fn iter_from(&self, from: u32) -> impl Iterator<Item = (u32, Record)> {
        let (first, offset) = split(from);
        let blocks = self.blocks.iter().enumerate().skip(first);
        blocks.flat_map(move |(block, of)| {
            of.iter_from(if block == first { offset } else { 0 })
                .map(move |(offset, record)| (place(block, offset), record))
        })
    }

    /// The places in a range of records that ended before that moment.
    pub(super) fn ended_before(&self, moment: EndTime, places: std::ops::Range<u32>) -> impl Iterator<Item = u32> {
        let (first, offset) = split(places.start);
        let blocks = self.blocks.iter().enumerate().skip(first).take((places.end - places.start) as usize / PLACES + 2);
        let due = blocks.filter(move |(_, block)| block.oldest().is_some_and(|oldest| oldest < moment));
        let due = due.flat_map(move |(block, of)| {
            of.ended_before(moment, if block == first { offset } else { 0 }).map(move |offset| place(block, offset))
        });
        due.take_while(move |at| *at < places.end)
    }

    /// Asserts that the index and the numbers of the blocks are those of the records.
    #[cfg(test)]
    pub(super) fn assert_sound(&self, hasher: &DefaultHashBuilder) {
        assert_eq!(self.iter_from(0).count(), self.live as usize);
        for (at, record) in self.iter_from(0) {
            assert_eq!(self.find(&record.id, hasher), Some(at));
        }
        for (block, records) in self.blocks.iter().enumerate() {
            assert_eq!(records.live(), records.jobs_and_keys(0).count(), "block {block}");
        }
        if let Some(counts) = &self.counts {
            let mut fresh = BlockCounts::default();
            self.iter_from(0).for_each(|(at, record)| fresh.add(split(at).0, record.key, 1));
            let [mut fresh, mut counts]: [Vec<_>; 2] = [fresh.iter().collect(), counts.iter().collect()];
            fresh.sort_unstable();
            counts.sort_unstable();
            assert_eq!(fresh, counts);
        }
    }
}

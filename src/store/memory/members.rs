//! The places of a job's records, in order: four bytes each, or none for a job of one subtask.

use super::block_counts::BlockCounts;
use super::counters::{CounterKey, KeySet};

/// The maximum length of a chunk.
const CHUNK: usize = 1024;

/// The places of a job's records among those of its project.
#[derive(Debug, Default)]
pub(super) enum Members {
    #[default]
    None,
    One(u32),
    Few(Vec<u32>),
    Many(Box<Large>),
}

/// The places of a job of more than [`CHUNK`] subtasks, in chunks.
#[derive(Debug, Default)]
pub(super) struct Large {
    chunks: Vec<Chunk>,
    counts: BlockCounts,
    len: usize,
    /// The number of empty chunks.
    empty: usize,
}

/// Places that are not below the first one and below that of the next chunk.
#[derive(Debug, Default)]
struct Chunk {
    first: u32,
    places: Vec<u32>,
}

impl Members {
    /// Adds a record. `key_of` returns the key of a listed record.
    pub(super) fn insert(&mut self, place: u32, key: CounterKey, key_of: impl Fn(u32) -> CounterKey) {
        match self {
            Self::None => *self = Self::One(place),
            Self::One(other) => *self = Self::Few(vec![place.min(*other), place.max(*other)]),
            Self::Few(places) => {
                insert(places, place);
                if places.len() > CHUNK {
                    let places = std::mem::take(places);
                    *self = Self::Many(Box::new(Large::of(&places, key_of)));
                }
            }
            Self::Many(large) => large.insert(place, key, key_of),
        }
    }

    /// Removes a record, which is listed with that key.
    pub(super) fn remove(&mut self, place: u32, key: CounterKey) {
        match self {
            Self::None => {}
            Self::One(_) => *self = Self::None,
            Self::Few(places) => {
                if let Ok(at) = places.binary_search(&place) {
                    places.remove(at);
                }
                match places[..] {
                    [] => *self = Self::None,
                    [one] => *self = Self::One(one),
                    _ => {}
                }
            }
            Self::Many(large) => {
                large.remove(place, key);
                if large.len <= CHUNK / 2 {
                    *self = Self::Few(large.places());
                }
            }
        }
    }

    /// Changes the key of a listed record.
    pub(super) fn rekey(&mut self, place: u32, old: CounterKey, new: CounterKey) {
        if let Self::Many(large) = self {
            let chunk = large.chunk_of(place);
            large.counts.add(chunk, old, -1);
            large.counts.add(chunk, new, 1);
        }
    }

    /// The places of the records with a key of the set, without the first `skip` of them, at most `limit`.
    pub(super) fn page(&self, keys: &KeySet, skip: u64, limit: usize, key_of: impl Fn(u32) -> CounterKey) -> Vec<u32> {
        let matches = |place: &&u32| keys.contains(key_of(**place));
        let page = |places: &[u32]| places.iter().filter(matches).skip(skip as usize).take(limit).copied().collect();
        match self {
            Self::None => Vec::new(),
            Self::One(place) => page(&[*place]),
            Self::Few(places) => page(places),
            Self::Many(large) => {
                let (mut found, mut skip, mut from) = (Vec::new(), skip, 0);
                while found.len() < limit
                    && let Some(chunk) = large.counts.find(keys, from, &mut skip)
                {
                    let matching = large.chunks[chunk].places.iter().filter(matches);
                    found.extend(matching.skip(skip as usize).take(limit - found.len()));
                    (skip, from) = (0, chunk + 1);
                }
                found
            }
        }
    }

    /// Every place, in order.
    #[cfg(test)]
    pub(super) fn places(&self, key_of: impl Fn(u32) -> CounterKey) -> Vec<u32> {
        match self {
            Self::None => Vec::new(),
            Self::One(place) => vec![*place],
            Self::Few(places) => places.clone(),
            Self::Many(large) => {
                let mut fresh = BlockCounts::default();
                for (at, chunk) in large.chunks.iter().enumerate() {
                    chunk.places.iter().for_each(|&place| fresh.add(at, key_of(place), 1));
                }
                let [mut fresh, mut counts]: [Vec<_>; 2] =
                    [fresh, large.counts.moved(|at| at)].map(|of| of.iter().collect());
                fresh.sort_unstable();
                counts.sort_unstable();
                assert_eq!(counts, fresh);
                large.places()
            }
        }
    }
}

impl Large {
    fn of(places: &[u32], key_of: impl Fn(u32) -> CounterKey) -> Self {
        let mut counts = BlockCounts::default();
        let chunks = places.chunks(CHUNK / 2).enumerate().map(|(at, places)| {
            places.iter().for_each(|&place| counts.add(at, key_of(place), 1));
            Chunk { first: places[0], places: places.into() }
        });
        Self { chunks: chunks.collect(), counts, len: places.len(), empty: 0 }
    }

    fn places(&self) -> Vec<u32> {
        self.chunks.iter().flat_map(|chunk| &chunk.places).copied().collect()
    }

    /// The chunk that a place belongs to.
    fn chunk_of(&self, place: u32) -> usize {
        self.chunks.partition_point(|chunk| chunk.first <= place).saturating_sub(1)
    }

    fn insert(&mut self, place: u32, key: CounterKey, key_of: impl Fn(u32) -> CounterKey) {
        self.len += 1;
        let at = self.chunk_of(place);
        let is_last = at + 1 == self.chunks.len();
        let places = &mut self.chunks[at].places;
        if places.len() < CHUNK {
            self.empty -= usize::from(places.is_empty());
            insert(places, place);
            self.chunks[at].first = self.chunks[at].first.min(place);
            return self.counts.add(at, key, 1);
        }
        if is_last && places.last() < Some(&place) {
            self.chunks.push(Chunk { first: place, places: vec![place] });
            return self.counts.add(at + 1, key, 1);
        }
        // Slow path: a subtask has moved from another job into the middle of this one.
        let upper = places.split_off(CHUNK / 2);
        self.counts = self.counts.moved(|block| block + usize::from(block > at));
        for &moved in &upper {
            self.counts.add(at, key_of(moved), -1);
            self.counts.add(at + 1, key_of(moved), 1);
        }
        self.chunks.insert(at + 1, Chunk { first: upper[0], places: upper });
        let at = self.chunk_of(place);
        insert(&mut self.chunks[at].places, place);
        self.chunks[at].first = self.chunks[at].first.min(place);
        self.counts.add(at, key, 1);
    }

    fn remove(&mut self, place: u32, key: CounterKey) {
        let at = self.chunk_of(place);
        let Ok(within) = self.chunks[at].places.binary_search(&place) else { return };
        self.len -= 1;
        self.chunks[at].places.remove(within);
        self.counts.add(at, key, -1);
        self.empty += usize::from(self.chunks[at].places.is_empty());
        if self.empty * 2 > self.chunks.len() {
            let mut kept = 0;
            let new: Vec<_> = self
                .chunks
                .iter()
                .map(|chunk| {
                    kept += usize::from(!chunk.places.is_empty());
                    kept.saturating_sub(1)
                })
                .collect();
            self.counts = self.counts.moved(|block| new[block]);
            self.chunks.retain(|chunk| !chunk.places.is_empty());
            self.empty = 0;
        }
    }
}

/// Inserts a place into an ordered list, whose capacity grows by a quarter.
fn insert(places: &mut Vec<u32>, place: u32) {
    if places.len() == places.capacity() {
        places.reserve_exact((places.len() / 4).max(2));
    }
    match places.last() {
        Some(last) if *last > place => {
            let at = places.partition_point(|other| *other < place);
            places.insert(at, place);
        }
        _ => places.push(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CountFilter, JobTypes, Status};

    /// Adds, changes and removes records at random, and compares the list with a plain one.
    #[test]
    fn a_list_of_any_length_agrees_with_a_plain_one() {
        let job_type = JobTypes::default().iter().next().unwrap();
        let key = |status: usize| CounterKey::new(job_type, Status::ALL[status]);
        let (mut members, mut model) = (Members::default(), std::collections::BTreeMap::new());
        let mut random = 7u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize
        };
        for step in 0..60_000 {
            // The list grows, then shrinks until it is empty.
            let grows = step < 30_000;
            let place = (if next() % 4 == 0 { next() % 20_000 } else { 20_000 + step }) as u32;
            let status = next() % 7;
            let known = model.range(next() as u32 % 50_000..).next().map(|(place, key)| (*place, *key));
            match (grows && next() % 3 > 0, known) {
                (true, _) if !model.contains_key(&place) => {
                    model.insert(place, key(status));
                    members.insert(place, key(status), |place| model[&place]);
                }
                (false, Some((place, old))) if step % 2 == 0 => {
                    model.insert(place, key(status));
                    members.rekey(place, old, key(status));
                }
                (_, known) => {
                    let first = model.iter().next().map(|(place, key)| (*place, *key));
                    if let Some((place, old)) = known.or(first) {
                        model.remove(&place);
                        members.remove(place, old);
                    }
                }
            }
            if step % 1000 == 0 || model.len() < 4 {
                assert!(members.places(|place| model[&place]).iter().eq(model.keys()), "step {step}");
                for status in [None, Some(Status::Success)] {
                    let keys = KeySet::of(&CountFilter { status, ..CountFilter::default() });
                    let matching: Vec<_> =
                        model.iter().filter(|(_, key)| keys.contains(**key)).map(|(place, _)| *place).collect();
                    for skip in [0, 1, matching.len() / 2, matching.len()] {
                        let page = members.page(&keys, skip as u64, 100, |place| model[&place]);
                        assert_eq!(page, matching.iter().skip(skip).take(100).copied().collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}

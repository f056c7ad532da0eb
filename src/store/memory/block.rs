//! Blocks: up to 1,024 consecutive records of a project, 32 bytes each.

use super::counters::{CounterKey, KeySet};
use super::deltas::JobNumber;
use crate::domain::{SubJobId, Version};
use crate::store::end_time::EndTime;

/// The number of places of a block.
pub(super) const PLACES: usize = 1024;

/// A subtask without its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: SubJobId,
    pub(super) version: Version,
    pub(super) job: JobNumber,
    pub(super) key: CounterKey,
    pub(super) end_time: Option<EndTime>,
    /// The location of its details, in memory or in a file; 0 if it has none.
    pub(super) details: u64,
}

/// The fields of a record that are mostly needed.
#[derive(Debug, Clone)]
struct Slot {
    id: [u8; 16],
    /// The lower 32 bits.
    version: u32,
    job: JobNumber,
    end_time: Option<EndTime>,
    /// [`CounterKey::NONE`] if the record has been removed.
    key: CounterKey,
    /// The kind of the identifier, or [`LONG`].
    kind: u8,
}

/// The kind of an identifier that does not fit the slot.
const LONG: u8 = SubJobId::MAX_KIND + 1;

/// The records of a block, by their offset in it.
#[derive(Debug, Default)]
pub(super) struct Block {
    slots: Vec<Slot>,
    /// The offset of each slot, in order; empty if the offset of each slot is its index.
    offsets: Vec<u16>,
    /// The number of slots with a record.
    live: u16,
    /// No record ended before this.
    oldest: Option<EndTime>,
    rare: Option<Box<Rare>>,
}

/// Fields that few records have. Each list is empty, or has an item for each slot.
#[derive(Debug, Default)]
struct Rare {
    ids: Vec<Option<Box<str>>>,
    versions: Vec<u32>,
    details: Vec<u64>,
}

/// Sets an item of a list, which is allocated when the first item is needed.
fn set<T: Default + Clone + PartialEq>(list: &mut Vec<T>, slots: usize, at: usize, item: T) {
    if list.is_empty() && item != T::default() {
        list.reserve_exact(grown(slots - 1));
        list.resize(slots, T::default());
    }
    if !list.is_empty() {
        if list.len() < slots {
            if list.len() == list.capacity() {
                list.reserve_exact(grown(list.len()) - list.len());
            }
            list.resize(slots, T::default());
        }
        list[at] = item;
    }
}

/// The next capacity of a full list: double while it is small, then the whole block.
fn grown(len: usize) -> usize {
    if len < 128 { (2 * len).max(1) } else { PLACES }
}

impl Block {
    pub(super) fn live(&self) -> usize {
        self.live.into()
    }

    /// No record in it ended before this.
    pub(super) fn oldest(&self) -> Option<EndTime> {
        self.oldest
    }

    /// The index of the slot of an offset; its record may have been removed.
    fn position(&self, offset: u16) -> Option<usize> {
        if self.offsets.is_empty() {
            (usize::from(offset) < self.slots.len()).then_some(offset.into())
        } else {
            self.offsets.binary_search(&offset).ok()
        }
    }

    fn offset(&self, position: usize) -> u16 {
        self.offsets.get(position).copied().unwrap_or(position as u16)
    }

    /// Whether the record at that offset is of this subtask.
    pub(super) fn is(&self, offset: u16, id: &SubJobId) -> bool {
        self.position(offset).is_some_and(|at| self.is_at(at, id))
    }

    fn is_at(&self, at: usize, id: &SubJobId) -> bool {
        let slot = &self.slots[at];
        slot.key != CounterKey::NONE
            && match id.to_fixed() {
                Some(fixed) => fixed == (slot.id, slot.kind),
                None => slot.kind == LONG && self.long_id(at) == id.as_long(),
            }
    }

    fn long_id(&self, at: usize) -> Option<&str> {
        self.rare.as_ref()?.ids.get(at)?.as_deref()
    }

    /// The offset of a subtask's record, by linear search.
    pub(super) fn search(&self, id: &SubJobId) -> Option<u16> {
        (0..self.slots.len()).find(|&at| self.is_at(at, id)).map(|at| self.offset(at))
    }

    /// The key of the record at that offset; none if there is no record.
    pub(super) fn key(&self, offset: u16) -> CounterKey {
        self.position(offset).map_or(CounterKey::NONE, |at| self.slots[at].key)
    }

    /// The record at that offset.
    pub(super) fn get(&self, offset: u16) -> Option<Record> {
        self.position(offset).and_then(|at| self.get_at(at))
    }

    fn get_at(&self, at: usize) -> Option<Record> {
        let slot = &self.slots[at];
        if slot.key == CounterKey::NONE {
            return None;
        }
        let rare = self.rare.as_deref();
        let high = rare.and_then(|rare| rare.versions.get(at)).copied().unwrap_or_default();
        Some(Record {
            id: match self.long_id(at) {
                Some(text) => SubJobId::from_long(text),
                None => SubJobId::from_fixed(slot.id, slot.kind),
            },
            // The halves are those of a version.
            version: Version::try_from(u64::from(high) << 32 | u64::from(slot.version)).unwrap_or_default(),
            job: slot.job,
            key: slot.key,
            end_time: slot.end_time,
            details: rare.and_then(|rare| rare.details.get(at)).copied().unwrap_or_default(),
        })
    }

    /// Appends a record with an offset above all others.
    pub(super) fn push(&mut self, offset: u16, record: Record) {
        if usize::from(offset) != self.slots.len() && self.offsets.is_empty() {
            self.offsets = (0..self.slots.len() as u16).collect();
        }
        if !self.offsets.is_empty() || usize::from(offset) != self.slots.len() {
            self.offsets.push(offset);
        }
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(grown(self.slots.len()) - self.slots.len());
        }
        let vacant = Slot { id: [0; 16], version: 0, job: record.job, end_time: None, key: CounterKey::NONE, kind: 0 };
        self.slots.push(vacant);
        self.live += 1;
        self.write(self.slots.len() - 1, record);
    }

    /// Replaces the record at an offset by another one of the same subtask.
    pub(super) fn replace(&mut self, offset: u16, record: Record) {
        if let Some(at) = self.position(offset) {
            self.write(at, record);
        }
    }

    fn write(&mut self, at: usize, record: Record) {
        let Record { id, version, job, key, end_time, details } = record;
        let (bytes, kind) = id.to_fixed().unwrap_or(([0; 16], LONG));
        let slots = self.slots.len();
        self.slots[at] = Slot { id: bytes, version: version.get() as u32, job, end_time, key, kind };
        self.oldest = self.oldest.into_iter().chain(end_time).min();
        let high = (version.get() >> 32) as u32;
        if self.rare.is_some() || kind == LONG || high > 0 || details > 0 {
            let rare = self.rare.get_or_insert_default();
            set(&mut rare.ids, slots, at, id.as_long().map(Into::into));
            set(&mut rare.versions, slots, at, high);
            set(&mut rare.details, slots, at, details);
        }
    }

    /// Changes the location of the details of the record at an offset.
    pub(super) fn set_details(&mut self, offset: u16, details: u64) {
        if let (Some(at), Some(rare)) = (self.position(offset), &mut self.rare) {
            set(&mut rare.details, self.slots.len(), at, details);
        }
    }

    /// Removes the record at an offset. A block that is mostly empty is compacted.
    pub(super) fn remove(&mut self, offset: u16) {
        let Some(at) = self.position(offset).filter(|&at| self.slots[at].key != CounterKey::NONE) else { return };
        self.slots[at].key = CounterKey::NONE;
        self.live -= 1;
        if self.live() * 2 < self.slots.len() {
            let kept: Vec<_> =
                (0..self.slots.len()).filter_map(|at| Some((self.offset(at), self.get_at(at)?))).collect();
            *self = Self::default();
            self.slots.reserve_exact(kept.len());
            self.offsets.reserve_exact(kept.len());
            kept.into_iter().for_each(|(offset, record)| self.push(offset, record));
        }
    }

    /// The offsets and keys of the records with a key of the set.
    pub(super) fn matching<'a>(&'a self, keys: &'a KeySet) -> impl Iterator<Item = u16> + 'a {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| keys.contains(slot.key));
        slots.map(|(at, _)| self.offset(at))
    }

    /// Every record from an offset on, with its offset.
    pub(super) fn iter_from(&self, offset: u16) -> impl Iterator<Item = (u16, Record)> {
        let first = match self.offsets.is_empty() {
            true => usize::from(offset).min(self.slots.len()),
            false => self.offsets.partition_point(|other| *other < offset),
        };
        (first..self.slots.len()).filter_map(|at| Some((self.offset(at), self.get_at(at)?)))
    }

    /// The job and the key of every record from an offset on, with its offset.
    pub(super) fn jobs_and_keys(&self, offset: u16) -> impl Iterator<Item = (u16, JobNumber, CounterKey)> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.key != CounterKey::NONE);
        slots.map(|(at, slot)| (self.offset(at), slot.job, slot.key)).filter(move |(at, _, _)| *at >= offset)
    }

    /// The offsets, from one on, of records that ended before that moment.
    pub(super) fn ended_before(&self, moment: EndTime, offset: u16) -> impl Iterator<Item = u16> {
        let is_due =
            move |slot: &Slot| slot.key != CounterKey::NONE && slot.end_time.is_some_and(|end_time| end_time < moment);
        let slots = self.slots.iter().enumerate().filter(move |(_, slot)| is_due(slot));
        slots.map(|(at, _)| self.offset(at)).filter(move |at| *at >= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobTypes, Status};

    #[test]
    fn a_slot_is_32_bytes() {
        assert_eq!(size_of::<Slot>(), 32);
        assert!(size_of::<Block>() <= 64, "{}", size_of::<Block>());
    }

    fn record(number: u64) -> Record {
        let id = match number % 4 {
            0 => format!("a name that is longer than sixteen bytes {number}"),
            1 => format!("2382dd96-1f0a-456d-a0a4-{number:012x}"),
            _ => format!("{number}"),
        };
        Record {
            id: SubJobId::parse(&id).unwrap(),
            version: Version::try_from(if number.is_multiple_of(5) { i64::MAX as u64 - number } else { number })
                .unwrap(),
            job: JobNumber(number as u32),
            key: CounterKey::new(JobTypes::default().iter().nth(number as usize % 3).unwrap(), Status::Running),
            end_time: EndTime::from_bytes((number as u32 % 3).to_le_bytes()),
            details: if number.is_multiple_of(7) { number } else { 0 },
        }
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let mut block = Block::default();
        let mut model = std::collections::BTreeMap::new();
        for number in 0..PLACES as u64 {
            block.push(number as u16, record(number));
            model.insert(number as u16, record(number));
        }
        let check = |block: &Block, model: &std::collections::BTreeMap<u16, Record>| {
            assert_eq!(block.live(), model.len());
            assert!(block.iter_from(0).eq(model.iter().map(|(at, record)| (*at, record.clone()))));
            for (at, record) in model {
                assert!(block.is(*at, &record.id) && block.search(&record.id) == Some(*at));
                assert_eq!((block.get(*at).as_ref(), block.key(*at)), (Some(record), record.key));
            }
            let late = block.iter_from(500).map(|(at, _)| at).next();
            assert_eq!(late, model.range(500..).next().map(|(at, _)| *at));
        };
        check(&block, &model);
        let mut random = 1u64;
        for step in 0..1020 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = *model.keys().nth((random >> 33) as usize % model.len()).unwrap();
            let changed = Record { version: Version::try_from(step).unwrap(), ..model[&at].clone() };
            block.replace(at, changed.clone());
            model.insert(at, changed);
            let gone = *model.keys().nth((random >> 20) as usize % model.len()).unwrap();
            block.remove(gone);
            block.remove(gone);
            model.remove(&gone);
            assert_eq!((block.get(gone), block.key(gone)), (None, CounterKey::NONE));
            if step % 50 == 0 {
                check(&block, &model);
            }
        }
        check(&block, &model);
        assert!(block.slots.len() < 16);
    }
}

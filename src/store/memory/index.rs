//! A hash index from keys to 32-bit numbers, nine bytes a slot. The items, with their keys, are stored elsewhere.
//!
//! An entry has the number and 32 bits of the key's hash. So a table can grow without reading an item, and a search hardly ever reads a
//! wrong one.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// The number of tables of a large index: growing one moves a 1,024th of the entries, which bounds the time of an insertion.
const SHARDS: usize = 1024;

/// The maximum number of entries of an index with one table.
const MAX_SMALL: usize = 32 * 1024;

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    tag: u32,
    number: u32,
}

impl Entry {
    /// A hash made of the tag alone.
    fn hash(&self) -> u64 {
        u64::from(self.tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A hash index with a random seed, so that callers cannot choose keys that collide.
#[derive(Debug, Default)]
pub(super) struct Index {
    tables: Tables,
    hasher: DefaultHashBuilder,
}

impl Index {
    pub(super) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.tables.find(hash, is_it)
    }

    pub(super) fn remove(&mut self, hash: u64, is_it: impl FnMut(u32) -> bool) {
        self.tables.remove(hash, is_it);
    }

    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        self.tables.insert(hash, number);
    }
}

/// The tables of an index, whose owner computes the hashes.
#[derive(Debug)]
pub(super) enum Tables {
    One(HashTable<Entry>),
    Many(Box<[HashTable<Entry>]>),
}

impl Default for Tables {
    fn default() -> Self {
        Self::One(HashTable::new())
    }
}

impl Tables {
    fn table(&self, tag: u32) -> &HashTable<Entry> {
        match self {
            Self::One(table) => table,
            Self::Many(tables) => &tables[shard(tag)],
        }
    }

    fn table_mut(&mut self, tag: u32) -> &mut HashTable<Entry> {
        match self {
            Self::One(table) => table,
            Self::Many(tables) => &mut tables[shard(tag)],
        }
    }

    /// The number for which `is_it` holds among those of a hash.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let matches = |entry: &Entry| entry.tag == tag && is_it(entry.number);
        self.table(tag).find(Entry { tag, number: 0 }.hash(), matches).map(|entry| entry.number)
    }

    /// Removes the number for which `is_it` holds among those of a hash, if there is one.
    pub(super) fn remove(&mut self, hash: u64, mut is_it: impl FnMut(u32) -> bool) {
        let tag = tag(hash);
        let matches = |entry: &Entry| entry.tag == tag && is_it(entry.number);
        if let Ok(entry) = self.table_mut(tag).find_entry(Entry { tag, number: 0 }.hash(), matches) {
            entry.remove();
        }
    }

    /// Inserts a number that is not in the index.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let entry = Entry { tag: tag(hash), number };
        if let Self::One(table) = self
            && table.len() >= MAX_SMALL
        {
            let mut tables: Box<[HashTable<Entry>]> = (0..SHARDS).map(|_| HashTable::new()).collect();
            for entry in table.drain() {
                tables[shard(entry.tag)].insert_unique(entry.hash(), entry, Entry::hash);
            }
            *self = Self::Many(tables);
        }
        self.table_mut(entry.tag).insert_unique(entry.hash(), entry, Entry::hash);
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn shard(tag: u32) -> usize {
    tag as usize >> 22
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_finds_exactly_the_inserted_keys() {
        let names: Vec<String> = (0..80_000).map(|i| format!("key {i}")).collect();
        let mut index = Index::default();
        for (number, name) in names.iter().enumerate() {
            index.insert(index.hash(name), number as u32);
        }
        assert!(matches!(index.tables, Tables::Many(_)));
        let find = |index: &Index, name: &str| index.find(index.hash(name), |other| names[other as usize] == name);
        for (number, name) in names.iter().enumerate() {
            assert_eq!(find(&index, name), Some(number as u32));
        }
        assert_eq!(find(&index, "key"), None);
        for _ in 0..2 {
            index.remove(index.hash(&names[7]), |other| other == 7);
        }
        assert_eq!(find(&index, &names[7]), None);
        assert_eq!(find(&index, &names[8]), Some(8));
    }
}

//! From a key to the number of its item, five bytes an entry; the items themselves, with their keys, stand elsewhere.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// How many tables there are: growing one moves a 1,024th of the entries, which bounds how long one insertion takes.
const SHARDS: usize = 1024;

/// A hash index of 32-bit numbers, seeded at random so that nobody can choose keys that collide.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[HashTable<u32>]>,
    hasher: DefaultHashBuilder,
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashTable::new()).collect(), hasher: DefaultHashBuilder::default() }
    }
}

impl Index {
    /// The number for which `is_it` holds among those of `key`.
    pub(super) fn find(&self, key: impl Hash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.shards[shard(hash)].find(hash, |&number| is_it(number)).copied()
    }

    /// Takes out the number for which `is_it` holds among those of `key`, if it is there.
    pub(super) fn remove(&mut self, key: impl Hash, mut is_it: impl FnMut(u32) -> bool) {
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.shards[shard(hash)].find_entry(hash, |&number| is_it(number)) {
            entry.remove();
        }
    }

    /// Enters a number that is not in the index; `key_of` tells the key of any number in it.
    pub(super) fn insert<K: Hash>(&mut self, key: K, number: u32, key_of: impl Fn(u32) -> K) {
        let hash = self.hasher.hash_one(key);
        let hasher = &self.hasher;
        self.shards[shard(hash)].insert_unique(hash, number, |&other| hasher.hash_one(key_of(other)));
    }
}

/// Bits that a table itself does not use: it takes the lowest for the place and the highest seven for the tag.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_entered_and_nothing_else() {
        let names: Vec<String> = (0..20_000).map(|i| format!("key {i}")).collect();
        let mut index = Index::default();
        for (number, name) in names.iter().enumerate() {
            index.insert(name, number as u32, |other| &names[other as usize]);
        }
        for (number, name) in names.iter().enumerate() {
            assert_eq!(index.find(name, |other| names[other as usize] == *name), Some(number as u32));
        }
        assert_eq!(index.find("key", |other| names[other as usize] == "key"), None);
        index.remove(&names[7], |other| other == 7);
        index.remove(&names[7], |other| other == 7);
        assert_eq!(index.find(&names[7], |other| other == 7), None);
        assert_eq!(index.find(&names[8], |other| other == 8), Some(8));
    }
}

//! Which of the engine's files is damaged, once it is known that one is: for the message, not for the decision.
//!
//! Of each keyspace, `current` names a file of the version and has its checksum; that file names the tables and has theirs.

use std::fs;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

/// The file to be named; the engine's directory if no file can be told from the others.
pub(super) fn damaged_file(engine: &Path) -> PathBuf {
    let mut keyspaces: Vec<_> = fs::read_dir(engine.join("keyspaces")).into_iter().flatten().flatten().collect();
    keyspaces.sort_by_key(fs::DirEntry::file_name);
    let found = keyspaces.iter().find_map(|keyspace| in_keyspace(&keyspace.path()));
    found.unwrap_or_else(|| engine.into())
}

fn in_keyspace(keyspace: &Path) -> Option<PathBuf> {
    let current = keyspace.join("current");
    let Ok(named) = fs::read(&current) else { return Some(current) };
    // The number of the version (8), the checksum of its file (16), and the kind of checksum (1).
    let (Some((number, rest)), 25) = (named.split_first_chunk(), named.len()) else { return Some(current) };
    let version = keyspace.join(format!("v{}", u64::from_le_bytes(*number)));
    let Ok(tables) = fs::read(&version) else { return Some(current) };
    if rest[16] != 0 {
        return Some(current);
    }
    if xxh3_128(&tables).to_le_bytes() != rest[..16] {
        // Of the two, the one that no longer looks like what it is.
        return Some(version);
    }
    let mut files: Vec<_> = fs::read_dir(keyspace.join("tables")).into_iter().flatten().flatten().collect();
    files.sort_by_key(fs::DirEntry::file_name);
    files.into_iter().map(|file| file.path()).find(|file| is_damaged_table(file, &tables).unwrap_or(true))
}

/// Whether a version names that table with another checksum than the file has.
fn is_damaged_table(file: &Path, version: &[u8]) -> Option<bool> {
    let number: u64 = file.file_name()?.to_str()?.parse().ok()?;
    // Number (8), kind of checksum (1), checksum (16).
    let mut entry = [0; 9];
    entry[..8].copy_from_slice(&number.to_le_bytes());
    let checksum = xxh3_128(&fs::read(file).ok()?).to_le_bytes();
    let mut named = version.windows(25).filter(|window| window[..9] == entry).peekable();
    Some(named.peek().is_some() && !named.any(|window| window[9..] == checksum))
}

#[cfg(test)]
mod tests {
    use super::super::engine::Engine;
    use super::super::ledger::Mark;
    use super::*;

    #[test]
    fn every_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        for commit in 0..3u8 {
            let changes = (0..2000u16).map(|i| ([&[commit + 1], &i.to_be_bytes()[..]].concat(), Some(vec![7; 50])));
            engine.write(changes.collect(), Mark { commit: commit.into(), ..Mark::default() }).unwrap();
            engine.flush();
        }
        drop(engine);
        assert_eq!(damaged_file(dir.path()), dir.path());
        let keyspace = dir.path().join("keyspaces/1");
        let current = keyspace.join("current");
        let number = u64::from_le_bytes(fs::read(&current).unwrap()[..8].try_into().unwrap());
        let tables = fs::read_dir(keyspace.join("tables")).unwrap().map(|file| file.unwrap().path());
        let files: Vec<_> = tables.chain([keyspace.join(format!("v{number}"))]).collect();
        assert!(files.len() > 2);
        for file in files {
            let good = fs::read(&file).unwrap();
            for at in [0, good.len() / 3, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 4;
                fs::write(&file, bad).unwrap();
                assert_eq!(damaged_file(dir.path()), file, "byte {at}");
            }
            fs::write(&file, good).unwrap();
        }
        fs::write(&current, [0; 24]).unwrap();
        assert_eq!(damaged_file(dir.path()), current);
    }
}

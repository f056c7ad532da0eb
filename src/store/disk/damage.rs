//! Whether the engine's files, other than its journals, are as it wrote them; looked at before it opens them.
//!
//! On damage the engine does what must not be done: it deletes what it takes for left over because the file that names it
//! cannot be read, and some of its panics end the process. Of each keyspace, `current` names a file of the version and has
//! its checksum; that file names the tables and has theirs.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::OpenError;

/// What stands in the file `version`.
const VERSION: &[u8] = b"FJL\x03";

/// Whether the file is there that the engine finishes before it writes anything else.
pub(super) fn has_version(engine: &Path) -> bool {
    fs::read(engine.join("version")).is_ok_and(|version| version == VERSION)
}

/// Whether no keyspace has been made yet; not if that cannot be told.
pub(super) fn is_unused(engine: &Path) -> bool {
    match fs::read_dir(engine.join("keyspaces")) {
        Ok(mut keyspaces) => keyspaces.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Fails if a file is damaged or gone, and says which.
pub(super) fn check(engine: &Path) -> Result<(), OpenError> {
    let version = engine.join("version");
    if fs::read(&version).map_err(unreadable(&version))? != VERSION {
        return Err(changed(version));
    }
    let directory = engine.join("keyspaces");
    let mut keyspaces = Vec::new();
    for entry in fs::read_dir(&directory).map_err(unreadable(&directory))? {
        keyspaces.push(entry.map_err(unreadable(&directory))?.path());
    }
    // The engine has one of its own, and there is one of ours.
    let own = directory.join("0");
    if !keyspaces.contains(&own) || keyspaces.len() < 2 {
        return Err(gone(if keyspaces.contains(&own) { directory } else { own }));
    }
    keyspaces.sort();
    keyspaces.iter().try_for_each(|keyspace| check_keyspace(keyspace))
}

fn check_keyspace(keyspace: &Path) -> Result<(), OpenError> {
    let current = keyspace.join("current");
    let named = fs::read(&current).map_err(unreadable(&current))?;
    // The number of the version (8), the checksum of its file (16), and the kind of checksum (1), of which there is one.
    let (Some((number, [checksum @ .., 0])), 25) = (named.split_first_chunk(), named.len()) else {
        return Err(changed(current));
    };
    let version = keyspace.join(format!("v{}", u64::from_le_bytes(*number)));
    let content = match fs::read(&version) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        content => Some(content.map_err(unreadable(&version))?),
    };
    let found = content.as_deref().map(|content| xxh3_128(content).to_le_bytes());
    if found.is_none_or(|found| found != *checksum) {
        // Two files of which one is damaged. A checksum that is mostly right was right once, and so was one of another file.
        let is_like = found.is_some_and(|found| found.iter().zip(checksum).filter(|(a, b)| a == b).count() >= 8);
        return Err(match found {
            _ if is_like || is_of_another(keyspace, checksum) => changed(current),
            Some(_) => changed(version),
            None => gone(version),
        });
    }
    let Some(tables) = content.as_deref().and_then(tables) else { return Err(changed(version)) };
    for (number, checksum) in tables {
        let table = keyspace.join("tables").join(number.to_string());
        if checksum_of(&table).map_err(unreadable(&table))? != checksum {
            return Err(changed(table));
        }
    }
    Ok(())
}

/// Whether any file of a keyspace has that checksum.
fn is_of_another(keyspace: &Path, checksum: &[u8]) -> bool {
    let files = fs::read_dir(keyspace).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read(file.path()).ok()).any(|content| xxh3_128(&content).to_le_bytes() == *checksum)
}

/// The tables that a version's file names, with the checksum of each.
fn tables(version: &[u8]) -> Option<Vec<(u64, u128)>> {
    // The format (1), the engine's own version as text, three numbers of one byte each, and then the list.
    let text = version.get(1..)?.iter().take_while(|byte| byte.is_ascii_graphic()).count();
    let mut rest = version.get(1 + text + 3..)?;
    let mut found = Vec::new();
    for _level in 0..*rest.split_off_first()? {
        for _run in 0..*rest.split_off_first()? {
            for _table in 0..u32::from_le_bytes(*split_off(&mut rest)?) {
                let number = u64::from_le_bytes(*split_off(&mut rest)?);
                let [_kind] = split_off(&mut rest)?;
                let checksum = u128::from_le_bytes(*split_off(&mut rest)?);
                let _sequence_number: &[u8; 8] = split_off(&mut rest)?;
                found.push((number, checksum));
            }
        }
    }
    Some(found)
}

fn split_off<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    rest.split_off(..N)?.first_chunk()
}

fn checksum_of(file: &Path) -> io::Result<u128> {
    let (mut file, mut hasher, mut chunk) = (File::open(file)?, Xxh3::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.digest128()),
            length => hasher.update(&chunk[..length]),
        }
    }
}

fn changed(file: PathBuf) -> OpenError {
    OpenError::Damaged { file, reason: "it is not as it was written".into() }
}

fn gone(file: PathBuf) -> OpenError {
    OpenError::Damaged { file, reason: "it is gone".into() }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |cause| match cause.kind() {
        io::ErrorKind::NotFound => gone(path.into()),
        _ => OpenError::Io { path: path.into(), cause },
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::Engine;
    use super::super::ledger::Mark;
    use super::*;

    fn assert_named(engine: &Path, file: &Path, how: &str) {
        match check(engine) {
            Err(OpenError::Damaged { file: named, .. }) => assert_eq!(named, file, "{how}"),
            other => panic!("{}, {how}: {other:?}", file.display()),
        }
    }

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
        check(dir.path()).unwrap();
        let mut files = vec![dir.path().join("version")];
        for keyspace in ["keyspaces/0", "keyspaces/1"].map(|keyspace| dir.path().join(keyspace)) {
            let current = keyspace.join("current");
            let number = u64::from_le_bytes(fs::read(&current).unwrap()[..8].try_into().unwrap());
            files.extend(fs::read_dir(keyspace.join("tables")).unwrap().map(|file| file.unwrap().path()));
            files.extend([keyspace.join(format!("v{number}")), current]);
        }
        assert!(files.len() >= 7, "{files:?}");
        for file in files {
            let good = fs::read(&file).unwrap();
            for at in [0, good.len() / 3, good.len() / 2, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 4;
                fs::write(&file, bad).unwrap();
                assert_named(dir.path(), &file, &format!("byte {at}"));
            }
            fs::write(&file, &good[..good.len() - 1]).unwrap();
            assert_named(dir.path(), &file, "cut");
            fs::remove_file(&file).unwrap();
            assert_named(dir.path(), &file, "gone");
            fs::write(&file, good).unwrap();
        }
        check(dir.path()).unwrap();
        for keyspace in ["keyspaces/0", "keyspaces/1", "keyspaces"].map(|keyspace| dir.path().join(keyspace)) {
            let aside = dir.path().join("aside");
            fs::rename(&keyspace, &aside).unwrap();
            let named = if keyspace.ends_with("1") { keyspace.parent().unwrap() } else { &keyspace };
            assert_named(dir.path(), named, "gone");
            fs::rename(&aside, &keyspace).unwrap();
        }
    }
}

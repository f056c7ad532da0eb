//! Reads the engine's journals before the engine does.
//!
//! The engine takes whatever it cannot read in a journal for the end of one that a crash cut short, and cuts the file there.
//! Here it is looked at first, so that acknowledged reports are neither lost in silence nor cut away: what is damaged is
//! named and left as it is. A journal of the engine (its format 3) is a row of batches:
//!
//! ```text
//! 1 · how many items (4) · sequence number (8)
//! 2 · kind (1) · compression (1) · keyspace (8) · lengths of key (2), value (4), value as it stands (4) · key · value
//! 3 · xxh3 of the items (8) · "FJL" 3
//! ```
//!
//! and then zeros, if anything, up to the length that was set aside for it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::engine::MARK;
use super::ledger::Mark;

/// The longest value: a record with all its details has some 25 KiB.
const MAX_VALUE: usize = 1024 * 1024;

/// Sequence numbers do not come near this one: a higher one is damaged, and the engine would go on from there.
const MAX_SEQUENCE_NUMBER: u64 = 1 << 48;

/// What is wrong with a journal.
pub(super) const UNREADABLE: &str = "acknowledged reports in it, or in one after it, cannot be read";

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
struct Journal {
    /// The number of the last commit that is whole.
    commit: Option<u64>,
    /// Where the last whole batch ends.
    end: u64,
    /// Whether there is anything but zeros after the last whole batch.
    is_ragged: bool,
}

/// What the journals are found to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole,
    /// The last one may have been cut short by a crash: it is whole up to there, and holds something else after it.
    Torn(PathBuf, u64),
    /// That one is damaged, and how.
    Damaged(PathBuf, &'static str),
}

/// Looks at the journals when so many commits have been acknowledged. An end that a crash cut short is no damage, and nothing
/// acknowledged can have stood in it.
pub(super) fn look(engine: &Path, acknowledged: u64) -> io::Result<Found> {
    let (mut latest, mut sequence_number) = (None, 0);
    let mut files = files(engine)?.into_iter().peekable();
    if files.peek().is_none() && acknowledged > 0 {
        // There always is one. Without it the engine would begin to count its sequence numbers anew.
        return Ok(Found::Damaged(engine.into(), "its journal is gone"));
    }
    while let Some(file) = files.next() {
        let is_last = files.peek().is_none();
        let journal = read(&file, is_last, &mut sequence_number, u64::MAX)?;
        latest = latest.max(journal.commit);
        let is_short = latest.is_some_and(|commit| commit < acknowledged);
        if if is_last { is_short } else { journal.is_ragged } {
            return Ok(Found::Damaged(file, UNREADABLE));
        }
        if is_last && journal.is_ragged {
            return Ok(Found::Torn(file, journal.end));
        }
    }
    Ok(Found::Whole)
}

/// Whether no journal holds anything.
pub(super) fn are_blank(engine: &Path) -> io::Result<bool> {
    for file in files(engine)? {
        let journal = read(&file, false, &mut 0, u64::MAX)?;
        if journal.end > 0 || journal.is_ragged {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Cuts off what comes after a commit in the last journal: an engine that could not write all that it wanted to may do so yet,
/// as it is closed. Where that commit is not found, nothing is cut.
pub(super) fn cut_after(engine: &Path, commit: u64) -> io::Result<()> {
    let (mut sequence_number, mut latest) = (0, None);
    let files = files(engine)?;
    for (number, file) in files.iter().enumerate() {
        let is_last = number + 1 == files.len();
        let journal = read(file, is_last, &mut sequence_number, commit)?;
        latest = latest.max(journal.commit);
        if is_last && latest == Some(commit) {
            let file = OpenOptions::new().write(true).open(file)?;
            file.set_len(journal.end)?;
            file.sync_all()?;
        }
    }
    Ok(())
}

/// The end of a journal, cut off before the engine sees it: the engine takes some of what a power cut leaves for damage. Put
/// back when this goes, unless it was [`TornOff::right`] to do so.
#[derive(Debug)]
pub(super) struct TornOff {
    file: File,
    path: PathBuf,
    at: u64,
    bytes: Vec<u8>,
}

impl TornOff {
    pub(super) fn cut(path: PathBuf, at: u64) -> io::Result<Self> {
        let (mut file, mut bytes) = (OpenOptions::new().read(true).write(true).open(&path)?, Vec::new());
        file.seek(SeekFrom::Start(at))?;
        file.read_to_end(&mut bytes)?;
        file.set_len(at)?;
        file.sync_all()?;
        Ok(Self { file, path, at, bytes })
    }

    /// Nothing acknowledged has stood there.
    pub(super) fn right(mut self) {
        self.bytes.clear();
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TornOff {
    fn drop(&mut self) {
        if let Err(error) = self.file.write_all_at(&self.bytes, self.at) {
            tracing::error!(%error, file = %self.path.display(), "its damaged end could not be put back");
        }
    }
}

/// The journals, the oldest first.
pub(super) fn files(engine: &Path) -> io::Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    let entries = match std::fs::read_dir(engine) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        numbered.extend(number.map(|number| (number, path)));
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// Reads a journal up to what is not a whole batch, and looks whether it goes on. Of the last one with a commit in it, zeros
/// are taken for its end, as there may be many. Sequence numbers have no checksum, but ascend from the one given, which
/// becomes the next. A commit above `highest` counts as not whole.
fn read(path: &Path, is_last: bool, sequence_number: &mut u64, highest: u64) -> io::Result<Journal> {
    let mut file = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let (mut commit, mut end, mut scratch) = (None, 0, Vec::new());
    loop {
        let is_blank = file.fill_buf()?.first().is_none_or(|byte| *byte == 0);
        match if is_blank { None } else { batch(&mut file, &mut scratch)? } {
            Some(batch)
                if (*sequence_number..MAX_SEQUENCE_NUMBER).contains(&batch.sequence_number)
                    && batch.mark.is_none_or(|commit| commit <= highest) =>
            {
                *sequence_number = batch.sequence_number + 1;
                commit = batch.mark.or(commit);
                end = file.stream_position()?;
            }
            _ => {
                let matters = !is_last || commit.is_none();
                let is_ragged = !is_blank || matters && !is_zero_to_the_end(&mut file)?;
                return Ok(Journal { commit, end, is_ragged });
            }
        }
    }
}

fn is_zero_to_the_end(file: &mut BufReader<File>) -> io::Result<bool> {
    let zeros = vec![0; file.capacity()];
    loop {
        let bytes = file.fill_buf()?;
        let length = bytes.len();
        if bytes != &zeros[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
        file.consume(length);
    }
}

struct Batch {
    sequence_number: u64,
    /// The number of the commit that it is.
    mark: Option<u64>,
}

/// Reads a batch; `None` if what comes next is none, or not whole.
fn batch(file: &mut impl Read, scratch: &mut Vec<u8>) -> io::Result<Option<Batch>> {
    match try_batch(file, scratch) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        other => other,
    }
}

fn try_batch(file: &mut impl Read, scratch: &mut Vec<u8>) -> io::Result<Option<Batch>> {
    let [1, start @ ..] = take::<13>(file)? else { return Ok(None) };
    let [a, b, c, d, sequence_number @ ..] = start;
    let (mut mark, mut hasher) = (None, Xxh3::new());
    for _ in 0..u32::from_le_bytes([a, b, c, d]) {
        let head @ [2, _, 0, _, _, _, _, _, _, _, _, k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] = take::<21>(file)? else {
            return Ok(None);
        };
        let key = usize::from(u16::from_le_bytes([k0, k1]));
        let value = u32::from_le_bytes([v0, v1, v2, v3]) as usize;
        if u32::from_le_bytes([s0, s1, s2, s3]) as usize != value || value > MAX_VALUE {
            return Ok(None);
        }
        scratch.resize(key + value, 0);
        file.read_exact(scratch)?;
        hasher.update(&head);
        hasher.update(scratch);
        if scratch[..key] == *MARK {
            mark = Mark::from_bytes(&scratch[key..]).map(|mark| mark.commit);
        }
    }
    let [3, end @ ..] = take::<13>(file)? else { return Ok(None) };
    let is_whole = end[..8] == hasher.digest().to_le_bytes() && end[8..] == *b"FJL\x03";
    let sequence_number = u64::from_le_bytes(sequence_number);
    Ok(is_whole.then_some(Batch { sequence_number, mark }))
}

fn take<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::engine::Engine;
    use super::*;

    fn commit(engine: &Engine, number: u64) {
        let changes = (0..10u8).map(|i| (vec![1, i], Some(vec![number as u8; 100])));
        engine.write(changes.collect(), Mark { commit: number, ..Mark::default() }).unwrap();
    }

    /// Where the last whole batch of the only journal ends.
    fn data(journal: &Path) -> Vec<u8> {
        let mut bytes = std::fs::read(journal).unwrap();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
        bytes
    }

    #[test]
    fn the_engines_own_journals_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        assert_eq!(look(&none, 0).unwrap(), Found::Whole);
        assert_eq!(look(&none, 7).unwrap(), Found::Damaged(none, "its journal is gone"));
        let engine = Engine::open(dir.path()).unwrap();
        for number in 1..=5 {
            commit(&engine, number);
        }
        let journal = files(dir.path()).unwrap().pop().unwrap();
        let good = data(&journal);
        let end = good.len() as u64;
        assert_eq!(read(&journal, true, &mut 0, u64::MAX).unwrap(), Journal { commit: Some(5), end, is_ragged: false });
        assert_eq!(look(dir.path(), 5).unwrap(), Found::Whole);
        assert_eq!(look(dir.path(), 6).unwrap(), Found::Damaged(journal.clone(), UNREADABLE));

        for at in (0..good.len()).step_by(3) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&journal, bad).unwrap();
            let found = read(&journal, true, &mut 0, u64::MAX).unwrap();
            // A sequence number that is still higher than the one before changes nothing.
            assert!(found.commit < Some(5) && found.is_ragged || found.commit == Some(5), "byte {at}: {found:?}");
            std::fs::write(&journal, &good[..at]).unwrap();
            assert!(read(&journal, true, &mut 0, u64::MAX).unwrap().commit < Some(5), "cut at {at}");
            if at > good.len() / 2 {
                assert_eq!(look(dir.path(), 5).unwrap(), Found::Damaged(journal.clone(), UNREADABLE), "cut at {at}");
                assert!(!matches!(look(dir.path(), 2).unwrap(), Found::Damaged(..)), "cut at {at}");
            }
        }
    }

    #[test]
    fn what_comes_after_a_commit_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        for number in 1..=5 {
            commit(&engine, number);
        }
        drop(engine);
        for (last, left) in [(7, 5), (5, 5), (3, 3), (4, 3), (0, 3)] {
            cut_after(dir.path(), last).unwrap();
            let mark = Engine::open(dir.path()).unwrap().mark().unwrap();
            assert_eq!(mark.unwrap_or_default().commit, left, "after {last}");
        }
    }

    #[test]
    fn what_is_cut_off_is_put_back_unless_that_was_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jnl");
        std::fs::write(&path, "wholetorn").unwrap();
        let torn_off = TornOff::cut(path.clone(), 5).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole");
        drop(torn_off);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "wholetorn");
        TornOff::cut(path.clone(), 5).unwrap().right();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole");
    }

    #[test]
    fn an_older_journal_has_no_ragged_end() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        commit(&engine, 1);
        drop(engine);
        let older = files(dir.path()).unwrap().pop().unwrap();
        let mut whole = data(&older);
        let next = dir.path().join("99.jnl");
        std::fs::write(&next, "").unwrap();
        assert_eq!(look(dir.path(), 1).unwrap(), Found::Whole);
        // Nor do sequence numbers begin again.
        std::fs::write(&next, &whole).unwrap();
        assert_eq!(look(dir.path(), 1).unwrap(), Found::Torn(next, 0));
        whole.extend([0, 0, 0, 1]);
        std::fs::write(&older, whole).unwrap();
        assert_eq!(look(dir.path(), 1).unwrap(), Found::Damaged(older, UNREADABLE));
    }
}

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

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::engine::MARK;
use super::ledger::Mark;

/// The longest value: a record with all its details has some 25 KiB.
const MAX_VALUE: usize = 1024 * 1024;

/// Sequence numbers do not come near this one: a higher one is damaged, and the engine would go on from there.
const MAX_SEQUENCE_NUMBER: u64 = 1 << 48;

/// How much is read at once.
const CHUNK: usize = 256 * 1024;

/// What is wrong with a journal.
pub(super) const UNREADABLE: &str = "acknowledged reports in it, or in one after it, cannot be read";

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
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
    /// What was acknowledged is all there. These are to be cut before the engine sees them.
    Good(Vec<Cut>),
    /// That one is damaged, and how.
    Damaged(PathBuf, &'static str),
}

/// A journal that holds something which has not been acknowledged, and where what is whole ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) file: PathBuf,
    pub(super) at: u64,
}

/// What the journals are looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The process has just been started.
    Start,
    /// The engine is opened anew. What came after the last acknowledged commit was refused, and the old engine may not have
    /// ended writing yet.
    Reopening,
}

/// Looks at the journals when so many commits have been acknowledged. An end that a crash cut short is no damage, and nothing
/// acknowledged can have stood in it.
pub(super) fn look(engine: &Path, acknowledged: u64, purpose: Purpose) -> io::Result<Found> {
    let is_start = purpose == Purpose::Start;
    let highest = if is_start { u64::MAX } else { acknowledged };
    let (mut latest, mut sequence_number, mut cuts) = (None, 0, Vec::new());
    let mut ended_ragged: Option<PathBuf> = None;
    let mut files = files(engine)?.into_iter().peekable();
    if files.peek().is_none() && acknowledged > 0 {
        // There always is one. Without it the engine would begin to count its sequence numbers anew.
        return Ok(Found::Damaged(engine.into(), "its journal is gone"));
    }
    while let Some(file) = files.next() {
        let is_last = files.peek().is_none();
        let journal = read(&file, is_last, &mut sequence_number, highest)?;
        latest = latest.max(journal.commit);
        let is_short = latest.is_some_and(|commit| commit < acknowledged);
        if (is_last || journal.is_ragged) && is_short {
            return Ok(Found::Damaged(file, UNREADABLE));
        }
        // A write that failed may have been followed by a new journal, but by nothing in it that counts.
        if let Some(older) = ended_ragged.take_if(|_| journal.end > 0 || is_start && journal.is_ragged) {
            return Ok(Found::Damaged(older, UNREADABLE));
        }
        // A commit that is whole has perhaps failed to be flushed: what is read is then not what is on the disk.
        if journal.is_ragged || journal.commit > Some(acknowledged) || is_last && !is_start {
            cuts.push(Cut { file: file.clone(), at: journal.end });
        }
        if journal.is_ragged {
            ended_ragged.get_or_insert(file);
        }
    }
    Ok(Found::Good(cuts))
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
fn read(path: &Path, is_last: bool, sequence_number: &mut u64, highest: u64) -> io::Result<Contents> {
    let mut file = BufReader::with_capacity(CHUNK, File::open(path)?);
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
                return Ok(Contents { commit, end, is_ragged });
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
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::super::engine::Engine;
    use super::super::torn::TornOff;
    use super::*;

    fn commit(engine: &Engine, number: u64) {
        let changes = (0..10u8).map(|i| (vec![1, i], Some(vec![number as u8; 100])));
        engine.write(changes.collect(), Mark { commit: number, ..Mark::default() }).unwrap();
    }

    fn look_at(engine: &Path, acknowledged: u64) -> Found {
        look(engine, acknowledged, Purpose::Start).unwrap()
    }

    /// What a journal holds, without the zeros at its end.
    fn data(journal: &Path) -> Vec<u8> {
        let mut bytes = std::fs::read(journal).unwrap();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
        bytes
    }

    #[test]
    fn the_engines_own_journals_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        assert_eq!(look(&none, 0, Purpose::Start).unwrap(), Found::Good(vec![]));
        assert_eq!(look(&none, 7, Purpose::Start).unwrap(), Found::Damaged(none, "its journal is gone"));
        let engine = Engine::open(dir.path()).unwrap();
        for number in 1..=5 {
            commit(&engine, number);
        }
        let journal = files(dir.path()).unwrap().pop().unwrap();
        let good = data(&journal);
        let end = good.len() as u64;
        assert_eq!(
            read(&journal, true, &mut 0, u64::MAX).unwrap(),
            Contents { commit: Some(5), end, is_ragged: false }
        );
        assert_eq!(look_at(dir.path(), 5), Found::Good(vec![]));
        assert_eq!(look_at(dir.path(), 6), Found::Damaged(journal.clone(), UNREADABLE));

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
                assert_eq!(look_at(dir.path(), 5), Found::Damaged(journal.clone(), UNREADABLE), "cut at {at}");
                assert!(!matches!(look_at(dir.path(), 2), Found::Damaged(..)), "cut at {at}");
            }
        }
    }

    /// Cuts off what comes after a commit.
    fn cut_after(engine: &Path, commit: u64) -> Option<TornOff> {
        match look(engine, commit, Purpose::Reopening).unwrap() {
            Found::Good(cuts) => Some(TornOff::cut(cuts).unwrap()),
            Found::Damaged(..) => None,
        }
    }

    fn last_commit(engine: &Path) -> u64 {
        Engine::open(engine).unwrap().mark().unwrap().unwrap_or_default().commit
    }

    #[test]
    fn what_comes_after_a_commit_is_cut_off_if_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        for number in 1..=5 {
            commit(&engine, number);
        }
        drop(engine);
        let journal = files(dir.path()).unwrap().pop().unwrap();
        // Something that still has it open writes to nothing any more.
        let late = OpenOptions::new().append(true).open(&journal).unwrap();
        for (last, left) in [(5, 5), (3, 3), (0, 0)] {
            let torn_off = cut_after(dir.path(), last).unwrap();
            assert_eq!(torn_off.path().is_some(), last < 5);
            torn_off.confirm();
            (&late).write_all(b"late").unwrap();
            assert!(!std::fs::read(&journal).unwrap().ends_with(b"late"), "after {last}");
            assert_eq!(last_commit(dir.path()), left, "after {last}");
        }
        assert!(cut_after(dir.path(), 4).is_some_and(|torn_off| torn_off.path().is_none()));
        assert_eq!(files(dir.path()).unwrap(), [journal]);
    }

    #[test]
    fn what_comes_after_a_commit_is_cut_off_in_all_journals() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        commit(&engine, 1);
        commit(&engine, 2);
        drop(engine);
        let first = files(dir.path()).unwrap().pop().unwrap();
        let both = data(&first);
        let end = read(&first, true, &mut 0, 1).unwrap().end as usize;
        let (one, two) = both.split_at(end);
        let second = dir.path().join("98.jnl");
        // The engine has gone on to another journal after a commit that is not to count, whole or not.
        for (first_holds, second_holds) in
            [(&both[..], &[][..]), (&both[..end + 9], two), (one, two), (one, &two[..50])]
        {
            std::fs::write(&first, first_holds).unwrap();
            std::fs::write(&second, second_holds).unwrap();
            cut_after(dir.path(), 1).unwrap().confirm();
            assert_eq!(data(&first), one);
            assert_eq!(std::fs::read(&second).unwrap(), b"");
            assert_eq!(last_commit(dir.path()), 1);
        }
        // The program may end before the engine is opened anew.
        std::fs::write(&first, &both[..end + 9]).unwrap();
        std::fs::write(&second, [0; 999]).unwrap();
        let Found::Good(cuts) = look_at(dir.path(), 1) else { panic!("nothing is damaged") };
        assert_eq!(TornOff::cut(cuts).unwrap().confirm(), std::slice::from_ref(&first));
        assert_eq!((data(&first), last_commit(dir.path())), (one.to_vec(), 1));
        // It had been acknowledged.
        std::fs::write(&first, &both[..end + 9]).unwrap();
        std::fs::write(&second, two).unwrap();
        assert_eq!(look_at(dir.path(), 2), Found::Damaged(first, UNREADABLE));
    }

    #[test]
    fn what_has_not_been_acknowledged_is_written_anew_as_it_may_not_be_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        commit(&engine, 1);
        commit(&engine, 2);
        drop(engine);
        let journal = files(dir.path()).unwrap().pop().unwrap();
        let (good, number) = (data(&journal), || journal.metadata().unwrap().ino());
        let before = number();
        for acknowledged in [2, 1] {
            let Found::Good(cuts) = look_at(dir.path(), acknowledged) else { panic!("it is good") };
            assert_eq!(TornOff::cut(cuts).unwrap().confirm(), [] as [PathBuf; 0]);
            assert_eq!(data(&journal), good);
            assert_eq!(number() == before, acknowledged == 2);
        }
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
        assert_eq!(look_at(dir.path(), 1), Found::Good(vec![]));
        // Nor do sequence numbers begin again.
        std::fs::write(&next, &whole).unwrap();
        assert_eq!(look_at(dir.path(), 1), Found::Good(vec![Cut { file: next, at: 0 }]));
        whole.extend([0, 0, 0, 1]);
        std::fs::write(&older, whole).unwrap();
        assert_eq!(look_at(dir.path(), 1), Found::Damaged(older, UNREADABLE));
    }
}

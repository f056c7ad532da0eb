//! What is read at the start, and what may be cut off. Until all has been read no file is changed.

use std::sync::Arc;

use super::files::{Directory, FileHandle};
use super::frame::{Link, Next, has_frame, read};
use super::mark::{CommitMark, CommitMarkFile};
use super::snapshot::{self, SnapshotReader, remove_older};
use super::writer::{Cut, Log};
use super::{LogError, MARK, NEW, segment};

/// How much of a file the system is taken to write at once.
const PAGE: u64 = 4096;

const MISSING: &str = "acknowledged reports are missing";
const DAMAGED: &str = "an acknowledged report is not as it was written";
const GONE: &str = "it is gone";

/// Where a payload comes from.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Source<'a> {
    pub(in crate::store) file: &'a Arc<dyn FileHandle>,
    pub(in crate::store) name: &'a str,
    /// Where in the file the payload begins.
    pub(in crate::store) at: u64,
}

/// What has been recovered.
#[derive(Debug)]
pub(in crate::store) struct Recovered {
    pub(in crate::store) log: Log,
    /// The file of which a torn end has been cut off.
    pub(in crate::store) truncated: Option<String>,
    /// The cut of the snapshot, if there is one.
    pub(in crate::store) snapshot: Option<Cut>,
    /// How many bytes it has, and the segments after it.
    pub(in crate::store) snapshot_bytes: u64,
    pub(in crate::store) log_bytes: u64,
}

/// Takes what was acknowledged out of a directory.
pub(in crate::store) trait Visitor {
    type Error: From<LogError>;

    /// About so many subtasks are to be expected.
    fn expect(&mut self, sub_jobs: u64);

    /// A part of a snapshot; nothing has come before but other parts of it.
    fn snapshot(&mut self, source: Source<'_>, payload: &[u8]) -> Result<(), Self::Error>;

    /// What a snapshot was finished with; the number of the last frame of which it holds anything.
    fn end_snapshot(&mut self, end: &[u8]) -> Result<u64, Self::Error>;

    /// A frame of the log.
    fn frame(&mut self, source: Source<'_>, number: u64, payload: &[u8]) -> Result<(), Self::Error>;

    /// All has been read. How many subtasks there are.
    fn end(&mut self) -> Result<u64, Self::Error>;
}

/// A segment as it is found.
#[derive(Debug)]
struct Found {
    name: String,
    file: Arc<dyn FileHandle>,
    len: u64,
    /// What its header says; nothing if that is not as it was written.
    after: Option<Link>,
}

impl Found {
    fn open(directory: &dyn Directory, name: String) -> Result<Self, LogError> {
        let file = directory.open(&name).map_err(LogError::io(&name))?;
        let len = file.len().map_err(LogError::io(&name))?;
        let after = segment::read(&*file, len).map_err(LogError::io(&name))?;
        Ok(Self { name, file, len, after })
    }

    /// Whether from a place on there is no frame with a number that is not below `least`.
    fn has_no_frame(&self, from: u64, least: u64) -> Result<bool, LogError> {
        let mut rest = vec![0; self.len.saturating_sub(from) as usize];
        self.file.read_at(&mut rest, from).map_err(LogError::io(&self.name))?;
        Ok(!has_frame(&rest, least))
    }
}

/// What is read, in order.
struct Chain {
    snapshot: Option<SnapshotReader>,
    segments: Vec<Found>,
    /// Newest segments without a frame, which rotations may have left that were cut short.
    unused: Vec<Found>,
    cut: Cut,
}

/// Reads all that was acknowledged, makes sure that it is all there, and makes the log ready to be appended to.
pub(in crate::store) fn recover<V: Visitor>(
    directory: &Arc<dyn Directory>,
    visitor: &mut V,
) -> Result<Recovered, V::Error> {
    let dir = &**directory;
    let names = dir.list().map_err(LogError::io("."))?;
    let opened = CommitMarkFile::open(dir).map_err(LogError::io(MARK))?;
    let Some((mark_file, mark)) = opened else {
        let is_there = names.iter().any(|name| name == MARK);
        let reason = if is_there { "none of its slots is as it was written" } else { GONE };
        return Err(LogError::corrupt(MARK, reason).into());
    };
    visitor.expect(mark.sub_jobs);
    let chain = find_chain(dir, &names)?;
    let read = read_chain(&chain, mark, visitor)?;
    let sub_jobs = visitor.end()?;
    if read.last == mark.last && sub_jobs != mark.sub_jobs {
        return Err(LogError::corrupt(read.name, "the subtasks in it are not those that were stored").into());
    }
    let snapshot_bytes = chain.snapshot.as_ref().map_or(0, SnapshotReader::len);
    let log_bytes = chain.segments.iter().map(|segment| segment.len).sum();
    let truncated = (read.end < chain.last().len).then(|| chain.last().name.clone());
    let position = Position { last: read.last, end: read.end, unacknowledged: read.unacknowledged };
    let log = repair(directory, &chain, &position, mark_file, sub_jobs, &names)?;
    let snapshot = chain.snapshot.as_ref().map(SnapshotReader::cut);
    Ok(Recovered { log, truncated, snapshot, snapshot_bytes, log_bytes })
}

impl Chain {
    fn last(&self) -> &Found {
        // It is never made without one.
        &self.segments[self.segments.len() - 1]
    }
}

/// Which files are to be read.
fn find_chain(dir: &dyn Directory, names: &[String]) -> Result<Chain, LogError> {
    let newest = names.iter().filter_map(|name| snapshot::number(name)).max();
    let snapshot = newest.map(|number| SnapshotReader::open_number(dir, number)).transpose()?;
    let cut = snapshot.as_ref().map_or(Cut(Link { number: 0, checksum: 0 }), SnapshotReader::cut);
    // Those before the cut are left from a snapshot after which there was no time to remove them.
    let mut firsts: Vec<_> =
        names.iter().filter_map(|name| segment::number(name)).filter(|first| *first > cut.0.number).collect();
    firsts.sort_unstable();
    let mut segments = Vec::new();
    for first in firsts {
        segments.push(Found::open(dir, segment::name(first - 1))?);
    }
    let first = segment::name(cut.0.number);
    if segments.first().is_none_or(|found| found.name != first) {
        return Err(LogError::corrupt(&first, GONE));
    }
    let mut unused = Vec::new();
    while let [.., _, newest] = &segments[..]
        && newest.has_no_frame(0, 0)?
    {
        unused.extend(segments.pop());
    }
    Ok(Chain { snapshot, segments, unused, cut })
}

/// How far the chain has been read.
struct Read<'a> {
    last: Link,
    /// Where in the last segment the last frame ends.
    end: u64,
    /// Where in the last segment that begins which may not have been acknowledged.
    unacknowledged: u64,
    /// The file that was read last.
    name: &'a str,
}

/// The same without the file.
struct Position {
    last: Link,
    end: u64,
    unacknowledged: u64,
}

fn read_chain<'a, V: Visitor>(chain: &'a Chain, mark: CommitMark, visitor: &mut V) -> Result<Read<'a>, V::Error> {
    let mut least = mark.last.number;
    if let Some(snapshot) = &chain.snapshot {
        let source = |at| Source { file: snapshot.file(), name: snapshot.name(), at };
        let end = snapshot.read(|at, payload| visitor.snapshot(source(at), payload))?;
        least = least.max(visitor.end_snapshot(&end)?);
        if mark.last.number < chain.cut.0.number {
            return Err(LogError::corrupt(MARK, "it is older than the snapshot").into());
        }
    }
    let (mut last, mut payload) = (chain.cut.0, Vec::new());
    let mut read_so_far = Read { last, end: 0, unacknowledged: 0, name: "" };
    for (position, segment) in chain.segments.iter().enumerate() {
        let is_last = position + 1 == chain.segments.len();
        let damaged = |reason| V::Error::from(LogError::corrupt(&segment.name, reason));
        let (mut at, mut unacknowledged) = (segment::HEADER, 0);
        match segment.after {
            Some(after) if after == last => {}
            Some(after)
                if position > 0 && after.number > last.number && segment.name == segment::name(after.number) =>
            {
                return Err(LogError::corrupt(read_so_far.name, MISSING).into());
            }
            Some(_) => return Err(damaged("it does not follow the file before")),
            None => return Err(damaged("its header is not as it was written")),
        }
        loop {
            if last.number == mark.last.number {
                if last != mark.last {
                    return Err(damaged(DAMAGED));
                }
                unacknowledged = at;
            }
            let next = read(&*segment.file, segment.len, at, last, &mut payload);
            match next.map_err(LogError::io(&segment.name))? {
                Next::Frame(link, end) => {
                    let source = Source { file: &segment.file, name: &segment.name, at: end - payload.len() as u64 };
                    visitor.frame(source, link.number, &payload)?;
                    (last, at) = (link, end);
                }
                Next::End => break,
                Next::Bad if !is_last || last.number < least => return Err(damaged(DAMAGED)),
                // A frame that is followed by another one was acknowledged.
                Next::Bad if !segment.has_no_frame(at, last.number + 1)? => return Err(damaged(DAMAGED)),
                Next::Bad => break,
            }
        }
        read_so_far = Read { last, end: at, unacknowledged, name: &segment.name };
    }
    if last.number < least {
        let newest = chain.unused.first().map_or(read_so_far.name, |unused| &unused.name);
        return Err(LogError::corrupt(newest, MISSING).into());
    }
    Ok(read_so_far)
}

/// Cuts off what is torn, makes sure that what may not have been flushed is on the disk, and removes what is not needed.
fn repair(
    directory: &Arc<dyn Directory>,
    chain: &Chain,
    read: &Position,
    mut mark_file: CommitMarkFile,
    sub_jobs: u64,
    names: &[String],
) -> Result<Log, LogError> {
    let dir = &**directory;
    let Found { name, file, len, after } = chain.last();
    let (file, after) = (file.clone(), after.unwrap_or(chain.cut.0));
    let write_again = || {
        if *len > read.end {
            file.set_len(read.end)?;
        }
        // What was read may be in the system's memory alone. It writes pages, so that of the one before as well.
        let from = read.unacknowledged / PAGE * PAGE;
        let mut bytes = vec![0; (read.end - from) as usize];
        file.read_at(&mut bytes, from)?;
        file.write_at(&bytes, from)?;
        file.sync()
    };
    write_again().map_err(LogError::io(name))?;
    let mark = CommitMark { last: read.last, sub_jobs };
    mark_file.write(mark).and_then(|()| mark_file.sync()).map_err(LogError::io(MARK))?;
    for unused in &chain.unused {
        dir.remove(&unused.name).map_err(LogError::io(&unused.name))?;
    }
    for name in names.iter().filter(|name| name.ends_with(NEW) && super::is_log_file(name)) {
        dir.remove(name).map_err(LogError::io(name))?;
    }
    match chain.snapshot {
        Some(_) => remove_older(dir, chain.cut).map_err(LogError::io("."))?,
        None => dir.sync().map_err(LogError::io("."))?,
    }
    Ok(Log::new(directory.clone(), file, after, read.end, read.last, mark_file))
}

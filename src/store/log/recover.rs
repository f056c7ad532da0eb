//! Recovery at the start: reads everything that was acknowledged, then repairs the end of the log. No file is changed before all has
//! been read.

use std::sync::Arc;

use super::error::LogError;
use super::files::{Directory, FileHandle};
use super::frame::{Link, Next, has_frame, read};
use super::mark::{CommitMark, CommitMarkFile};
use super::names::{self, MARK, NEW, is_log_file};
use super::segment;
use super::snapshot::SnapshotReader;
use super::writer::{Cut, Log};

/// How many bytes the operating system writes to the disk at once.
const PAGE: u64 = 4096;

const MISSING: &str = "acknowledged reports are missing";
const NOT_INTACT: &str = "an acknowledged report is not as it was written";
pub(super) const GONE: &str = "it is gone";

/// Where a payload has been read from.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Source<'a> {
    pub(in crate::store) file: &'a Arc<dyn FileHandle>,
    pub(in crate::store) name: &'a str,
    /// The offset of the payload in the file.
    pub(in crate::store) at: u64,
}

/// The result of a recovery.
#[derive(Debug)]
pub(in crate::store) struct Recovered {
    pub(in crate::store) log: Log,
    /// The segment whose torn end has been truncated.
    pub(in crate::store) truncated: Option<String>,
    /// The cut of the snapshot and its length in bytes, if there is one.
    pub(in crate::store) snapshot: Option<(Cut, u64)>,
    /// The length of all segments after it in bytes.
    pub(in crate::store) log_bytes: u64,
}

/// Receives what a recovery reads, in order.
pub(in crate::store) trait Visitor {
    type Error: From<LogError>;

    /// About that many subtasks will follow.
    fn expect(&mut self, sub_jobs: u64);

    /// The payload of a frame: those of the snapshot first, then those of the log.
    fn frame(&mut self, source: Source<'_>, payload: &[u8]) -> Result<(), Self::Error>;

    /// What the snapshot was finished with. Returns the number of the last frame that it contains changes of.
    fn end_snapshot(&mut self, end: &[u8]) -> Result<u64, Self::Error>;

    /// All has been read. Returns the number of subtasks.
    fn end(&mut self) -> Result<u64, Self::Error>;
}

/// A segment as it is found.
#[derive(Debug)]
struct Segment {
    name: String,
    file: Arc<dyn FileHandle>,
    len: u64,
    /// The frame before its first one; `None` if the header is not intact.
    after: Option<Link>,
}

impl Segment {
    fn open(directory: &dyn Directory, name: String) -> Result<Self, LogError> {
        let file = directory.open(&name).map_err(LogError::io(&name))?;
        let len = file.len().map_err(LogError::io(&name))?;
        let after = segment::read(&*file, len).map_err(LogError::io(&name))?;
        Ok(Self { name, file, len, after })
    }

    /// Whether the rest of the file from an offset on holds no intact frame with a number of at least `least`.
    fn has_no_frame(&self, from: u64, least: u64) -> Result<bool, LogError> {
        let mut rest = vec![0; self.len.saturating_sub(from) as usize];
        self.file.read_at(&mut rest, from).map_err(LogError::io(&self.name))?;
        Ok(!has_frame(&rest, least))
    }
}

/// The files to be read.
struct Chain {
    snapshot: Option<SnapshotReader>,
    /// The segments after the snapshot's cut; at least one.
    segments: Vec<Segment>,
    /// Newest segments without a frame, which interrupted rotations have left.
    unused: Vec<Segment>,
}

impl Chain {
    /// The frame before the first one of the first segment.
    fn start(&self) -> Link {
        self.snapshot.as_ref().map_or(Link::START, |snapshot| snapshot.cut.0)
    }

    fn newest(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }
}

/// How far the chain of frames reaches.
struct End<'a> {
    last: Link,
    /// The offset of its end in the newest segment.
    at: u64,
    /// The offset in the newest segment from which on frames may not have been acknowledged.
    unacknowledged: u64,
    /// The segment that was read last.
    name: &'a str,
}

/// Reads everything that was acknowledged, verifies that it is complete, and prepares the log to be appended to.
pub(in crate::store) fn recover<V: Visitor>(
    directory: &Arc<dyn Directory>,
    visitor: &mut V,
) -> Result<Recovered, V::Error> {
    let names = directory.list().map_err(LogError::io("."))?;
    let (mark_file, mark) = open_mark(&**directory, &names)?;
    visitor.expect(mark.sub_jobs);
    let chain = find_chain(&**directory, &names)?;
    let end = read_chain(&chain, mark, visitor)?;
    let sub_jobs = visitor.end()?;
    if end.last == mark.last && sub_jobs != mark.sub_jobs {
        return Err(LogError::corrupt(end.name, "the subtasks in it are not those that were stored").into());
    }
    let log = repair(directory, &chain, &end, (mark_file, sub_jobs), &names)?;
    Ok(Recovered {
        log,
        truncated: (end.at < chain.newest().len).then(|| chain.newest().name.clone()),
        snapshot: chain.snapshot.as_ref().map(|snapshot| (snapshot.cut, snapshot.len)),
        log_bytes: chain.segments.iter().map(|segment| segment.len).sum(),
    })
}

/// Reads everything as [`recover`] does, and changes nothing: a recovery will not find that an acknowledged frame is missing or corrupt.
/// The number of subtasks is not compared.
pub(in crate::store) fn verify<V: Visitor>(directory: &dyn Directory, visitor: &mut V) -> Result<(), V::Error> {
    let names = directory.list().map_err(LogError::io("."))?;
    let (_, mark) = open_mark(directory, &names)?;
    let chain = find_chain(directory, &names)?;
    read_chain(&chain, mark, visitor).map(|_| ())
}

fn open_mark(directory: &dyn Directory, names: &[String]) -> Result<(CommitMarkFile, CommitMark), LogError> {
    CommitMarkFile::open(directory).map_err(LogError::io(MARK))?.ok_or_else(|| {
        let is_there = names.iter().any(|name| name == MARK);
        LogError::corrupt(MARK, if is_there { "none of its slots is as it was written" } else { GONE })
    })
}

/// Opens the newest snapshot and all segments after its cut.
fn find_chain(dir: &dyn Directory, names: &[String]) -> Result<Chain, LogError> {
    let newest = names.iter().filter_map(|name| names::snapshot_number(name)).max();
    let snapshot = newest.map(|number| SnapshotReader::open(dir, number)).transpose()?;
    let cut = newest.unwrap_or_default();
    // A crash after the snapshot was published may have left older segments.
    let firsts = names.iter().filter_map(|name| names::segment_number(name)).filter(|first| *first > cut);
    let mut firsts: Vec<_> = firsts.collect();
    firsts.sort_unstable();
    let segments = firsts.iter().map(|first| Segment::open(dir, names::segment(first - 1)));
    let mut segments = segments.collect::<Result<Vec<_>, _>>()?;
    if firsts.first() != Some(&(cut + 1)) {
        return Err(LogError::corrupt(&names::segment(cut), GONE));
    }
    let mut unused = Vec::new();
    while let [.., _, newest] = &segments[..]
        && newest.has_no_frame(0, 0)?
    {
        unused.extend(segments.pop());
    }
    Ok(Chain { snapshot, segments, unused })
}

/// Shows the visitor all payloads, and verifies that they form one chain that reaches the commit mark.
fn read_chain<'a, V: Visitor>(chain: &'a Chain, mark: CommitMark, visitor: &mut V) -> Result<End<'a>, V::Error> {
    let mut least = mark.last.number;
    if let Some(snapshot) = &chain.snapshot {
        let source = |at| Source { file: &snapshot.file, name: &snapshot.name, at };
        let end = snapshot.read(|at, payload| visitor.frame(source(at), payload))?;
        least = least.max(visitor.end_snapshot(&end)?);
    }
    let mut last = chain.start();
    if mark.last.number < last.number {
        return Err(LogError::corrupt(MARK, "it is older than the snapshot").into());
    }
    let mut chain_end = End { last, at: 0, unacknowledged: 0, name: "" };
    let mut payload = Vec::new();
    for (position, segment) in chain.segments.iter().enumerate() {
        let corrupt = |reason| V::Error::from(LogError::corrupt(&segment.name, reason));
        match segment.after {
            Some(after) if after == last => {}
            Some(Link { number, .. })
                if position > 0 && number > last.number && segment.name == names::segment(number) =>
            {
                return Err(LogError::corrupt(chain_end.name, MISSING).into());
            }
            Some(_) => return Err(corrupt("it does not follow the file before")),
            None => return Err(corrupt("its header is not as it was written")),
        }
        let is_newest = position + 1 == chain.segments.len();
        let (mut at, mut unacknowledged) = (segment::HEADER, 0);
        loop {
            if last.number == mark.last.number {
                if last != mark.last {
                    return Err(corrupt(NOT_INTACT));
                }
                unacknowledged = at;
            }
            match read(&*segment.file, segment.len, at, last, &mut payload).map_err(LogError::io(&segment.name))? {
                Next::Frame(link, end) => {
                    let source = Source { file: &segment.file, name: &segment.name, at: end - payload.len() as u64 };
                    visitor.frame(source, &payload)?;
                    (last, at) = (link, end);
                }
                Next::End => break,
                // A torn write: it is in the newest segment, behind the mark, and no frame follows. A frame that another one
                // follows was acknowledged.
                Next::Invalid if is_newest && last.number >= least && segment.has_no_frame(at, last.number + 1)? => {
                    break;
                }
                Next::Invalid => return Err(corrupt(NOT_INTACT)),
            }
        }
        chain_end = End { last, at, unacknowledged, name: &segment.name };
    }
    if last.number < least {
        let newest = chain.unused.first().map_or(chain_end.name, |unused| &unused.name);
        return Err(LogError::corrupt(newest, MISSING).into());
    }
    Ok(chain_end)
}

/// Truncates a torn end, makes everything durable that may not be, and removes files that are not needed.
fn repair(
    directory: &Arc<dyn Directory>,
    chain: &Chain,
    end: &End<'_>,
    (mut mark, sub_jobs): (CommitMarkFile, u64),
    names: &[String],
) -> Result<Log, LogError> {
    let Segment { name, file, len, after } = chain.newest();
    let rewrite = || {
        if *len > end.at {
            file.set_len(end.at)?;
        }
        // What was read may be in the page cache only, after a flush that failed: such pages count as clean, and are written to
        // the disk only if they are changed again. The first page is that of the last acknowledged byte.
        let from = end.unacknowledged / PAGE * PAGE;
        let mut bytes = vec![0; (end.at - from) as usize];
        file.read_at(&mut bytes, from)?;
        file.write_at(&bytes, from)?;
        file.sync()
    };
    rewrite().map_err(LogError::io(name))?;
    let reached = CommitMark { last: end.last, sub_jobs };
    mark.write(reached).and_then(|()| mark.sync()).map_err(LogError::io(MARK))?;
    let unused = chain.unused.iter().map(|unused| &unused.name);
    let drafts = names.iter().filter(|name| name.ends_with(NEW) && is_log_file(name));
    for name in unused.chain(drafts) {
        directory.remove(name).map_err(LogError::io(name))?;
    }
    match &chain.snapshot {
        Some(snapshot) => snapshot.remove_older(&**directory),
        None => directory.sync(),
    }
    .map_err(LogError::io("."))?;
    let segment = (file.clone(), after.unwrap_or(chain.start()));
    Ok(Log::resume(directory.clone(), segment, (end.at, end.last), mark))
}

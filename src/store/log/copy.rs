//! Copies a log, also while a server appends to it.
//!
//! Everything that was acknowledged before the copy began is in it:
//!
//! 1. A frame that was acknowledged then is in a segment that existed then, or in a snapshot that replaced that segment.
//! 2. All files that exist while a directory is listed are in the list. A server removes the segments that a snapshot replaces after
//!    the snapshot has its name, the oldest segment first. So if the first segment after the newest snapshot of the list can be
//!    opened after the list was made, none of the segments after that snapshot had been removed, and all of them are in the list.
//! 3. The lengths are read later still. Bytes up to them are only written again after a write that failed.
//! 4. The commit mark is read first, so the frame that it names is copied. If a second list equals the first one, no segment was begun
//!    in between, so the last frame that the snapshot has changes of is copied too.
//!
//! Each copy is read back before it counts. A list that does not fit is made again.

use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::error::LogError;
use super::files::{Directory, FileHandle};
use super::mark::{CommitMark, CommitMarkFile};
use super::names::{self, MARK};
use super::recover::GONE;

/// How often a directory is listed that changes meanwhile, and the pause before the next time.
const MAX_LISTS: u32 = 100;
const LIST_PAUSE: Duration = Duration::from_millis(10);

/// How many bytes are copied at once.
const CHUNK: usize = 1024 * 1024;

/// What has been copied.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Copied {
    pub(in crate::store) files: u64,
    pub(in crate::store) bytes: u64,
    /// The number of subtasks after the last frame that was acknowledged before the copy began.
    pub(in crate::store) sub_jobs: u64,
}

/// A file and its length, up to which it is copied.
struct Part {
    name: String,
    file: Arc<dyn FileHandle>,
    len: u64,
}

/// Copies a log into a directory without one. The copy is durable when this returns, and is not verified.
pub(in crate::store) fn copy(from: &dyn Directory, to: &dyn Directory) -> Result<Copied, LogError> {
    let (mark, parts) = select(from)?;
    let mut copied = Copied { files: 1, bytes: 0, sub_jobs: mark.sub_jobs };
    for Part { name, file, len } in &parts {
        copy_file(&**file, *len, to, name).map_err(LogError::io(name))?;
        (copied.files, copied.bytes) = (copied.files + 1, copied.bytes + len);
    }
    CommitMarkFile::create(to, mark).map_err(LogError::io(MARK))?;
    Ok(copied)
}

/// Finds the commit mark and the files that a recovery would read.
fn select(from: &dyn Directory) -> Result<(CommitMark, Vec<Part>), LogError> {
    let mut lists = 1;
    loop {
        match try_select(from) {
            // A file that was listed is gone, or one that was not listed is needed: a snapshot has been published meanwhile.
            Err(LogError::Corrupt { .. }) if lists < MAX_LISTS => {}
            Err(LogError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound && lists < MAX_LISTS => {}
            selected => return selected,
        }
        lists += 1;
        sleep(LIST_PAUSE);
    }
}

fn try_select(from: &dyn Directory) -> Result<(CommitMark, Vec<Part>), LogError> {
    let open = |name: &str| from.open_to_read(name).map_err(LogError::io(name));
    // A mark is replaced and never removed, so one that is missing is lost.
    let mark = open(MARK).map_err(|error| match error {
        LogError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => LogError::corrupt(MARK, GONE),
        error => error,
    })?;
    let mark = CommitMarkFile::read(&*mark).map_err(LogError::io(MARK))?;
    let mark = mark.ok_or_else(|| LogError::corrupt(MARK, "none of its slots is as it was written"))?;
    let names = list(from)?;
    let snapshot = names.iter().filter_map(|name| names::snapshot_number(name)).max();
    let cut = snapshot.unwrap_or(0);
    if mark.last.number < cut {
        return Err(LogError::corrupt(MARK, "it is older than the snapshot"));
    }
    let mut segments: Vec<_> = names.iter().filter_map(|name| names::segment_number(name)).collect();
    segments.retain(|first| *first > cut);
    segments.sort_unstable();
    if segments.first() != Some(&(cut + 1)) {
        return Err(LogError::corrupt(&names::segment(cut), GONE));
    }
    let needed = segments.iter().map(|first| names::segment(first - 1)).chain(snapshot.map(names::snapshot));
    let opened = needed.map(|name| Ok((open(&name)?, name))).collect::<Result<Vec<_>, LogError>>()?;
    if list(from)? != names {
        return Err(LogError::corrupt(".", "it changes all the time"));
    }
    let with_len = opened.into_iter().map(|(file, name)| {
        let len = file.len().map_err(LogError::io(&name))?;
        Ok(Part { name, file, len })
    });
    Ok((mark, with_len.collect::<Result<_, LogError>>()?))
}

/// The names of all segments and snapshots.
fn list(directory: &dyn Directory) -> Result<Vec<String>, LogError> {
    let mut names = directory.list().map_err(LogError::io("."))?;
    names.retain(|name| names::segment_number(name).or(names::snapshot_number(name)).is_some());
    names.sort_unstable();
    Ok(names)
}

fn copy_file(from: &dyn FileHandle, len: u64, to: &dyn Directory, name: &str) -> io::Result<()> {
    let (file, mut at, mut chunk) = (to.create(name)?, 0, Vec::new());
    while at < len {
        chunk.resize(CHUNK.min((len - at) as usize), 0);
        from.read_at(&mut chunk, at)?;
        file.write_at(&chunk, at)?;
        at += chunk.len() as u64;
    }
    file.sync()
}

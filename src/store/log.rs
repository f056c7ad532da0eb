//! The log: what has been changed, in numbered frames that form a chain; and snapshots, which take the place of its beginning.
//!
//! It knows nothing of subtasks. The bytes are described in docs/storage-format.md. Why what was acknowledged is there after
//! a crash, and nothing wrong ever is:
//!
//! 1. A frame is acknowledged when it has been written and flushed, and its number and checksum stand in the commit mark.
//! 2. The next frame is written only then. So a frame that is followed by another one was acknowledged, and only the last one
//!    can be torn.
//! 3. A frame names the checksum of the one before. So a frame that is damaged, missing, repeated or out of place breaks the
//!    chain, and the mark tells where the chain must reach at least.
//! 4. At the start, what is torn after the mark and is followed by nothing is cut off. Anything else that cannot be read is
//!    refused, and no file is changed before all has been read.
//! 5. What a failed write has left of a frame is cut off, and the next frame takes its place; both are durable with the next flush.
//! 6. After a failed flush nobody knows what is on the disk, so nothing is acknowledged until a restart. What is read then may
//!    be the system's memory of the file; so whatever lies behind the mark is written and flushed again before it counts.
//! 7. A snapshot gets its name, and what it replaces is removed, only after it has been flushed and read again.

mod files;
mod frame;
mod mark;
mod recover;
mod segment;
mod snapshot;
mod writer;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::io;

pub(super) use self::files::{Directory, FileHandle, SystemDirectory};
pub(super) use self::frame::FrameBuffer;
pub(super) use self::recover::{Recovered, Source, Visitor, recover};
pub(super) use self::snapshot::{SnapshotReader, SnapshotWriter};
pub(super) use self::writer::{AppendError, Appended, Cut, Log};

/// The file of the commit mark.
pub(super) const MARK: &str = "acknowledged";

/// Whether a file of that name is one of the log's.
pub(super) fn is_log_file(name: &str) -> bool {
    let plain = name.strip_suffix(NEW).unwrap_or(name);
    plain == MARK || segment::number(plain).is_some() || snapshot::number(plain).is_some()
}

/// What the name of a file ends in that is not complete.
const NEW: &str = ".new";

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// What was acknowledged is missing, or not as it was written.
    #[error("{name}: {reason}")]
    Corrupt { name: String, reason: &'static str },
    /// The system refuses.
    #[error("{name}: {cause}")]
    Io { name: String, cause: io::Error },
}

impl LogError {
    fn corrupt(name: &str, reason: &'static str) -> Self {
        Self::Corrupt { name: name.into(), reason }
    }

    fn io(name: &str) -> impl FnOnce(io::Error) -> Self {
        |cause| Self::Io { name: name.into(), cause }
    }
}

/// Whether there is no more of a log than a first start may have left that was cut short: nothing was ever acknowledged in it.
pub(super) fn is_unused(directory: &dyn Directory) -> io::Result<bool> {
    let names = directory.list()?;
    let is_blank = |name: &String| -> io::Result<bool> {
        let file = directory.open(name)?;
        Ok(*name == segment::name(0) && file.len()? <= segment::HEADER)
    };
    for name in names.iter().filter(|name| is_log_file(name)) {
        let is_draft = *name == format!("{MARK}{NEW}");
        let is_blank = match name.as_str() {
            MARK => mark::CommitMarkFile::open(directory)?.is_some_and(|(_, mark)| mark.last.number == 0),
            _ => is_draft || is_blank(name)?,
        };
        if !is_blank {
            return Ok(false);
        }
    }
    Ok(true)
}

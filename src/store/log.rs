//! The log: numbered frames in files, which form a chain by their checksums; and snapshots, which replace the oldest files.
//!
//! It knows nothing of subtasks. docs/storage-format.md describes the bytes. The durability argument, that after any crash exactly
//! the acknowledged frames are there, and at most one more:
//!
//! 1. A frame is acknowledged after it has been written and flushed, and its number and checksum have been written to the commit
//!    mark.
//! 2. The next frame is written only then. So a frame that another frame follows was acknowledged, and only the last one can be torn.
//! 3. A frame contains the checksum of the frame before. So a frame that is damaged, missing, repeated or in the wrong place breaks
//!    the chain, and the commit mark says how far the chain reaches at least.
//! 4. On startup, a torn frame after the commit mark that no frame follows is truncated. Anything else that cannot be read is
//!    refused. No file is changed before everything has been read.
//! 5. After a failed write the file is truncated to the end of the last acknowledged frame, and the next frame is written there.
//! 6. After a failed flush it is unknown what the disk holds, so no frame is acknowledged until a restart. The restart may read pages
//!    that are in memory only; so it writes and flushes all that follows the commit mark again before it counts.
//! 7. A snapshot is renamed to its final name, and what it replaces is removed, only after it has been flushed and read back.

mod copy;
mod error;
mod files;
mod frame;
mod mark;
mod names;
mod recover;
mod segment;
mod snapshot;
mod writer;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::io;

pub(super) use self::copy::{Copied, copy};
pub(super) use self::error::LogError;
pub(super) use self::files::{Directory, FileHandle, SystemDirectory};
pub(super) use self::frame::FrameBuffer;
use self::mark::CommitMarkFile;
use self::names::NEW;
pub(super) use self::names::{MARK, is_log_file};
pub(super) use self::recover::{Recovered, Source, Visitor, recover, verify};
pub(super) use self::snapshot::{SnapshotReader, SnapshotWriter};
pub(super) use self::writer::{AppendError, Appended, Cut, Log};

/// Whether the directory holds no more of a log than an interrupted first start leaves: nothing was ever acknowledged in it.
pub(super) fn is_unused(directory: &dyn Directory) -> io::Result<bool> {
    for name in directory.list()?.iter().filter(|name| is_log_file(name)) {
        let is_unused = if name == MARK {
            CommitMarkFile::open(directory)?.is_some_and(|(_, mark)| mark.last.number == 0)
        } else if *name == names::segment(0) {
            directory.open(name)?.len()? <= segment::HEADER
        } else {
            *name == format!("{MARK}{NEW}")
        };
        if !is_unused {
            return Ok(false);
        }
    }
    Ok(true)
}

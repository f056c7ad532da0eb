//! Appends frames, and knows what may be done after that has failed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::{Directory, FileHandle};
use super::frame::{FrameBuffer, HEADER, Link};
use super::mark::{CommitMark, CommitMarkFile};
use super::segment;

/// From how many bytes on another segment is begun.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Why a frame has not been appended.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum AppendError {
    /// The disk is full; the next frame may be appended.
    #[error("the disk is full: {0}")]
    DiskFull(io::Error),
    /// The write has failed for another reason; the next frame may be appended.
    #[error("{0}")]
    NotWritten(io::Error),
    /// It is not known what is on the disk; no frame is appended until a restart.
    #[error("{0}")]
    Sealed(io::Error),
    /// That has been so since an earlier one.
    #[error("an earlier write has failed")]
    SealedBefore,
}

/// Where a frame is.
#[derive(Debug)]
pub(in crate::store) struct Appended {
    pub(in crate::store) file: Arc<dyn FileHandle>,
    /// Where in it the payload begins.
    pub(in crate::store) payload: u64,
}

/// Between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Cut(pub(super) Link);

/// A log that can be appended to.
#[derive(Debug)]
pub(in crate::store) struct Log {
    directory: Arc<dyn Directory>,
    segment: Arc<dyn FileHandle>,
    /// How many bytes of the segment have been acknowledged.
    len: u64,
    last: Link,
    /// The last frame before the segment.
    segment_after: Link,
    mark: CommitMarkFile,
    unflushed_since: Option<Instant>,
    /// A segment that could not be begun, nor removed again.
    unused: Option<String>,
    is_sealed: bool,
    segment_bytes: u64,
}

impl Log {
    /// Makes a log without frames where there is none; what a start has left that was cut short is overwritten.
    pub(in crate::store) fn create(directory: &dyn Directory) -> io::Result<()> {
        let nothing = Link { number: 0, checksum: 0 };
        segment::create(directory, nothing)?;
        CommitMarkFile::create(directory, CommitMark { last: nothing, sub_jobs: 0 })
    }

    pub(super) fn new(
        directory: Arc<dyn Directory>,
        segment: Arc<dyn FileHandle>,
        segment_after: Link,
        len: u64,
        last: Link,
        mark: CommitMarkFile,
    ) -> Self {
        Self {
            directory,
            segment,
            len,
            last,
            segment_after,
            mark,
            unflushed_since: None,
            unused: None,
            is_sealed: false,
            segment_bytes: SEGMENT_BYTES,
        }
    }

    /// Begins segments after so many bytes.
    #[cfg(test)]
    pub(super) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// The number of the last frame.
    pub(in crate::store) fn last(&self) -> u64 {
        self.last.number
    }

    /// The name of the file that was appended to last.
    pub(in crate::store) fn segment_name(&self) -> String {
        segment::name(self.segment_after.number)
    }

    /// From now on nothing is appended, until a restart.
    pub(in crate::store) fn refuse(&mut self) {
        self.is_sealed = true;
    }

    /// Appends a frame, after which there are so many subtasks; it is durable and acknowledged, or this fails.
    pub(in crate::store) fn append(&mut self, frame: &mut FrameBuffer, sub_jobs: u64) -> Result<Appended, AppendError> {
        if self.is_sealed {
            return Err(AppendError::SealedBefore);
        }
        if self.len >= self.segment_bytes {
            // Without room for another one this one does.
            let _ = self.rotate();
            if self.is_sealed {
                return Err(AppendError::SealedBefore);
            }
        }
        let (bytes, link) = frame.seal(self.last);
        if let Err(error) = self.segment.write_at(bytes, self.len) {
            // The next frame takes the place of what has been written of this one.
            return Err(match self.segment.set_len(self.len) {
                Ok(()) if is_disk_full(&error) => AppendError::DiskFull(error),
                Ok(()) => AppendError::NotWritten(error),
                Err(_) => self.seal(error),
            });
        }
        let appended = Appended { file: self.segment.clone(), payload: self.len + HEADER as u64 };
        if let Err(error) = self.segment.sync() {
            return Err(self.seal(error));
        }
        if let Err(error) = self.mark.write(CommitMark { last: link, sub_jobs }) {
            // The mark may say so nevertheless, so the frame stays.
            self.is_sealed = true;
            return Err(AppendError::Sealed(error));
        }
        self.unflushed_since.get_or_insert_with(Instant::now);
        self.len += bytes.len() as u64;
        self.last = link;
        Ok(appended)
    }

    fn seal(&mut self, error: io::Error) -> AppendError {
        self.is_sealed = true;
        // As good as it can be done: what was refused is then not found at the next start.
        let _ = self.segment.set_len(self.len);
        AppendError::Sealed(error)
    }

    /// Begins another segment; where the one before ends. When this fails, the one before is gone on with.
    pub(in crate::store) fn rotate(&mut self) -> io::Result<Cut> {
        if self.is_sealed {
            // What comes after the last frame that was acknowledged is not known.
            return Err(io::Error::other("an earlier write has failed"));
        }
        if self.segment_after == self.last {
            // It has no frame yet.
            return Ok(Cut(self.last));
        }
        // The mark is never behind the beginning of a segment. And nothing is left behind the end of the one before, from which a
        // write may have been cut off that had found no space.
        if let Err(error) = self.segment.sync().and_then(|()| self.flush_mark()) {
            self.is_sealed = true;
            return Err(error);
        }
        self.remove_unused()?;
        match segment::create(&*self.directory, self.last) {
            Ok(new) => {
                (self.segment, self.segment_after, self.len) = (new, self.last, segment::HEADER);
                Ok(Cut(self.last))
            }
            Err(error) => {
                self.unused = Some(segment::name(self.last.number));
                let _ = self.remove_unused();
                Err(error)
            }
        }
    }

    /// Removes what is left of a segment that could not be begun, before another one is: only the last may be empty.
    fn remove_unused(&mut self) -> io::Result<()> {
        if let Some(name) = &self.unused {
            match self.directory.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.unused = None,
            }
        }
        Ok(())
    }

    fn flush_mark(&mut self) -> io::Result<()> {
        self.mark.sync()?;
        self.unflushed_since = None;
        Ok(())
    }

    /// Flushes the commit mark if there has been something to flush for so long. If that fails nothing is appended any more.
    pub(in crate::store) fn flush_mark_after(&mut self, time: Duration) -> Result<(), AppendError> {
        if self.mark.is_flushed() || self.unflushed_since.is_none_or(|since| since.elapsed() < time) || self.is_sealed {
            return Ok(());
        }
        self.flush_mark().map_err(|error| {
            self.is_sealed = true;
            AppendError::Sealed(error)
        })
    }
}

/// Whether the disk, or what a user may have of it, is full.
fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

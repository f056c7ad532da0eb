//! Appends frames, and decides what is possible after a call has failed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::{Directory, FileHandle};
use super::frame::{FrameBuffer, HEADER, Link};
use super::mark::{CommitMark, CommitMarkFile};
use super::{names, segment};

/// The length from which on the next frame begins another segment: 64 MiB.
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
    /// An earlier call has sealed the log.
    #[error("an earlier write has failed")]
    SealedBefore,
}

/// Where a frame has been written.
#[derive(Debug)]
pub(in crate::store) struct Appended {
    pub(in crate::store) file: Arc<dyn FileHandle>,
    /// The offset of its payload.
    pub(in crate::store) payload: u64,
}

/// A position in the log, by the frame before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Cut(pub(super) Link);

/// A log that can be appended to.
#[derive(Debug)]
pub(in crate::store) struct Log {
    directory: Arc<dyn Directory>,
    segment: Arc<dyn FileHandle>,
    /// The last frame before the segment.
    segment_after: Link,
    /// The length of the segment up to the last acknowledged frame, in bytes.
    len: u64,
    /// The last acknowledged frame.
    last: Link,
    mark: CommitMarkFile,
    unflushed_since: Option<Instant>,
    is_sealed: bool,
    segment_bytes: u64,
}

impl Log {
    /// Creates a log without frames; what an interrupted first start has left is overwritten.
    pub(in crate::store) fn create(directory: &dyn Directory) -> io::Result<()> {
        segment::create(directory, Link::START)?;
        CommitMarkFile::create(directory, CommitMark { last: Link::START, sub_jobs: 0 })
    }

    /// Continues a log after its last frame, which ends at `len` in the segment that begins after `segment_after`.
    pub(super) fn resume(
        directory: Arc<dyn Directory>,
        (segment, segment_after): (Arc<dyn FileHandle>, Link),
        (len, last): (u64, Link),
        mark: CommitMarkFile,
    ) -> Self {
        let (unflushed_since, is_sealed, segment_bytes) = (None, false, SEGMENT_BYTES);
        Self { directory, segment, segment_after, len, last, mark, unflushed_since, is_sealed, segment_bytes }
    }

    /// Begins segments after that length.
    #[cfg(test)]
    pub(super) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// The number of the last frame.
    pub(in crate::store) fn last(&self) -> u64 {
        self.last.number
    }

    /// The name of the segment that is appended to.
    pub(in crate::store) fn segment_name(&self) -> String {
        names::segment(self.segment_after.number)
    }

    /// Appends nothing from now on, until a restart.
    pub(in crate::store) fn seal(&mut self) {
        self.is_sealed = true;
    }

    /// Appends a frame, after which there are `sub_jobs` subtasks. When this returns `Ok` the frame is durable and acknowledged.
    pub(in crate::store) fn append(&mut self, frame: &mut FrameBuffer, sub_jobs: u64) -> Result<Appended, AppendError> {
        if self.len >= self.segment_bytes {
            // If no segment can be created, this one is continued.
            let _ = self.rotate();
        }
        if self.is_sealed {
            return Err(AppendError::SealedBefore);
        }
        let (bytes, link) = frame.seal(self.last);
        if let Err(error) = self.segment.write_at(bytes, self.len) {
            // The next frame overwrites the written part of this one.
            return Err(match self.segment.set_len(self.len) {
                Ok(()) if is_disk_full(&error) => AppendError::DiskFull(error),
                Ok(()) => AppendError::NotWritten(error),
                Err(_) => self.sealed(error),
            });
        }
        if let Err(error) = self.segment.sync() {
            // If this succeeds, the next start does not find the frame, which was refused.
            let _ = self.segment.set_len(self.len);
            return Err(self.sealed(error));
        }
        // When this fails the mark may have been written nevertheless, so the frame stays.
        self.mark.write(CommitMark { last: link, sub_jobs }).map_err(|error| self.sealed(error))?;
        let appended = Appended { file: self.segment.clone(), payload: self.len + HEADER as u64 };
        self.unflushed_since.get_or_insert_with(Instant::now);
        (self.len, self.last) = (self.len + bytes.len() as u64, link);
        Ok(appended)
    }

    fn sealed(&mut self, error: io::Error) -> AppendError {
        self.is_sealed = true;
        AppendError::Sealed(error)
    }

    /// Begins another segment, and returns the position between the two. If that fails, the old segment is continued.
    pub(in crate::store) fn rotate(&mut self) -> io::Result<Cut> {
        if self.is_sealed {
            return Err(io::Error::other("an earlier write has failed"));
        }
        if self.segment_after == self.last {
            // The segment has no frame yet.
            return Ok(Cut(self.last));
        }
        // The mark is never behind the beginning of a segment; and bytes of a failed write that were cut off are gone for good.
        if let Err(error) = self.segment.sync().and_then(|()| self.flush_mark()) {
            self.is_sealed = true;
            return Err(error);
        }
        let created = segment::create(&*self.directory, self.last);
        match created {
            Ok(new) => (self.segment, self.segment_after, self.len) = (new, self.last, segment::HEADER),
            Err(error) => {
                // No segment may follow one without frames.
                let removed = self.directory.remove(&names::segment(self.last.number));
                self.is_sealed = removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
                return Err(error);
            }
        }
        Ok(Cut(self.last))
    }

    fn flush_mark(&mut self) -> io::Result<()> {
        self.mark.sync()?;
        self.unflushed_since = None;
        Ok(())
    }

    /// Makes the commit mark durable if it has not been for that time. If this fails the log is sealed.
    pub(in crate::store) fn flush_mark_after(&mut self, time: Duration) -> Result<(), AppendError> {
        if self.unflushed_since.is_none_or(|since| since.elapsed() < time) || self.is_sealed {
            return Ok(());
        }
        self.flush_mark().map_err(|error| self.sealed(error))
    }
}

/// Whether the disk, or the user's quota, is full.
fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

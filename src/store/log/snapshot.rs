//! Snapshots: what the log had come to at some frame, in a file of frames of its own.
//!
//! While it is written frames are appended to the log, and it may hold what some of them have changed. So it is followed by all
//! frames after the cut, which make it right.

use std::io;
use std::sync::Arc;

use super::files::{Directory, FileHandle};
use super::frame::{FrameBuffer, HEADER, Link, Next, read};
use super::segment::{self, numbered, read_header};
use super::writer::Cut;
use super::{LogError, NEW};

/// What a snapshot begins with.
const MAGIC: [u8; 16] = *b"subjobs snap 2\0\0";

const PREFIX: &str = "snapshot-";

/// The first byte of a payload: whether more frames come.
const MORE: u8 = 1;
const LAST: u8 = 2;

/// The name of the snapshot of that frame.
pub(super) fn name(cut: u64) -> String {
    format!("{PREFIX}{cut:020}")
}

/// The number of the frame that the snapshot of that name was made of.
pub(super) fn number(name: &str) -> Option<u64> {
    numbered(name, PREFIX)
}

/// A snapshot that is being written.
#[derive(Debug)]
pub(in crate::store) struct SnapshotWriter {
    file: Arc<dyn FileHandle>,
    cut: Cut,
    len: u64,
    last: Link,
}

impl SnapshotWriter {
    /// Begins one, which has no name of its own before it is complete.
    pub(in crate::store) fn create(directory: &dyn Directory, cut: Cut) -> io::Result<Self> {
        let file = directory.create(&(name(cut.0.number) + NEW))?;
        file.write_at(&segment::header(MAGIC, cut.0), 0)?;
        // Its frames are numbered from 1, and bound to the cut.
        let last = Link { number: 0, checksum: cut.0.checksum };
        Ok(Self { file, cut, len: segment::HEADER, last })
    }

    /// A frame whose payload is to be appended to.
    pub(in crate::store) fn frame() -> FrameBuffer {
        let mut frame = FrameBuffer::default();
        frame.payload().push(MORE);
        frame
    }

    pub(in crate::store) fn append(&mut self, frame: &mut FrameBuffer) -> io::Result<()> {
        let (bytes, link) = frame.seal(self.last);
        self.file.write_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        self.last = link;
        Ok(())
    }

    /// Ends it with some bytes and flushes it. It has no name of its own before it has been read again.
    pub(in crate::store) fn finish(mut self, end: &[u8]) -> io::Result<SnapshotReader> {
        let mut frame = FrameBuffer::default();
        frame.payload().push(LAST);
        frame.payload().extend_from_slice(end);
        self.append(&mut frame)?;
        self.file.sync()?;
        let name = name(self.cut.0.number) + NEW;
        Ok(SnapshotReader { file: self.file, name, len: self.len, cut: self.cut })
    }

    /// Removes what there is of one that could not be finished.
    pub(in crate::store) fn discard(directory: &dyn Directory, cut: Cut) {
        // At the next start it goes at the latest.
        let _ = directory.remove(&(name(cut.0.number) + NEW));
    }
}

/// A snapshot that is complete.
#[derive(Debug)]
pub(in crate::store) struct SnapshotReader {
    file: Arc<dyn FileHandle>,
    name: String,
    len: u64,
    cut: Cut,
}

/// What was wrong with one.
const DAMAGED: &str = "the snapshot is not as it was written";

impl SnapshotReader {
    /// Gives one that has been read again its name; from then on it is what a start reads.
    pub(in crate::store) fn publish(&mut self, directory: &dyn Directory) -> io::Result<()> {
        let draft = std::mem::replace(&mut self.name, name(self.cut.0.number));
        directory.rename(&draft, &self.name)?;
        directory.sync()
    }

    /// Removes what it replaces: older snapshots, and segments before its cut.
    pub(in crate::store) fn remove_older(&self, directory: &dyn Directory) -> io::Result<()> {
        remove_older(directory, self.cut)
    }

    /// Opens the snapshot of the frame with that number.
    pub(super) fn open_number(directory: &dyn Directory, number: u64) -> Result<Self, LogError> {
        let name = name(number);
        let file = directory.open(&name).map_err(LogError::io(&name))?;
        let len = file.len().map_err(LogError::io(&name))?;
        let link = read_header(MAGIC, &*file, len).map_err(LogError::io(&name))?;
        let cut = link.filter(|link| link.number == number).map(Cut);
        let cut = cut.ok_or_else(|| LogError::corrupt(&name, DAMAGED))?;
        Ok(Self { file, name, len, cut })
    }

    pub(in crate::store) fn file(&self) -> &Arc<dyn FileHandle> {
        &self.file
    }

    pub(in crate::store) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::store) fn cut(&self) -> Cut {
        self.cut
    }

    pub(in crate::store) fn len(&self) -> u64 {
        self.len
    }

    /// Shows the payload of every frame, with where in the file it begins; the bytes that it was finished with. Fails if any
    /// byte is not as it was written.
    pub(in crate::store) fn read<E: From<LogError>>(
        &self,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        let (mut at, mut after) = (segment::HEADER, Link { number: 0, checksum: self.cut.0.checksum });
        let mut payload = Vec::new();
        loop {
            let next = read(&*self.file, self.len, at, after, &mut payload).map_err(LogError::io(&self.name))?;
            let Next::Frame(link, end) = next else { return Err(LogError::corrupt(&self.name, DAMAGED).into()) };
            match payload.split_first() {
                Some((&MORE, rest)) => each(at + HEADER as u64 + 1, rest)?,
                Some((&LAST, rest)) if end == self.len => return Ok(rest.into()),
                _ => return Err(LogError::corrupt(&self.name, DAMAGED).into()),
            }
            (at, after) = (end, link);
        }
    }
}

/// Removes older snapshots, and segments before a cut.
pub(super) fn remove_older(directory: &dyn Directory, cut: Cut) -> io::Result<()> {
    let names = directory.list()?;
    let is_older = |name: &&String| {
        number(name).is_some_and(|number| number < cut.0.number)
            || segment::number(name).is_some_and(|first| first <= cut.0.number)
    };
    // The oldest first, so that what is left is always the end of the chain.
    let mut older: Vec<_> = names.iter().filter(is_older).collect();
    older.sort_unstable();
    older.into_iter().try_for_each(|name| directory.remove(name))?;
    directory.sync()
}

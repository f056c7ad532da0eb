//! Snapshots: a file of frames with the state at a position of the log, the cut, so that the segments before it can be removed.
//!
//! A snapshot is fuzzy: frames are appended to the log while it is written, and it may contain some of their changes. Replaying all
//! frames after the cut gives the right state.

use std::io;
use std::sync::Arc;

use super::error::LogError;
use super::files::{Directory, FileHandle};
use super::frame::{FrameBuffer, HEADER, Link, Next, read};
use super::names::{self, NEW};
use super::segment::{HEADER as FILE_HEADER, header, read_header};
use super::writer::Cut;

/// The first bytes of a snapshot.
const MAGIC: [u8; 16] = *b"subjobs snap 2\0\0";

/// The first byte of a payload: whether more frames follow.
const MORE: u8 = 1;
const LAST: u8 = 2;

const NOT_INTACT: &str = "the snapshot is not as it was written";

/// A snapshot that is being written, under a temporary name.
#[derive(Debug)]
pub(in crate::store) struct SnapshotWriter {
    file: Arc<dyn FileHandle>,
    cut: Cut,
    len: u64,
    last: Link,
}

impl SnapshotWriter {
    pub(in crate::store) fn create(directory: &dyn Directory, cut: Cut) -> io::Result<Self> {
        let file = directory.create(&(names::snapshot(cut.0.number) + NEW))?;
        file.write_at(&header(MAGIC, cut.0), 0)?;
        Ok(Self { file, cut, len: FILE_HEADER, last: before_first(cut) })
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
        (self.len, self.last) = (self.len + bytes.len() as u64, link);
        Ok(())
    }

    /// Appends the last frame, which holds `end`, and flushes the file. The name is still the temporary one.
    pub(in crate::store) fn finish(mut self, end: &[u8]) -> io::Result<SnapshotReader> {
        let mut frame = FrameBuffer::default();
        frame.payload().push(LAST);
        frame.payload().extend_from_slice(end);
        self.append(&mut frame)?;
        self.file.sync()?;
        let name = names::snapshot(self.cut.0.number) + NEW;
        Ok(SnapshotReader { file: self.file, name, len: self.len, cut: self.cut })
    }

    /// Removes an unfinished snapshot.
    pub(in crate::store) fn discard(directory: &dyn Directory, cut: Cut) {
        // If this fails, the next start removes it.
        let _ = directory.remove(&(names::snapshot(cut.0.number) + NEW));
    }
}

/// What the first frame continues: frames are numbered from 1, and chained to the cut.
fn before_first(cut: Cut) -> Link {
    Link { number: 0, checksum: cut.0.checksum }
}

/// A finished snapshot.
#[derive(Debug)]
pub(in crate::store) struct SnapshotReader {
    pub(in crate::store) file: Arc<dyn FileHandle>,
    pub(in crate::store) name: String,
    /// Its length in bytes.
    pub(in crate::store) len: u64,
    pub(in crate::store) cut: Cut,
}

impl SnapshotReader {
    /// Gives a snapshot that has been verified its name; from then on a start reads it.
    pub(in crate::store) fn publish(&mut self, directory: &dyn Directory) -> io::Result<()> {
        let draft = std::mem::replace(&mut self.name, names::snapshot(self.cut.0.number));
        directory.rename(&draft, &self.name)?;
        directory.sync()
    }

    /// Opens the snapshot whose cut is after the frame with that number.
    pub(super) fn open(directory: &dyn Directory, number: u64) -> Result<Self, LogError> {
        let name = names::snapshot(number);
        let open = || {
            let file = directory.open(&name)?;
            let len = file.len()?;
            let link = read_header(MAGIC, &*file, len)?;
            Ok((file, len, link.filter(|link| link.number == number)))
        };
        match open().map_err(LogError::io(&name))? {
            (file, len, Some(link)) => Ok(Self { file, name, len, cut: Cut(link) }),
            _ => Err(LogError::corrupt(&name, NOT_INTACT)),
        }
    }

    /// Calls `each` with every payload and its offset in the file, and returns what the snapshot was finished with. Fails if any
    /// byte has changed.
    pub(in crate::store) fn read<E: From<LogError>>(
        &self,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        let (mut at, mut after, mut payload) = (FILE_HEADER, before_first(self.cut), Vec::new());
        loop {
            let next = read(&*self.file, self.len, at, after, &mut payload).map_err(LogError::io(&self.name))?;
            match (next, payload.split_first()) {
                (Next::Frame(link, end), Some((&MORE, rest))) => {
                    each(at + HEADER as u64 + 1, rest)?;
                    (at, after) = (end, link);
                }
                (Next::Frame(_, end), Some((&LAST, rest))) if end == self.len => return Ok(rest.into()),
                _ => return Err(LogError::corrupt(&self.name, NOT_INTACT).into()),
            }
        }
    }

    /// Removes what this snapshot replaces: older snapshots, and the segments before its cut.
    pub(in crate::store) fn remove_older(&self, directory: &dyn Directory) -> io::Result<()> {
        // The flush after its renaming may have failed: a power cut must not keep the removals and lose the name.
        directory.sync()?;
        let names = directory.list()?;
        let cut = self.cut.0.number;
        let is_older = |name: &&String| {
            names::snapshot_number(name).is_some_and(|number| number < cut)
                || names::segment_number(name).is_some_and(|first| first <= cut)
        };
        // The oldest first, so that the segments that are left are always the end of the chain.
        let mut older: Vec<_> = names.iter().filter(is_older).collect();
        older.sort_unstable();
        older.into_iter().try_for_each(|name| directory.remove(name))?;
        directory.sync()
    }
}

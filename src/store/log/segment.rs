//! The header of a file of frames, which says which frame the first one continues; and how a segment is created.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::files::{Directory, FileHandle};
use super::frame::{Link, u64_at};
use super::names;

/// The first bytes of a segment.
const MAGIC: [u8; 16] = *b"subjobs log 2\0\0\0";

/// The length of the header in bytes; the first frame follows it.
pub(super) const HEADER: u64 = 40;

/// A header: magic, number and checksum of the frame before the first one, and a checksum of all that.
pub(super) fn header(magic: [u8; 16], after: Link) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..16].copy_from_slice(&magic);
    bytes[16..24].copy_from_slice(&after.number.to_le_bytes());
    bytes[24..32].copy_from_slice(&after.checksum.to_le_bytes());
    let checksum = xxh3_64(&bytes[..32]);
    bytes[32..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The frame before the first one of a file; `None` if the header is not intact.
pub(super) fn read_header(magic: [u8; 16], file: &dyn FileHandle, len: u64) -> io::Result<Option<Link>> {
    if len < HEADER {
        return Ok(None);
    }
    let mut bytes = [0; HEADER as usize];
    file.read_at(&mut bytes, 0)?;
    let after = Link { number: u64_at(&bytes, 16), checksum: u64_at(&bytes, 24) };
    Ok((bytes == header(magic, after)).then_some(after))
}

/// The frame before the first one of a segment; `None` if its header is not intact.
pub(super) fn read(file: &dyn FileHandle, len: u64) -> io::Result<Option<Link>> {
    read_header(MAGIC, file, len)
}

/// Creates the segment after a frame; it is durable when this returns.
pub(super) fn create(directory: &dyn Directory, after: Link) -> io::Result<Arc<dyn FileHandle>> {
    let file = directory.create(&names::segment(after.number))?;
    file.write_at(&header(MAGIC, after), 0)?;
    file.sync()?;
    directory.sync()?;
    Ok(file)
}

//! The log's files: a header that says where in the chain it begins, then frames.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::files::{Directory, FileHandle};
use super::frame::Link;

/// What a segment begins with.
const MAGIC: [u8; 16] = *b"subjobs log 2\0\0\0";

/// How many bytes stand before the first frame.
pub(super) const HEADER: u64 = 40;

const PREFIX: &str = "log-";

/// The name of the segment that begins after that frame.
pub(super) fn name(after: u64) -> String {
    format!("{PREFIX}{:020}", after + 1)
}

/// The number of the first frame of the segment of that name.
pub(super) fn number(name: &str) -> Option<u64> {
    numbered(name, PREFIX)
}

/// The number in a name of 20 digits after a prefix.
pub(super) fn numbered(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// A header: magic, the last frame before, its checksum, and a checksum of all that.
pub(super) fn header(magic: [u8; 16], after: Link) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..16].copy_from_slice(&magic);
    bytes[16..24].copy_from_slice(&after.number.to_le_bytes());
    bytes[24..32].copy_from_slice(&after.checksum.to_le_bytes());
    let checksum = xxh3_64(&bytes[..32]);
    bytes[32..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The last frame before a file that begins with such a header; nothing if it does not.
pub(super) fn read_header(magic: [u8; 16], file: &dyn FileHandle, len: u64) -> io::Result<Option<Link>> {
    if len < HEADER {
        return Ok(None);
    }
    let mut bytes = [0; HEADER as usize];
    file.read_at(&mut bytes, 0)?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(number)
    };
    let after = Link { number: number(16), checksum: number(24) };
    Ok((bytes == header(magic, after)).then_some(after))
}

/// Where a segment's frames come after, unless its header is not as it was written.
pub(super) fn read(file: &dyn FileHandle, len: u64) -> io::Result<Option<Link>> {
    read_header(MAGIC, file, len)
}

/// Makes the segment after a frame; it is on the disk when this returns.
pub(super) fn create(directory: &dyn Directory, after: Link) -> io::Result<Arc<dyn FileHandle>> {
    let file = directory.create(&name(after.number))?;
    file.write_at(&header(MAGIC, after), 0)?;
    file.sync()?;
    directory.sync()?;
    Ok(file)
}

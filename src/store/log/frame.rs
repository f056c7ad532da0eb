//! Frames: the numbered entries of a file, each of which holds the checksum of the frame before it.

use std::io;

use xxhash_rust::xxh3::Xxh3;

use super::files::FileHandle;

/// The first bytes of a frame.
const MAGIC: [u8; 4] = *b"SJF2";

/// The length of a frame's header in bytes; the payload follows it.
pub(super) const HEADER: usize = 32;

/// The number and the checksum of a frame, which the next frame continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) number: u64,
    pub(super) checksum: u64,
}

impl Link {
    /// What the first frame of all continues.
    pub(super) const START: Self = Self { number: 0, checksum: 0 };
}

/// The little-endian number at an offset.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}

/// A frame that is being composed: space for the header, then the payload.
#[derive(Debug)]
pub(in crate::store) struct FrameBuffer(Vec<u8>);

impl Default for FrameBuffer {
    fn default() -> Self {
        Self(vec![0; HEADER])
    }
}

impl FrameBuffer {
    /// The buffer to append the payload to; it begins with the header.
    pub(in crate::store) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The length of the payload so far.
    pub(in crate::store) fn payload_len(&self) -> usize {
        self.0.len() - HEADER
    }

    /// Writes the header of the frame that continues `after`.
    pub(super) fn seal(&mut self, after: Link) -> (&[u8], Link) {
        let number = after.number + 1;
        let length = self.payload_len() as u32;
        self.0[..4].copy_from_slice(&MAGIC);
        self.0[4..8].copy_from_slice(&length.to_le_bytes());
        self.0[8..16].copy_from_slice(&number.to_le_bytes());
        self.0[16..24].copy_from_slice(&after.checksum.to_le_bytes());
        let checksum = checksum(&self.0[..24], &self.0[HEADER..]);
        self.0[24..HEADER].copy_from_slice(&checksum.to_le_bytes());
        (&self.0, Link { number, checksum })
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.digest()
}

/// The length of the payload, the checksum of the frame before, and the frame's own number and checksum.
fn parse_header(bytes: &[u8]) -> Option<(usize, u64, Link)> {
    let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let link = || Link { number: u64_at(bytes, 8), checksum: u64_at(bytes, 24) };
    (bytes.len() >= HEADER && bytes[..4] == MAGIC).then(|| (length as usize, u64_at(bytes, 16), link()))
}

/// What a file holds at an offset.
#[derive(Debug)]
pub(super) enum Next {
    /// The next frame of the chain, and the offset of its end. Its payload has been read.
    Frame(Link, u64),
    /// The end of the file.
    End,
    /// Bytes that are not the next frame of the chain.
    Invalid,
}

/// Reads the frame that continues `after` from an offset of a file of `len` bytes.
pub(super) fn read(file: &dyn FileHandle, len: u64, at: u64, after: Link, payload: &mut Vec<u8>) -> io::Result<Next> {
    if at == len {
        return Ok(Next::End);
    }
    let Some(rest) = len.checked_sub(at + HEADER as u64) else { return Ok(Next::Invalid) };
    let mut bytes = [0; HEADER];
    file.read_at(&mut bytes, at)?;
    let Some((length, previous, link)) = parse_header(&bytes) else { return Ok(Next::Invalid) };
    if length as u64 > rest || (link.number, previous) != (after.number + 1, after.checksum) {
        return Ok(Next::Invalid);
    }
    payload.resize(length, 0);
    file.read_at(payload, at + HEADER as u64)?;
    let is_intact = checksum(&bytes[..24], payload) == link.checksum;
    Ok(if is_intact { Next::Frame(link, at + (HEADER + length) as u64) } else { Next::Invalid })
}

/// Whether the bytes hold, at any offset, an intact frame with a number of at least `least`.
pub(super) fn has_frame(bytes: &[u8], least: u64) -> bool {
    memchr::memmem::find_iter(bytes, &MAGIC).any(|at| {
        let rest = &bytes[at..];
        parse_header(rest).is_some_and(|(length, _, link)| {
            let is_intact = |payload| checksum(&rest[..24], payload) == link.checksum;
            link.number >= least && rest.get(HEADER..HEADER + length).is_some_and(is_intact)
        })
    })
}

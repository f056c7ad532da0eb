//! Frames: numbered pieces of a file, each with the checksum of the one before.

use std::io;
use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use super::files::FileHandle;

/// What a frame begins with.
const MAGIC: [u8; 4] = *b"SJF2";

/// How many bytes stand before the payload.
pub(super) const HEADER: usize = 32;

/// Where a chain of frames has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// The number of the last frame.
    pub(super) number: u64,
    /// Its checksum.
    pub(super) checksum: u64,
}

/// The bytes of one frame that is being made: room for the header, then the payload.
#[derive(Debug)]
pub(in crate::store) struct FrameBuffer(Vec<u8>);

impl Default for FrameBuffer {
    fn default() -> Self {
        Self(vec![0; HEADER])
    }
}

impl FrameBuffer {
    /// To append the payload to.
    pub(in crate::store) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Where the next byte will stand in the payload.
    pub(in crate::store) fn position(&self) -> usize {
        self.0.len() - HEADER
    }

    /// Makes it the frame after another one.
    pub(super) fn seal(&mut self, after: Link) -> (&[u8], Link) {
        let number = after.number + 1;
        let length = self.position() as u32;
        self.0[..4].copy_from_slice(&MAGIC);
        self.0[4..8].copy_from_slice(&length.to_le_bytes());
        self.0[8..16].copy_from_slice(&number.to_le_bytes());
        self.0[16..24].copy_from_slice(&after.checksum.to_le_bytes());
        let checksum = checksum(&self.0[..24], &self.0[HEADER..]);
        self.0[24..HEADER].copy_from_slice(&checksum.to_le_bytes());
        (&self.0, Link { number, checksum })
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.digest()
}

struct Header {
    length: u32,
    number: u64,
    previous: u64,
    checksum: u64,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
        (bytes.len() >= HEADER && bytes[..4] == MAGIC).then(|| Self {
            length,
            number: number(bytes, 8),
            previous: number(bytes, 16),
            checksum: number(bytes, 24),
        })
    }
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    /// The next frame of the chain; its payload has been read. Where it ends.
    Frame(Link, u64),
    /// The end of the file.
    End,
    /// Something else.
    Bad,
}

/// Reads what comes after a link of the chain, at that place of a file of such a length.
pub(super) fn read(file: &dyn FileHandle, len: u64, at: u64, after: Link, payload: &mut Vec<u8>) -> io::Result<Next> {
    if at == len {
        return Ok(Next::End);
    }
    let Some(rest) = len.checked_sub(at + HEADER as u64) else { return Ok(Next::Bad) };
    let mut header = [0; HEADER];
    file.read_at(&mut header, at)?;
    let Some(parsed) = Header::parse(&header) else { return Ok(Next::Bad) };
    if u64::from(parsed.length) > rest || (parsed.number, parsed.previous) != (after.number + 1, after.checksum) {
        return Ok(Next::Bad);
    }
    payload.resize(parsed.length as usize, 0);
    file.read_at(payload, at + HEADER as u64)?;
    if checksum(&header[..24], payload) != parsed.checksum {
        return Ok(Next::Bad);
    }
    let link = Link { number: parsed.number, checksum: parsed.checksum };
    Ok(Next::Frame(link, at + HEADER as u64 + u64::from(parsed.length)))
}

/// Whether anywhere in the bytes there is a whole frame with a number that is not below `least`.
pub(super) fn has_frame(bytes: &[u8], least: u64) -> bool {
    memchr::memmem::find_iter(bytes, &MAGIC).any(|at| {
        let rest = &bytes[at..];
        Header::parse(rest).is_some_and(|header| {
            let payload: Range<usize> = HEADER..HEADER + header.length as usize;
            let is_whole = |payload| checksum(&rest[..24], payload) == header.checksum;
            header.number >= least && rest.get(payload).is_some_and(is_whole)
        })
    })
}

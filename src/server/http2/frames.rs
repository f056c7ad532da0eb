//! Follows the frames of HTTP/2 in the bytes that are read, to know when a request's head begins and ends.

/// The client's first bytes.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes before each frame's payload.
const HEADER_BYTES: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The flag of a frame with the end of a head.
const END_HEADERS: u8 = 4;

/// What the next byte belongs to.
#[derive(Debug)]
enum Position {
    Preface { left: usize },
    Header { bytes: [u8; HEADER_BYTES], read: usize },
    Payload { left: usize, ends_head: bool },
}

/// What a part of the stream contained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Whether the preface or a head ended.
    pub(super) has_completed: bool,
    /// Whether the preface, a head or the header of a frame has begun and has not ended.
    pub(super) is_incomplete: bool,
}

/// The position in the stream. Whether the frames are valid is decided by the HTTP layer.
#[derive(Debug)]
pub(super) struct FrameTracker {
    position: Position,
    /// Whether a head has begun, which may have several frames.
    is_in_head: bool,
}

impl FrameTracker {
    pub(super) fn new() -> Self {
        Self { position: Position::Preface { left: PREFACE.len() }, is_in_head: false }
    }

    /// Follows bytes that have been read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Progress {
        let mut has_completed = false;
        while !bytes.is_empty() {
            match &mut self.position {
                Position::Preface { left } => {
                    bytes = skip(left, bytes);
                    if *left == 0 {
                        has_completed = true;
                        self.position = Position::frame();
                    }
                }
                Position::Header { bytes: header, read } => {
                    let count = (HEADER_BYTES - *read).min(bytes.len());
                    header[*read..*read + count].copy_from_slice(&bytes[..count]);
                    *read += count;
                    bytes = &bytes[count..];
                    if *read == HEADER_BYTES {
                        let header = *header;
                        has_completed |= self.begin_payload(header);
                    }
                }
                Position::Payload { left, ends_head } => {
                    let ends_head = *ends_head;
                    bytes = skip(left, bytes);
                    if *left == 0 {
                        has_completed |= self.end_frame(ends_head);
                    }
                }
            }
        }
        let is_partial = match self.position {
            Position::Preface { .. } => true,
            Position::Header { read, .. } => read > 0,
            Position::Payload { .. } => false,
        };
        Progress { has_completed, is_incomplete: is_partial || self.is_in_head }
    }

    /// Begins a payload. Returns whether a head has ended, because it is empty.
    fn begin_payload(&mut self, header: [u8; HEADER_BYTES]) -> bool {
        let [high, middle, low, kind, flags, ..] = header;
        let is_head = kind == HEADERS || kind == CONTINUATION;
        self.is_in_head |= is_head;
        let left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let ends_head = is_head && flags & END_HEADERS != 0;
        self.position = Position::Payload { left, ends_head };
        left == 0 && self.end_frame(ends_head)
    }

    /// Ends a frame. Returns whether a head has ended.
    fn end_frame(&mut self, ends_head: bool) -> bool {
        self.position = Position::frame();
        let has_ended = ends_head && self.is_in_head;
        self.is_in_head &= !ends_head;
        has_ended
    }
}

impl Position {
    fn frame() -> Self {
        Self::Header { bytes: [0; HEADER_BYTES], read: 0 }
    }
}

/// Skips up to `left` bytes, and subtracts them. Returns the rest.
fn skip<'a>(left: &mut usize, bytes: &'a [u8]) -> &'a [u8] {
    let count = (*left).min(bytes.len());
    *left -= count;
    &bytes[count..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + payload, b'x');
        frame
    }

    /// For each byte of the parts: whether something is incomplete after it, read byte by byte and at once.
    fn assert_incomplete(parts: &[(Vec<u8>, bool)]) {
        let (mut by_byte, mut at_once) = (FrameTracker::new(), FrameTracker::new());
        for (number, (part, expected)) in parts.iter().enumerate() {
            let last = part.iter().map(|byte| by_byte.read(&[*byte])).last().unwrap();
            assert_eq!(last.is_incomplete, *expected, "{number}");
            assert_eq!(at_once.read(part).is_incomplete, *expected, "{number}");
        }
    }

    #[test]
    fn a_head_is_incomplete_from_its_first_byte_to_its_last() {
        let headers = |flags, payload| frame(HEADERS, flags, payload);
        let cut = |frame: Vec<u8>, at: usize| (frame[..at].to_vec(), frame[at..].to_vec());
        let (begin, end) = cut(headers(END_HEADERS, 300), 200);
        let (header, rest) = cut(headers(END_HEADERS, 2), 5);
        let (data, data_rest) = cut(frame(0, 0, 1000), 500);
        assert_incomplete(&[
            (PREFACE[..10].to_vec(), true),
            (PREFACE[10..].to_vec(), false),
            (frame(4, 0, 12), false),
            (begin, true),
            (end, false),
            (header, true),
            (rest, false),
            (data, false),
            (data_rest, false),
            (headers(0, 10), true),
            (frame(CONTINUATION, 0, 10), true),
            (frame(CONTINUATION, 0, 0), true),
            (frame(CONTINUATION, END_HEADERS, 0), false),
            (headers(END_HEADERS, 0), false),
            (frame(6, END_HEADERS, 8), false),
        ]);
    }

    #[test]
    fn the_end_of_a_head_is_told_although_another_begins() {
        let mut tracker = FrameTracker::new();
        assert_eq!(tracker.read(PREFACE), Progress { has_completed: true, is_incomplete: false });
        let two = [frame(HEADERS, END_HEADERS, 20), frame(HEADERS, 0, 20)].concat();
        assert_eq!(tracker.read(&two), Progress { has_completed: true, is_incomplete: true });
        assert_eq!(tracker.read(&frame(CONTINUATION, 0, 9)), Progress { has_completed: false, is_incomplete: true });
    }
}

//! Content codings of request bodies: gzip and zstd.
//!
//! A body is decoded when all of it has come and its sender is known, on a thread that may be blocked. tower-http decodes a
//! body while it is received, where neither its digest has been checked nor its decoder's memory is bounded: the window of a
//! zstd frame may have 128 MiB.

use std::io::{self, Read as _};

use flate2::bufread::GzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::budget::HeldBytes;
use super::error::Error;

/// How many bytes are decoded at once, or are read without giving any.
const SLICE: usize = 64 * 1024;

/// The memory of a gzip decoder: its window and tables, and the fields of a member's header, each of at most 64 KiB.
const GZIP_MEMORY: usize = 320 * 1024;

/// The largest window of a zstd frame, as a power of two: the 8 MiB that RFC 9659 allows a sender.
const MAX_WINDOW_LOG: u32 = 23;

/// How a body is coded, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCoding {
    /// RFC 1952: one member or several.
    Gzip,
    /// RFC 8878: one frame or several.
    Zstd,
}

impl ContentCoding {
    /// The coding that the headers of a request name, or `None` for a body that is not coded.
    ///
    /// # Errors
    ///
    /// 415 for any other coding, and for more than one.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let lists = headers.get_all(CONTENT_ENCODING).iter();
        // A list may have empty elements (RFC 9110, section 5.6.1).
        let mut codings = lists
            .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
        match (codings.next(), codings.next()) {
            (None, _) => Ok(None),
            (Some(coding), None) => Self::parse(coding).map(Some).ok_or(Error::ContentCoding),
            (Some(_), Some(_)) => Err(Error::ContentCoding),
        }
    }

    fn parse(name: &[u8]) -> Option<Self> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        // RFC 9110, section 8.4.1.3: x-gzip is the same as gzip.
        if is(b"gzip") || is(b"x-gzip") {
            Some(Self::Gzip)
        } else if is(b"zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }

    /// Decodes a body, in slices of at most 64 KiB with a call of `pause` after each. The bytes that are decoded are held by
    /// `held`, and those of the decoder until this returns.
    ///
    /// # Errors
    ///
    /// 413 as soon as there are more than `max` bytes, 503 as soon as more would be held than may be, 400 for a body that is not
    /// of this coding, from its first byte to its last.
    pub fn decode(
        self,
        body: &[u8],
        max: usize,
        held: &mut HeldBytes,
        mut pause: impl FnMut(),
    ) -> Result<Vec<u8>, Error> {
        let mut decoder: Box<dyn Decoder + '_> = match self {
            Self::Gzip => Box::new(Gzip { member: GzDecoder::new(body) }),
            Self::Zstd => Box::new(Zstd::new(body)?),
        };
        let (mut decoded, mut slice) = (Vec::new(), vec![0; SLICE]);
        let (mut held_by_decoder, mut memory) = (held.empty_for_same_owner(), 0);
        let invalid = |reason| Error::input("body", format!("is not valid {}: {reason}", self.name()));
        while let Some(length) = decoder.decode(&mut slice).map_err(invalid)? {
            if decoded.len() + length > max {
                return Err(Error::DecodedTooLarge(max));
            }
            held.add(length)?;
            held_by_decoder.add(decoder.memory().saturating_sub(memory))?;
            memory = memory.max(decoder.memory());
            decoded.extend_from_slice(&slice[..length]);
            pause();
        }
        Ok(decoded)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Decodes a body slice by slice.
trait Decoder {
    /// Decodes into the slice: how many bytes, which may be none, or `None` at the end of the body. Otherwise what is wrong.
    fn decode(&mut self, slice: &mut [u8]) -> Result<Option<usize>, String>;

    /// How many bytes of memory this takes.
    fn memory(&self) -> usize;
}

const ENDS_TOO_EARLY: &str = "it ends too early";

struct Gzip<'a> {
    member: GzDecoder<&'a [u8]>,
}

impl Decoder for Gzip<'_> {
    fn decode(&mut self, slice: &mut [u8]) -> Result<Option<usize>, String> {
        let length = self.member.read(slice).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ENDS_TOO_EARLY.to_owned(),
            _ => error.to_string(),
        })?;
        if length > 0 {
            return Ok(Some(length));
        }
        // The member has ended. Each is decoded by a call of its own, since a body may have very many that are empty.
        let rest = *self.member.get_ref();
        if rest.is_empty() {
            return Ok(None);
        }
        self.member.reset(rest);
        Ok(Some(0))
    }

    fn memory(&self) -> usize {
        GZIP_MEMORY
    }
}

struct Zstd<'a> {
    context: DCtx<'static>,
    rest: &'a [u8],
    is_frame_complete: bool,
}

impl<'a> Zstd<'a> {
    fn new(body: &'a [u8]) -> Result<Self, Error> {
        let mut context =
            DCtx::try_create().ok_or_else(|| Error::Internal("no memory for a zstd decoder".to_owned()))?;
        let set = context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG));
        set.map_err(|code| Error::Internal(zstd_safe::get_error_name(code).to_owned()))?;
        Ok(Self { context, rest: body, is_frame_complete: false })
    }
}

impl Decoder for Zstd<'_> {
    fn decode(&mut self, slice: &mut [u8]) -> Result<Option<usize>, String> {
        if self.rest.is_empty() && self.is_frame_complete {
            return Ok(None);
        }
        let mut input = InBuffer::around(&self.rest[..self.rest.len().min(SLICE)]);
        let mut output = OutBuffer::around(slice);
        let expected = self.context.decompress_stream(&mut output, &mut input);
        let expected = expected.map_err(|code| zstd_safe::get_error_name(code).to_owned())?;
        let (length, taken) = (output.pos(), input.pos());
        self.rest = &self.rest[taken..];
        self.is_frame_complete = expected == 0;
        if !self.is_frame_complete && length == 0 && taken == 0 {
            return Err(ENDS_TOO_EARLY.to_owned());
        }
        Ok(Some(length))
    }

    fn memory(&self) -> usize {
        self.context.sizeof()
    }
}

#[cfg(test)]
mod tests;

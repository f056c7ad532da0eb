//! Encodes the details of a subtask, and decodes them; see docs/storage-format.md.

use xxhash_rust::xxh3::xxh3_64;

use super::decode::{CodecError, take};
use crate::domain::Details;

/// The bytes before the encoded details: their length and checksum.
pub(super) const DETAILS_HEADER: usize = 12;

/// Appends what `write` writes, with a header.
pub(super) fn append_details(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; DETAILS_HEADER]);
    write(out);
    let (length, checksum) = ((out.len() - at - DETAILS_HEADER) as u32, xxh3_64(&out[at + DETAILS_HEADER..]));
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    out[at + 4..at + DETAILS_HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// The length of the details after a header, and their checksum.
pub(super) fn read_header(header: [u8; DETAILS_HEADER]) -> (u32, u64) {
    let (mut length, mut checksum) = ([0; 4], [0; 8]);
    length.copy_from_slice(&header[..4]);
    checksum.copy_from_slice(&header[4..]);
    (u32::from_le_bytes(length), u64::from_le_bytes(checksum))
}

/// Appends details with their header.
pub(super) fn encode_details(details: &Details, out: &mut Vec<u8>) {
    let times = [details.begin_time, details.end_time].map(|time| time.map(|time| time.to_string()));
    let texts = [&details.job_resource_info, &details.job_execute_info, &details.error_code, &details.error_message];
    let fields = times.iter().map(Option::as_deref).chain(texts.into_iter().map(Option::as_deref));
    append_details(out, |out| {
        let mask = out.len();
        out.push(0);
        for (at, field) in fields.enumerate() {
            if let Some(text) = field {
                out[mask] |= 1 << at;
                // The longest text is an object of 8 KiB.
                out.extend_from_slice(&(text.len() as u16).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    });
}

/// The encoded details without their header.
pub(in crate::store) fn details_to_bytes(details: &Details) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_details(details, &mut bytes);
    bytes.split_off(DETAILS_HEADER)
}

/// Decodes details without their header.
pub(in crate::store) fn decode_details(mut bytes: &[u8]) -> Result<Details, CodecError> {
    let [mask] = take(&mut bytes)?;
    let mut texts = [None; 6];
    for (at, text) in texts.iter_mut().enumerate() {
        if mask >> at & 1 == 1 {
            let length = u16::from_le_bytes(take(&mut bytes)?);
            let taken = bytes.split_off(..usize::from(length)).ok_or(CodecError::Record)?;
            *text = Some(std::str::from_utf8(taken).map_err(|_| CodecError::Record)?);
        }
    }
    if !bytes.is_empty() || mask >> texts.len() != 0 {
        return Err(CodecError::Record);
    }
    let time = |text: Option<&str>| text.map(str::parse).transpose().map_err(|_| CodecError::Record);
    let [begin, end, resource, execute, code, message] = texts;
    Ok(Details {
        begin_time: time(begin)?,
        end_time: time(end)?,
        job_resource_info: resource.map(Into::into),
        job_execute_info: execute.map(Into::into),
        error_code: code.map(Into::into),
        error_message: message.map(Into::into),
    })
}

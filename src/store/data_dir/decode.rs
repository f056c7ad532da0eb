//! Takes fixed numbers of bytes from a payload, and says why a payload cannot be decoded.

/// A payload cannot be decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::store) enum CodecError {
    #[error("a record cannot be read")]
    Record,
    #[error("{}", unknown_job_type(.0))]
    JobType(String),
}

/// The message about a label that is not known. An operator can add types of app servers only.
pub(in crate::store) fn unknown_job_type(label: &str) -> String {
    let unknown = format!("there are subtasks of job type {label}, which this server does not know");
    if label.contains(':') { unknown } else { format!("{unknown}: give --job-type {label}") }
}

/// The next `N` bytes.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CodecError> {
    let bytes = rest.split_off(..N).ok_or(CodecError::Record)?;
    bytes.try_into().map_err(|_| CodecError::Record)
}

/// The next eight bytes as a number.
pub(super) fn take_u64(rest: &mut &[u8]) -> Result<u64, CodecError> {
    take(rest).map(u64::from_le_bytes)
}

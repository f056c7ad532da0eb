//! How a subtask stands on the disk.
//!
//! The key is project and identifier, each telling its own end. The value is a head, which is all that memory holds of the
//! subtask, and then its details, if it has any:
//!
//! ```text
//! version (8) · ended (4) · status (1) · length and name of the job type · job · [mask of the details · each of them]
//! ```
//!
//! Job types go by name, since their numbers depend on the order of `--job-type`. Numbers are little-endian.

use xxhash_rust::xxh3::Xxh3;

use crate::domain::{Details, JobId, JobType, JobTypes, ProjectId, Status, SubJobId, Version};
use crate::store::ended::Ended;
use crate::store::journal::{Key, State};

/// What is on the disk does not follow the rules above.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    #[error("a record cannot be read")]
    Record,
    #[error("there are subtasks of job type {0}, which this server does not know: give --job-type {0}")]
    JobType(String),
}

/// A subtask as it stands on the disk.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) job_id: JobId,
    pub(super) job_type: JobType,
    pub(super) status: Status,
    pub(super) version: Version,
    pub(super) ended: Ended,
    /// How many bytes of the value are the head.
    pub(super) head: usize,
    /// Encoded; empty if it has none.
    pub(super) details: &'a [u8],
}

/// Writes and reads subtasks of known job types.
#[derive(Debug, Clone)]
pub(super) struct Codec(JobTypes);

impl Codec {
    pub(super) fn new(job_types: JobTypes) -> Self {
        Self(job_types)
    }

    /// Appends a subtask's head.
    pub(super) fn head(&self, state: State<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&state.version.get().to_le_bytes());
        out.extend_from_slice(&state.ended.to_bytes());
        out.push(state.status as u8);
        let name = self.0.name_of(state.job_type);
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        state.job_id.encode(out);
    }

    /// Reads a value.
    pub(super) fn read<'a>(&self, value: &'a [u8]) -> Result<Stored<'a>, CodecError> {
        let mut rest = value;
        let (version, ended, status, name, job_id) = fields(&mut rest).ok_or(CodecError::Record)?;
        let job_type = self.0.parse(name).ok_or_else(|| CodecError::JobType(name.into()))?;
        Ok(Stored { job_id, job_type, status, version, ended, head: value.len() - rest.len(), details: rest })
    }
}

/// Takes the fields of a head off the front.
fn fields<'a>(rest: &mut &'a [u8]) -> Option<(Version, Ended, Status, &'a str, JobId)> {
    let version = u64::from_le_bytes(rest.split_off(..8)?.try_into().ok()?);
    let ended = Ended::from_bytes(rest.split_off(..4)?.try_into().ok()?);
    let status = *Status::ALL.get(usize::from(*rest.split_off_first()?))?;
    let length = usize::from(*rest.split_off_first()?);
    let name = std::str::from_utf8(rest.split_off(..length)?).ok()?;
    Some((version.try_into().ok()?, ended, status, name, JobId::decode(rest)?))
}

/// Appends a subtask's key, which never begins with a zero.
pub(super) fn key(key: Key<'_>, out: &mut Vec<u8>) {
    key.project.encode(out);
    key.id.encode(out);
}

/// Reads keys in their order, in which those of a project follow one another.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The latest project, and how it is encoded.
    project: Option<(Vec<u8>, ProjectId)>,
}

impl Keys {
    /// The project and the identifier of a key.
    pub(super) fn read(&mut self, key: &[u8]) -> Result<(&ProjectId, SubJobId), CodecError> {
        let is_same = |(encoded, _): &(Vec<u8>, _)| key.starts_with(encoded);
        if !self.project.as_ref().is_some_and(is_same) {
            let mut rest = key;
            let project = ProjectId::decode(&mut rest).ok_or(CodecError::Record)?;
            self.project = Some((key[..key.len() - rest.len()].to_vec(), project));
        }
        let (encoded, project) = self.project.as_ref().ok_or(CodecError::Record)?;
        let mut rest = &key[encoded.len()..];
        let id = SubJobId::decode(&mut rest).ok_or(CodecError::Record)?;
        if rest.is_empty() { Ok((project, id)) } else { Err(CodecError::Record) }
    }
}

/// A number for all that memory holds of a subtask, such that two that differ hardly ever have the same.
pub(super) fn fingerprint(key: &[u8], head: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(key);
    hasher.update(head);
    hasher.digest()
}

/// Appends details, which are never nothing.
pub(super) fn details(details: &Details, out: &mut Vec<u8>) {
    let times = [details.begin_time, details.end_time].map(|time| time.map(|time| time.to_string()));
    let texts = [&details.job_resource_info, &details.job_execute_info, &details.error_code, &details.error_message];
    let fields = times.iter().map(Option::as_deref).chain(texts.into_iter().map(Option::as_deref));
    let mask = out.len();
    out.push(0);
    for (at, field) in fields.enumerate() {
        if let Some(text) = field {
            out[mask] |= 1 << at;
            // The longest is an object of 8 KiB.
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Reads details.
pub(super) fn read_details(mut bytes: &[u8]) -> Result<Option<Box<Details>>, CodecError> {
    let Some(&mask) = bytes.split_off_first() else { return Ok(None) };
    let mut texts = [None; 6];
    for (at, text) in texts.iter_mut().enumerate() {
        if mask >> at & 1 == 1 {
            *text = Some(take_text(&mut bytes).ok_or(CodecError::Record)?);
        }
    }
    if !bytes.is_empty() || mask >> texts.len() != 0 {
        return Err(CodecError::Record);
    }
    let time = |text: Option<&str>| text.map(str::parse).transpose().map_err(|_| CodecError::Record);
    let [begin, end, resource, execute, code, message] = texts;
    Ok(Some(Box::new(Details {
        begin_time: time(begin)?,
        end_time: time(end)?,
        job_resource_info: resource.map(Into::into),
        job_execute_info: execute.map(Into::into),
        error_code: code.map(Into::into),
        error_message: message.map(Into::into),
    })))
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = u16::from_le_bytes(bytes.split_off(..2)?.try_into().ok()?);
    std::str::from_utf8(bytes.split_off(..usize::from(length))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Option<Box<str>>> {
        proptest::option::of("\\PC{0,40}".prop_map(Into::into))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (project, id, job) in ("[a-z0-9é]{1,40}", "[ -~]{1,40}", "[0-9a-f]{32}"),
            (version, ended, status, job_type) in (0..=i64::MAX as u64, any::<[u8; 4]>(), 0..7usize, 0..20usize),
            (code, message, begin) in (text(), text(), proptest::option::of(0..4_000_000_000i64)),
        ) {
            let codec = Codec::new(JobTypes::new(["LATER"]).unwrap());
            let (project, id) = (ProjectId::parse(&project).unwrap(), SubJobId::parse(&id).unwrap());
            let (job_id, version) = (JobId::parse(&job).unwrap(), Version::try_from(version).unwrap());
            let (ended, status) = (Ended::from_bytes(ended), Status::ALL[status]);
            let begin_time = begin.map(|at| format!("{}-01-01T00:00:00.5Z", 1970 + at % 200).parse().unwrap());
            let given = Details { begin_time, error_code: code, error_message: message, ..Details::default() };

            let (mut encoded, mut value) = (Vec::new(), Vec::new());
            key(Key { project: &project, id: &id, number: 0 }, &mut encoded);
            codec.head(State { job_id: &job_id, job_type, status, version, ended }, &mut value);
            let head = value.len();
            details(&given, &mut value);

            let mut keys = Keys::default();
            for _ in 0..2 {
                prop_assert_eq!(keys.read(&encoded), Ok((&project, id.clone())));
            }
            let stored = codec.read(&value).unwrap();
            prop_assert_eq!((stored.head, &stored.job_id, stored.job_type.index()), (head, &job_id, job_type));
            prop_assert_eq!((stored.status, stored.version, stored.ended), (status, version, ended));
            let read = read_details(stored.details).unwrap();
            prop_assert_eq!(read.as_deref(), Some(&given));
            for cut in 0..head {
                prop_assert!(codec.read(&value[..cut]).is_err());
            }
            for cut in head + 1..value.len() {
                prop_assert!(read_details(&value[head..cut]).is_err());
            }
            let unknown = Codec::new(JobTypes::default()).read(&value).map(|_| ());
            let expected = if job_type == 19 { Err(CodecError::JobType("LATER".into())) } else { Ok(()) };
            prop_assert_eq!(unknown, expected);
        }
    }
}

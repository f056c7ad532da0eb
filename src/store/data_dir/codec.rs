//! Encodes changes for a frame, and decodes them; see docs/storage-format.md.
//!
//! ```text
//! changes: project · revision (8) · number of effects (4) · effects
//! effect:  flags (1) · id · [job · status (1) · length (1) and label of the job type · version (8) · end time (4) · details]
//! details: length (4) · checksum (8) · mask (1) · each that there is, with its length (2)
//! ```
//!
//! Job types are encoded by label, since their numbers depend on the order of `--job-type`. A job or job type is omitted if it is that
//! of the effect before. Numbers are little-endian.

use super::decode::{CodecError, take, take_u64};
use super::details_codec::{append_details, encode_details};
use crate::domain::{JobId, JobType, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};
use crate::store::core::{Changes, Effect, Put};
use crate::store::end_time::EndTime;

/// The fields that an effect has.
mod flag {
    pub(super) const PUT: u8 = 1;
    pub(super) const NEW: u8 = 2;
    pub(super) const SAME_JOB: u8 = 4;
    pub(super) const SAME_TYPE: u8 = 8;
    pub(super) const VERSION: u8 = 16;
    pub(super) const END_TIME: u8 = 32;
    pub(super) const DETAILS: u8 = 64;
}

/// Encodes and decodes changes of known job types.
#[derive(Debug, Clone)]
pub(super) struct Codec(JobTypes);

/// Encodes the changes of one project.
pub(super) struct Encoder<'a> {
    codec: &'a Codec,
    out: &'a mut Vec<u8>,
    /// The offset of the number of effects.
    count_at: usize,
    count: u32,
    job: Option<JobId>,
    job_type: Option<JobType>,
}

impl Codec {
    pub(super) fn new(job_types: JobTypes) -> Self {
        Self(job_types)
    }

    /// Appends changes. Calls `noted` with the index of each effect that has details, and their offset in `out`.
    pub(super) fn encode(&self, changes: &Changes, out: &mut Vec<u8>, mut noted: impl FnMut(usize, usize)) {
        let mut encoder = self.begin(&changes.project, changes.revision, out);
        for (number, effect) in changes.effects.iter().enumerate() {
            match effect {
                Effect::Remove(id) => encoder.remove(id),
                Effect::Put(Put { sub_job, end_time, is_new, .. }) => {
                    let details = encoder.put(sub_job, *end_time, *is_new, sub_job.details.is_some());
                    if let Some(given) = &sub_job.details {
                        encode_details(given, encoder.out);
                        noted(number, details);
                    }
                }
            }
        }
        encoder.end();
    }

    /// Begins the changes of a project. Their effects and [`Encoder::end`] must follow.
    pub(super) fn begin<'a>(&'a self, project: &ProjectId, revision: u64, out: &'a mut Vec<u8>) -> Encoder<'a> {
        project.encode(out);
        out.extend_from_slice(&revision.to_le_bytes());
        let count_at = out.len();
        out.extend_from_slice(&[0; 4]);
        Encoder { codec: self, out, count_at, count: 0, job: None, job_type: None }
    }

    /// Decodes all changes of a payload. `location` maps the offset of details in the payload to their location.
    pub(super) fn decode(
        &self,
        payload: &[u8],
        location: impl Fn(usize) -> u64,
        mut each: impl FnMut(Changes),
    ) -> Result<(), CodecError> {
        let mut rest = payload;
        while !rest.is_empty() {
            let project = ProjectId::decode(&mut rest).ok_or(CodecError::Record)?;
            let (revision, count) = (take_u64(&mut rest)?, u32::from_le_bytes(take(&mut rest)?));
            // The count may be wrong; every effect has at least two bytes.
            let mut effects = Vec::with_capacity((count as usize).min(rest.len() / 2));
            let (mut job, mut job_type) = (None, None);
            for _ in 0..count {
                let place = |rest: &[u8]| location(payload.len() - rest.len());
                effects.push(self.effect(&mut rest, &mut job, &mut job_type, place)?);
            }
            each(Changes { project, revision, effects });
        }
        Ok(())
    }

    fn effect(
        &self,
        rest: &mut &[u8],
        job: &mut Option<JobId>,
        job_type: &mut Option<JobType>,
        location: impl Fn(&[u8]) -> u64,
    ) -> Result<Effect, CodecError> {
        let [flags] = take(rest)?;
        let id = SubJobId::decode(rest).ok_or(CodecError::Record)?;
        if flags & flag::PUT == 0 {
            return if flags == 0 { Ok(Effect::Remove(id)) } else { Err(CodecError::Record) };
        }
        if flags & flag::SAME_JOB == 0 {
            *job = Some(JobId::decode(rest).ok_or(CodecError::Record)?);
        }
        let [status] = take(rest)?;
        let status = *Status::ALL.get(usize::from(status)).ok_or(CodecError::Record)?;
        if flags & flag::SAME_TYPE == 0 {
            let [length] = take(rest)?;
            let label = rest.split_off(..usize::from(length)).ok_or(CodecError::Record)?;
            let label = std::str::from_utf8(label).map_err(|_| CodecError::Record)?;
            *job_type = Some(self.0.parse_label(label).ok_or_else(|| CodecError::JobType(label.into()))?);
        }
        let version = if flags & flag::VERSION == 0 { 0 } else { take_u64(rest)? };
        let end_time = if flags & flag::END_TIME == 0 { None } else { EndTime::from_bytes(take(rest)?) };
        let mut details = 0;
        if flags & flag::DETAILS != 0 {
            details = location(rest);
            let length = u32::from_le_bytes(take(rest)?) as usize;
            let _checksum: [u8; 8] = take(rest)?;
            rest.split_off(..length).ok_or(CodecError::Record)?;
        }
        let sub_job = SubJob {
            id,
            job_id: job.clone().ok_or(CodecError::Record)?,
            job_type: job_type.ok_or(CodecError::Record)?,
            status,
            version: version.try_into().map_err(|_| CodecError::Record)?,
            details: None,
        };
        Ok(Effect::Put(Put { sub_job, end_time, is_new: flags & flag::NEW != 0, hint: None, details }))
    }
}

impl Encoder<'_> {
    pub(super) fn remove(&mut self, id: &SubJobId) {
        self.count += 1;
        self.out.push(0);
        id.encode(self.out);
    }

    /// Appends a subtask. If it has details, they must follow. Returns the offset at which they begin.
    pub(super) fn put(
        &mut self,
        sub_job: &SubJob,
        end_time: Option<EndTime>,
        is_new: bool,
        has_details: bool,
    ) -> usize {
        let SubJob { id, job_id, job_type, status, version, .. } = sub_job;
        self.count += 1;
        let (same_job, same_type) = (self.job.as_ref() == Some(job_id), self.job_type == Some(*job_type));
        let flags = [
            (true, flag::PUT),
            (is_new, flag::NEW),
            (same_job, flag::SAME_JOB),
            (same_type, flag::SAME_TYPE),
            (*version != Version::default(), flag::VERSION),
            (end_time.is_some(), flag::END_TIME),
            (has_details, flag::DETAILS),
        ];
        self.out.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
        id.encode(self.out);
        if !same_job {
            job_id.encode(self.out);
            self.job = Some(job_id.clone());
        }
        self.out.push(*status as u8);
        if !same_type {
            let label = self.codec.0.label(*job_type);
            self.out.push(label.len() as u8);
            self.out.extend_from_slice(label.as_bytes());
            self.job_type = Some(*job_type);
        }
        if *version != Version::default() {
            self.out.extend_from_slice(&version.get().to_le_bytes());
        }
        if let Some(end_time) = end_time {
            self.out.extend_from_slice(&end_time.to_bytes());
        }
        self.out.len()
    }

    /// Appends details that are encoded already.
    pub(super) fn copied_details(&mut self, encoded: &[u8]) {
        append_details(self.out, |out| out.extend_from_slice(encoded));
    }

    pub(super) fn end(self) {
        self.out[self.count_at..self.count_at + 4].copy_from_slice(&self.count.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Details, Family};
    use crate::store::data_dir::details_codec::{DETAILS_HEADER, decode_details, read_header};
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn text() -> impl Strategy<Value = Option<Box<str>>> {
        proptest::option::of("\\PC{0,40}".prop_map(Into::into))
    }

    fn put() -> impl Strategy<Value = Put> {
        let key = ("[ -~]{1,40}", 0..3u8, 0..27usize, 0..7usize);
        let rest = (prop_oneof![Just(0), any::<u32>().prop_map(u64::from)], any::<[u8; 4]>(), any::<bool>());
        (key, rest, (text(), text(), proptest::option::of(0..200i32))).prop_map(
            |((id, job, job_type, status), (version, end_time, is_new), (code, message, begin))| {
                let begin_time = begin.map(|year| format!("{}-01-01T00:00:00.5Z", 1970 + year).parse().unwrap());
                let details = Details { begin_time, error_code: code, error_message: message, ..Details::default() };
                let sub_job = SubJob {
                    id: SubJobId::parse(&id).unwrap(),
                    job_id: JobId::parse(&format!("job {job}")).unwrap(),
                    job_type: JobType::from_index(job_type),
                    status: Status::ALL[status],
                    version: Version::try_from(version).unwrap(),
                    details: (details != Details::default()).then(|| Box::new(details)),
                };
                Put { sub_job, end_time: EndTime::from_bytes(end_time), is_new, hint: None, details: 0 }
            },
        )
    }

    proptest! {
        #[test]
        fn an_encoded_change_is_decoded_to_the_same_change(
            all in proptest::collection::vec(("[a-z0-9é]{1,40}", any::<u64>(), proptest::collection::vec(proptest::option::of(put()), 0..6)), 0..4),
        ) {
            let codec = Codec::new(JobTypes::new(["LATER"]).unwrap());
            let (mut out, mut noted, mut expected) = (Vec::new(), Vec::new(), Vec::new());
            for (project, revision, effects) in all {
                let effect = |put: Option<Put>| put.map_or(Effect::Remove(SubJobId::parse("gone").unwrap()), Effect::Put);
                let effects = effects.into_iter().map(effect).collect();
                let changes = Changes { project: ProjectId::parse(&project).unwrap(), revision, effects };
                codec.encode(&changes, &mut out, |_, at| noted.push(at));
                expected.push(changes);
            }
            let mut read = Vec::new();
            codec.decode(&out, |at| at as u64 + 1, |changes| read.push(changes)).unwrap();
            // The details are read from their noted location.
            let mut noted = noted.into_iter();
            for (changes, expected) in read.iter_mut().zip(&expected) {
                for (effect, expected) in changes.effects.iter_mut().zip(&expected.effects) {
                    let (Effect::Put(put), Effect::Put(expected)) = (effect, expected) else { continue };
                    if expected.sub_job.details.is_some() {
                        let at = noted.next().unwrap();
                        prop_assert_eq!(put.details, at as u64 + 1);
                        let (length, checksum) = read_header(out[at..at + DETAILS_HEADER].try_into().unwrap());
                        let bytes = &out[at + DETAILS_HEADER..][..length as usize];
                        prop_assert_eq!(xxh3_64(bytes), checksum);
                        put.sub_job.details = Some(Box::new(decode_details(bytes).unwrap()));
                        put.details = 0;
                        prop_assert!((0..bytes.len()).all(|cut| decode_details(&bytes[..cut]).is_err()));
                    }
                }
            }
            prop_assert_eq!(&read, &expected);
            for cut in 0..out.len() {
                // Half of it is never more than what it has of whole changes.
                let mut whole = 0;
                let _ = codec.decode(&out[..cut], |_| 1, |_| whole += 1);
                prop_assert!(whole < expected.len());
            }
        }
    }

    fn encoded(codec: &Codec, job_type: JobType) -> Vec<u8> {
        let sub_job = SubJob {
            id: SubJobId::parse("a").unwrap(),
            job_id: JobId::parse("j").unwrap(),
            job_type,
            status: Status::Running,
            version: Version::default(),
            details: None,
        };
        let put = Put { sub_job, end_time: None, is_new: true, hint: None, details: 0 };
        let (project, effects) = (ProjectId::parse("p").unwrap(), vec![Effect::Put(put)]);
        let mut out = Vec::new();
        codec.encode(&Changes { project, revision: 1, effects }, &mut out, |_, _| ());
        out
    }

    #[test]
    fn an_unknown_job_type_is_named() {
        let (known, unknown) = (Codec::new(JobTypes::new(["LATER"]).unwrap()), Codec::new(JobTypes::default()));
        let later = encoded(&known, known.0.parse(Family::App, "LATER").unwrap());
        let error = unknown.decode(&later, |_| 0, |_| ()).unwrap_err();
        assert_eq!(error, CodecError::JobType("LATER".into()));
        assert!(error.to_string().ends_with(": give --job-type LATER"), "{error}");
        assert!(!CodecError::JobType("other:LATER".into()).to_string().contains("--job-type"));
    }

    /// A version without image subtasks refuses the data directory, and does not count them as app subtasks.
    #[test]
    fn only_job_types_of_images_have_a_prefix() {
        let codec = Codec::new(JobTypes::default());
        let of = |family| encoded(&codec, codec.0.parse(family, "DELETE_SERVER").unwrap());
        let holds = |bytes: Vec<u8>, label: &[u8]| bytes.windows(label.len()).any(|window| window == label);
        assert!(holds(of(Family::App), b"\x0dDELETE_SERVER"));
        assert!(holds(of(Family::Image), b"\x13image:DELETE_SERVER"));
    }
}

//! Parses a record, one subtask as JSON in a report or a load file, into a [`SubJob`].

mod field;
mod line;

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use self::field::{
    BEGIN_TIME, END_TIME, ERROR_CODE, ERROR_MESSAGE, FAMILY, ID, JOB_EXECUTE_INFO, JOB_ID, JOB_RESOURCE_INFO, JOB_TYPE,
    Number, PROJECT_ID, STATUS, Text, VERSION, named, quoted, reason_without_value,
};
use crate::domain::{Details, Family, JobId, JobType, JobTypes, ProjectId, Status, SubJob, SubJobId, Timestamp};

pub use line::to_load_line;

/// The most bytes of a `job_resource_info` or `job_execute_info`.
const MAX_OBJECT_BYTES: usize = 8 * 1024;

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The body is not JSON.
    #[error("must be a JSON array of subtasks: {0}")]
    InvalidJson(String),
    /// The body is one object instead of an array.
    #[error("must be a JSON array of subtasks; wrap one object in [ ] or send it as application/x-ndjson")]
    SingleObject,
    /// The body is other JSON than an array.
    #[error("must be a JSON array of subtasks")]
    NotAnArray,
    /// The record at this position of a JSON array, counted from 1, breaks a rule.
    #[error("record {0}: {1}")]
    Record(usize, String),
    /// The record in this line, counted from 1, breaks a rule.
    #[error("line {0}: {1}")]
    Line(usize, String),
}

/// How many records, or lines, are parsed between two calls of `pause`.
const RECORDS_PER_SLICE: usize = 100;

/// Parses a JSON array of records of `project`.
///
/// # Errors
///
/// The body is not an array of records, or a record breaks a rule.
pub fn from_json(body: &[u8], project: &ProjectId, job_types: &JobTypes) -> Result<Vec<SubJob>, RecordError> {
    from_json_in_slices(body, project, job_types, &mut || ())
}

/// As [`from_json`], and calls `pause` before every 100 records, so that other threads can run.
///
/// # Errors
///
/// As [`from_json`].
pub fn from_json_in_slices(
    body: &[u8],
    project: &ProjectId,
    job_types: &JobTypes,
    pause: &mut dyn FnMut(),
) -> Result<Vec<SubJob>, RecordError> {
    let body = without_bom(body);
    let mut reader = ArrayVisitor { project, job_types, pause, at: 0, reason: None };
    // Checking all of it at once costs less than each string, which is left to the error of a body that is not UTF-8.
    let batch = match str::from_utf8(body) {
        Ok(text) => deserialize_all(serde_json::Deserializer::from_str(text), &mut reader),
        Err(_) => deserialize_all(serde_json::Deserializer::from_slice(body), &mut reader),
    };
    batch.map_err(|error| {
        let reason = reader.reason.take().unwrap_or_else(|| reason_without_value(&error));
        match first_character(body) {
            _ if reader.at > 0 => RecordError::Record(reader.at, reason),
            Some(b'{') => RecordError::SingleObject,
            _ if error.is_data() => RecordError::NotAnArray,
            _ => RecordError::InvalidJson(reason),
        }
    })
}

/// Parses one record of `project` a line. Blank lines are skipped.
///
/// # Errors
///
/// A record breaks a rule.
pub fn from_ndjson(body: &[u8], project: &ProjectId, job_types: &JobTypes) -> Result<Vec<SubJob>, RecordError> {
    from_ndjson_in_slices(body, project, job_types, &mut || ())
}

/// As [`from_ndjson`], and calls `pause` before every 100 lines, so that other threads can run.
///
/// # Errors
///
/// As [`from_ndjson`].
pub fn from_ndjson_in_slices(
    body: &[u8],
    project: &ProjectId,
    job_types: &JobTypes,
    pause: &mut dyn FnMut(),
) -> Result<Vec<SubJob>, RecordError> {
    let mut in_slices = |at: usize| {
        if at.is_multiple_of(RECORDS_PER_SLICE) {
            pause();
        }
    };
    let lines = without_bom(body)
        .split(|byte| *byte == b'\n')
        .enumerate()
        .inspect(|(at, _)| in_slices(*at))
        .filter(|(_, line)| !is_blank(line));
    let read = |line: &[u8]| {
        if first_character(line) == Some(b'[') {
            return Err("must be a JSON object; an array of them is sent as application/json".into());
        }
        parse_line(line, |mut raw| raw.take_sub_job_of(project, job_types))
    };
    lines.map(|(at, line)| read(line).map_err(|reason| RecordError::Line(at + 1, reason))).collect()
}

/// Parses one line of a load file, which must name its project.
///
/// # Errors
///
/// The reason, without the position.
pub fn from_load_line(line: &[u8], job_types: &JobTypes) -> Result<(ProjectId, SubJob), String> {
    parse_line(line, |mut raw| {
        let project = raw.project_id.as_ref().ok_or("missing field `project_id`")?;
        let project = ProjectId::parse(&project.0).map_err(|error| format!("project_id {error}"))?;
        Ok((project, raw.take_sub_job(job_types)?))
    })
}

/// Parses and converts the one JSON object of a line.
fn parse_line<T>(line: &[u8], convert: impl FnOnce(RawRecord<'_>) -> Result<T, String>) -> Result<T, String> {
    // As in an array, the parser does not check the strings of a line that is UTF-8.
    let converted = match str::from_utf8(line) {
        Ok(text) => deserialize_all(serde_json::Deserializer::from_str(text), RecordVisitor(convert)),
        Err(_) => deserialize_all(serde_json::Deserializer::from_slice(line), RecordVisitor(convert)),
    };
    converted.unwrap_or_else(|error| Err(reason_without_value(&error)))
}

/// Deserializes a value after which nothing follows.
fn deserialize_all<'de, R: serde_json::de::Read<'de>, S: DeserializeSeed<'de>>(
    mut json: serde_json::Deserializer<R>,
    seed: S,
) -> serde_json::Result<S::Value> {
    let value = seed.deserialize(&mut json)?;
    json.end().map(|()| value)
}

/// Whether a line is only white space, as JSON knows it.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(is_json_white_space)
}

fn is_json_white_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The first character of a value.
fn first_character(json: &[u8]) -> Option<u8> {
    json.iter().copied().find(|byte| !is_json_white_space(byte))
}

/// The text without the byte order mark that some editors and spreadsheets write. RFC 8259, section 8.1, allows to skip it.
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Deserializes a [`RawRecord`] from an object only, since the derived code would also accept an array of the fields' values, and
/// converts it at once: it is so large that moving it out of the parser takes as long as parsing a field.
struct RecordVisitor<F>(F);

impl<'de, T, F: FnOnce(RawRecord<'de>) -> T> DeserializeSeed<'de> for RecordVisitor<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T, F: FnOnce(RawRecord<'de>) -> T> Visitor<'de> for RecordVisitor<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        RawRecord::deserialize(MapAccessDeserializer::new(fields)).map(self.0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecord<'a> {
    #[serde(borrow, deserialize_with = "named::<ID, _, _>")]
    id: Text<'a, ID>,
    #[serde(borrow, deserialize_with = "named::<JOB_ID, _, _>")]
    job_id: Text<'a, JOB_ID>,
    #[serde(borrow, deserialize_with = "named::<JOB_TYPE, _, _>")]
    job_type: Text<'a, JOB_TYPE>,
    #[serde(borrow, deserialize_with = "named::<STATUS, _, _>")]
    status: Text<'a, STATUS>,
    #[serde(borrow, default, deserialize_with = "named::<FAMILY, _, _>")]
    family: Option<Text<'a, FAMILY>>,
    #[serde(default, deserialize_with = "named::<VERSION, _, _>")]
    version: Option<Number>,
    #[serde(borrow, default, deserialize_with = "named::<PROJECT_ID, _, _>")]
    project_id: Option<Text<'a, PROJECT_ID>>,
    #[serde(borrow, default, deserialize_with = "named::<BEGIN_TIME, _, _>")]
    begin_time: Option<Text<'a, BEGIN_TIME>>,
    #[serde(borrow, default, deserialize_with = "named::<END_TIME, _, _>")]
    end_time: Option<Text<'a, END_TIME>>,
    #[serde(borrow, default, deserialize_with = "named::<JOB_RESOURCE_INFO, _, _>")]
    job_resource_info: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "named::<JOB_EXECUTE_INFO, _, _>")]
    job_execute_info: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "named::<ERROR_CODE, _, _>")]
    error_code: Option<Text<'a, ERROR_CODE>>,
    #[serde(borrow, default, deserialize_with = "named::<ERROR_MESSAGE, _, _>")]
    error_message: Option<Text<'a, ERROR_MESSAGE>>,
}

impl RawRecord<'_> {
    fn take_sub_job_of(&mut self, project: &ProjectId, job_types: &JobTypes) -> Result<SubJob, String> {
        match &self.project_id {
            Some(other) if other.0 != project.as_str() => Err("project_id must be that of the path".into()),
            _ => self.take_sub_job(job_types),
        }
    }

    fn take_sub_job(&mut self, job_types: &JobTypes) -> Result<SubJob, String> {
        Ok(SubJob {
            details: self.take_details()?,
            id: SubJobId::parse(&self.id.0).map_err(|error| format!("id {error}"))?,
            job_id: JobId::parse(&self.job_id.0).map_err(|error| format!("job_id {error}"))?,
            job_type: parse_job_type(self.family.as_ref(), &self.job_type.0, job_types)?,
            status: self.status.0.parse::<Status>().map_err(|error| format!("status {error}"))?,
            version: self
                .version
                .as_ref()
                .map_or(0, |version| version.0)
                .try_into()
                .map_err(|error| format!("version {error}"))?,
        })
    }

    /// The details; `None` if no field has any, as is mostly the case.
    fn take_details(&mut self) -> Result<Option<Box<Details>>, String> {
        let Self { begin_time, end_time, job_resource_info, job_execute_info, error_code, error_message, .. } = self;
        let has_times = begin_time.is_some() || end_time.is_some();
        let has_objects = job_resource_info.is_some() || job_execute_info.is_some();
        if !(has_times || has_objects || error_code.is_some() || error_message.is_some()) {
            return Ok(None);
        }
        Ok(Some(Box::new(Details {
            begin_time: parse_time("begin_time", begin_time.take())?,
            end_time: parse_time("end_time", end_time.take())?,
            job_resource_info: check_object("job_resource_info", *job_resource_info)?,
            job_execute_info: check_object("job_execute_info", *job_execute_info)?,
            error_code: check_text("error_code", 64, error_code.take())?,
            error_message: check_text("error_message", 1024, error_message.take())?,
        })))
    }
}

/// The job type of that name in the family of the record.
fn parse_job_type(family: Option<&Text<'_, FAMILY>>, name: &str, job_types: &JobTypes) -> Result<JobType, String> {
    let family = family.map(|text| text.0.parse::<Family>()).transpose();
    let family = family.map_err(|error| format!("family {error}"))?.unwrap_or_default();
    job_types.parse(family, name).ok_or_else(|| unknown_job_type(family, name, job_types))
}

/// The message for an unknown job type. The remedy comes first, because a long message is truncated.
#[cold]
fn unknown_job_type(family: Family, name: &str, job_types: &JobTypes) -> String {
    let known: Vec<_> = job_types.of_family(family).map(|job_type| job_types.name(job_type)).collect();
    let (quoted_name, known) = (quoted(name), known.join(", "));
    match family {
        Family::App if job_types.parse(Family::Image, name).is_some() => {
            format!("job_type {quoted_name} is a job type of images: their records have \"family\":\"image\"")
        }
        Family::App => {
            format!("job_type {quoted_name} is not a known job type; --job-type adds one; known are {known}")
        }
        Family::Image => format!("job_type {quoted_name} is not a job type of images; those are {known}"),
    }
}

fn parse_time<const FIELD: usize>(field: &str, text: Option<Text<'_, FIELD>>) -> Result<Option<Timestamp>, String> {
    text.map(|text| text.0.parse().map_err(|error| format!("{field} {error}"))).transpose()
}

fn check_object(field: &str, value: Option<&RawValue>) -> Result<Option<Box<str>>, String> {
    match value.map(RawValue::get) {
        Some(text) if !text.starts_with('{') => Err(format!("{field} must be an object")),
        Some(text) if text.len() > MAX_OBJECT_BYTES => Err(format!("{field} must have at most 8192 bytes")),
        text => Ok(text.map(Into::into)),
    }
}

fn check_text<const FIELD: usize>(
    field: &str,
    max: usize,
    text: Option<Text<'_, FIELD>>,
) -> Result<Option<Box<str>>, String> {
    match text {
        Some(Text(text)) if text.chars().nth(max).is_some() => {
            Err(format!("{field} must have at most {max} characters"))
        }
        text => Ok(text.map(|text| text.0.into())),
    }
}

/// Deserializes an array record by record, so that the position of a bad record is known and the array is not copied.
struct ArrayVisitor<'a> {
    project: &'a ProjectId,
    job_types: &'a JobTypes,
    pause: &'a mut dyn FnMut(),
    /// The position of the current record, from 1.
    at: usize,
    /// Why the current record is refused, if it breaks a rule that is not one of JSON.
    reason: Option<String>,
}

impl<'de> DeserializeSeed<'de> for &mut ArrayVisitor<'_> {
    type Value = Vec<SubJob>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut ArrayVisitor<'_> {
    type Value = Vec<SubJob>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<Self::Value, A::Error> {
        let mut batch = Vec::new();
        loop {
            if self.at.is_multiple_of(RECORDS_PER_SLICE) {
                (self.pause)();
            }
            self.at += 1;
            let convert = |mut raw: RawRecord<'_>| raw.take_sub_job_of(self.project, self.job_types);
            let Some(sub_job) = records.next_element_seed(RecordVisitor(convert))? else { return Ok(batch) };
            batch.push(sub_job.map_err(|reason| {
                self.reason = Some(reason);
                de::Error::custom("a record breaks a rule")
            })?);
        }
    }
}

#[cfg(test)]
mod tests;

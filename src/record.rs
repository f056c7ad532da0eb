//! A subtask as workers and load files write it: JSON, checked field by field into a [`SubJob`].

mod line;

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::{Details, JobId, JobTypes, ProjectId, Status, SubJob, SubJobId, Timestamp};

pub use line::to_load_line;

/// The most bytes of a `job_resource_info` or `job_execute_info`.
const MAX_OBJECT: usize = 8 * 1024;

/// A record that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The body is no JSON array at all.
    #[error("must be a JSON array of subtasks: {0}")]
    Body(String),
    /// The record at this place of a JSON array, counted from 1.
    #[error("record {0}: {1}")]
    Record(usize, String),
    /// The record in this line, counted from 1.
    #[error("line {0}: {1}")]
    Line(usize, String),
}

/// Takes the subtasks of a JSON array, which all belong to `project`.
pub fn from_json(body: &[u8], project: &ProjectId, job_types: &JobTypes) -> Result<Vec<SubJob>, Refused> {
    let mut reader = Array { project, job_types, at: 0, reason: None };
    let mut json = serde_json::Deserializer::from_slice(body);
    let batch = reader.by_ref().deserialize(&mut json);
    let batch = batch.and_then(|batch| json.end().map(|()| batch));
    batch.map_err(|error| {
        let reason = reader.reason.take().unwrap_or_else(|| without_place(&error));
        if reader.at == 0 { Refused::Body(reason) } else { Refused::Record(reader.at, reason) }
    })
}

/// Takes the subtasks of a body with one JSON object a line, which all belong to `project`. Blank lines are skipped.
pub fn from_ndjson(body: &[u8], project: &ProjectId, job_types: &JobTypes) -> Result<Vec<SubJob>, Refused> {
    let lines = body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !is_blank(line));
    let read = |line| raw(line)?.of_project(project)?.check(job_types);
    lines.map(|(at, line)| read(line).map_err(|reason| Refused::Line(at + 1, reason))).collect()
}

/// Takes one line of a load file, which must name its project; the error is the reason.
pub fn from_load_line(line: &[u8], job_types: &JobTypes) -> Result<(ProjectId, SubJob), String> {
    let raw = raw(line)?;
    let project = raw.project_id.as_deref().ok_or("missing field `project_id`")?;
    let project = ProjectId::parse(project).map_err(|error| format!("project_id {error}"))?;
    Ok((project, raw.check(job_types)?))
}

/// The one JSON object of a line.
fn raw(line: &[u8]) -> Result<Raw<'_>, String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let raw = Object.deserialize(&mut json).and_then(|raw| json.end().map(|()| raw));
    raw.map_err(|error| without_place(&error))
}

/// Whether a line holds nothing but white space.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// The reason alone: the place is told by record or line.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// Reads a [`Raw`] from an object only: of itself it would take an array of its fields' values too.
struct Object;

impl<'de> de::DeserializeSeed<'de> for Object {
    type Value = Raw<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Raw<'de>, A::Error> {
        Raw::deserialize(MapAccessDeserializer::new(fields))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    job_id: Cow<'a, str>,
    #[serde(borrow)]
    job_type: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    version: Option<u64>,
    project_id: Option<Cow<'a, str>>,
    begin_time: Option<Cow<'a, str>>,
    end_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    job_resource_info: Option<&'a RawValue>,
    #[serde(borrow)]
    job_execute_info: Option<&'a RawValue>,
    error_code: Option<Cow<'a, str>>,
    error_message: Option<Cow<'a, str>>,
}

impl Raw<'_> {
    fn of_project(self, project: &ProjectId) -> Result<Self, String> {
        match &self.project_id {
            Some(other) if other != project.as_str() => Err("project_id must be that of the path".into()),
            _ => Ok(self),
        }
    }

    fn check(self, job_types: &JobTypes) -> Result<SubJob, String> {
        let details = Details {
            begin_time: time("begin_time", self.begin_time)?,
            end_time: time("end_time", self.end_time)?,
            job_resource_info: object("job_resource_info", self.job_resource_info)?,
            job_execute_info: object("job_execute_info", self.job_execute_info)?,
            error_code: text("error_code", 64, self.error_code)?,
            error_message: text("error_message", 1024, self.error_message)?,
        };
        Ok(SubJob {
            id: SubJobId::parse(&self.id).map_err(|error| format!("id {error}"))?,
            job_id: JobId::parse(&self.job_id).map_err(|error| format!("job_id {error}"))?,
            job_type: job_types.parse(&self.job_type).ok_or("job_type is not a known job type")?,
            status: self.status.parse::<Status>().map_err(|error| format!("status {error}"))?,
            version: self.version.unwrap_or(0).try_into().map_err(|error| format!("version {error}"))?,
            details: (details != Details::default()).then(|| Box::new(details)),
        })
    }
}

fn time(field: &str, text: Option<Cow<'_, str>>) -> Result<Option<Timestamp>, String> {
    text.map(|text| text.parse().map_err(|error| format!("{field} {error}"))).transpose()
}

fn object(field: &str, value: Option<&RawValue>) -> Result<Option<Box<str>>, String> {
    match value.map(RawValue::get) {
        Some(text) if !text.starts_with('{') => Err(format!("{field} must be an object")),
        Some(text) if text.len() > MAX_OBJECT => Err(format!("{field} must have at most 8192 bytes")),
        text => Ok(text.map(Into::into)),
    }
}

fn text(field: &str, max: usize, text: Option<Cow<'_, str>>) -> Result<Option<Box<str>>, String> {
    match text {
        Some(text) if text.chars().nth(max).is_some() => Err(format!("{field} must have at most {max} characters")),
        text => Ok(text.map(Into::into)),
    }
}

/// Reads an array record by record, so that no second copy of it is made and a bad one is known by its place.
struct Array<'a> {
    project: &'a ProjectId,
    job_types: &'a JobTypes,
    /// The place of the record being read.
    at: usize,
    /// Why that record is refused, if it is JSON of the right form.
    reason: Option<String>,
}

impl Array<'_> {
    fn by_ref(&mut self) -> &mut Self {
        self
    }
}

impl<'de> de::DeserializeSeed<'de> for &mut Array<'_> {
    type Value = Vec<SubJob>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Array<'_> {
    type Value = Vec<SubJob>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<Self::Value, A::Error> {
        let mut batch = Vec::new();
        loop {
            self.at += 1;
            let Some(raw) = records.next_element_seed(Object)? else { return Ok(batch) };
            let checked = raw.of_project(self.project).and_then(|raw| raw.check(self.job_types));
            batch.push(checked.map_err(|reason| {
                self.reason = Some(reason);
                de::Error::custom("a record breaks a rule")
            })?);
        }
    }
}

#[cfg(test)]
mod tests;

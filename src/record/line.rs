//! Writes a subtask as a line of a load file.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::{Details, Family, JobTypes, ProjectId, SubJob, Timestamp};

#[derive(Serialize)]
struct Line<'a> {
    project_id: &'a str,
    id: String,
    job_id: String,
    job_type: &'a str,
    /// Only of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'a str>,
    status: &'a str,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    begin_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_resource_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_execute_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
}

/// Writes a line, with its line feed, that [`super::from_load_line`] parses to the same subtask.
///
/// # Errors
///
/// `out` cannot be written.
pub fn to_load_line(
    project: &ProjectId,
    sub_job: &SubJob,
    job_types: &JobTypes,
    out: &mut impl Write,
) -> io::Result<()> {
    let none = Details::default();
    let details = sub_job.details.as_deref().unwrap_or(&none);
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    // An object keeps its white space, which may have line breaks.
    let object =
        |text: &Option<Box<str>>| text.as_ref().map(|text| RawValue::from_string(text.replace(['\n', '\r'], " ")));
    let line = Line {
        project_id: project.as_str(),
        id: sub_job.id.to_string(),
        job_id: sub_job.job_id.to_string(),
        job_type: job_types.name(sub_job.job_type),
        family: Some(sub_job.job_type.family()).filter(|family| *family == Family::Image).map(Family::as_str),
        status: sub_job.status.as_str(),
        version: sub_job.version.get(),
        begin_time: time(details.begin_time),
        end_time: time(details.end_time),
        job_resource_info: object(&details.job_resource_info).transpose()?,
        job_execute_info: object(&details.job_execute_info).transpose()?,
        error_code: details.error_code.as_deref(),
        error_message: details.error_message.as_deref(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::super::from_load_line;
    use super::*;

    #[test]
    fn a_written_line_is_parsed_to_the_same_subtask() {
        let types = JobTypes::new(["LATER"]).unwrap();
        let bare = r#""project_id":"p","id":"é \"1\"","job_id":"j","job_type":"LATER","status":"FAILED","version":7"#;
        let full = r#","begin_time":"2022-03-07T10:40:43.858Z","end_time":"2022-03-07T10:40:44Z","job_resource_info":{"a": [1]},"job_execute_info":{},"error_code":"E","error_message":"no\nroom""#;
        for line in [format!("{{{bare}}}\n"), format!("{{{bare}{full}}}\n")] {
            let (project, sub_job) = from_load_line(line.as_bytes(), &types).unwrap();
            let mut out = Vec::new();
            to_load_line(&project, &sub_job, &types, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
        let image = r#"{"project_id":"p","id":"1","job_id":"j","job_type":"CREATE_SERVER","family":"image","status":"RUNNING","version":0}"#;
        let (project, sub_job) = from_load_line(image.as_bytes(), &types).unwrap();
        let mut out = Vec::new();
        to_load_line(&project, &sub_job, &types, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{image}\n"));
        let lines = format!("{{{bare},\"job_execute_info\":{{\r\n\"a\":\n1}}}}");
        let (project, sub_job) = from_load_line(lines.as_bytes(), &types).unwrap();
        let mut out = Vec::new();
        to_load_line(&project, &sub_job, &types, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{{{bare},\"job_execute_info\":{{  \"a\": 1}}}}\n"));
    }
}

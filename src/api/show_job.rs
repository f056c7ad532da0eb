//! ShowJob, which is deprecated: `GET /v1/{project_id}/job/{job_id}`.
//!
//! It shows what ShowJobDetail shows, with the numbers of its own definition.

use std::borrow::Cow;
use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Api;
use super::job::{FoundJob, find, respond};
use super::json::json;
use super::sub_job_info::{ErrorTexts, Text, raw};
use crate::domain::{Family, JobId, JobStatus, ProjectId, Status, SubJob, SubJobId, Timestamp};
use crate::web::call::Call;
use crate::web::error::Error;

/// The published `job_type` of a job, and that of a subtask.
const JOB: u8 = 1;
const SUB_JOB: u8 = 2;

/// The published numbers of `job_status`.
const FAILED: u8 = 0;
const SUCCESS: u8 = 1;
const RUNNING: u8 = 2;
const INITIALISING: u8 = 3;

/// A job of app subtasks, with its first subtasks.
pub(super) async fn show_job(api: Arc<Api>, call: Call<ProjectId>) -> Result<Response, Error> {
    let found = find(&api, call, Family::App).await?;
    respond(found, |found| json(&Answer { job: JobInfo::of(found)? })).await
}

#[derive(Serialize)]
struct Answer<'a> {
    job: JobInfo<'a>,
}

#[derive(Serialize)]
struct JobInfo<'a> {
    job_id: Text<&'a JobId>,
    job_type: u8,
    job_status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    begin_time: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Text<Timestamp>>,
    execute_code: Cow<'a, str>,
    execute_message: Cow<'a, str>,
    sub_jobs: Vec<SubJobInfo<'a>>,
}

impl<'a> JobInfo<'a> {
    fn of(found: &'a FoundJob) -> Result<Self, Error> {
        let (status, times) = (found.job.counts.job_status(), found.times());
        let failed = found.first_failed().filter(|_| status == JobStatus::Failed);
        let (execute_code, execute_message) = failed.map(execute_texts).unwrap_or_default();
        Ok(Self {
            job_id: Text(&found.id),
            job_type: JOB,
            job_status: match status {
                _ if found.job.counts.all_wait() => INITIALISING,
                JobStatus::Waiting | JobStatus::Running => RUNNING,
                JobStatus::Success => SUCCESS,
                JobStatus::Failed => FAILED,
            },
            begin_time: to_second(times.begin),
            end_time: to_second(times.end),
            execute_code,
            execute_message,
            sub_jobs: found.job.sub_jobs.iter().map(SubJobInfo::of).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Serialize)]
struct SubJobInfo<'a> {
    job_id: Text<&'a SubJobId>,
    job_type: u8,
    job_status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    begin_time: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Text<Timestamp>>,
    execute_code: Cow<'a, str>,
    execute_message: Cow<'a, str>,
    entities: Vec<&'a RawValue>,
}

impl<'a> SubJobInfo<'a> {
    fn of(sub_job: &'a SubJob) -> Result<Self, Error> {
        let details = sub_job.details.as_deref();
        let (execute_code, execute_message) = execute_texts(sub_job);
        let resource = details.and_then(|details| details.job_resource_info.as_deref()).map(raw::<serde_json::Error>);
        let resource = resource.transpose().map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Self {
            job_id: Text(&sub_job.id),
            job_type: SUB_JOB,
            job_status: match sub_job.status {
                Status::Failed | Status::Abnormal => FAILED,
                Status::Success => SUCCESS,
                Status::Waiting => INITIALISING,
                Status::Running | Status::Rollback | Status::Aborting => RUNNING,
            },
            begin_time: to_second(details.and_then(|details| details.begin_time)),
            end_time: to_second(details.and_then(|details| details.end_time)),
            execute_code,
            execute_message,
            entities: resource.into_iter().collect(),
        })
    }
}

fn to_second(time: Option<Timestamp>) -> Option<Text<Timestamp>> {
    time.map(|time| Text(time.truncated_to_second()))
}

/// Code and message of a subtask's error, empty if it has none.
fn execute_texts(sub_job: &SubJob) -> (Cow<'_, str>, Cow<'_, str>) {
    let texts = sub_job.details.as_deref().map(ErrorTexts::of).unwrap_or_default();
    (texts.error_code.unwrap_or_default(), texts.error_message.unwrap_or_default())
}

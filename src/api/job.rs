//! A job as the operations show it.

use std::borrow::Cow;

use axum::response::Response;
use serde::Serialize;

use super::Api;
use super::sub_job_info::{SubJobInfo, Text};
use crate::domain::{
    Family, IdError, JobId, JobTypeSet, JobTypes, ProjectId, StatusCounts, SubJob, TimeRange, Timestamp,
};
use crate::store::Job;
use crate::web::call::Call;
use crate::web::error::Error;

/// The most subtasks that the answer about one job has.
const MAX_SUB_JOBS: usize = 1000;

/// The most subtasks that are rendered without a thread of their own: a page of a list.
const RENDERED_AT_ONCE: usize = 100;

/// A job, and the call that asks for it.
pub(super) struct FoundJob {
    pub(super) project: ProjectId,
    pub(super) id: JobId,
    pub(super) job: Job,
}

/// The job of a family that the path names, with its first subtasks, after all that may be wrong with the call.
///
/// # Errors
///
/// 400, 404 for the project, 404 for the job.
pub(super) async fn find(api: &Api, call: Call<ProjectId>, family: Family) -> Result<FoundJob, Error> {
    let call = call.with_input(|call| job_id(&call.path_parameter("job_id")?, family))?;
    let (mut call, id) = call.in_existing_project()?;
    call.ignore_body().await?;
    let id = id.ok_or(Error::Job)?;
    let job = api.store.job(&call.project, &id, JobTypeSet::of_family(family), MAX_SUB_JOBS).await?;
    Ok(FoundJob { project: call.project, id, job: job.ok_or(Error::Job)? })
}

/// Answers with what `render` makes of a job: on a thread of its own if the job is large, since that takes milliseconds.
///
/// # Errors
///
/// Those of `render`.
pub(super) async fn respond(
    found: FoundJob,
    render: impl FnOnce(&FoundJob) -> Result<Response, Error> + Send + 'static,
) -> Result<Response, Error> {
    if found.job.sub_jobs.len() <= RENDERED_AT_ONCE {
        return render(&found);
    }
    let rendered = tokio::task::spawn_blocking(move || render(&found)).await;
    rendered.map_err(|error| Error::Internal(error.to_string()))?
}

/// The `job_id` of a path, decoded; none if it has more characters than any job's.
fn job_id(text: &str, family: Family) -> Result<Option<JobId>, Error> {
    let invalid = |reason: Cow<'static, str>| Error::input("job_id", reason);
    match (JobId::parse(text), family) {
        (Ok(id), _) => Ok(Some(id)),
        (Err(IdError::TooLong), Family::App) if text.chars().nth(255).is_some() => {
            Err(invalid("must have at most 255 characters".into()))
        }
        (Err(IdError::TooLong), Family::App) if text.chars().any(char::is_control) => {
            Err(invalid(IdError::Control.to_string().into()))
        }
        (Err(IdError::TooLong), Family::App) => Ok(None),
        (Err(error), _) => Err(invalid(error.to_string().into())),
    }
}

impl FoundJob {
    /// The job's own part of an answer.
    fn summary<'a>(&'a self, job_types: &'a JobTypes) -> JobSummary<'a> {
        let job_type = self.job.sub_jobs.first().map_or("", |first| job_types.name(first.job_type));
        JobSummary::new(&self.id, job_type, &self.job.counts, self.times())
    }

    /// The times of all its subtasks; none if it has more than are shown. It has no end while one of them runs.
    pub(super) fn times(&self) -> TimeRange {
        let Job { counts, sub_jobs, .. } = &self.job;
        let mut times = TimeRange::default();
        if counts.total() == sub_jobs.len() as u64 {
            sub_jobs.iter().filter_map(|sub_job| sub_job.details.as_deref()).for_each(|details| times.include(details));
        }
        times.of_job(counts.job_status())
    }

    /// The first subtask that failed or ended abnormally.
    pub(super) fn first_failed(&self) -> Option<&SubJob> {
        self.job.sub_jobs.iter().chain(&self.job.failed_later).find(|sub_job| sub_job.status.has_failed())
    }
}

/// A job without its subtasks.
#[derive(Serialize)]
pub(super) struct JobSummary<'a> {
    id: Text<&'a JobId>,
    job_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    begin_time: Option<Text<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Text<Timestamp>>,
    status: &'static str,
    sub_jobs_total: u64,
}

impl<'a> JobSummary<'a> {
    /// A job of those subtasks, which took from when until when they say.
    pub(super) fn new(id: &'a JobId, job_type: &'a str, counts: &StatusCounts, times: TimeRange) -> Self {
        Self {
            id: Text(id),
            job_type,
            begin_time: times.begin.map(Text),
            end_time: times.end.map(Text),
            status: counts.job_status().as_str(),
            sub_jobs_total: counts.total(),
        }
    }
}

/// A job with its first subtasks.
#[derive(Serialize)]
pub(super) struct JobDetail<'a> {
    #[serde(flatten)]
    summary: JobSummary<'a>,
    sub_jobs: Vec<SubJobInfo<'a>>,
}

impl<'a> JobDetail<'a> {
    /// All that is shown of a job.
    pub(super) fn new(found: &'a FoundJob, job_types: &'a JobTypes) -> Self {
        let project = &found.project;
        let sub_jobs = found.job.sub_jobs.iter().map(|sub_job| SubJobInfo { project, sub_job, job_types }).collect();
        Self { summary: found.summary(job_types), sub_jobs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, family: Family) -> Result<Option<String>, String> {
        let id = job_id(text, family).map_err(|error| error.to_string())?;
        Ok(id.map(|id| id.to_string()))
    }

    #[test]
    fn a_job_id_has_the_bounds_of_its_operation() {
        let [fits, long, too_long] = [128, 255, 256].map(|len| "é".repeat(len));
        for family in Family::ALL {
            for text in [" ", "a/b", "+", "..", "%2F", &*fits] {
                assert_eq!(parse(text, family), Ok(Some(text.to_owned())), "{text}");
            }
            for text in ["a\0", "\n", "\u{85}"] {
                assert_eq!(parse(text, family), Err("job_id must not hold a control character".into()));
            }
        }
        assert_eq!(parse(&"x".repeat(129), Family::App), Ok(None));
        assert_eq!(parse(&long, Family::App), Ok(None));
        assert_eq!(parse(&too_long, Family::App), Err("job_id must have at most 255 characters".into()));
        let control = "x".repeat(200) + "\u{7f}";
        assert_eq!(parse(&control, Family::App), Err("job_id must not hold a control character".into()));
        let too_long = Err("job_id must have at most 128 characters".to_owned());
        assert_eq!(parse(&"x".repeat(129), Family::Image), too_long);
        assert_eq!(parse(&long, Family::Image), too_long);
    }
}

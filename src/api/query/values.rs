//! The parameters that several operations have, one by one.

use std::borrow::Cow;

use crate::domain::{Family, JobId, JobStatus, JobType, JobTypeSet, JobTypes, Status};
use crate::web::decode;
use crate::web::error::Error;

/// The highest `offset`, as published.
const MAX_OFFSET: u32 = i32::MAX as u32;

/// The bounds of `limit` and what it is if absent, as published.
const LIMITS: std::ops::RangeInclusive<u32> = 1..=100;
const DEFAULT_LIMIT: u32 = 10;

/// The most digits of a number.
const MAX_DIGITS: usize = 10;

/// A parameter's value; none if it is empty.
fn non_empty<'t>(value: &'t Option<Cow<'_, str>>) -> Option<&'t str> {
    value.as_deref().filter(|text| !text.is_empty())
}

fn invalid(input: &'static str, error: impl ToString) -> Error {
    Error::input(input, error.to_string())
}

/// `status`: one status; empty is as if absent.
pub(super) fn status(value: &Option<Cow<'_, str>>) -> Result<Option<Status>, Error> {
    non_empty(value).map(|text| text.parse().map_err(|error| invalid("status", error))).transpose()
}

/// `status` of jobs: one status; empty is as if absent.
pub(super) fn job_status(value: &Option<Cow<'_, str>>) -> Result<Option<JobStatus>, Error> {
    non_empty(value).map(|text| text.parse().map_err(|error| invalid("status", error))).transpose()
}

/// `job_id`: one job; empty is as if absent.
pub(super) fn job_id(value: &Option<Cow<'_, str>>) -> Result<Option<JobId>, Error> {
    non_empty(value).map(|text| JobId::parse(text).map_err(|error| invalid("job_id", error))).transpose()
}

/// The types that no `job_type` stands for: of app servers all, of image servers the three of the published page.
fn default_types(family: Family) -> JobTypeSet {
    match family {
        Family::App => JobTypeSet::APP,
        Family::Image => JobTypeSet::COUNTED_IMAGE,
    }
}

/// `job_type` of a count: names separated by commas; empty is as if absent.
pub(super) fn job_types(
    value: &Option<Cow<'_, str>>,
    family: Family,
    job_types: &JobTypes,
) -> Result<JobTypeSet, Error> {
    let Some(text) = non_empty(value) else { return Ok(default_types(family)) };
    let (most_chars, too_long) = match family {
        Family::App => (256, "must have at most 256 characters"),
        Family::Image => (128, "must have at most 128 characters"),
    };
    if text.len() > most_chars && text.chars().nth(most_chars).is_some() {
        return Err(Error::input("job_type", too_long));
    }
    let known =
        |name| job_types.parse(family, name).ok_or("must be a comma-separated list of known job types, without spaces");
    decode::split(text, b',').map(known).collect::<Result<_, _>>().map_err(|reason| Error::input("job_type", reason))
}

/// `job_type` of a list: mandatory, one name; empty stands for the types that a count without it has.
pub(super) fn mandatory_job_type(
    value: &Option<Cow<'_, str>>,
    family: Family,
    job_types: &JobTypes,
) -> Result<JobTypeSet, Error> {
    let one = |job_type: JobType| [job_type].into_iter().collect();
    match value.as_deref() {
        None => Err(Error::input("job_type", "must be given; an empty one is every job type")),
        Some("") => Ok(default_types(family)),
        Some(name) => {
            let job_type = job_types.parse(family, name);
            job_type.map(one).ok_or_else(|| Error::input("job_type", "must be one known job type, or empty"))
        }
    }
}

/// `offset`: how many records are skipped.
pub(super) fn offset(value: &Option<Cow<'_, str>>) -> Result<u32, Error> {
    let Some(text) = value else { return Ok(0) };
    number(text)
        .filter(|offset| *offset <= MAX_OFFSET)
        .ok_or_else(|| Error::input("offset", "must be an integer from 0 to 2147483647"))
}

/// `limit`: the most records of an answer.
pub(super) fn limit(value: &Option<Cow<'_, str>>) -> Result<u32, Error> {
    let Some(text) = value else { return Ok(DEFAULT_LIMIT) };
    number(text)
        .filter(|limit| LIMITS.contains(limit))
        .ok_or_else(|| Error::input("limit", "must be an integer from 1 to 100"))
}

/// The number that 1 to 10 ASCII digits write; none for another text, or one that is too large.
fn number(text: &str) -> Option<u32> {
    // A sign, which the standard library takes, is none of them.
    let is_number = text.len() <= MAX_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

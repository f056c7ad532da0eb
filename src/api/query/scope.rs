//! What our own operations are about: a family of subtasks, some of its types, and perhaps one job.

use std::borrow::Cow;

use http::Uri;

use super::{parameters, values};
use crate::access::Action;
use crate::domain::{CountFilter, Family, JobTypeSet, JobTypes};
use crate::web::error::Error;

/// The permission for a request: that of the count of the family that its query names.
pub fn scope_action(target: &Uri) -> Action {
    let query = target.query().unwrap_or_default();
    // A query that breaks a rule gets its error after the permission is decided.
    match parameters(["family"], query).ok().and_then(|[given]| family(&given).ok()) {
        Some(Family::Image) => Action::CountImageSubJobs,
        Some(Family::App) | None => Action::CountSubJobs,
    }
}

/// Takes the query of a summary: `family`, `job_type` and `job_id`. Without a type it is about all types of the family.
///
/// # Errors
///
/// A parameter that is given twice, cannot be decoded or breaks its rule.
pub fn summary(query: &str, job_types: &JobTypes) -> Result<CountFilter, Error> {
    let [family, job_type, job_id] = parameters(["family", "job_type", "job_id"], query)?;
    filter(&family, &job_type, &job_id, job_types)
}

/// The filter that the values of the three parameters make.
pub(super) fn filter(
    of_family: &Option<Cow<'_, str>>,
    job_type: &Option<Cow<'_, str>>,
    job_id: &Option<Cow<'_, str>>,
    job_types: &JobTypes,
) -> Result<CountFilter, Error> {
    let family = family(of_family)?;
    let job_types = match job_type.as_deref() {
        None | Some("") => JobTypeSet::of_family(family),
        Some(_) => values::job_types(job_type, family, job_types)?,
    };
    Ok(CountFilter { status: None, job_types, job_id: values::job_id(job_id)? })
}

/// `family`: empty is as if absent, and that is `app`.
fn family(value: &Option<Cow<'_, str>>) -> Result<Family, Error> {
    match value.as_deref() {
        None | Some("") => Ok(Family::App),
        Some(text) => {
            text.parse().map_err(|error: crate::domain::UnknownFamily| Error::input("family", error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permission_is_that_of_the_family() {
        for (target, action) in [
            ("/a", Action::CountSubJobs),
            ("/a?family=", Action::CountSubJobs),
            ("/a?family=app", Action::CountSubJobs),
            ("/a?x=1&%66amily=ima%67e", Action::CountImageSubJobs),
            ("/a?family=image&family=image", Action::CountSubJobs),
            ("/a?family=images", Action::CountSubJobs),
        ] {
            assert_eq!(scope_action(&target.parse().unwrap()), action, "{target}");
        }
    }

    #[test]
    fn all_types_of_the_family_are_the_default() {
        let job_types = JobTypes::default();
        let types = |query| summary(query, &job_types).unwrap().job_types;
        assert_eq!(types(""), JobTypeSet::APP);
        assert_eq!(types("family=image&job_type="), JobTypeSet::IMAGE);
        let build: JobTypeSet = job_types.parse(Family::Image, "BUILD_IMAGE").into_iter().collect();
        assert_eq!(types("family=image&job_type=BUILD_IMAGE"), build);
        for query in
            ["job_type=BUILD_IMAGE", "family=x", "family=app&family=app", "job_id=%00", "family=image&job_type=A"]
        {
            assert!(summary(query, &job_types).is_err(), "{query}");
        }
    }
}

//! The query of a list of image jobs.

use super::{parameters, values};
use crate::domain::{Family, JobFilter, JobTypes};
use crate::web::error::Error;

/// What a list of jobs is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobListQuery {
    /// Which jobs are listed.
    pub filter: JobFilter,
    /// How many of them are skipped: 0 to 2147483647.
    pub offset: u32,
    /// How many are shown at most: 1 to 100.
    pub limit: u32,
}

/// Takes the query of a list of image jobs.
///
/// # Errors
///
/// A parameter that is given twice, cannot be decoded or breaks its rule; no `job_type`.
pub fn list_image_jobs(query: &str, job_types: &JobTypes) -> Result<JobListQuery, Error> {
    let [status, job_type, offset, limit] = parameters(["status", "job_type", "offset", "limit"], query)?;
    let filter = JobFilter {
        status: values::job_status(&status)?,
        job_types: values::mandatory_job_type(&job_type, Family::Image, job_types)?,
    };
    Ok(JobListQuery { filter, offset: values::offset(&offset)?, limit: values::limit(&limit)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobStatus, JobTypeSet};

    fn ask(query: &str) -> Result<JobListQuery, String> {
        list_image_jobs(query, &JobTypes::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn image_jobs_are_filtered_by_the_status_and_type_of_the_job() {
        let all = JobFilter { status: None, job_types: JobTypeSet::COUNTED_IMAGE };
        let query = |filter, offset, limit| Ok(JobListQuery { filter, offset, limit });
        assert_eq!(ask("job_type=&status=&job_id=%zz&job_id="), query(all, 0, 10));
        for status in JobStatus::ALL {
            let filter = JobFilter { status: Some(status), ..all };
            assert_eq!(ask(&format!("job_type&status={status}&offset=7&limit=100")), query(filter, 7, 100));
        }
        let types = JobTypes::default();
        for job_type in types.of_family(Family::Image) {
            let filter = JobFilter { status: None, job_types: [job_type].into_iter().collect() };
            assert_eq!(ask(&format!("job_type={}", types.name(job_type))), query(filter, 0, 10));
        }
        for (query, input) in [
            ("", "job_type"),
            ("job_type=REINSTALL_OS", "job_type"),
            ("job_type=CREATE_SERVER,DELETE_SERVER", "job_type"),
            ("job_type=&status=running", "status"),
            ("job_type=&status=ABNORMAL", "status"),
            ("job_type=&status=RUNNING,FAILED", "status"),
            ("job_type=&status=&status=", "status"),
            ("job_type=&limit=101", "limit"),
            ("job_type=&offset=", "offset"),
        ] {
            let error = ask(query).unwrap_err();
            assert!(error.starts_with(&format!("{input} must ")), "{query}: {error}");
        }
    }
}

//! The query of a list: which subtasks, and which of them.

use super::{parameters, values};
use crate::domain::{CountFilter, Family, JobTypes};
use crate::web::error::Error;

/// What a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Which subtasks are listed.
    pub filter: CountFilter,
    /// How many of them are skipped: 0 to 2147483647.
    pub offset: u32,
    /// How many are shown at most: 1 to 100.
    pub limit: u32,
}

/// Takes the query of a list of that family.
///
/// # Errors
///
/// A parameter that is given twice, cannot be decoded or breaks its rule; no `job_type`.
pub fn list(query: &str, family: Family, job_types: &JobTypes) -> Result<ListQuery, Error> {
    let names = ["status", "job_type", "offset", "limit", "job_id"];
    let [status, job_type, offset, limit, job_id] = parameters(names, query)?;
    let filter = CountFilter {
        status: values::status(&status)?,
        job_types: values::mandatory_job_type(&job_type, family, job_types)?,
        job_id: values::job_id(&job_id)?,
    };
    Ok(ListQuery { filter, offset: values::offset(&offset)?, limit: values::limit(&limit)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobId, JobTypeSet, Status};

    fn ask(query: &str) -> Result<ListQuery, String> {
        list(query, Family::App, &JobTypes::default()).map_err(|error| error.to_string())
    }

    fn asked(offset: u32, limit: u32) -> ListQuery {
        ListQuery { filter: CountFilter { job_types: JobTypeSet::APP, ..CountFilter::default() }, offset, limit }
    }

    #[test]
    fn offset_and_limit_have_the_published_bounds() {
        for (query, expected) in [
            ("", asked(0, 10)),
            ("&offset=0&limit=1", asked(0, 1)),
            ("&offset=2147483647&limit=100", asked(2_147_483_647, 100)),
            ("&offset=0000000007&limit=0000000010", asked(7, 10)),
            ("&offset=%31&limit=%310", asked(1, 10)),
            ("&sub_job_ids=1&sub_job_ids=2&Offset=x&LIMIT=x", asked(0, 10)),
        ] {
            assert_eq!(ask(&format!("job_type={query}")), Ok(expected), "{query}");
        }
        let numbers =
            ["", "-1", "+1", "%2B1", " 1", "1%20", "1.0", "1e1", "0x1", "1_0", "%D9%A1", "%C2%B2", "a", "%", "1,2"];
        for (name, more) in [
            (
                "offset",
                ["2147483648", "4294967296", "9999999999", "00000000000", "00000000001", "18446744073709551616"],
            ),
            ("limit", ["0", "101", "00000000010", "4294967297", "9999999999", "0000000000"]),
        ] {
            for text in numbers.iter().chain(&more) {
                let error = ask(&format!("job_type=&{name}={text}")).unwrap_err();
                assert!(error.starts_with(&format!("{name} must be ")), "{name}={text}: {error}");
            }
            assert!(ask(&format!("job_type=&{name}")).unwrap_err().starts_with(name));
            let twice = ask(&format!("job_type=&{name}=1&{name}=1")).unwrap_err();
            assert_eq!(twice, format!("{name} must be given only once"));
        }
    }

    #[test]
    fn job_type_is_required_and_one_type_or_empty() {
        for query in ["", "status=RUNNING", "offset=1&limit=1", "Job_type=CREATE_SERVER"] {
            assert_eq!(ask(query), Err("job_type must be given; an empty one is every job type".into()), "{query}");
        }
        for query in ["job_type=", "job_type", "%6aob_type="] {
            assert_eq!(ask(query), Ok(asked(0, 10)), "{query}");
        }
        for name in ["CREATE_SERVER,DELETE_SERVER", ",", "create_server", "BUILD_IMAGE", "+", "CREATE_SERVER+"] {
            let said = ask(&format!("job_type={name}"));
            assert_eq!(said, Err("job_type must be one known job type, or empty".into()), "{name}");
        }
        let types = JobTypes::default();
        for family in Family::ALL {
            for job_type in types.of_family(family) {
                let query = format!("job_type={}", types.name(job_type));
                let set: JobTypeSet = [job_type].into_iter().collect();
                assert_eq!(list(&query, family, &types).unwrap().filter.job_types, set);
            }
        }
        let images = list("job_type=", Family::Image, &types).unwrap();
        assert_eq!(images.filter.job_types, JobTypeSet::COUNTED_IMAGE);
    }

    #[test]
    fn status_and_job_id_have_the_rules_of_a_count() {
        let filter = CountFilter {
            status: Some(Status::Failed),
            job_types: JobTypeSet::APP,
            job_id: Some(JobId::parse("a b").unwrap()),
        };
        let query = ask("job_id=a+b&status=FAILED&job_type=");
        assert_eq!(query, Ok(ListQuery { filter, offset: 0, limit: 10 }));
        assert_eq!(ask("job_id=&status=&job_type="), Ok(asked(0, 10)));
        for query in ["job_type=&status=failed", "job_type=&job_id=%00", "job_type=&status=FAILED&status="] {
            assert!(ask(query).is_err(), "{query}");
        }
    }
}

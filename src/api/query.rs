//! The filter of a count, as the query writes it.
//!
//! Source: the publisher's definition of CountSubJobs, which bounds the three parameters and lets each be empty.

use std::borrow::Cow;

use crate::domain::{CountFilter, Family, JobId, JobTypeSet, JobTypes, Status};
use crate::web::decode;
use crate::web::error::Error;

/// The most characters of `job_type`.
const MAX_JOB_TYPE_CHARS: usize = 256;

/// Takes the query of a request. An empty parameter is as if it were absent, one given twice is refused, and one of another
/// name is ignored.
pub fn parse(query: &str, job_types: &JobTypes) -> Result<CountFilter, Error> {
    let mut parameters = Parameters::default();
    for (name, value) in decode::pairs(query) {
        parameters.add(name, value)?;
    }
    let mut filter = CountFilter { job_types: JobTypeSet::APP, ..CountFilter::default() };
    if let Some(text) = parameters.status() {
        let status: Status = text.parse().map_err(|error| invalid("status", error))?;
        filter.status = Some(status);
    }
    if let Some(text) = parameters.job_type() {
        filter.job_types = types(text, job_types)?;
    }
    if let Some(text) = parameters.job_id() {
        filter.job_id = Some(JobId::parse(text).map_err(|error| invalid("job_id", error))?);
    }
    Ok(filter)
}

const NAMES: [&str; 3] = ["status", "job_type", "job_id"];

/// The three parameters, decoded, each at most once.
#[derive(Default)]
struct Parameters<'a>([Option<Cow<'a, str>>; 3]);

impl<'a> Parameters<'a> {
    fn add(&mut self, name: &'a str, value: &'a str) -> Result<(), Error> {
        let known = |name: &str| NAMES.iter().position(|known| *known == name);
        // Hardly anybody encodes a name. One that cannot be decoded is none of the three.
        let which = known(name).or_else(|| decode::query(name).ok().and_then(|name| known(&name)));
        let Some(which) = which else { return Ok(()) };
        let value = decode::query(value).map_err(|error| invalid(NAMES[which], error))?;
        match self.0[which].replace(value) {
            None => Ok(()),
            Some(_) => Err(Error::input(NAMES[which], "must be given only once")),
        }
    }

    fn status(&self) -> Option<&str> {
        self.non_empty(0)
    }

    fn job_type(&self) -> Option<&str> {
        self.non_empty(1)
    }

    fn job_id(&self) -> Option<&str> {
        self.non_empty(2)
    }

    fn non_empty(&self, which: usize) -> Option<&str> {
        self.0[which].as_deref().filter(|value| !value.is_empty())
    }
}

fn types(text: &str, job_types: &JobTypes) -> Result<JobTypeSet, Error> {
    if text.len() > MAX_JOB_TYPE_CHARS && text.chars().nth(MAX_JOB_TYPE_CHARS).is_some() {
        return Err(Error::input("job_type", "must have at most 256 characters"));
    }
    let known = |name| {
        job_types.parse(Family::App, name).ok_or("must be a comma-separated list of known job types, without spaces")
    };
    text.split(',').map(known).collect::<Result<_, _>>().map_err(|reason| Error::input("job_type", reason))
}

fn invalid(input: &'static str, error: impl ToString) -> Error {
    Error::input(input, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn types() -> JobTypes {
        JobTypes::default()
    }

    fn ask(query: &str) -> Result<CountFilter, String> {
        parse(query, &types()).map_err(|error| error.to_string())
    }

    fn filter(status: Option<Status>, names: &[&str], job_id: Option<&str>) -> CountFilter {
        let set = |names: &[&str]| names.iter().map(|name| types().parse(Family::App, name).unwrap()).collect();
        CountFilter {
            status,
            job_types: if names.is_empty() { JobTypeSet::APP } else { set(names) },
            job_id: job_id.map(|id| JobId::parse(id).unwrap()),
        }
    }

    #[test]
    fn good_queries() {
        let all = filter(None, &[], None);
        assert_eq!(parse("", &types()).unwrap(), all);
        for query in
            ["", "&&", "status=&job_type=&job_id=", "status&job_type&job_id", "limit=1&limit=%zz", "%zz=1", "Status=x"]
        {
            assert_eq!(ask(query).as_ref(), Ok(&all), "{query}");
        }
        for (query, expected) in [
            ("status=RUNNING", filter(Some(Status::Running), &[], None)),
            ("%73tatus=%52UNNING", filter(Some(Status::Running), &[], None)),
            ("job_type=CREATE_SERVER%2CREJOIN_DOMAIN", filter(None, &["CREATE_SERVER", "REJOIN_DOMAIN"], None)),
            ("job_type=DELETE_SERVER,DELETE_SERVER", filter(None, &["DELETE_SERVER"], None)),
            ("job_id=a+b%2Bc=d", filter(None, &[], Some("a b+c=d"))),
            ("job_id=j&x=1&status=FAILED", filter(Some(Status::Failed), &[], Some("j"))),
        ] {
            assert_eq!(ask(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn bad_queries_name_the_input() {
        let long = "x".repeat(129);
        let many = vec!["DELETE_SERVER"; 20].join(",");
        for (query, input) in [
            ("status=running", "status"),
            ("status=RUNNING,FAILED", "status"),
            ("status=+RUNNING", "status"),
            ("status=%ff", "status"),
            ("status=%", "status"),
            ("status=FAILED&status=FAILED", "status"),
            ("status=&status=FAILED", "status"),
            ("status=FAILED&%73tatus=FAILED", "status"),
            ("job_type=NOPE", "job_type"),
            ("job_type=BUILD_IMAGE", "job_type"),
            ("job_type=image:CREATE_SERVER", "job_type"),
            ("job_type=CREATE_SERVER,", "job_type"),
            ("job_type=,", "job_type"),
            ("job_type=CREATE_SERVER,+DELETE_SERVER", "job_type"),
            ("job_type=%zz", "job_type"),
            (&format!("job_type={many}"), "job_type"),
            ("job_type&job_type", "job_type"),
            (&format!("job_id={long}"), "job_id"),
            ("job_id=a%00", "job_id"),
            ("job_id=a%0a", "job_id"),
            ("job_id=%c3", "job_id"),
            ("job_id=a&job_id=b", "job_id"),
        ] {
            let error = ask(query).unwrap_err();
            assert!(error.starts_with(&format!("{input} must ")), "{query}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(query in "[%&=+,a-zA-Z_0-9é]{0,60}") {
            let _ = ask(&query);
        }

        /// Whatever is encoded, in whatever order, comes out as it was meant.
        #[test]
        fn what_was_asked_is_what_is_counted(
            status in proptest::option::of(0..7usize),
            names in proptest::collection::vec(0..19usize, 0..10),
            job_id in proptest::option::of("[^\\p{Cc}]{1,20}"),
            backwards: bool,
        ) {
            let names: Vec<_> = names.iter().map(|at| types().iter().nth(*at).unwrap()).collect();
            let names: Vec<_> = names.iter().map(|job_type| types().name(*job_type).to_owned()).collect();
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let mut pairs = [
                format!("status={}", status.map_or(String::new(), |at| encode(Status::ALL[at].as_str()))),
                format!("job_type={}", encode(&names.join(","))),
                format!("job_id={}", job_id.as_deref().map_or(String::new(), encode)),
            ];
            if backwards {
                pairs.reverse();
            }
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let expected = filter(status.map(|at| Status::ALL[at]), &names, job_id.as_deref());
            prop_assume!(names.join(",").len() <= MAX_JOB_TYPE_CHARS);
            prop_assert_eq!(ask(&pairs.join("&")), Ok(expected));
        }
    }
}

//! The filter of a count, as the query writes it.

use super::{parameters, values};
use crate::domain::{CountFilter, Family, JobTypes};
use crate::web::error::Error;

/// Takes the query of a count of that family.
///
/// # Errors
///
/// A parameter that is given twice, cannot be decoded or breaks its rule.
pub fn count(query: &str, family: Family, job_types: &JobTypes) -> Result<CountFilter, Error> {
    let [status, job_type, job_id] = parameters(["status", "job_type", "job_id"], query)?;
    Ok(CountFilter {
        status: values::status(&status)?,
        job_types: values::job_types(&job_type, family, job_types)?,
        job_id: values::job_id(&job_id)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobId, JobTypeSet, Status};
    use proptest::prelude::*;

    fn types() -> JobTypes {
        JobTypes::default()
    }

    fn ask(query: &str) -> Result<CountFilter, String> {
        count(query, Family::App, &types()).map_err(|error| error.to_string())
    }

    fn ask_images(query: &str) -> Result<CountFilter, String> {
        count(query, Family::Image, &types()).map_err(|error| error.to_string())
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
    fn valid_queries_are_parsed() {
        let all = filter(None, &[], None);
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
    fn an_invalid_query_names_the_input() {
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

    #[test]
    fn images_have_types_of_their_own() {
        let set = |names: &[&str]| names.iter().map(|name| types().parse(Family::Image, name).unwrap()).collect();
        let filter = |names: &[&str]| CountFilter { job_types: set(names), ..CountFilter::default() };
        let counted = filter(&["CREATE_SERVER", "CREATE_SERVER_IMAGE", "DELETE_SERVER"]);
        for query in ["", "job_type=", "job_type", "status=&job_id="] {
            assert_eq!(ask_images(query).as_ref(), Ok(&counted), "{query}");
        }
        assert_eq!(ask_images("job_type=BUILD_IMAGE,DELETE_IMAGE"), Ok(filter(&["BUILD_IMAGE", "DELETE_IMAGE"])));
        let of_128 = format!("{}BUILD_IMAGE,BUILD_IMAGE", "GENERATE_IMAGE,".repeat(7));
        let of_129 = ["DELETE_IMAGE_BUILD_SERVER"; 5].join(",");
        assert_eq!((of_128.len(), of_129.len()), (128, 129));
        assert_eq!(ask_images(&format!("job_type={of_128}")), Ok(filter(&["GENERATE_IMAGE", "BUILD_IMAGE"])));
        let said = ask_images(&format!("job_type={of_129}"));
        assert_eq!(said, Err("job_type must have at most 128 characters".into()));
        for name in ["UPGRADE_ACCESS_AGENT", "image:BUILD_IMAGE", "build_image"] {
            let error = ask_images(&format!("job_type={name}")).unwrap_err();
            assert!(error.starts_with("job_type must be a comma-separated list"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_any_query_never_panics(query in "[%&=+,a-zA-Z_0-9é]{0,60}") {
            let _ = ask(&query);
        }

        /// Encodes a filter in any order and in any encoding of its characters, and parses it.
        #[test]
        fn an_encoded_filter_is_parsed_to_the_same_filter(
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
            prop_assume!(names.join(",").len() <= 256);
            prop_assert_eq!(ask(&pairs.join("&")), Ok(expected));
        }
    }
}

//! The query of a wait: what a caller waits for, and how long.

use std::time::Duration;

use super::{parameters, scope};
use crate::domain::{Comparison, JobTypes, MAX_COUNT, Operator, Status, StatusSet, WaitCondition};
use crate::web::error::Error;

/// The largest number that every JSON reader takes exactly.
const MAX_REVISION: u64 = (1 << 53) - 1;

/// The longest wait in seconds, below the 60 at which gateways end a request.
const MAX_TIMEOUT: u64 = 55;

const DEFAULT_TIMEOUT: u64 = 25;

/// What a caller waits for, and how long.
#[derive(Debug)]
pub struct WaitQuery {
    /// At least one of its two parts is given.
    pub condition: WaitCondition,
    /// The longest wait.
    pub timeout: Duration,
}

impl WaitQuery {
    /// Takes the query of a wait.
    ///
    /// # Errors
    ///
    /// A parameter that is given twice, cannot be decoded or breaks its rule; neither `until` nor `revision`.
    pub fn parse(query: &str, job_types: &JobTypes) -> Result<Self, Error> {
        let names = ["family", "status", "job_type", "job_id", "until", "revision", "timeout"];
        let [family, status, job_type, job_id, until, revision, timeout] = parameters(names, query)?;
        let filter = scope::filter(&family, &job_type, &job_id, job_types)?;
        let statuses = match status.as_deref() {
            None | Some("") => StatusSet::ALL,
            Some(text) => {
                let statuses = text.split(',').map(str::parse::<Status>).collect::<Result<_, _>>();
                statuses.map_err(|error| Error::input("status", format!("{error}; several are separated by commas")))?
            }
        };
        let until = until.map(|text| comparison(&text).ok_or_else(wrong_comparison)).transpose()?;
        let revision = number("revision", revision.as_deref(), 0, MAX_REVISION)?;
        let timeout = number("timeout", timeout.as_deref(), 1, MAX_TIMEOUT)?.unwrap_or(DEFAULT_TIMEOUT);
        if until.is_none() && revision.is_none() {
            return Err(Error::input("until", "or revision must be given"));
        }
        let condition = WaitCondition { filter, statuses, until, revision };
        Ok(Self { condition, timeout: Duration::from_secs(timeout) })
    }
}

/// A comparison, as `OP:N`.
fn comparison(text: &str) -> Option<Comparison> {
    let (operator, text) = text.split_once(':')?;
    let operator = match operator {
        "eq" => Operator::Eq,
        "ne" => Operator::Ne,
        "lt" => Operator::Lt,
        "le" => Operator::Le,
        "gt" => Operator::Gt,
        "ge" => Operator::Ge,
        _ => return None,
    };
    Some(Comparison { operator, number: digits(text, 0, MAX_COUNT)? })
}

fn wrong_comparison() -> Error {
    Error::input("until", "must be OP:N, OP one of eq, ne, lt, le, gt, ge and N from 0 to 2147483647 in digits")
}

/// A parameter that is a whole number within bounds.
fn number(name: &'static str, text: Option<&str>, min: u64, max: u64) -> Result<Option<u64>, Error> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || Error::input(name, format!("must be a whole number from {min} to {max}, in digits"));
    digits(text, min, max).map(Some).ok_or_else(wrong)
}

/// A whole number within bounds, in ASCII digits and nothing else.
fn digits(text: &str, min: u64, max: u64) -> Option<u64> {
    // A sign, which the standard library takes, is no digit.
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_digits && (min..=max).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comparison_is_as_named() {
        for (text, holds) in [
            ("eq:5", [false, true, false]),
            ("ne:5", [true, false, true]),
            ("lt:5", [true, false, false]),
            ("le:5", [true, true, false]),
            ("gt:5", [false, false, true]),
            ("ge:5", [false, true, true]),
        ] {
            let until = comparison(text).unwrap();
            assert_eq!([4, 5, 6].map(|count| until.holds(count)), holds, "{text}");
        }
        for text in ["", "eq", "eq:", "eq:x", "EQ:1", "eq:2147483648", "eq: 1", ":1", "eq:1:1", "eq:-1"] {
            assert_eq!(comparison(text), None, "{text}");
        }
    }

    #[test]
    fn inputs_have_bounds() {
        let parse = |query: &str| WaitQuery::parse(query, &JobTypes::default());
        for query in
            ["until=eq:0", "revision=0", "revision=9007199254740991&timeout=1", "until=ge:1&timeout=55&status="]
        {
            assert!(parse(query).is_ok(), "{query}");
        }
        assert_eq!(parse("revision=1").unwrap().timeout, Duration::from_secs(25));
        for (query, input) in [
            ("", "until"),
            ("status=RUNNING&timeout=5", "until"),
            ("until=", "until"),
            ("revision=", "revision"),
            ("revision=9007199254740992", "revision"),
            ("revision=1&timeout=0", "timeout"),
            ("revision=1&timeout=56", "timeout"),
            ("revision=1&timeout=", "timeout"),
            ("revision=1&status=RUNNING,", "status"),
            ("revision=1&status=running", "status"),
            ("revision=1&revision=1", "revision"),
            ("revision=1&family=apps", "family"),
        ] {
            let error = parse(query).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{input} ")), "{query}: {error}");
        }
        let some = parse("revision=1&status=RUNNING,FAILED,RUNNING").unwrap().condition.statuses;
        assert_eq!(some.iter().collect::<Vec<_>>(), [Status::Running, Status::Failed]);
    }
}

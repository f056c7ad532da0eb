//! From when until when a job's subtasks took.

use super::{Details, JobStatus, Timestamp};

/// The earliest begin and the latest end of some subtasks, of those that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeRange {
    /// When the first of them began.
    pub begin: Option<Timestamp>,
    /// When the last of them ended.
    pub end: Option<Timestamp>,
}

impl TimeRange {
    /// Includes the times of one more subtask.
    pub fn include(&mut self, details: &Details) {
        let begins = self.begin.into_iter().chain(details.begin_time);
        self.begin = begins.min();
        self.end = self.end.max(details.end_time);
    }

    /// The times of a job in that status whose subtasks these are: it has no end while it runs.
    pub fn of_job(self, status: JobStatus) -> Self {
        Self { end: self.end.filter(|_| status != JobStatus::Running), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_from_the_earliest_begin_to_the_latest_end() {
        let mut range = TimeRange::default();
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        for (begin, end, expected) in [
            (None, None, (None, None)),
            (at("2022-03-07T10:00:00Z"), None, (at("2022-03-07T10:00:00Z"), None)),
            // An earlier time whose text sorts later.
            (
                at("2022-03-07T12:00:00+04:00"),
                at("2022-03-07T11:00:00Z"),
                (at("2022-03-07T08:00:00Z"), at("2022-03-07T11:00:00Z")),
            ),
            (
                at("2022-03-07T09:00:00Z"),
                at("2022-03-07T10:59:59.9Z"),
                (at("2022-03-07T08:00:00Z"), at("2022-03-07T11:00:00Z")),
            ),
            (None, at("2022-03-07T11:00:00.1Z"), (at("2022-03-07T08:00:00Z"), at("2022-03-07T11:00:00.1Z"))),
        ] {
            range.include(&Details { begin_time: begin, end_time: end, ..Details::default() });
            assert_eq!((range.begin, range.end), expected);
        }
    }
}

//! The end time of a subtask, in four bytes.

use std::num::NonZeroU32;

use crate::domain::{Details, Status, Timestamp};

/// Seconds since 1970, rounded up so that no subtask seems older than it is. An `Option<EndTime>` has four bytes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndTime(NonZeroU32);

impl EndTime {
    /// The nearest moment that four bytes can express, from 1970 to 2106.
    pub(super) fn new(moment: Timestamp) -> Self {
        let seconds = moment.as_seconds_rounded_up().clamp(1, u32::MAX.into()) as u32;
        Self(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN))
    }

    /// The end time of a subtask that is reported in a status: that of the report, else the stored one, else `now`. A subtask without
    /// a final status has none.
    pub(super) fn of_report(
        status: Status,
        details: Option<&Details>,
        stored: Option<Self>,
        now: Self,
    ) -> Option<Self> {
        let reported = details.and_then(|details| details.end_time).map(Self::new);
        status.has_ended().then(|| reported.or(stored).unwrap_or(now))
    }

    pub(super) fn to_bytes(self) -> [u8; 4] {
        self.0.get().to_le_bytes()
    }

    /// Whole seconds since 1970.
    pub(super) fn as_seconds(self) -> i64 {
        self.0.get().into()
    }

    /// `None` unless it is from 1 to 2^32 - 1.
    pub(super) fn from_seconds(seconds: i64) -> Option<Self> {
        NonZeroU32::new(u32::try_from(seconds).ok()?).map(Self)
    }

    /// `None` for zeros.
    pub(super) fn from_bytes(bytes: [u8; 4]) -> Option<Self> {
        NonZeroU32::new(u32::from_le_bytes(bytes)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> EndTime {
        EndTime::new(text.parse().unwrap())
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        assert!(at("0001-01-01T00:00:00Z") < at("1970-01-01T00:00:01.5Z"));
        assert_eq!(at("2500-01-01T00:00:00Z").to_bytes(), [0xff; 4]);
        assert!(at("2022-01-01T00:00:00.1Z") >= at("2022-01-01T00:00:01Z"));
        assert_eq!(size_of::<Option<EndTime>>(), 4);
    }

    #[test]
    fn the_end_time_is_the_reported_one_else_the_stored_one_else_now() {
        let (early, late, now) = (at("2022-01-01T00:00:00Z"), at("2023-01-01T00:00:00Z"), at("2024-01-01T00:00:00Z"));
        let reported = Details { end_time: "2022-01-01T00:00:00Z".parse().ok(), ..Details::default() };
        for (status, details, stored, end_time) in [
            (Status::Running, Some(&reported), Some(late), None),
            (Status::Success, Some(&reported), Some(late), Some(early)),
            (Status::Failed, None, Some(late), Some(late)),
            (Status::Abnormal, Some(&Details::default()), None, Some(now)),
            (Status::Rollback, None, None, None),
        ] {
            assert_eq!(EndTime::of_report(status, details, stored, now), end_time, "{status}");
        }
    }
}

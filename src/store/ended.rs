//! When a subtask ended, in four bytes.

use crate::domain::{Details, Status, Timestamp};

/// Whole seconds since the beginning of 1970, rounded up so that nothing seems older than it is; zero for not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ended(u32);

impl Ended {
    /// It has not.
    pub(super) const NOT: Self = Self(0);

    /// At that moment; what four bytes cannot say becomes the nearest that they can, 1970 or 2106.
    pub(super) fn at(moment: Timestamp) -> Self {
        Self(moment.as_seconds_rounded_up().clamp(1, u32::MAX.into()) as u32)
    }

    /// What holds for a subtask reported `now` in that status: the end that the worker gives, else the one that is known
    /// already, else now.
    pub(super) fn of(status: Status, details: Option<&Details>, known: Self, now: Self) -> Self {
        let given = details.and_then(|details| details.end_time);
        match given {
            _ if !status.has_ended() => Self::NOT,
            Some(moment) => Self::at(moment),
            None if known != Self::NOT => known,
            None => now,
        }
    }

    /// Whether it has ended, and before that moment.
    pub(super) fn is_before(self, moment: Self) -> bool {
        self != Self::NOT && self.0 < moment.0
    }

    /// The earlier of two ends; what has not ended has none.
    pub(super) fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::NOT, end) | (end, Self::NOT) => end,
            (one, other) => Self(one.0.min(other.0)),
        }
    }

    /// The number for the disk.
    pub(super) fn to_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// The number as it was on the disk.
    pub(super) fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Ended {
        Ended::at(text.parse().unwrap())
    }

    #[test]
    fn moments_out_of_range_become_the_nearest() {
        assert!(at("0001-01-01T00:00:00Z").is_before(at("1970-01-01T00:00:01.5Z")));
        assert_eq!(at("2500-01-01T00:00:00Z"), Ended(u32::MAX));
        assert!(!Ended::NOT.is_before(at("2500-01-01T00:00:00Z")));
        assert!(!at("2022-01-01T00:00:00.1Z").is_before(at("2022-01-01T00:00:01Z")));
    }

    #[test]
    fn an_end_is_as_given_else_as_known_else_now() {
        let (early, late, now) = (at("2022-01-01T00:00:00Z"), at("2023-01-01T00:00:00Z"), at("2024-01-01T00:00:00Z"));
        let given = Details { end_time: "2022-01-01T00:00:00Z".parse().ok(), ..Details::default() };
        for (status, details, known, end) in [
            (Status::Running, Some(&given), late, Ended::NOT),
            (Status::Success, Some(&given), late, early),
            (Status::Failed, None, late, late),
            (Status::Abnormal, Some(&Details::default()), Ended::NOT, now),
            (Status::Rollback, None, Ended::NOT, Ended::NOT),
        ] {
            assert_eq!(Ended::of(status, details, known, now), end, "{status}");
        }
    }
}

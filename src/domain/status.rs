//! The statuses of a subtask.

use std::{fmt, str::FromStr};

/// A subtask's status: the seven of the published API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the published API's own")]
pub enum Status {
    Waiting,
    Running,
    Success,
    Failed,
    Abnormal,
    Rollback,
    Aborting,
}

/// The text is none of the seven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of WAITING, RUNNING, SUCCESS, FAILED, ABNORMAL, ROLLBACK, ABORTING")]
pub struct UnknownStatus;

impl Status {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// Every status, in the published order, which is that of the numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Waiting, Self::Running, Self::Success, Self::Failed, Self::Abnormal, Self::Rollback, Self::Aborting];

    /// The published name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Abnormal => "ABNORMAL",
            Self::Rollback => "ROLLBACK",
            Self::Aborting => "ABORTING",
        }
    }

    /// Whether nothing more is to come, as far as the status says.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Abnormal)
    }

    /// Whether it has ended otherwise than in success.
    pub const fn has_failed(self) -> bool {
        matches!(self, Self::Failed | Self::Abnormal)
    }
}

/// A set of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusSet(u8);

impl StatusSet {
    /// The set of all seven.
    pub const ALL: Self = Self((1 << Status::COUNT) - 1);

    /// The statuses in the set, in the published order.
    pub fn iter(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |status| self.0 >> *status as u8 & 1 == 1)
    }
}

impl FromIterator<Status> for StatusSet {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> Self {
        Self(statuses.into_iter().fold(0, |bits, status| bits | 1 << status as u8))
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for (number, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, number);
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        for text in ["", "waiting", "WAITING ", "CANCELLED"] {
            assert_eq!(text.parse::<Status>(), Err(UnknownStatus), "{text:?}");
        }
    }
}

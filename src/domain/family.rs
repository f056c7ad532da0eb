//! The two kinds of subtasks, which are counted and listed apart from each other.

use std::{fmt, str::FromStr};

/// Whether a subtask is one of app servers or one of image servers. The same name of a job type means another thing in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// App servers; what a record is without a family.
    #[default]
    App,
    /// Image servers.
    Image,
}

/// The text is neither of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be app or image")]
pub struct UnknownFamily;

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::App, Self::Image];

    /// The name in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Image => "image",
        }
    }
}

impl FromStr for Family {
    type Err = UnknownFamily;

    fn from_str(text: &str) -> Result<Self, UnknownFamily> {
        Self::ALL.into_iter().find(|family| family.as_str() == text).ok_or(UnknownFamily)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_names_are_exact() {
        for family in Family::ALL {
            assert_eq!(family.to_string().parse(), Ok(family));
        }
        for text in ["", "App", "IMAGE", "image ", "apps"] {
            assert_eq!(text.parse::<Family>(), Err(UnknownFamily), "{text:?}");
        }
    }
}

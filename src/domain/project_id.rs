//! The identifier of a project, which owns jobs and their subtasks.

use std::fmt;

use super::packed::Packed;

/// A project's identifier: 1 to 128 characters (the published bound), none of them white space, a control character,
/// `/` or `\`, and neither `.` nor `..`, so that it is one path segment for every gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(Box<str>);

/// Why a text is no project identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProjectIdError {
    /// It is empty or has more than 128 characters.
    #[error("must have 1 to 128 characters")]
    Length,
    /// It holds a character that a project identifier cannot have.
    #[error("must not hold white space, a control character, '/' or '\\'")]
    Character,
    /// It is `.` or `..`.
    #[error("must not be '.' or '..'")]
    Dots,
}

impl ProjectId {
    /// Takes a text that keeps the rule above; otherwise says which part of it is broken.
    ///
    /// # Errors
    ///
    /// Which part of the rule is broken.
    pub fn parse(text: &str) -> Result<Self, ProjectIdError> {
        // Most identifiers are letters and digits only. To test all bytes, many at once, is faster than to stop at the first other one.
        let are_alphanumeric = || text.bytes().fold(true, |so_far, byte| so_far & byte.is_ascii_alphanumeric());
        let is_plain = matches!(text.len(), 1..=128) && are_alphanumeric();
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\');
        if is_plain {
            Ok(Self(text.into()))
        } else if text.is_empty() || text.chars().nth(128).is_some() {
            Err(ProjectIdError::Length)
        } else if text.contains(forbidden) {
            Err(ProjectIdError::Character)
        } else if matches!(text, "." | "..") {
            Err(ProjectIdError::Dots)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// Appends a form of it for the disk, which tells its own end and never begins with a zero.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Packed::new(&self.0).encode(out);
    }

    /// Takes an encoded one off the front; `None` if there is none.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Self::parse(&Packed::decode(bytes)?.to_string()).ok()
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_ids_have_the_published_bounds() {
        assert!(ProjectId::parse("2b31ed520ab14c7bebedb6e57f00aa11").is_ok());
        assert!(ProjectId::parse(&"é".repeat(128)).is_ok());
        assert!(ProjectId::parse("...").is_ok());
        assert_eq!(ProjectId::parse(""), Err(ProjectIdError::Length));
        assert_eq!(ProjectId::parse(&"a".repeat(129)), Err(ProjectIdError::Length));
        for text in ["a b", "a/b", "a\\b", "a\0", "a\u{a0}b", "\u{85}", "a\tb"] {
            assert_eq!(ProjectId::parse(text), Err(ProjectIdError::Character), "{text:?}");
        }
        assert_eq!(ProjectId::parse("."), Err(ProjectIdError::Dots));
        assert_eq!(ProjectId::parse(".."), Err(ProjectIdError::Dots));
    }
}

//! The identifiers that workers choose: of a job and of one of its subtasks.

use std::fmt;

use super::packed::Packed;

/// Why a text is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It has no character.
    #[error("must not be empty")]
    Empty,
    /// It has more than 128 characters (the published API's bound on `job_id`).
    #[error("must have at most 128 characters")]
    TooLong,
    /// It holds a control character.
    #[error("must not hold a control character")]
    Control,
}

fn pack(text: &str) -> Result<Packed, IdError> {
    // As most are: nothing but digits and hyphens.
    let packed = Packed::new(text);
    if packed.is_hexadecimal() {
        Ok(packed)
    } else if text.is_empty() {
        Err(IdError::Empty)
    } else if text.chars().nth(128).is_some() {
        Err(IdError::TooLong)
    } else if text.chars().any(char::is_control) {
        Err(IdError::Control)
    } else {
        Ok(packed)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 128 characters, none of them a control character. 24 bytes; heap only for texts over 16 bytes that are
        /// neither a lower-case UUID nor 32 lower-case hexadecimal digits.
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Packed);

        impl $name {
            /// Takes a text that keeps the rule above; otherwise says which part of it is broken.
            ///
            /// # Errors
            ///
            /// Which part of the rule is broken.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                pack(text).map(Self)
            }

            /// Appends a form of it for the disk, which tells its own end and never begins with a zero.
            pub fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }

            /// Takes an encoded one off the front; `None` if there is none.
            pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
                Packed::decode(bytes).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// The identifier of an asynchronous job, as the published API's `job_id`.
    JobId
}
id! {
    /// The identifier of one subtask of a job; unique within its project.
    SubJobId
}

impl SubJobId {
    /// Its 16 bytes and what kind it is, at most [`SubJobId::MAX_KIND`]; `None` if it is longer.
    pub fn to_fixed(&self) -> Option<([u8; 16], u8)> {
        self.0.to_fixed()
    }

    /// The highest kind that [`SubJobId::to_fixed`] gives.
    pub const MAX_KIND: u8 = 18;

    /// The identifier with this [`SubJobId::to_fixed`].
    pub fn from_fixed(bytes: [u8; 16], kind: u8) -> Self {
        Self(Packed::from_fixed(bytes, kind))
    }

    /// The text of one that has no fixed form.
    pub fn as_long(&self) -> Option<&str> {
        self.0.as_long()
    }

    /// The identifier with this [`SubJobId::as_long`].
    pub fn from_long(text: &str) -> Self {
        Self(Packed::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_characters() {
        assert_eq!(JobId::parse(""), Err(IdError::Empty));
        assert!(JobId::parse(&"é".repeat(128)).is_ok());
        assert_eq!(JobId::parse(&"é".repeat(129)), Err(IdError::TooLong));
        for control in ["\0", "a\n", "\u{7f}", "\u{85}"] {
            assert_eq!(SubJobId::parse(control), Err(IdError::Control), "{control:?}");
        }
        assert_eq!(SubJobId::parse("a b/c").unwrap().to_string(), "a b/c");
    }

    #[test]
    fn a_packed_id_is_unpacked_to_the_same_text() {
        let uuid = "2382dd96-1f0a-456d-a0a4-c4b09a35b58a";
        for text in ["a", "sixteen bytes ok", uuid, &uuid.replace('-', ""), "more than sixteen bytes"] {
            let id = SubJobId::parse(text).unwrap();
            let read = match id.to_fixed() {
                Some((bytes, kind)) => {
                    assert!(kind <= SubJobId::MAX_KIND);
                    SubJobId::from_fixed(bytes, kind)
                }
                None => SubJobId::from_long(id.as_long().unwrap()),
            };
            assert_eq!(read, id);
        }
    }
}

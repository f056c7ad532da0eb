//! The types of the fields of a record. An error names the field and not its value.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The message for a text field of another type, by the number of the field.
const EXPECTED: [&str; 10] = [
    "id must be a string",
    "job_id must be a string",
    "job_type must be a string",
    "status must be a string",
    "project_id must be a string",
    "begin_time must be a string",
    "end_time must be a string",
    "error_code must be a string",
    "error_message must be a string",
    "family must be a string",
];
pub(super) const ID: usize = 0;
pub(super) const JOB_ID: usize = 1;
pub(super) const JOB_TYPE: usize = 2;
pub(super) const STATUS: usize = 3;
pub(super) const PROJECT_ID: usize = 4;
pub(super) const BEGIN_TIME: usize = 5;
pub(super) const END_TIME: usize = 6;
pub(super) const ERROR_CODE: usize = 7;
pub(super) const ERROR_MESSAGE: usize = 8;
pub(super) const FAMILY: usize = 9;

pub(super) const VERSION: usize = 10;
pub(super) const JOB_RESOURCE_INFO: usize = 11;
pub(super) const JOB_EXECUTE_INFO: usize = 12;

/// The names of the fields, by their numbers.
const NAMES: [&str; 13] = [
    "id",
    "job_id",
    "job_type",
    "status",
    "project_id",
    "begin_time",
    "end_time",
    "error_code",
    "error_message",
    "family",
    "version",
    "job_resource_info",
    "job_execute_info",
];

/// Deserializes the value of the field with that number. An error of the JSON itself gets the name of the field.
pub(super) fn named<'de, const FIELD: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    T::deserialize(deserializer).map_err(|error| with_name(NAMES[FIELD], error))
}

#[cold]
fn with_name<E: de::Error>(name: &str, error: E) -> E {
    let text = error.to_string();
    // What is expected of another type has the name already.
    if text.contains(", expected ") { error } else { E::custom(format_args!("{name}: {text}")) }
}

/// The text of the field with that number. It borrows from the record unless it has escapes.
pub(super) struct Text<'a, const FIELD: usize>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a, const FIELD: usize> Deserialize<'de> for Text<'a, FIELD> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<const FIELD: usize>;
        impl<'de, const FIELD: usize> Visitor<'de> for Reader<FIELD> {
            type Value = Text<'de, FIELD>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED[FIELD])
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader::<FIELD>)
    }
}

/// The value of `version`.
pub(super) struct Number(pub(super) u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("version must be an integer from 0 to 9223372036854775807")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number))
            }
        }
        deserializer.deserialize_u64(Reader)
    }
}

/// The most characters of an unknown name in a message.
const MAX_QUOTED_CHARS: usize = 40;

/// An unknown name for a message: quoted, escaped and truncated.
pub(super) fn quoted(name: &str) -> String {
    match name.char_indices().nth(MAX_QUOTED_CHARS) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}…", &name[..end]),
    }
}

/// The message of an error without values that the caller sent and without serde's position.
pub(super) fn reason_without_value(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = &text[..text.rfind(" at line ").unwrap_or(text.len())];
    let expected = text.rsplit_once(", expected ");
    match (text.strip_prefix("unknown field `"), expected) {
        (Some(_), Some((field, expected))) => {
            let name = field.trim_start_matches("unknown field `");
            let name = name.strip_suffix('`').unwrap_or(name);
            format!("unknown field {}, expected {expected}", quoted(name))
        }
        (None, Some((found, expected))) if found.starts_with("invalid ") => expected.to_owned(),
        _ => text.to_owned(),
    }
}

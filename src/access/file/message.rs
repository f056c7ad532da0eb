//! Error messages for access files: with the line, never with a value, because a secret may be in the wrong place.

use super::place::Place;

/// The most characters of a name that an error repeats.
const MAX_QUOTED_CHARS: usize = 64;

/// The message for a parse error, with its line, and with its key if the message has none.
pub(super) fn describe(error: &toml::de::Error, place: &Place<'_>) -> String {
    // The error's own Display quotes the line, which may have a secret.
    let message = without_value(error.message());
    let Some(span) = error.span() else { return message };
    let line = place.line(span.start);
    match place.key(span.start) {
        Some(key) if !message.contains(" field ") => format!("line {line}: {key}: {message}"),
        _ => format!("line {line}: {message}"),
    }
}

/// A name in quotes, truncated if it is long.
pub(super) fn quoted(name: &str) -> String {
    match name.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// Removes values from a message, and the name of an unknown field unless it looks like a key.
fn without_value(message: &str) -> String {
    let is_about = |starts: &[&str]| starts.iter().any(|start| message.starts_with(start));
    let is_about_value = is_about(&["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "]);
    let is_about_field = is_about(&["unknown field "]);
    // The expected part comes last. It comes from the program, not from the file.
    let (said, expected) = message.split_at(message.rfind(", expected ").unwrap_or(message.len()));
    let said = match said.find(['`', '"']) {
        Some(from) if is_about_value || is_about_field && !is_key_name(&said[from..]) => said[..from].trim_end(),
        _ => said,
    };
    format!("{said}{expected}").replace(['\n', '\r'], " ")
}

/// Whether a quoted text looks like a key of this file rather than a secret.
fn is_key_name(quoted: &str) -> bool {
    let name = quoted.trim_matches('`');
    name.len() <= 16 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_contain_no_value() {
        for (message, said) in [
            ("invalid type: string \"s3cret\", expected a sequence", "invalid type: string, expected a sequence"),
            ("invalid type: string \"s3, expected t\", expected u8", "invalid type: string, expected u8"),
            ("invalid type: integer `7`, expected a string", "invalid type: integer, expected a string"),
            ("unknown variant `s3cret`, expected `account` or `user`", "unknown variant, expected `account` or `user`"),
            ("unknown field `secret`, expected `name`", "unknown field `secret`, expected `name`"),
            ("unknown field `s3cret`, expected `name`", "unknown field, expected `name`"),
            ("unknown field `abcdefghijklmnopq`, expected `name`", "unknown field, expected `name`"),
            ("unknown field `s3cret`, there are no fields", "unknown field"),
            ("missing field `name`", "missing field `name`"),
            (
                "string values must be quoted, expected literal string",
                "string values must be quoted, expected literal string",
            ),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(without_value(message), said);
        }
    }

    #[test]
    fn long_names_are_truncated() {
        assert_eq!(quoted("ops"), "\"ops\"");
        assert_eq!(quoted(&"é".repeat(65)), format!("\"{}\"…", "é".repeat(64)));
    }
}

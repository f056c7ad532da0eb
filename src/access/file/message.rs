//! How errors of an access file are worded: with the line, never with a value, since a secret may stand where something
//! else belongs.

/// The most characters of a name that an error repeats.
const MAX_QUOTED_CHARS: usize = 64;

/// The reason why a text is no access file, with its line, which `line` tells of a place.
pub(super) fn describe(error: &toml::de::Error, line: impl Fn(usize) -> usize) -> String {
    // The library's own way to show an error quotes the line at fault.
    match error.span() {
        Some(span) => format!("line {}: {}", line(span.start), without_value(error.message())),
        None => without_value(error.message()),
    }
}

/// A name as an error repeats it: quoted, and cut where it is very long.
pub(super) fn quoted(name: &str) -> String {
    match name.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// The number of the line that holds the byte at `at`. It looks at all that stands before, so only an error asks.
pub(super) fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// A message without what it repeats of the file: a value, and the name of an unknown field unless it looks like one.
fn without_value(message: &str) -> String {
    let is_about = |starts: &[&str]| starts.iter().any(|start| message.starts_with(start));
    let is_about_value = is_about(&["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "]);
    let is_about_field = is_about(&["unknown field "]);
    // What is expected comes from the program, and comes last.
    let (said, expected) = message.split_at(message.rfind(", expected ").unwrap_or(message.len()));
    let said = match said.find(['`', '"']) {
        Some(from) if is_about_value || is_about_field && !is_key_name(&said[from..]) => said[..from].trim_end(),
        _ => said,
    };
    format!("{said}{expected}").replace(['\n', '\r'], " ")
}

/// Whether a quoted text is a word as a key of this file is, and hardly a secret.
fn is_key_name(quoted: &str) -> bool {
    let name = quoted.trim_matches('`');
    name.len() <= 16 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_repeats_no_value() {
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
    fn a_long_name_is_cut() {
        assert_eq!(quoted("ops"), "\"ops\"");
        assert_eq!(quoted(&"é".repeat(65)), format!("\"{}\"…", "é".repeat(64)));
    }
}

//! Where in the access file something is: its line, and the key that it belongs to.

use std::ops::Range;

/// Every key of the file. A name that is none of these is never printed, because a secret may be in its place.
const KEYS: [&str; 25] = [
    "projects",
    "project",
    "principal",
    "policy",
    "identity",
    "id",
    "name",
    "kind",
    "tokens",
    "sha256",
    "expires_at",
    "access_keys",
    "secret",
    "secret_env",
    "secret_file",
    "policies",
    "Version",
    "Statement",
    "Sid",
    "Effect",
    "Action",
    "url",
    "cache",
    "timeout",
    "ca_file",
];

/// A part of the file that was parsed on its own. The parser counts bytes from the start of the part. Errors only look up a place,
/// because that takes as long as the text before it.
pub(super) struct Place<'a> {
    /// The whole text.
    pub(super) text: &'a str,
    /// Converts an offset in the part to one in the whole text.
    pub(super) position: &'a dyn Fn(usize) -> usize,
}

impl Place<'_> {
    /// The number of the line at an offset, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        line(self.text, (self.position)(at))
    }

    /// The number of the line in which a list has an item; that of the list if the item is written with escapes.
    pub(super) fn line_of_item(&self, list: Range<usize>, item: &str) -> usize {
        let start = (self.position)(list.start);
        let written = self.text.get(start..(self.position)(list.end)).unwrap_or_default();
        let found = written.find(&format!("\"{item}\"")).or_else(|| written.find(&format!("'{item}'")));
        line(self.text, start + found.unwrap_or(0))
    }

    /// The key whose value, or which itself, is at an offset.
    pub(super) fn key(&self, at: usize) -> Option<&'static str> {
        let at = (self.position)(at);
        let (before, after) = (self.text.get(..at)?, self.text.get(at..)?.lines().next().unwrap_or_default());
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let this = &before[start..];
        if this.trim_start().starts_with('[') || this.trim().is_empty() && after.trim_start().starts_with('[') {
            return None;
        }
        // The value after `key =`, in an inline table too; else the key itself; else an item of a list.
        if let Some(key) = this.trim_end().strip_suffix('=') {
            last_key(key)
        } else if after.contains('=') {
            first_key(after)
        } else if this.contains('=') {
            first_key(this)
        } else {
            let (key, list) = before.rsplit_once('=')?;
            let is_open = list.matches('[').count() > list.matches(']').count();
            if is_open { last_key(key) } else { None }
        }
    }
}

/// The number of the line that has the byte at `at`, from 1.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The key that begins a line.
fn first_key(line: &str) -> Option<&'static str> {
    last_key(line.split('=').next()?)
}

/// The key that ends a text, which may be dotted or quoted.
fn last_key(text: &str) -> Option<&'static str> {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    let is_other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let name = text.rsplit(is_other).next()?;
    KEYS.into_iter().find(|key| *key == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_value_is_found() {
        let text = "projects = [\n  \"a\",\n  7,\n]\n[[principal]]\nname = 7\ntokens = [{ sha256 = 8, expires_at = \"x\" }, 9]\n\
            \"kind\" = 1\npolicy.x.Effect = 2\nS3cret = 3\n[[policy.x.Statement]]\n4\nAction = ['S3cret = 5']\n[identity.roles]\n6\n";
        let place = Place { text, position: &|at| at };
        for (value, key, line) in [
            ("7,", Some("projects"), 3),
            ("7\n", Some("name"), 6),
            ("8", Some("sha256"), 7),
            ("\"x\"", Some("expires_at"), 7),
            ("9]", Some("tokens"), 7),
            ("1\n", Some("kind"), 8),
            ("2\n", Some("Effect"), 9),
            ("policy.x.Effect", Some("Effect"), 9),
            ("3\n", None, 10),
            ("4\n", None, 12),
            ("Action", Some("Action"), 13),
            ("6\n", None, 15),
            ("[[policy", None, 11),
            ("policy.x.Statement", None, 11),
        ] {
            let at = text.find(value).unwrap();
            assert_eq!((place.key(at), place.line(at)), (key, line), "{value}");
        }
        assert_eq!((place.key(text.len()), place.key(text.len() + 1)), (None, None));
    }

    #[test]
    fn the_line_of_an_item_is_found_unless_it_has_escapes() {
        let text = "#\nprojects = [\n  \"a\",\n  'b',\n  \"\\u0063\",\n]";
        let place = Place { text, position: &|at| at + 2 };
        let list = text.find('[').unwrap() - 2..text.len() - 2;
        assert_eq!(["a", "b", "c"].map(|item| place.line_of_item(list.clone(), item)), [3, 4, 2]);
    }
}

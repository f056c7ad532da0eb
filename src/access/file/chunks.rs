//! Splits an access file into chunks. The parser needs thirty times the memory of its text, and most of a long file is
//! principals, which can be parsed a hundred at a time.

use std::borrow::Cow;
use std::ops::Range;

/// How many principals are parsed at once.
const PRINCIPALS_PER_CHUNK: usize = 100;

/// The chunks of a text: tables of principals, and everything else.
#[derive(Debug)]
pub(super) struct Chunks<'a> {
    /// The text without the principals, or the whole text if it is not split.
    pub(super) rest: Cow<'a, str>,
    /// For each continuous part of `rest`: its offset in `rest` and in the whole text.
    runs: Vec<(usize, usize)>,
    /// The byte ranges of the chunks of principals in the text.
    pub(super) principals: Vec<Range<usize>>,
}

/// What kind of table header a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    /// Not a header.
    None,
    /// `[[principal]]`.
    Principal,
    /// A table inside the last principal.
    PrincipalPart,
    Other,
    /// A quoted key, which only the parser can read.
    Ambiguous,
}

impl<'a> Chunks<'a> {
    /// Splits a text. A text with multi-line strings or quoted keys stays whole, because a line in it can look like a header
    /// without being one. Arrays are safe: no value of this file begins like a header.
    pub(super) fn split(text: &'a str) -> Self {
        let whole = Self { rest: text.into(), runs: vec![(0, 0)], principals: Vec::new() };
        if text.contains("\"\"\"") || text.contains("'''") {
            return whole;
        }
        let (mut rest, mut runs, mut principals) = (String::new(), Vec::new(), Vec::new());
        let (mut start, mut count, mut at) = (0, 0, 0);
        // `count` is the number of principals in the chunk, 0 for the rest.
        let mut push_chunk = |start: usize, end: usize, count: usize| match count {
            0 => {
                runs.push((rest.len(), start));
                rest.push_str(&text[start..end]);
            }
            _ => principals.push(start..end),
        };
        for line in text.split_inclusive('\n') {
            match parse_header(line) {
                Header::Ambiguous => return whole,
                Header::Principal if (1..PRINCIPALS_PER_CHUNK).contains(&count) => count += 1,
                Header::Principal => {
                    push_chunk(start, at, count);
                    (start, count) = (at, 1);
                }
                Header::Other if count > 0 => {
                    push_chunk(start, at, count);
                    (start, count) = (at, 0);
                }
                Header::None | Header::PrincipalPart | Header::Other => {}
            }
            at += line.len();
        }
        push_chunk(start, at, count);
        Self { rest: rest.into(), runs, principals }
    }

    /// Converts an offset in `rest` to an offset in the whole text.
    pub(super) fn position_in_text(&self, at: usize) -> usize {
        let run = self.runs.partition_point(|(in_rest, _)| *in_rest <= at).saturating_sub(1);
        self.runs.get(run).map_or(at, |(in_rest, in_text)| at - in_rest + in_text)
    }
}

fn parse_header(line: &str) -> Header {
    let line = line.trim_matches([' ', '\t', '\r', '\n']);
    let Some(inner) = line.strip_prefix('[') else { return Header::None };
    let after = line.strip_prefix("[[principal]]").map(|after| after.trim_start_matches([' ', '\t']));
    if after.is_some_and(|after| after.is_empty() || after.starts_with('#')) {
        return Header::Principal;
    }
    let key = inner.strip_prefix('[').unwrap_or(inner).trim_start_matches([' ', '\t']);
    match key.split(['.', ']', ' ', '\t']).next().unwrap_or_default() {
        "principal" => Header::PrincipalPart,
        key if key.starts_with(['"', '\'']) => Header::Ambiguous,
        _ => Header::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_split_off_and_offsets_are_converted() {
        let text = "projects = []\n[[principal]]\na\n[principal.x]\nb\n  [[principal]] # c\nd\n[policy.y]\ne\n[[principal]]\nf";
        let chunks = Chunks::split(text);
        assert_eq!(chunks.rest, "projects = []\n[policy.y]\ne\n");
        let principals: Vec<_> = chunks.principals.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(principals, ["[[principal]]\na\n[principal.x]\nb\n  [[principal]] # c\nd\n", "[[principal]]\nf"]);
        for word in ["projects", "[policy.y]", "e\n"] {
            let (at, in_text) =
                (chunks.rest.rfind(word).unwrap(), chunks.position_in_text(chunks.rest.rfind(word).unwrap()));
            assert!(text[in_text..].starts_with(word), "{word} at {at} is at {in_text}");
        }
        let many = "[[principal]]\n".repeat(PRINCIPALS_PER_CHUNK + 1);
        assert_eq!(
            Chunks::split(&many).principals,
            [0..PRINCIPALS_PER_CHUNK * 14, PRINCIPALS_PER_CHUNK * 14..(PRINCIPALS_PER_CHUNK + 1) * 14]
        );
    }

    #[test]
    fn an_ambiguous_text_stays_whole() {
        for text in [
            "a = \"\"\"\n[[principal]]\n\"\"\"",
            "a = '''\n[[principal]]\n'''",
            "[[principal]]\n[\"principal\".x]",
            "",
            "x",
        ] {
            let chunks = Chunks::split(text);
            assert_eq!((&*chunks.rest, chunks.principals.len(), chunks.position_in_text(0)), (text, 0, 0));
        }
    }
}

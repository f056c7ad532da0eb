//! Texts that other programs read are compared with the files of `tests/it/snapshots`: `cargo insta review` shows each difference.

use std::fmt::Write as _;

use insta::Settings;

use crate::support::response::Response;

/// Asserts that a text is that of `tests/it/snapshots/NAME.snap`.
pub(crate) fn assert_snapshot(name: &str, text: &str) {
    let mut settings = Settings::new();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A list of responses, each with a description of its request.
#[derive(Default)]
pub(crate) struct Transcript(String);

impl Transcript {
    /// Adds a response: its status, its headers except those that differ between runs, and its body.
    pub(crate) fn add(&mut self, what: &str, response: &Response) {
        // A revision depends on the time at which the server started.
        let body = response.text();
        let revision = revision(body).unwrap_or("no revision");
        writeln!(self.0, "# {what}\n{}", response.status).unwrap();
        for (name, value) in &response.headers {
            match name.as_str() {
                "date" | "x-request-id" | "content-length" => {}
                "retry-after" => writeln!(self.0, "retry-after: {}", seconds(value)).unwrap(),
                _ => writeln!(self.0, "{name}: {}", value.replace(revision, "REVISION")).unwrap(),
            }
        }
        writeln!(self.0, "{}\n", body.replace(revision, "REVISION")).unwrap();
    }

    pub(crate) fn assert_snapshot(&self, name: &str) {
        assert_snapshot(name, &self.0);
    }
}

/// The value of `Retry-After` is random, so that callers do not retry at the same time.
fn seconds(value: &str) -> &'static str {
    let seconds: u64 = value.parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    "1 to 60"
}

/// The digits of the revision in a body.
fn revision(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once(r#""revision":"#)?;
    rest.split(|character: char| !character.is_ascii_digit()).next()
}

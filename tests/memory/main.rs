//! Memory: every parser allocates at most a stated multiple of its input. `docs/security.md` states the multiples.
//!
//! A program of its own, since it counts every allocation of the process; one test, so that nothing else allocates meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue should fail at that line")]
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

mod access;
mod codings;
mod records;
mod requests;

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a call may allocate for any input: tables of a parser, the text of an error.
const BASE: usize = 16 * 1024;

/// The most bytes that were held at once during a call, beyond those held before.
fn peak<T>(call: impl FnOnce() -> T) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let made = call();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    drop(made);
    peak
}

/// A parser's bound, and the most that has been seen of it.
struct Bound {
    parser: &'static str,
    multiple: usize,
    base: usize,
    worst: (f64, String),
}

impl Bound {
    fn new(parser: &'static str, multiple: usize) -> Self {
        Self { parser, multiple, base: BASE, worst: (0.0, String::new()) }
    }

    /// Asserts that parsing an input of that length keeps the bound.
    fn hold<T>(&mut self, name: &str, length: usize, parse: impl FnOnce() -> T) {
        let peak = peak(parse);
        let multiple = peak.saturating_sub(self.base) as f64 / length.max(1) as f64;
        if multiple >= self.worst.0 {
            self.worst = (multiple, name.to_owned());
        }
        let most = self.multiple * length + self.base;
        assert!(peak <= most, "{}: {name}: {length} bytes took {peak}, {multiple:.1} times as much", self.parser);
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        println!("{}: at most {:.1} times its input, by {}", self.parser, self.worst.0, self.worst.1);
    }
}

#[test]
fn every_parser_allocates_at_most_a_multiple_of_its_input() {
    assert!(peak(|| vec![0u8; 1 << 20]) >= 1 << 20, "nothing is counted");
    requests::signatures_and_tokens();
    requests::queries();
    records::reports();
    records::load_lines();
    access::files();
    access::answers_of_the_identity_service();
    codings::gzip_bodies();
    records::data_directories();
}

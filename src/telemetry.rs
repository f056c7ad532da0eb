//! The log: text for people, JSON for machines, always on standard error; and the last words of a program that fails.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{IsTerminal as _, stderr};
use std::panic::PanicHookInfo;
use std::time::Duration;

use serde_json::Value;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

use crate::config::LogFormat;
use crate::output::log::{self, LogWriter};

/// How long the end of the program waits for a standard error that takes nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The same where the end must come at once.
const FORCED_EXIT_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// Starts the log. `filter` is in the syntax of `RUST_LOG`; parts of it that make no sense are ignored, with a warning.
pub fn start(format: LogFormat, filter: &str) {
    let (filter, invalid) = parse_filter(filter);
    // Its own complaints would go to standard error past the queue, and panic when that is closed.
    let log = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter);
    let log = log.with_writer(|| LogWriter).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    std::panic::set_hook(Box::new(log_panic));
    for part in invalid {
        tracing::warn!(part, "a part of RUST_LOG makes no sense and is ignored");
    }
}

/// The format that is asked for, or the one that suits whoever reads standard error.
pub fn format_or_default(format: Option<LogFormat>) -> LogFormat {
    format.unwrap_or(if stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json })
}

/// Says why the program ends, whatever the filter of the log.
pub fn write_fatal_error(format: LogFormat, reason: &dyn Display) {
    log::write_fatal_error(&match format {
        LogFormat::Text => format!("subjobs: {reason}\n"),
        LogFormat::Json => json_line(&reason.to_string()),
    });
}

/// Gives the log some time to be written; to be called when the program ends.
pub fn flush() {
    log::flush(FLUSH_TIMEOUT);
}

/// As [`flush`], for an end that must come at once.
pub fn flush_before_forced_exit() {
    log::flush(FORCED_EXIT_FLUSH_TIMEOUT);
}

/// An event as the log has it in JSON.
fn json_line(message: &str) -> String {
    let (timestamp, message) = (jiff::Timestamp::now(), Value::from(message));
    format!("{{\"timestamp\":\"{timestamp:.6}\",\"level\":\"ERROR\",\"message\":{message}}}\n")
}

/// The hook of the standard library writes to standard error past the queue, so it can wait for ever.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("without a text");
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(panic = text, location, backtrace, "a thread panicked");
}

/// The filter, and the parts of its text that make no sense.
fn parse_filter(text: &str) -> (EnvFilter, Vec<&str>) {
    let mut invalid = Vec::new();
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let mut directives: Vec<Directive> = Vec::new();
    for part in parts {
        match part.parse() {
            Ok(directive) => directives.push(directive),
            Err(_) => invalid.push(part),
        }
    }
    let is_empty = directives.is_empty();
    let default = if is_empty { LevelFilter::INFO } else { LevelFilter::OFF };
    // The builder's own parser prints what it ignores.
    let filter = EnvFilter::builder().with_default_directive(default.into());
    let filter = filter.parse_lossy("");
    (directives.into_iter().fold(filter, EnvFilter::add_directive), invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_is_no_silence() {
        for (text, expected) in
            [("", "info"), (" ", "info"), ("debug", "debug"), ("off", "off"), ("a=trace", "a=trace")]
        {
            let (filter, invalid) = parse_filter(text);
            let filter = filter.to_string();
            assert!(filter.split(',').any(|part| part == expected), "{text:?}: {filter}");
            assert!(invalid.is_empty());
        }
    }

    #[test]
    fn what_makes_no_sense_in_a_filter_is_named_and_the_rest_is_in_force() {
        let (filter, invalid) = parse_filter("debug,hyper=loud,a=b=c");
        assert_eq!(invalid, ["hyper=loud", "a=b=c"]);
        assert!(filter.to_string().split(',').any(|part| part == "debug"), "{filter}");
    }

    #[test]
    fn last_words_in_json_are_one_line() {
        let line = json_line("a \"b\"\nc");
        assert_eq!(line.lines().count(), 1);
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["level"], &event["message"]), (&"ERROR".into(), &"a \"b\"\nc".into()));
        assert!(event["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
}

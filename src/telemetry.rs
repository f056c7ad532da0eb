//! The log: text or JSON, always on standard error; and the line that says why the program ends.

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

/// How long the program waits at its end until standard error has taken the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The same after a second signal.
const FORCED_EXIT_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// Starts the log. `filter` has the syntax of `RUST_LOG`; invalid directives are ignored, with a warning.
pub fn start(format: LogFormat, filter: &str) {
    let (filter, invalid) = parse_filter(filter);
    // The subscriber would print its own errors to standard error directly, and panic if that is closed.
    let log = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter);
    let log = log.with_writer(|| LogWriter).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    std::panic::set_hook(Box::new(log_panic));
    for part in invalid {
        tracing::warn!(part, "invalid directive in RUST_LOG ignored");
    }
}

/// The requested format, or text if standard error is a terminal and JSON if not.
pub fn format_or_default(format: Option<LogFormat>) -> LogFormat {
    format.unwrap_or(if stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json })
}

/// Writes why the program ends, regardless of the log's filter.
pub fn write_fatal_error(format: LogFormat, reason: &dyn Display) {
    log::write_fatal_error(&match format {
        LogFormat::Text => format!("subjobs: {reason}\n"),
        LogFormat::Json => json_line(&reason.to_string()),
    });
}

/// Waits until the log is written, for at most one second. Called when the program ends.
pub fn flush() {
    log::flush(FLUSH_TIMEOUT);
}

/// As [`flush`], for at most 100 milliseconds. Called when a second signal ends the program.
pub fn flush_before_forced_exit() {
    log::flush(FORCED_EXIT_FLUSH_TIMEOUT);
}

/// An event in the log's JSON format.
fn json_line(message: &str) -> String {
    let (timestamp, message) = (jiff::Timestamp::now(), Value::from(message));
    format!("{{\"timestamp\":\"{timestamp:.6}\",\"level\":\"ERROR\",\"message\":{message}}}\n")
}

/// Logs a panic. The standard library's hook writes to standard error directly, which may block for ever.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("without a text");
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(panic = text, location, backtrace, "a thread panicked");
}

/// The filter, and the invalid directives in its text.
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
    // Directives are added one by one, since the builder's own parser prints invalid ones to standard error.
    let filter = EnvFilter::builder().with_default_directive(default.into());
    let filter = filter.parse_lossy("");
    (directives.into_iter().fold(filter, EnvFilter::add_directive), invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_means_info() {
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
    fn invalid_directives_are_returned_and_valid_ones_apply() {
        let (filter, invalid) = parse_filter("debug,hyper=loud,a=b=c");
        assert_eq!(invalid, ["hyper=loud", "a=b=c"]);
        assert!(filter.to_string().split(',').any(|part| part == "debug"), "{filter}");
    }

    #[test]
    fn a_fatal_error_in_json_is_one_line() {
        let line = json_line("a \"b\"\nc");
        assert_eq!(line.lines().count(), 1);
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["level"], &event["message"]), (&"ERROR".into(), &"a \"b\"\nc".into()));
        assert!(event["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
}

//! The log: text for people, JSON for machines, always on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts the log. `filter` is in the syntax of `RUST_LOG`; parts of it that make no sense are ignored.
pub fn start(format: Option<LogFormat>, filter: &str) {
    // The storage engine fails in threads of its own, and says why nowhere else.
    let filter = format!("fjall=error,lsm_tree=error,sfa=error,{}", or_default(filter));
    let filter = EnvFilter::builder().parse_lossy(filter);
    let is_terminal = stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
    match format.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => log.with_ansi(is_terminal).init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

/// An empty `RUST_LOG`, as a compose file passes on one that is not set, would otherwise silence the log.
fn or_default(filter: &str) -> &str {
    if filter.trim().is_empty() { "info" } else { filter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_is_no_silence() {
        assert_eq!(["", " ", "debug"].map(or_default), ["info", "info", "debug"]);
    }
}

//! Durations of options.

use std::fmt;
use std::time::Duration;

/// A duration that the help shows in seconds, as `10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

/// The longest duration of an option, but for the retention: one day.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// Parses a duration such as `10s`, `500ms` or `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Seconds, String> {
    let signed: jiff::SignedDuration =
        text.parse().map_err(|_| "must be a number and a unit, as 10s, 500ms or 1m30s".to_owned())?;
    let duration = Duration::try_from(signed).map_err(|_| "must not be negative".to_owned())?;
    if duration > MAX_DURATION { Err("must be at most 24h".into()) } else { Ok(Seconds(duration)) }
}

/// Parses a duration that may also have days, of 24 hours each: one second to a hundred years.
pub(super) fn retention_duration(text: &str) -> Result<Duration, String> {
    let span: jiff::Span = text.parse().map_err(|_| "must be a number and a unit, as 12h or 30d".to_owned())?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
    let signed = signed.map_err(|_| "must be in days, hours, minutes or seconds, as 12h or 30d".to_owned())?;
    match Duration::try_from(signed) {
        Ok(duration) if (Duration::from_secs(1)..=100 * 365 * MAX_DURATION).contains(&duration) => Ok(duration),
        _ => Err("must be 1s to 36500d".into()),
    }
}

/// Parses a duration that must not be zero.
pub(super) fn nonzero_duration(text: &str) -> Result<Seconds, String> {
    match duration(text)? {
        Seconds(Duration::ZERO) => Err("must not be zero".into()),
        duration => Ok(duration),
    }
}

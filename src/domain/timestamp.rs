//! A moment, written as RFC 3339.

use std::{fmt, str::FromStr, time::Duration};

/// A moment in UTC, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(jiff::Timestamp);

/// Seconds from the beginning of 1970 back to that of year 0, which is the first that RFC 3339 can write.
const YEAR_0: i64 = -62_167_219_200;

/// The text is no RFC 3339 date-time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 date and time, as 2022-03-07T10:40:43.858Z")]
pub struct NotRfc3339;

impl Timestamp {
    /// This moment by the system's clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// The moment that much earlier, or the earliest there is.
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.checked_sub(time).unwrap_or(jiff::Timestamp::MIN))
    }

    /// Whole seconds since the beginning of 1970, rounded up; negative before.
    pub fn as_seconds_rounded_up(self) -> i64 {
        self.0.as_second() + i64::from(self.0.subsec_nanosecond() > 0)
    }

    /// How long it is from this moment to a later one; zero if that is not later.
    pub fn until(self, later: Self) -> Duration {
        Duration::try_from(later.0.duration_since(self.0)).unwrap_or_default()
    }
}

impl FromStr for Timestamp {
    type Err = NotRfc3339;

    /// Checks the shape itself, since the library reads much more than RFC 3339, and leaves the calendar to it.
    fn from_str(text: &str) -> Result<Self, NotRfc3339> {
        let (date_time, rest) = text.as_bytes().split_at_checked(19).ok_or(NotRfc3339)?;
        let fits = |text: &[u8], shape: &[u8]| {
            text.len() == shape.len()
                && text.iter().zip(shape).all(|(byte, shape)| match shape {
                    b'0' => byte.is_ascii_digit(),
                    b'T' => matches!(byte, b'T' | b't'),
                    b'+' => matches!(byte, b'+' | b'-'),
                    _ => byte == shape,
                })
        };
        let offset = match rest.strip_prefix(b".") {
            None => rest,
            Some(rest) => match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
                digits @ 1..=9 => &rest[digits..],
                _ => return Err(NotRfc3339),
            },
        };
        let numeric =
            || fits(offset, b"+00:00") && &offset[1..3] < b"24".as_slice() && &offset[4..6] < b"60".as_slice();
        if !fits(date_time, b"0000-00-00T00:00:00") || !(matches!(offset, b"Z" | b"z") || numeric()) {
            return Err(NotRfc3339);
        }
        let moment: jiff::Timestamp = text.parse().map_err(|_| NotRfc3339)?;
        // An offset may make it of a year that cannot be written.
        if moment.as_second() < YEAR_0 { Err(NotRfc3339) } else { Ok(Self(moment)) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("1970-01-01T00:00:01Z", 1),
            ("1969-12-31T23:59:58.5Z", -1),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().as_seconds_rounded_up(), seconds, "{text}");
        }
    }

    #[test]
    fn takes_rfc_3339_and_nothing_else() {
        for (text, same) in [
            ("2022-03-07T10:40:43.858Z", "2022-03-07T10:40:43.858Z"),
            ("2022-03-07t10:40:43z", "2022-03-07T10:40:43Z"),
            ("2022-03-07T10:40:43.123456789+08:00", "2022-03-07T02:40:43.123456789Z"),
            ("2022-03-07T10:40:43-00:00", "2022-03-07T10:40:43Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("0000-01-01T08:00:00+08:00", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().map(|time| time.to_string()).as_deref(), Ok(same), "{text}");
        }
        for text in [
            "",
            "0000-01-01T00:00:00+08:00",
            "0000-01-01T00:00:00+00:01",
            "2022-03-07",
            "2022-03-07T10:40:43",
            "2022-03-07T10:40Z",
            "2022-03-07 10:40:43Z",
            "20220307T104043Z",
            "2022-03-07T10:40:43.Z",
            "2022-03-07T10:40:43.1234567890Z",
            "2022-03-07T10:40:43+0800",
            "2022-03-07T10:40:43+08",
            "2022-03-07T10:40:43Z[UTC]",
            "2022-02-30T10:40:43Z",
            "2022-13-07T10:40:43Z",
            "2022-03-07T24:00:00Z",
            "2022-03-07T10:40:43+25:00",
            " 2022-03-07T10:40:43Z",
            "２022-03-07T10:40:43Z",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(NotRfc3339), "{text}");
        }
    }
}

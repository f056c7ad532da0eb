//! A moment, written as RFC 3339.

use std::time::{Duration, SystemTime};
use std::{fmt, str::FromStr};

use jiff::SignedDuration;
use jiff::civil::{DateTime, datetime};

/// A moment, to the nanosecond: any that RFC 3339 can write, which an offset may put a day before year 0 or after year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds since the beginning of 1970 in UTC, rounded down; negative before.
    seconds: i64,
    /// What comes on top of them, less than a second.
    nanoseconds: u32,
}

const EPOCH: DateTime = datetime(1970, 1, 1, 0, 0, 0, 0);

/// The seconds of years 0 to 9999 in UTC: what can be written without an offset.
const WITHOUT_OFFSET: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// The largest offset, in seconds.
const MAX_OFFSET: i64 = (23 * 60 + 59) * 60;

const DAY: i64 = 24 * 60 * 60;

/// The nanoseconds of a second.
const NANOSECONDS: u32 = 1_000_000_000;

/// The text is no RFC 3339 date-time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 date and time, as 2022-03-07T10:40:43.858Z")]
pub struct NotRfc3339;

impl Timestamp {
    /// This moment by the system's clock.
    pub fn now() -> Self {
        let now = SystemTime::now();
        match now.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self { seconds: as_i64(after.as_secs()), nanoseconds: after.subsec_nanos() },
            Err(error) => Self { seconds: 0, nanoseconds: 0 }.before(error.duration()),
        }
    }

    /// The moment that much earlier, or the earliest there is.
    pub fn before(self, time: Duration) -> Self {
        let seconds = self.seconds.saturating_sub(as_i64(time.as_secs()));
        match self.nanoseconds.checked_sub(time.subsec_nanos()) {
            Some(nanoseconds) => Self { seconds, nanoseconds },
            None => Self {
                seconds: seconds.saturating_sub(1),
                nanoseconds: self.nanoseconds + NANOSECONDS - time.subsec_nanos(),
            },
        }
    }

    /// The moment that many nanoseconds later; earlier if they are negative.
    pub fn shifted(self, nanoseconds: i64) -> Self {
        let time = Duration::from_nanos(nanoseconds.unsigned_abs());
        if nanoseconds < 0 {
            return self.before(time);
        }
        let sum = self.nanoseconds + time.subsec_nanos();
        let seconds = self.seconds.saturating_add(as_i64(time.as_secs())).saturating_add(i64::from(sum / NANOSECONDS));
        Self { seconds, nanoseconds: sum % NANOSECONDS }
    }

    /// Nanoseconds from `earlier` to this moment, negative if it is before that; the nearest number if that does not fit.
    pub fn nanoseconds_since(self, earlier: Self) -> i64 {
        let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        nanoseconds(earlier.until(self)) - nanoseconds(self.until(earlier))
    }

    /// Microseconds since the beginning of 1970; negative before.
    pub fn as_microseconds(self) -> i64 {
        self.seconds.saturating_mul(1_000_000).saturating_add(i64::from(self.nanoseconds) / 1000)
    }

    /// Whole seconds since the beginning of 1970, rounded up; negative before.
    pub fn as_seconds_rounded_up(self) -> i64 {
        self.seconds.saturating_add(i64::from(self.nanoseconds > 0))
    }

    /// The beginning of the second that it is in.
    pub fn truncated_to_second(self) -> Self {
        Self { nanoseconds: 0, ..self }
    }

    /// How long it is from this moment to a later one; zero if that is not later.
    pub fn until(self, later: Self) -> Duration {
        let seconds = u64::try_from(later.seconds.saturating_sub(self.seconds)).unwrap_or_default();
        let until_second = Duration::new(seconds, later.nanoseconds);
        if later > self { until_second.saturating_sub(Duration::new(0, self.nanoseconds)) } else { Duration::ZERO }
    }
}

fn as_i64(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

impl FromStr for Timestamp {
    type Err = NotRfc3339;

    /// Digits past the ninth of a fraction are dropped. A leap second, which is only at the end of a day in UTC, is taken for
    /// the second that follows it, as POSIX counts.
    fn from_str(text: &str) -> Result<Self, NotRfc3339> {
        let (date_time, rest) = text.as_bytes().split_at_checked(19).ok_or(NotRfc3339)?;
        if !fits(date_time, b"0000-00-00T00:00:00") {
            return Err(NotRfc3339);
        }
        let (nanoseconds, offset) = fraction(rest)?;
        let offset = self::offset(offset)?;
        let number = |at: usize| date_time[at] - b'0';
        let two = |at: usize| number(at) * 10 + number(at + 1);
        let year = i16::from(two(0)) * 100 + i16::from(two(2));
        let [month, day, hour, minute, second] = [5, 8, 11, 14, 17].map(|at| two(at).cast_signed());
        let is_leap_second = second == 60;
        let second = if is_leap_second { 59 } else { second };
        let local = DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| NotRfc3339)?;
        let mut seconds = local.duration_since(EPOCH).as_secs() - offset;
        if is_leap_second {
            seconds += 1;
            if seconds.rem_euclid(DAY) != 0 {
                return Err(NotRfc3339);
            }
        }
        Ok(Self { seconds, nanoseconds })
    }
}

/// Whether a text has this shape, in which `0` stands for a digit, `T` for itself in both cases and `+` for a sign.
fn fits(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            b'T' => matches!(byte, b'T' | b't'),
            b'+' => matches!(byte, b'+' | b'-'),
            _ => byte == shape,
        })
}

/// The nanoseconds of a fraction of a second, if there is one, and what comes after it.
fn fraction(text: &[u8]) -> Result<(u32, &[u8]), NotRfc3339> {
    let Some(text) = text.strip_prefix(b".") else { return Ok((0, text)) };
    let (digits, rest) = text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count());
    if digits.is_empty() {
        return Err(NotRfc3339);
    }
    let first_nine = digits.iter().map(|digit| u32::from(digit - b'0')).chain(std::iter::repeat(0)).take(9);
    Ok((first_nine.fold(0, |number, digit| number * 10 + digit), rest))
}

/// The seconds that the local time is ahead of UTC.
fn offset(text: &[u8]) -> Result<i64, NotRfc3339> {
    if matches!(text, b"Z" | b"z") {
        return Ok(0);
    }
    if !fits(text, b"+00:00") || &text[1..3] > b"23".as_slice() || &text[4..6] > b"59".as_slice() {
        return Err(NotRfc3339);
    }
    let two = |at: usize| i64::from(text[at] - b'0') * 10 + i64::from(text[at + 1] - b'0');
    let seconds = (two(1) * 60 + two(4)) * 60;
    Ok(if text[0] == b'-' { -seconds } else { seconds })
}

impl fmt::Display for Timestamp {
    /// In UTC, but for what no year of four digits can write there: that has the offset which makes it possible.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (offset, zone) = match self.seconds {
            seconds if WITHOUT_OFFSET.contains(&seconds) => (0, "Z"),
            seconds if seconds < *WITHOUT_OFFSET.start() => (MAX_OFFSET, "+23:59"),
            _ => (-MAX_OFFSET, "-23:59"),
        };
        let since_epoch = SignedDuration::from_secs(self.seconds.saturating_add(offset));
        // Only a moment that no text and no clock gives is out of reach.
        let local = EPOCH.saturating_add(since_epoch);
        write!(f, "{:04}-{:02}-{:02}", local.year(), local.month(), local.day())?;
        write!(f, "T{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())?;
        if self.nanoseconds > 0 {
            f.write_str(".")?;
            f.write_str(format!("{:09}", self.nanoseconds).trim_end_matches('0'))?;
        }
        f.write_str(zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn only_rfc_3339_is_parsed() {
        for (text, same) in [
            ("2022-03-07T10:40:43.858Z", "2022-03-07T10:40:43.858Z"),
            ("2022-03-07t10:40:43z", "2022-03-07T10:40:43Z"),
            ("2022-03-07T10:40:43.123456789+08:00", "2022-03-07T02:40:43.123456789Z"),
            ("2022-03-07T10:40:43-00:00", "2022-03-07T10:40:43Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("0000-01-01T08:00:00+08:00", "0000-01-01T00:00:00Z"),
            ("0000-01-01T00:00:00+08:00", "0000-01-01T15:59:00+23:59"),
            ("0000-01-01T00:00:00+23:59", "0000-01-01T00:00:00+23:59"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
            ("9999-12-31T23:59:59.999999999+23:59", "9999-12-31T00:00:59.999999999Z"),
            ("9999-12-31T23:59:59.5-00:01", "9999-12-31T00:01:59.5-23:59"),
            ("9999-12-31T23:59:59.999999999-23:59", "9999-12-31T23:59:59.999999999-23:59"),
            ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.25Z"),
            ("2022-03-07T10:40:43.1234567899Z", "2022-03-07T10:40:43.123456789Z"),
            ("2022-03-07T10:40:43.0000000009+00:00", "2022-03-07T10:40:43Z"),
            ("2022-03-07T10:40:43.100z", "2022-03-07T10:40:43.1Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2016-12-31T23:59:60.75Z", "2017-01-01T00:00:00.75Z"),
            ("2017-01-01T08:59:60+09:00", "2017-01-01T00:00:00Z"),
            ("2016-12-31T18:29:60-05:30", "2017-01-01T00:00:00Z"),
            ("2022-03-07T23:59:60Z", "2022-03-08T00:00:00Z"),
            ("9999-12-31T23:59:60Z", "9999-12-31T00:01:00-23:59"),
        ] {
            assert_eq!(text.parse::<Timestamp>().map(|time| time.to_string()).as_deref(), Ok(same), "{text}");
        }
        for text in [
            "",
            "10000-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "2022-03-07T10:40:60Z",
            "2022-03-07T23:58:60Z",
            "2016-12-31T23:59:60+01:00",
            "2016-12-31T23:59:61Z",
            "2016-12-31T24:00:60Z",
            "2022-03-07T10:40:43+23:60",
            "2022-03-07T10:40:43+24:00",
            "2022-03-07T10:40:43 Z",
            "2022-03-07T10:40:43,5Z",
            "2022-02-29T00:00:00Z",
            "2022-00-01T00:00:00Z",
            "2022-03-07",
            "2022-03-07T10:40:43",
            "2022-03-07T10:40Z",
            "2022-03-07 10:40:43Z",
            "20220307T104043Z",
            "2022-03-07T10:40:43.Z",
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

    #[test]
    fn fractions_of_a_second_are_truncated() {
        for (text, cut) in [
            ("2022-03-07T10:40:43.999999999Z", "2022-03-07T10:40:43Z"),
            ("2022-03-07T10:40:43Z", "2022-03-07T10:40:43Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z"),
            ("0000-01-01T00:00:00.5+23:59", "0000-01-01T00:00:00+23:59"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().truncated_to_second().to_string(), cut);
        }
    }

    #[test]
    fn a_fraction_may_have_any_length() {
        let long = format!("2022-03-07T10:40:43.{}Z", "9".repeat(1_000_000));
        assert_eq!(long.parse::<Timestamp>().unwrap().to_string(), "2022-03-07T10:40:43.999999999Z");
    }

    #[test]
    fn differences_are_exact() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (early, late) = (at("2022-01-01T00:00:00.75Z"), at("2022-01-01T00:00:02.25Z"));
        assert_eq!((early.until(late), late.until(early)), (Duration::from_millis(1500), Duration::ZERO));
        assert_eq!((early.until(early), late.before(Duration::from_millis(1500))), (Duration::ZERO, early));
        assert_eq!(at("1970-01-01T00:00:00Z").before(Duration::from_nanos(1)), at("1969-12-31T23:59:59.999999999Z"));
        let ends = [at("0000-01-01T00:00:00+23:59"), at("9999-12-31T23:59:59.999999999-23:59")];
        assert!(ends[0].until(ends[1]) > Duration::from_secs(9_999 * 365 * 86_400));
        assert!(early.before(Duration::MAX).before(Duration::MAX) < ends[0]);
        assert!(early < late && ends[0] < early && late < ends[1] && ends[0] < Timestamp::now());
    }

    proptest! {
        #[test]
        fn a_formatted_timestamp_is_parsed_to_the_same_timestamp(seconds in -62_167_305_540i64..253_402_387_139, nanoseconds in 0..1_000_000_000u32) {
            let moment = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(moment.to_string().parse::<Timestamp>(), Ok(moment));
        }

        /// The library supports a smaller range of years.
        #[test]
        fn another_parser_agrees(text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?([Zz]|[+-][0-2][0-9]:[0-5][0-9])") {
            if let Ok(expected) = text.parse::<jiff::Timestamp>() && WITHOUT_OFFSET.contains(&expected.as_second()) {
                let is_offset_wide = text.as_bytes().rchunks(6).next().is_some_and(|zone| &zone[1..3] > b"23".as_slice() && matches!(zone[0], b'+' | b'-'));
                let read = text.parse::<Timestamp>();
                prop_assert!(is_offset_wide || read.is_ok_and(|read| read.to_string() == expected.to_string()), "{text}");
            }
        }
    }

    #[test]
    fn a_moment_is_shifted_both_ways() {
        let moment: Timestamp = "2022-03-07T10:40:43.5Z".parse().unwrap();
        for (nanoseconds, text) in [
            (0, "2022-03-07T10:40:43.5Z"),
            (500_000_000, "2022-03-07T10:40:44Z"),
            (1_499_999_999, "2022-03-07T10:40:44.999999999Z"),
            (-500_000_001, "2022-03-07T10:40:42.999999999Z"),
            (86_400_000_000_000, "2022-03-08T10:40:43.5Z"),
        ] {
            let shifted = moment.shifted(nanoseconds);
            assert_eq!(shifted.to_string(), text);
            assert_eq!(shifted.nanoseconds_since(moment), nanoseconds);
        }
        let far: Timestamp = "9999-01-01T00:00:00Z".parse().unwrap();
        assert_eq!((far.nanoseconds_since(moment), moment.nanoseconds_since(far)), (i64::MAX, -i64::MAX));
    }
}

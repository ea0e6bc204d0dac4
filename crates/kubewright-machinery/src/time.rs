//! Times and durations as API objects have them: RFC 3339 with seconds (`metav1.Time`) or microseconds
//! (`metav1.MicroTime`), and Go's durations (`metav1.Duration`). No clock: the present is the caller's argument.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};

/// A text is no time or duration. The text is Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A part of the time is not what its place asks for.
    #[error("parsing time {} as {}: cannot parse {} as {}", quote(.text), quote(.layout), quote(.rest), quote(.element))]
    Layout {
        /// The text.
        text: String,
        /// The form it must have, in Go's notation.
        layout: &'static str,
        /// Where it stops having it.
        rest: String,
        /// What must stand there.
        element: &'static str,
    },
    /// Something follows the time.
    #[error("parsing time {}: extra text: {}", quote(.text), quote(.rest))]
    Extra {
        /// The text.
        text: String,
        /// What follows.
        rest: String,
    },
    /// A part has no such value: month, day, hour, minute or second.
    #[error("parsing time {}: {part} out of range", quote(.text))]
    Range {
        /// The text.
        text: String,
        /// The part.
        part: &'static str,
    },
    /// No duration.
    #[error("time: invalid duration {}", quote(.0))]
    Duration(String),
    /// A duration with a number that has no unit.
    #[error("time: missing unit in duration {}", quote(.0))]
    NoUnit(String),
    /// A duration with an unknown unit.
    #[error("time: unknown unit {} in duration {}", quote(.unit), quote(.text))]
    Unit {
        /// The unit.
        unit: String,
        /// The text.
        text: String,
    },
}

fn quote(text: &str) -> String {
    crate::field::quote(text)
}

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Reads a `metav1.Time`: RFC 3339, with a fraction or without.
///
/// # Errors
/// With Go's words.
pub fn parse(text: &str) -> Result<Timestamp, Error> {
    Reader { text, rest: text, layout: SECONDS }.time(false)
}

/// Reads a `metav1.MicroTime`: RFC 3339 with exactly six digits of fraction.
///
/// # Errors
/// With Go's words.
pub fn parse_micro(text: &str) -> Result<Timestamp, Error> {
    Reader { text, rest: text, layout: MICROS }.time(true)
}

/// Writes a `metav1.Time`: UTC, whole seconds.
pub fn format(time: Timestamp) -> String {
    let t = civil(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// Writes a `metav1.MicroTime`: UTC, microseconds.
pub fn format_micro(time: Timestamp) -> String {
    let mut out = format(time);
    out.pop();
    let _ = write!(out, ".{:06}Z", civil(time).subsec_nanosecond() / 1000);
    out
}

fn civil(time: Timestamp) -> DateTime {
    jiff::tz::Offset::UTC.to_datetime(time)
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Reader<'_> {
    fn fail<T>(&self, element: &'static str) -> Result<T, Error> {
        Err(Error::Layout { text: self.text.into(), layout: self.layout, rest: self.rest.into(), element })
    }

    fn literal(&mut self, literal: &'static str) -> Result<(), Error> {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => self.fail(literal),
        }
    }

    /// A number of exactly `digits` digits within a range.
    fn number(
        &mut self,
        digits: usize,
        element: &'static str,
        range: Option<(&'static str, i16, i16)>,
    ) -> Result<i16, Error> {
        let head = self.rest.get(..digits).filter(|h| h.bytes().all(|b| b.is_ascii_digit()));
        let Some(number) = head.and_then(|h| h.parse::<i16>().ok()) else { return self.fail(element) };
        if let Some((part, low, high)) = range
            && !(low..=high).contains(&number)
        {
            return Err(Error::Range { text: self.text.into(), part });
        }
        self.rest = &self.rest[digits..];
        Ok(number)
    }

    fn time(&mut self, micro: bool) -> Result<Timestamp, Error> {
        let year = self.number(4, "2006", None)?;
        self.literal("-")?;
        let month = self.number(2, "01", Some(("month", 1, 12)))?;
        self.literal("-")?;
        let day = self.number(2, "02", None)?;
        self.literal("T")?;
        let hour = self.number(2, "15", Some(("hour", 0, 23)))?;
        self.literal(":")?;
        let minute = self.number(2, "04", Some(("minute", 0, 59)))?;
        self.literal(":")?;
        let second = self.number(2, "05", Some(("second", 0, 59)))?;
        let nanos = self.fraction(micro)?;
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(Error::Extra { text: self.text.into(), rest: self.rest.into() });
        }
        let range = |part| Error::Range { text: self.text.to_string(), part };
        let date = Date::new(year, month as i8, day as i8).map_err(|_| range("day"))?;
        let time = Time::new(hour as i8, minute as i8, second as i8, nanos).map_err(|_| range("second"))?;
        let offset = jiff::tz::Offset::from_seconds(offset).map_err(|_| range("time zone offset hour"))?;
        offset.to_timestamp(DateTime::from_parts(date, time)).map_err(|_| range("year"))
    }

    /// Nanoseconds of a fraction; a `metav1.MicroTime` has to have one of six digits.
    fn fraction(&mut self, micro: bool) -> Result<i32, Error> {
        let digits = match self.rest.strip_prefix('.') {
            Some(rest) => rest.bytes().take_while(u8::is_ascii_digit).count(),
            None => 0,
        };
        if micro && digits != 6 {
            return self.fail(".000000");
        }
        if digits == 0 {
            return Ok(0);
        }
        let (fraction, rest) = self.rest[1..].split_at(digits);
        self.rest = rest;
        let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        Ok(nine.parse().unwrap_or_default())
    }

    fn offset(&mut self) -> Result<i32, Error> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return self.fail("Z07:00"),
        };
        let parts = self.rest.get(1..6).and_then(|o| o.split_once(':'));
        let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<i32>().ok()).flatten();
        let Some((hours, minutes)) = parts.and_then(|(h, m)| Some((number(h)?, number(m)?))) else {
            return self.fail("Z07:00");
        };
        if hours > 24 {
            return Err(Error::Range { text: self.text.into(), part: "time zone offset hour" });
        }
        if minutes > 60 {
            return Err(Error::Range { text: self.text.into(), part: "time zone offset minute" });
        }
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

/// Reads a `metav1.Duration` such as `1h30m` or `-1.5s`; returns nanoseconds.
///
/// # Errors
/// With Go's words.
pub fn parse_duration(text: &str) -> Result<i64, Error> {
    let invalid = || Error::Duration(text.to_string());
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let scale: i128 = match unit {
            "" => return Err(Error::NoUnit(text.to_string())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(Error::Unit { unit: unit.to_string(), text: text.to_string() }),
        };
        let whole: i128 =
            if whole.is_empty() { 0 } else { whole.parse::<i64>().map_err(|_| invalid())?.into() };
        total += whole * scale;
        let mut part = scale;
        for digit in fraction.bytes() {
            total += i128::from(digit - b'0') * part / 10;
            part /= 10;
        }
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(invalid());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// Writes a `metav1.Duration` as Go does: `1h30m0s`, `1.5s`, `250ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let text = format!("{}.{:09}", n / unit, (n % unit) * (1_000_000_000 / unit));
        format!("{sign}{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match n {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (minutes, nanos) = (n / 60_000_000_000, n % 60_000_000_000);
            let seconds = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_written_in_utc() {
        let t = parse("2026-11-21T03:04:05.5+02:00").unwrap();
        assert_eq!(format(t), "2026-11-21T01:04:05Z");
        assert_eq!(format_micro(t), "2026-11-21T01:04:05.500000Z");
        assert_eq!(parse_micro("2026-11-21T01:04:05.500000Z"), Ok(t));
    }

    #[test]
    fn faults_have_gos_words() {
        let error = |t: &str| parse(t).unwrap_err().to_string();
        assert_eq!(
            error("x"),
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#
        );
        assert_eq!(
            error("2026-01-01"),
            r#"parsing time "2026-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#
        );
        assert_eq!(
            error("2026-13-01T00:00:00Z"),
            r#"parsing time "2026-13-01T00:00:00Z": month out of range"#
        );
        assert_eq!(error("2026-02-30T00:00:00Z"), r#"parsing time "2026-02-30T00:00:00Z": day out of range"#);
        assert_eq!(
            error("2026-02-03T00:00:00Zz"),
            r#"parsing time "2026-02-03T00:00:00Zz": extra text: "z""#
        );
        assert!(parse_micro("2026-02-03T00:00:00Z").is_err());
    }

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanos, written) in [
            ("0", 0, "0s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("-250ms", -250_000_000, "-250ms"),
            ("90s", 90_000_000_000, "1m30s"),
            ("1us", 1_000, "1µs"),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos));
            assert_eq!(format_duration(nanos), written);
        }
        assert_eq!(parse_duration("5").unwrap_err().to_string(), "time: missing unit in duration \"5\"");
        assert_eq!(
            parse_duration("5x").unwrap_err().to_string(),
            "time: unknown unit \"x\" in duration \"5x\""
        );
        assert_eq!(parse_duration("x").unwrap_err().to_string(), "time: invalid duration \"x\"");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in -60_000_000_000i64..250_000_000_000, micros in 0i64..1_000_000, nanos in any::<i64>()) {
            let t = Timestamp::new(seconds, (micros * 1000) as i32).unwrap();
            prop_assume!(civil(t).year() >= 0);
            prop_assert_eq!(parse(&format(t)).unwrap().as_second(), civil(t).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_nanosecond().div_euclid(1_000_000_000) as i64);
            prop_assert_eq!(parse_micro(&format_micro(t)).unwrap(), t);
            prop_assert_eq!(parse_duration(&format_duration(nanos)), Ok(nanos));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9]{4}-[0-9é]{2}-[0-9]{2}T[0-9:]{8}[.0-9]{0,9}[Z+-]?[0-9:]{0,5}|[-+0-9.hmsuµnx]{0,12}") {
            let _ = (parse(&text), parse_micro(&text), parse_duration(&text));
        }
    }
}

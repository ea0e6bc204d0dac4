//! Quantities of resources (`resource.Quantity`): `500m`, `1Gi`, `1e3`. Parsing, the form that a server writes
//! back, comparison and arithmetic, exact within 38 decimal digits and saturating beyond.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// A text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a number and a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number has too many digits, or none.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The family of suffixes that a quantity is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`.
    DecimalExponent,
}

/// Power of ten of the smallest part that a quantity keeps.
const NANO: i32 = -9;
/// Exponents further from zero are refused: no resource is counted so.
const MAX_EXPONENT: i64 = 1000;

/// `mantissa × 10^scale`, and how it is written. Equality and order are those of the amounts.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    mantissa: i128,
    scale: i32,
    format: Format,
    /// The text it was read from, where that is written back as it is.
    text: Option<Spelling>,
}

/// A text, in place where it is short: quantities are read far more often than they are written.
#[derive(Clone, Debug)]
enum Spelling {
    Short {
        bytes: [u8; Spelling::SHORT],
        length: u8,
    },
    /// With many leading zeros.
    Long(Box<str>),
}

impl Spelling {
    /// A sign, a point, 18 digits that count, a suffix.
    const SHORT: usize = 22;

    fn new(text: &str) -> Self {
        let mut bytes = [0; Self::SHORT];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short { bytes, length: text.len() as u8 }
            }
            None => Self::Long(text.into()),
        }
    }

    fn text(&self) -> &str {
        match self {
            // What was a text when it was put in is one.
            Self::Short { bytes, length } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).unwrap_or_default()
            }
            Self::Long(text) => text,
        }
    }
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

enum Suffix {
    Ten(i32, Format),
    Two(u32),
}

fn suffix(text: &str) -> Option<Suffix> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == text) {
        return Some(Suffix::Ten(*exponent, Format::DecimalSi));
    }
    if let Some(power) = BINARY.iter().skip(1).position(|s| *s == text) {
        return Some(Suffix::Two(10 * (power as u32 + 1)));
    }
    let exponent: i64 = text.strip_prefix(['e', 'E'])?.parse().ok()?;
    let exponent = i32::try_from(exponent).ok().filter(|e| i64::from(*e).abs() <= MAX_EXPONENT)?;
    Some(Suffix::Ten(exponent, Format::DecimalExponent))
}

/// Splits off leading bytes that hold.
fn split(text: &str, holds: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().take_while(|b| holds(*b)).count())
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (quantity, tidy) = parse(text)?;
        Ok(Self { text: tidy.then(|| Spelling::new(text)), ..quantity })
    }
}

/// Reads a quantity without its text, and whether that is written back as it came.
fn parse(text: &str) -> Result<(Quantity, bool), Error> {
    if text.is_empty() {
        return Err(Error::Format);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let (whole, rest) = split(unsigned, |b| b.is_ascii_digit());
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split(rest, |b| b.is_ascii_digit()),
        None => ("", rest),
    };
    let (letters, tail) = split(rest, |b| b"eEinumkKMGTP".contains(&b));
    let digits = tail.strip_prefix(['+', '-']).unwrap_or(tail);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Format);
    }
    let found = suffix(&rest[..letters.len() + tail.len()]).ok_or(Error::Suffix)?;
    // Without any digit the number is zero, as in Kubernetes.
    let whole = Some(whole.trim_start_matches('0')).filter(|digits| !digits.is_empty()).unwrap_or("0");
    let shifted = || whole.bytes().chain(fraction.bytes());
    let (number, dropped) = number(shifted());
    let places = i32::try_from(fraction.len()).map_err(|_| Error::Number)?.saturating_sub(dropped);
    let (mut mantissa, mut scale, mut format) = match found {
        Suffix::Ten(exponent, format) => (number, exponent.saturating_sub(places), format),
        Suffix::Two(bits) => {
            let (number, up) = shifted_left(number, bits);
            (number, up - places, Format::BinarySi)
        }
    };
    // Short enough numbers in a tidy form are written back as they came, as Kubernetes' fast path has it.
    let length = (whole.len() + fraction.len()) as i32;
    let tidy = match found {
        Suffix::Ten(..) => {
            length <= 18
                && scale >= NANO
                && scale % 3 == 0
                && shifted().rev().take_while(|digit| *digit == b'0').count() < 3
                && whole != "0"
        }
        Suffix::Two(bits) => {
            let precision = 14 - length - (bits as i32 * 3) / 10;
            fraction.is_empty() && precision >= 0 && number & 7 != 0
        }
    };
    if scale < NANO {
        mantissa = div_away(mantissa, pow10(NANO.abs_diff(scale)));
        scale = NANO;
    }
    if format == Format::BinarySi {
        let max = Quantity { mantissa: i128::from(i64::MAX), ..Quantity::default() };
        let parsed = Quantity { mantissa, scale, ..Quantity::default() };
        // As in Kubernetes, before the sign is put on: debts have the same bound.
        if parsed > max {
            (mantissa, scale) = (max.mantissa, 0);
        } else if mantissa != 0 && parsed < Quantity::new(1, Format::DecimalSi) {
            format = Format::DecimalSi;
        }
    }
    let sign = if negative { -1 } else { 1 };
    Ok((Quantity { mantissa: sign * mantissa, scale, format, text: None }, tidy))
}

/// The number that digits make, and how many of the last ones it leaves out: past 37 that count, what follows rounds
/// away from zero.
fn number(digits: impl Iterator<Item = u8>) -> (i128, i32) {
    /// A number below takes one more digit and has at most 37.
    const FULL: i128 = 10i128.pow(36);
    let mut short: u64 = 0;
    let mut long: Option<i128> = None;
    let (mut dropped, mut up) = (0i32, false);
    for digit in digits {
        let digit = digit - b'0';
        match &mut long {
            None => match short.checked_mul(10).and_then(|ten| ten.checked_add(digit.into())) {
                Some(next) => short = next,
                None => long = Some(i128::from(short) * 10 + i128::from(digit)),
            },
            Some(long) if *long < FULL => *long = *long * 10 + i128::from(digit),
            Some(_) => {
                dropped = dropped.saturating_add(1);
                up |= digit != 0;
            }
        }
    }
    (long.unwrap_or(short.into()) + i128::from(up), dropped)
}

/// A number times 2^bits, rounded away from zero where it takes more than 38 digits, and the power of ten that was
/// taken out for that.
fn shifted_left(mut number: i128, bits: u32) -> (i128, i32) {
    let mut up = 0;
    loop {
        match number.checked_mul(1 << bits) {
            Some(product) => return (product, up),
            None => (number, up) = (div_away(number, Some(10)), up + 1),
        }
    }
}

/// 10^exponent; none past 38 digits.
fn pow10(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

/// Division that rounds away from zero; a divisor past 38 digits gives a last unit for anything but zero.
fn div_away(value: i128, divisor: Option<i128>) -> i128 {
    match divisor {
        Some(divisor) => {
            let quotient = value / divisor;
            if value % divisor == 0 { quotient } else { quotient + value.signum() }
        }
        None => value.signum(),
    }
}

impl Quantity {
    /// A whole amount.
    pub fn new(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), scale: 0, format, text: None }
    }

    /// Thousandths.
    pub fn milli(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), scale: -3, format, text: None }
    }

    /// Reads a JSON string or number; null is zero, as in Kubernetes.
    ///
    /// # Errors
    /// When the value is neither, or no quantity.
    pub fn from_value(value: &Value) -> Result<Self, Error> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::String(text) => text.trim().parse(),
            other => other.to_string().parse(),
        }
    }

    /// The form that a server writes back; the text itself where that is it.
    ///
    /// # Errors
    /// When the text is no quantity.
    pub fn canonical(text: &str) -> Result<Cow<'_, str>, Error> {
        let (quantity, tidy) = parse(text)?;
        Ok(if tidy { Cow::Borrowed(text) } else { Cow::Owned(quantity.to_string()) })
    }

    /// The family of suffixes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the amount is zero.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i8 {
        self.mantissa.signum() as i8
    }

    /// The amount in units of 10^scale, rounded away from zero, saturating.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let value = if self.scale >= scale {
            pow10(self.scale.abs_diff(scale))
                .and_then(|p| self.mantissa.checked_mul(p))
                .unwrap_or(saturated(self.mantissa))
        } else {
            div_away(self.mantissa, pow10(scale.abs_diff(self.scale)))
        };
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    /// The amount, rounded away from zero to a whole number, saturating.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The amount in thousandths, rounded away from zero, saturating.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The nearest floating-point number.
    pub fn as_f64(&self) -> f64 {
        // No zero times infinity.
        if self.is_zero() { 0.0 } else { self.mantissa as f64 * 10f64.powi(self.scale) }
    }

    /// Whether the amount is a whole number.
    pub fn is_integer(&self) -> bool {
        self.scale >= 0 || pow10(self.scale.unsigned_abs()).is_some_and(|p| self.mantissa % p == 0)
    }

    /// Rounds away from zero to a multiple of 10^scale; returns whether nothing was lost.
    pub fn round_up(&mut self, scale: i32) -> bool {
        if self.scale >= scale {
            return true;
        }
        let before = self.clone();
        self.mantissa = div_away(self.mantissa, pow10(scale.abs_diff(self.scale)));
        self.scale = scale;
        self.text = None;
        before == *self
    }

    /// How far from zero the amount is.
    fn magnitude(&self) -> Self {
        Self { mantissa: self.mantissa.saturating_abs(), scale: self.scale, ..Self::default() }
    }

    /// Both mantissas at the smaller scale; none when that takes more than 38 digits.
    fn aligned(&self, other: &Self) -> Option<(i128, i128, i32)> {
        let scale = self.scale.min(other.scale);
        let at = |q: &Self| {
            if q.mantissa == 0 {
                Some(0)
            } else {
                pow10(q.scale.abs_diff(scale)).and_then(|p| q.mantissa.checked_mul(p))
            }
        };
        Some((at(self)?, at(other)?, scale))
    }

    fn combine(&mut self, other: &Self, op: fn(i128, i128) -> Option<i128>, sign: i128) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.text = None;
        match self.aligned(other).and_then(|(a, b, scale)| Some((op(a, b)?, scale))) {
            Some((mantissa, scale)) => (self.mantissa, self.scale) = (mantissa, scale),
            // Amounts so far apart that the lesser has no weight.
            None if other.magnitude() > self.magnitude() => {
                (self.mantissa, self.scale) = (other.mantissa.saturating_mul(sign), other.scale);
            }
            None => {}
        }
    }

    /// Adds; zero takes the other's format.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i128::checked_add, 1);
    }

    /// Subtracts; zero takes the other's format.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, i128::checked_sub, -1);
    }

    /// Multiplies by a whole number, saturating.
    pub fn mul(&mut self, factor: i64) {
        self.text = None;
        self.mantissa = self.mantissa.saturating_mul(factor.into());
    }

    /// The amount with the other sign.
    pub fn neg(&mut self) {
        self.text = None;
        self.mantissa = self.mantissa.saturating_neg();
    }
}

/// The furthest amount on the side of zero that an amount too far from it is on.
fn saturated(amount: i128) -> i128 {
    match amount.signum() {
        0 => 0,
        1 => i128::MAX,
        _ => i128::MIN,
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.aligned(other) {
            Some((a, b, _)) => a.cmp(&b),
            None => {
                // Only the one with the greater scale can have overflowed; it is further from zero.
                let (a, b) = (self.mantissa.signum(), other.mantissa.signum());
                a.cmp(&b).then_with(|| {
                    let magnitudes = self.scale.cmp(&other.scale);
                    if a < 0 { magnitudes.reverse() } else { magnitudes }
                })
            }
        }
    }
}

impl fmt::Display for Quantity {
    /// The form that a server writes back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spelling) = &self.text {
            return f.write_str(spelling.text());
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi && self.is_integer() {
            let whole = if self.scale >= 0 {
                pow10(self.scale.unsigned_abs()).and_then(|p| self.mantissa.checked_mul(p))
            } else {
                pow10(self.scale.unsigned_abs()).map(|p| self.mantissa / p)
            };
            if let Some(mut whole) = whole.filter(|w| w.unsigned_abs() >= 1024) {
                let mut power = 0;
                while whole % 1024 == 0 && power + 1 < BINARY.len() {
                    whole /= 1024;
                    power += 1;
                }
                return write!(f, "{whole}{}", BINARY[power]);
            }
        }
        let (mut amount, mut exponent) = (self.mantissa, self.scale);
        while amount % 10 == 0 {
            amount /= 10;
            exponent += 1;
        }
        // The greatest that can be read again: Kubernetes writes `1000E` as `1`, which is another amount.
        let limit = if self.format == Format::DecimalExponent { MAX_EXPONENT as i32 / 3 * 3 } else { 18 };
        let target = (exponent - exponent.rem_euclid(3)).min(limit);
        let zeros = usize::try_from(exponent - target).unwrap_or(0);
        match self.format {
            Format::DecimalExponent if target == 0 => write!(f, "{amount}{:0<zeros$}", ""),
            Format::DecimalExponent => write!(f, "{amount}{:0<zeros$}e{target}", ""),
            _ => {
                let suffix = DECIMAL.iter().find(|(_, e)| *e == target).map_or("", |(s, _)| s);
                write!(f, "{amount}{:0<zeros$}{suffix}", "")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().map_or_else(|e| e.to_string(), |q| q.to_string())
    }

    #[test]
    fn quantities_are_written_back_as_a_real_server_does() {
        for (text, expected) in [
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            ("0.5Gi", "512Mi"),
            ("1", "1"),
            ("1073741824", "1073741824"),
            ("0.25", "250m"),
            ("1e3", "1e3"),
            ("1e9", "1e9"),
            ("1500", "1500"),
            ("128974848", "128974848"),
            ("1000", "1k"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("123Mi", "123Mi"),
            ("0.0001", "100u"),
            ("1Ki", "1Ki"),
            ("+1", "+1"),
            ("01Gi", "01Gi"),
            ("1.", "1."),
            (".5Gi", "512Mi"),
            ("100m", "100m"),
            ("1E", "1E"),
            ("-1", "-1"),
            ("9223372036854775807", "9223372036854775807"),
            ("10Ei", "9223372036854775807"),
            ("0", "0"),
            ("1e-12", "1e-9"),
            ("0.1Ki", "102400m"),
            ("1Mi", "1Mi"),
            ("1025Ki", "1025Ki"),
            ("1e4", "10e3"),
            ("00000000000000000000000000001Gi", "00000000000000000000000000001Gi"),
            ("123456789012345678", "123456789012345678"),
            ("36893488147419103233", "36893488147419103233"),
            ("1000000000e1000", "10000000000e999"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
            assert_eq!(Quantity::canonical(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn faults_have_kubernetes_words() {
        for text in ["1x", "", "abc", "true", "1Gi ", "1 "] {
            assert!(matches!(text.parse::<Quantity>(), Err(Error::Format)), "{text}");
        }
        assert_eq!(canonical("1mi"), "unable to parse quantity's suffix");
        assert_eq!(canonical("1KiB"), Error::Format.to_string());
    }

    #[test]
    fn values_of_json_are_read() {
        assert_eq!(Quantity::from_value(&serde_json::json!(1e9)).unwrap().value(), 1_000_000_000);
        assert_eq!(Quantity::from_value(&serde_json::json!(" 1 ")).unwrap().to_string(), "1");
        assert!(Quantity::from_value(&Value::Null).unwrap().is_zero());
        assert!(Quantity::from_value(&serde_json::json!({})).is_err());
    }

    #[test]
    fn numbers_of_very_many_digits_are_read_to_37_of_them() {
        let large = format!("{}1", "9".repeat(45));
        let read: Quantity = large.parse().unwrap();
        assert_eq!(read, "1e46".parse().unwrap());
        assert_eq!(read.value(), i64::MAX);
        assert_eq!(format!("0.{}1", "0".repeat(60)).parse::<Quantity>().unwrap().to_string(), "1n");
        assert_eq!(canonical(&format!("{}Ei", "9".repeat(30))), "9223372036854775807");
        let mut sum: Quantity = "2013456789012345678901234567890".parse().unwrap();
        sum.add(&"100n".parse().unwrap());
        assert!(sum.to_string().parse::<Quantity>().unwrap() >= sum);
    }

    #[test]
    fn nothing_is_nothing_however_large_its_unit() {
        let nothing: Quantity = "0e353".parse().unwrap();
        assert_eq!((nothing.value(), nothing.milli_value(), nothing.as_f64()), (0, 0, 0.0));
        assert!(nothing < "1n".parse().unwrap());
        assert_eq!("-1e353".parse::<Quantity>().unwrap().value(), i64::MIN);
    }

    #[test]
    fn binary_amounts_are_capped_on_both_sides_of_zero() {
        for digits in ["9007199254740992", "12107193470001220702202631", "77878800007773757777773886983"] {
            for (sign, capped) in [("", "9223372036854775807"), ("-", "-9223372036854775807")] {
                assert_eq!(canonical(&format!("{sign}{digits}Ki")), capped);
                assert_eq!(canonical(&format!("{sign}{digits}.{digits}Gi")), capped);
                assert_eq!(canonical(&format!("{sign}{digits}{digits}Ei")), capped);
            }
        }
        assert_eq!(canonical("-9007199254740991Ki"), "-9007199254740991Ki");
        // Decimal ones are not.
        assert_eq!(canonical("-12107193470001220702202631"), "-12107193470001220702202631");
    }

    #[test]
    fn a_binary_amount_written_without_a_suffix_is_a_decimal_one_from_then_on() {
        for (text, first, then) in [
            ("1000.9765625Ki", "1025000", "1025k"),
            ("-1000.9765625Ki", "-1025000", "-1025k"),
            ("1.5Ki", "1536", "1536"),
            ("1000Ki", "1000Ki", "1000Ki"),
        ] {
            assert_eq!(canonical(text), first);
            assert_eq!(canonical(first), then);
            assert_eq!(canonical(then), then);
        }
        let mut sum: Quantity = "-77878800007773757777773886983Gi".parse().unwrap();
        sum.add(&"8".parse().unwrap());
        assert_eq!(sum.to_string(), "-9223372036854775799");
    }

    #[test]
    fn rounding_goes_away_from_zero() {
        let mut q: Quantity = "100u".parse().unwrap();
        assert!(!q.round_up(-3));
        assert_eq!(q.to_string(), "1m");
        assert_eq!("1500m".parse::<Quantity>().unwrap().value(), 2);
        assert_eq!("-1500m".parse::<Quantity>().unwrap().value(), -2);
    }

    #[test]
    fn arithmetic_keeps_the_format_of_the_first_that_is_not_zero() {
        let mut sum = Quantity::default();
        sum.add(&"1Gi".parse().unwrap());
        sum.add(&"512Mi".parse().unwrap());
        assert_eq!(sum.to_string(), "1536Mi");
        sum.sub(&"1.5Gi".parse().unwrap());
        assert!(sum.is_zero());
        let mut cpu: Quantity = "500m".parse().unwrap();
        cpu.mul(3);
        assert_eq!(cpu.to_string(), "1500m");
        assert!("1e100".parse::<Quantity>().unwrap() > "9E".parse().unwrap());
    }

    #[test]
    fn a_sum_is_the_same_either_way_however_far_apart_its_parts_are() {
        for (greater, lesser) in
            [("8e553", "8e353"), ("-1e900", "9E"), ("1e400", "-1e-9"), ("-8e553", "-8e353")]
        {
            let (greater, lesser): (Quantity, Quantity) = (greater.parse().unwrap(), lesser.parse().unwrap());
            let (mut sum, mut other) = (greater.clone(), lesser.clone());
            sum.add(&lesser);
            other.add(&greater);
            assert_eq!((&sum, &other), (&greater, &greater));
            other.sub(&greater);
            assert!(other.is_zero());
        }
    }

    proptest! {
        #[test]
        fn the_written_form_reads_back_as_the_same_amount(m in -1_000_000_000i64..1_000_000_000, suffix in "(n|u|m||k|M|G|T|P|E|Ki|Mi|Gi|e3|e-2|E1)", fraction in "(|\\.[0-9]{1,3})") {
            let q: Quantity = format!("{m}{fraction}{suffix}").parse().unwrap();
            let text = q.to_string();
            prop_assert_eq!(&text.parse::<Quantity>().unwrap(), &q, "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[+-]?[0-9.]{0,45}[eEinumkKMGTPi]{0,3}[-+0-9]{0,12}") {
            if let Ok(q) = text.parse::<Quantity>() {
                let _ = (q.to_string(), q.value(), q.milli_value(), q.as_f64(), q.cmp(&Quantity::new(1, Format::BinarySi)));
            }
        }
    }
}

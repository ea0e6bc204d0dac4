//! String formats that Kubernetes knows in schemas of custom resources (kube-openapi `strfmt`). Unknown formats are
//! never checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use jiff::civil::Date;
use regex::Regex;

use super::Type;

const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

fn normalized(format: &str) -> String {
    format.replace('-', "")
}

/// Whether the format is one of strings that is checked. Dashes do not count (`date-time` is `datetime`).
pub fn is_known(format: &str) -> bool {
    KNOWN.contains(&format) || KNOWN.contains(&normalized(format).as_str())
}

/// Whether a format means something for a type (none = any type); where it does not, a real server warns
/// `unrecognized format` and ignores it.
pub fn applies(ty: Option<Type>, format: &str) -> bool {
    match ty {
        None | Some(Type::String) => is_known(format),
        Some(Type::Integer) => matches!(format, "int32" | "int64"),
        Some(Type::Number) => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether the text is of the format; true for unknown formats.
pub fn is_valid(format: &str, text: &str) -> bool {
    match normalized(format).as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "byte" => matches(&BYTE, text),
        "cidr" => is_cidr(text),
        "creditcard" => is_credit_card(text),
        "date" => is_date(text),
        "datetime" => is_date_time(text),
        "duration" => is_duration(text),
        "email" => is_email(text),
        "hexcolor" => matches(&HEX_COLOR, text),
        "hostname" => text.len() <= 255 && text.split('.').all(|l| l.len() <= 63) && matches(&HOSTNAME, text),
        "ipv4" => text.contains('.') && ip(text).is_some(),
        "ipv6" => text.contains(':') && text.parse::<IpAddr>().is_ok(),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "k8slongname" => text.len() <= 253 && text.split('.').all(is_name),
        "k8sshortname" => text.len() <= 63 && is_name(text),
        "mac" => is_mac(text),
        "rgbcolor" => matches(&RGB_COLOR, text),
        "ssn" => text.len() == 11 && matches(&SSN, text),
        "uri" => is_request_uri(text),
        "uuid" => matches(&UUID, text),
        "uuid3" => matches(&UUID3, text),
        "uuid4" => matches(&UUID4, text),
        "uuid5" => matches(&UUID5, text),
        _ => true,
    }
}

struct Pattern {
    text: &'static str,
    regex: OnceLock<Option<Regex>>,
}

const fn pattern(text: &'static str) -> Pattern {
    Pattern { text, regex: OnceLock::new() }
}

fn matches(pattern: &Pattern, text: &str) -> bool {
    pattern.regex.get_or_init(|| Regex::new(pattern.text).ok()).as_ref().is_some_and(|re| re.is_match(text))
}

static BYTE: Pattern =
    pattern("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$");
static HEX_COLOR: Pattern = pattern("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
static RGB_COLOR: Pattern = pattern(
    r"^rgb\(\s*(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\s*\)$",
);
static SSN: Pattern = pattern("^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$");
static HOSTNAME: Pattern = pattern(
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
);
static UUID: Pattern = pattern("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
static UUID3: Pattern = pattern("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
static UUID4: Pattern =
    pattern("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
static UUID5: Pattern =
    pattern("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
static CREDIT_CARD: Pattern = pattern(
    "^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$",
);
static TIME: Pattern = pattern("^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$");
static DURATION_PART: Pattern = pattern("([0-9]+)[\\t\\n\\f\\r ]*([A-Za-zµ]+)");

fn is_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// An IP address; numbers of an IPv4 address may have leading zeros.
fn ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))?;
        *octet = part
            .trim_start_matches('0')
            .parse()
            .or_else(|e| if part.contains(|c| c != '0') { Err(e) } else { Ok(0) })
            .ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let max = match ip(address) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
        && bits.parse::<u32>().is_ok_and(|n| n <= max)
}

/// A full-date of RFC 3339.
pub fn is_date(text: &str) -> bool {
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() == 10
        && text.is_ascii()
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && digits(&text[..4])
        && digits(&text[5..7])
        && digits(&text[8..])
        && matches!(
            (text[..4].parse(), text[5..7].parse(), text[8..].parse()),
            (Ok(year), Ok(month), Ok(day)) if Date::new(year, month, day).is_ok()
        )
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((date, time)) = lower.split_once('t') else { return false };
    // A second `t` ends the time.
    let time = time.split('t').next().unwrap_or("");
    is_date(date)
        && matches(&TIME, time)
        && time.get(..2).is_some_and(|h| h <= "23")
        && time.get(3..5).is_some_and(|m| m <= "59")
        && time.get(6..8).is_some_and(|s| s <= "59")
}

fn is_duration(text: &str) -> bool {
    if go_duration(text) {
        return true;
    }
    // Each inner list: the names of one unit, the last of which may go on (`minutes`).
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    let Some(re) = DURATION_PART.regex.get_or_init(|| Regex::new(DURATION_PART.text).ok()) else {
        return false;
    };
    let mut known = false;
    for part in re.captures_iter(text) {
        if part[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = part[2].to_lowercase();
        known |= UNITS.iter().any(|names| {
            names.iter().any(|name| unit == *name) || names.last().is_some_and(|last| unit.starts_with(last))
        });
    }
    known
}

/// A duration of Go's `time.ParseDuration`: `1h30m`, `-1.5s`, `0`.
pub fn go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        if digits == 0 || number.matches('.').count() > 1 {
            return false;
        }
        if !["ns", "us", "µs", "μs", "ms", "s", "m", "h"].contains(&unit) {
            return false;
        }
        rest = tail;
    }
    true
}

/// An address of RFC 5322: `a@b` or `Name <a@b>`.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let spec = match text.split_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(spec) => spec,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = spec.rsplit_once('@') else { return false };
    let atom = |s: &str| {
        !s.is_empty()
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii())
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']'));
    (quoted || local.split('.').all(atom))
        && literal.map_or_else(|| domain.split('.').all(atom), |l| l.parse::<IpAddr>().is_ok())
}

fn digits(text: &str) -> impl Iterator<Item = u32> {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_digit(10).unwrap_or(99))
}

fn is_isbn10(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    if text.len() != 10 || !text.is_ascii() {
        return false;
    }
    let (body, check) = text.split_at(9);
    if !body.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let sum: u32 = (1..).zip(digits(body)).map(|(i, d)| i * d).sum();
    match check.chars().next() {
        Some('X') => (sum + 100).is_multiple_of(11),
        Some(c) => c.to_digit(10).is_some_and(|d| (sum + 10 * d).is_multiple_of(11)),
        None => false,
    }
}

fn is_isbn13(text: &str) -> bool {
    let all: Vec<u32> = digits(text).collect();
    all.len() == 13
        && all.iter().all(|d| *d < 10)
        && all
            .iter()
            .enumerate()
            .map(|(i, d)| if i % 2 == 0 { *d } else { 3 * d })
            .sum::<u32>()
            .is_multiple_of(10)
}

fn is_credit_card(text: &str) -> bool {
    let number: String = text.chars().filter(char::is_ascii_digit).collect();
    if !matches(&CREDIT_CARD, &number) {
        return false;
    }
    let sum: u32 = digits(&number)
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| if i % 2 == 0 { *d } else { d * 2 / 10 + d * 2 % 10 })
        .sum();
    sum.is_multiple_of(10)
}

/// A hardware address of 6, 8 or 20 octets: `00:00:5e:00:53:01`, with dashes, or `0000.5e00.5301`.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, len: usize| {
        let mut count = 0;
        for group in text.split(separator) {
            if group.len() != len || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return 0;
            }
            count += 1;
        }
        count * len / 2
    };
    [groups(':', 2), groups('-', 2), groups('.', 4)].iter().any(|octets| matches!(octets, 6 | 8 | 20))
}

/// An absolute URI or an absolute path, as Go's `url.ParseRequestURI` takes it.
pub fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    let rest = match text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))) {
        Some(end) if text.as_bytes()[end] == b':' && end > 0 && text.as_bytes()[0].is_ascii_alphabetic() => {
            &text[end + 1..]
        }
        _ if text.starts_with('/') => text,
        _ => return false,
    };
    let escapes = |s: &str| {
        s.match_indices('%').all(|(i, _)| {
            s.as_bytes().get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        })
    };
    let rest = rest.split('?').next().unwrap_or("");
    let Some(authority) = rest.strip_prefix("//").filter(|_| !text.starts_with('/')) else {
        return !rest.starts_with('/') || escapes(rest);
    };
    let (authority, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
    let host = authority.rsplit('@').next().unwrap_or("");
    let (host, port) = match host.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, port)) => (host, port),
            None => return false,
        },
        None => host.split_at(host.rfind(':').unwrap_or(host.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    port.bytes().all(|b| b.is_ascii_digit())
        && !host.contains(|c: char| " <>\"\\^`{|}".contains(c))
        && escapes(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_texts_are_taken_and_others_refused() {
        let cases: [(&str, &[&str], &[&str]); 24] = [
            ("bsonobjectid", &["507f1f77bcf86cd799439011"], &["x", ""]),
            ("byte", &["aGk=", "aGkh"], &["not base64!", "a", ""]),
            ("cidr", &["10.0.0.0/8", "fd00::/64", "010.0.0.0/8"], &["10.0.0.0", "10.0.0.0/33", "x/8"]),
            ("creditcard", &["4111 1111 1111 1111"], &["1", "4111111111111112"]),
            ("date", &["2024-02-29"], &["2024-13-01", "2023-02-29", "2024-2-1"]),
            (
                "date-time",
                &["2024-02-29T12:00:00Z", "2024-02-29t12:00:00.5+01:00"],
                &["2024-02-30 12:00", "", "2024-02-29T24:00:00Z"],
            ),
            ("duration", &["1h30m", "22 ns", "3 minutes", "0"], &["soon", "", "5 eons"]),
            ("email", &["a@b.c", "A B <a@b>"], &["nobody", "a@", "@b"]),
            ("hexcolor", &["#fff", "00ff00"], &["red"]),
            ("hostname", &["example.com", "a", "1a"], &["-a-", "a..b", ""]),
            ("ipv4", &["10.0.0.1", "010.0.0.1"], &["::1", "10.0.0", "256.0.0.1"]),
            ("ipv6", &["::1", "fd00::1"], &["10.0.0.1", ":"]),
            ("isbn", &["0321751043", "978-0321751041"], &["123"]),
            ("isbn10", &["0321751043"], &["978-0321751041"]),
            ("isbn13", &["978-0321751041"], &["0321751043"]),
            ("k8s-short-name", &["a-b"], &["A_b", "-a", "a.b"]),
            ("k8s-long-name", &["a.b-c"], &["a..b", ""]),
            ("mac", &["00:00:5e:00:53:01", "0000.5e00.5301"], &["zz", "00:00"]),
            ("rgbcolor", &["rgb(0, 10,255)"], &["red", "rgb(256,0,0)"]),
            ("ssn", &["111-22-3333"], &["1", "111223333"]),
            ("uri", &["https://example.com/a?b", "/path", "urn:x"], &["no scheme", "", "example.com"]),
            ("uuid", &["123E4567-e89b-12d3-a456-426614174000"], &["123"]),
            ("uuid3", &["123e4567-e89b-32d3-a456-426614174000"], &["123e4567-e89b-42d3-a456-426614174000"]),
            ("password", &["", "x"], &[]),
        ];
        for (format, valid, invalid) in cases {
            assert!(is_known(format), "{format}");
            valid.iter().for_each(|text| assert!(is_valid(format, text), "{format} {text:?}"));
            invalid.iter().for_each(|text| assert!(!is_valid(format, text), "{format} {text:?}"));
        }
    }

    #[test]
    fn formats_belong_to_types() {
        assert!(applies(Some(Type::Integer), "int32") && !applies(Some(Type::Integer), "date"));
        assert!(applies(Some(Type::Number), "double") && !applies(Some(Type::String), "unheard-of"));
        assert!(applies(None, "date-time") && !applies(Some(Type::Object), "date"));
    }
}

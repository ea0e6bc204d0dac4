//! What names, label keys and values, ports and the like may look like (apimachinery `util/validation` and
//! `api/validate/content`). Each check takes the text and returns what is wrong with it, in Kubernetes' words
//! and order; nothing when it is right. A passing check allocates nothing.

/// A check of object names: the name, and whether something will be appended to it (generateName).
pub type NameRule = fn(&str, bool) -> Vec<String>;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// `must be no more than max characters`, the words of the older checks.
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn max_bytes_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// The words for a text that does not match a pattern, with examples.
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    let mut out = format!("{message} (");
    for (i, example) in examples.iter().enumerate() {
        out.push_str(if i == 0 { "e.g. '" } else { " or '" });
        out.push_str(example);
        out.push_str("', ");
    }
    out.push_str("regex used for validation is '");
    out.push_str(pattern);
    out.push_str("')");
    out
}

/// `must be between lo and hi, inclusive`.
pub fn range_error(lo: i64, hi: i64) -> String {
    format!("must be between {lo} and {hi}, inclusive")
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// First and last byte pass `edge`, the others `inner`; never empty.
fn framed(text: &[u8], edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    matches!(text, [first, rest @ ..] if edge(*first) && rest.last().is_none_or(|b| edge(*b)) && rest.iter().all(|b| inner(*b)))
}

fn label_shape(text: &[u8]) -> bool {
    framed(text, lower, |b| lower(b) || b == b'-')
}

fn subdomain_shape(text: &[u8]) -> bool {
    text.split(|b| *b == b'.').all(label_shape)
}

fn label_key_shape(text: &[u8]) -> bool {
    framed(
        text,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

/// RFC 1123 label: at most 63 characters, no dots.
pub fn is_dns1123_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_len_error(63));
    }
    if !label_shape(text.as_bytes()) {
        if subdomain_shape(text.as_bytes()) {
            out.push("must not contain dots".into());
        } else {
            out.push(regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            ));
        }
    }
    out
}

/// RFC 1123 subdomain: labels with dots between them, at most 253 characters.
pub fn is_dns1123_subdomain(text: &str) -> Vec<String> {
    subdomain(text, max_len_error)
}

fn subdomain(text: &str, too_long: fn(usize) -> String) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(too_long(253));
    }
    if !subdomain_shape(text.as_bytes()) {
        out.push(regex_error(SUBDOMAIN_MESSAGE, SUBDOMAIN, &["example.com"]));
    }
    out
}

/// RFC 1123 subdomain whose labels may hold and begin with underscores (DNS search paths).
pub fn is_dns1123_subdomain_with_underscore(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_len_error(253));
    }
    let label = |part: &[u8]| {
        let part = part.strip_prefix(b"_").unwrap_or(part);
        framed(part, lower, |b| lower(b) || matches!(b, b'-' | b'_'))
    };
    if !text.as_bytes().split(|b| *b == b'.').all(label) {
        out.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    out
}

/// RFC 1035 label: as RFC 1123, but beginning with a letter.
pub fn is_dns1035_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_len_error(63));
    }
    if !label_shape(text.as_bytes()) || text.as_bytes()[0].is_ascii_digit() {
        out.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// `*.` and an RFC 1123 subdomain.
pub fn is_wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_len_error(253));
    }
    if !text.strip_prefix("*.").is_some_and(|rest| subdomain_shape(rest.as_bytes())) {
        out.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    out
}

/// A label key, also called qualified name: an optional subdomain and `/`, then up to 63 characters.
pub fn is_qualified_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut parts = text.split('/');
    let first = parts.next().unwrap_or_default();
    let name = match (parts.next(), parts.next()) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                out.push("prefix part must be non-empty".into());
            } else {
                out.extend(subdomain(first, max_bytes_error).into_iter().map(|e| format!("prefix part {e}")));
            }
            name
        }
        _ => {
            let shape = regex_error(LABEL_KEY_MESSAGE, LABEL_KEY, &["MyName", "my.name", "123-abc"]);
            out.push(format!(
                "a valid label key {shape} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return out;
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_bytes_error(63)));
    }
    if !label_key_shape(name.as_bytes()) {
        let shape = regex_error(LABEL_KEY_MESSAGE, LABEL_KEY, &["MyName", "my.name", "123-abc"]);
        out.push(format!("name part {shape}"));
    }
    out
}

/// A label value: empty, or up to 63 characters.
pub fn is_label_value(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_bytes_error(63));
    }
    if !text.is_empty() && !label_key_shape(text.as_bytes()) {
        out.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &format!("({LABEL_KEY})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}

/// An identifier of C: letters, digits and `_`, not beginning with a digit.
pub fn is_c_identifier(text: &str) -> Vec<String> {
    let shape = matches!(text.as_bytes(), [first, rest @ ..] if (first.is_ascii_alphabetic() || *first == b'_') && rest.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_'));
    if shape {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// A port number, 1 to 65535.
pub fn is_port_number(port: i64) -> Vec<String> {
    is_in_range(port, 1, 65535)
}

/// A number within a range.
pub fn is_in_range(value: i64, lo: i64, hi: i64) -> Vec<String> {
    if (lo..=hi).contains(&value) { Vec::new() } else { vec![range_error(lo, hi)] }
}

/// A Unix user or group id, 0 to 2³¹-1.
pub fn is_unix_id(id: i64) -> Vec<String> {
    is_in_range(id, 0, i64::from(i32::MAX))
}

/// A port name (IANA service name): up to 15 of `[-a-z0-9]`, at least one letter, no hyphen at an end or doubled.
pub fn is_port_name(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    if bytes.len() > 15 {
        out.push(max_len_error(15));
    }
    if bytes.is_empty() || !bytes.iter().all(|b| lower(*b) || *b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        out.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".into());
    }
    out
}

/// Digits and `%`.
pub fn is_percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// A header name of HTTP as probes may have it.
pub fn is_http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// The name of an environment variable, in the strict form.
pub fn is_env_var_name(text: &str) -> Vec<String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let shape = matches!(text.as_bytes(), [first, rest @ ..] if inner(*first) && !first.is_ascii_digit() && rest.iter().all(|b| inner(*b)));
    let mut out = Vec::new();
    if !shape {
        out.push(regex_error(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    climbs(text, &mut out);
    out
}

/// The name of an environment variable as pods may have it since 1.34: printable ASCII without `=`.
pub fn is_relaxed_env_var_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.is_empty() {
        out.push("environment variable name must be non-empty".into());
    }
    if !text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=') {
        out.push("a valid environment variable name must consist only of printable ASCII characters other than '='".into());
    }
    out
}

/// A key of ConfigMap or Secret data.
pub fn is_config_map_key(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_len_error(253));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    {
        out.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    climbs(text, &mut out);
    out
}

/// Names that would leave a directory.
fn climbs(text: &str, out: &mut Vec<String>) {
    match text {
        "." => out.push("must not be '.'".into()),
        ".." => out.push("must not be '..'".into()),
        _ if text.starts_with("..") => out.push("must not start with '..'".into()),
        _ => {}
    }
}

/// A name that can stand in a URL path: not `.` or `..`, without `/` and `%`. The empty name passes.
pub fn is_path_segment_name(text: &str) -> Vec<String> {
    match text {
        "." | ".." => vec![format!("may not be '{text}'")],
        _ => is_path_segment_prefix(text),
    }
}

/// The beginning of a name that can stand in a URL path.
pub fn is_path_segment_prefix(text: &str) -> Vec<String> {
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// The reason of a condition.
pub fn is_condition_reason(text: &str) -> Vec<String> {
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':');
    let bytes = text.as_bytes();
    let shape = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && bytes.iter().all(inner);
    if shape {
        return Vec::new();
    }
    vec![regex_error(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// Object names that are subdomains, as most kinds have.
pub fn name_is_subdomain(name: &str, prefix: bool) -> Vec<String> {
    if prefix { is_dns1123_subdomain(&masked(name)) } else { is_dns1123_subdomain(name) }
}

/// Object names that are RFC 1123 labels, as namespaces and services have.
pub fn name_is_label(name: &str, prefix: bool) -> Vec<String> {
    if prefix { is_dns1123_label(&masked(name)) } else { is_dns1123_label(name) }
}

/// Object names that are RFC 1035 labels.
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    if prefix { is_dns1035_label(&masked(name)) } else { is_dns1035_label(name) }
}

/// Object names that only have to fit in a path, as RBAC objects have.
pub fn name_is_path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix { is_path_segment_prefix(name) } else { is_path_segment_name(name) }
}

/// A prefix may end with a dash: its last two bytes stand for what is appended later.
fn masked(name: &str) -> String {
    match name.len().checked_sub(2).filter(|_| name.ends_with('-')).and_then(|end| name.get(..end)) {
        Some(head) => format!("{head}a"),
        None => name.to_string(),
    }
}

/// The longest base of a generated name; 5 random characters follow it.
pub const MAX_GENERATED_BASE: usize = 58;

/// The characters of generated suffixes: no vowels, nothing that looks alike.
const SUFFIX: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name from `metadata.generateName`: the base cut to 58 bytes and 5 characters made from `random`, an
/// independent and evenly distributed number for each name.
pub fn generate_name(base: &str, random: u64) -> String {
    let mut name = base[..base.floor_char_boundary(MAX_GENERATED_BASE)].to_string();
    let mut rest = random;
    for _ in 0..5 {
        name.push(char::from(SUFFIX[(rest % 27) as usize]));
        rest /= 27;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_in_kubernetes_words() {
        assert_eq!(
            is_dns1123_subdomain("a_b"),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(is_dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(is_dns1123_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(is_label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(
            is_config_map_key("k k"),
            [
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            ]
        );
        assert_eq!(is_config_map_key("..a"), ["must not start with '..'"]);
        assert_eq!(is_path_segment_name(".."), ["may not be '..'"]);
        assert_eq!(is_dns1035_label("").len(), 1);
    }

    #[test]
    fn the_shapes_agree_with_their_patterns() {
        let samples = [
            "", "a", "-", "a-", "-a", "a-b", "a.b", "a..b", ".a", "A", "1a", "a_b", "_a", "a/b", "é", "a.b-",
            "0", "a.", "A.b_C",
        ];
        let is = |pattern: &str, s: &str| regex::Regex::new(&format!("^({pattern})$")).unwrap().is_match(s);
        for s in samples {
            assert_eq!(label_shape(s.as_bytes()), is(LABEL, s), "{s}");
            assert_eq!(subdomain_shape(s.as_bytes()), is(SUBDOMAIN, s), "{s}");
            assert_eq!(label_key_shape(s.as_bytes()), is(LABEL_KEY, s), "{s}");
            assert_eq!(is_dns1035_label(s).is_empty(), is("[a-z]([-a-z0-9]*[a-z0-9])?", s), "{s}");
            assert_eq!(is_c_identifier(s).is_empty(), is("[A-Za-z_][A-Za-z0-9_]*", s), "{s}");
        }
    }

    #[test]
    fn label_keys_have_an_optional_prefix() {
        assert!(is_qualified_name("example.com/My_Name").is_empty());
        assert_eq!(is_qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(is_qualified_name("").len(), 2);
        assert_eq!(is_qualified_name(&"a".repeat(64)), ["name part must be no more than 63 bytes"]);
        assert!(is_qualified_name("a/b/c")[0].ends_with("(e.g. 'example.com/MyName')"));
    }

    #[test]
    fn a_prefix_may_end_with_a_dash() {
        assert!(name_is_subdomain("web-", true).is_empty());
        assert!(!name_is_subdomain("web-", false).is_empty());
        assert!(!name_is_subdomain("wéb-", true).is_empty());
    }

    #[test]
    fn generated_names_fit_into_63_characters() {
        let name = generate_name(&"é".repeat(40), 12_345_678_901);
        assert!(name.len() <= 63 && name.starts_with("éé"));
        assert_eq!(generate_name("web-", 0), "web-bbbbb");
        assert_ne!(generate_name("web-", 1), generate_name("web-", 27));
    }
}

//! The rules for names (apimachinery `util/validation`), each giving the texts of what is wrong.

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
    and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1123_SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS1035_LABEL_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
    with an alphabetic character, and end with an alphanumeric character";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
    or '.', and must start and end with an alphanumeric character";

fn regex_error(text: &str, pattern: &str, examples: &[&str]) -> String {
    let mut out = format!("{text} (e.g. ");
    for (i, example) in examples.iter().enumerate() {
        if i > 0 {
            out.push_str(" or ");
        }
        out.push_str(&format!("'{example}', "));
    }
    out.push_str(&format!("regex used for validation is '{pattern}')"));
    out
}

fn max_length(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| lower_alphanumeric(*b));
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| lower_alphanumeric(*b) || *b == b'-')
}

/// A label of RFC 1035, at most 63 bytes.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(max_length(63));
    }
    if !is_label(text) || !text.as_bytes()[0].is_ascii_lowercase() {
        faults.push(regex_error(DNS1035_LABEL_TEXT, DNS1035_LABEL, &["my-name", "abc-123"]));
    }
    faults
}

/// A label of RFC 1123, at most 63 bytes.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(max_length(63));
    }
    if !is_label(text) {
        if is_subdomain(text) {
            faults.push("must not contain dots".into());
        } else {
            faults.push(regex_error(DNS1123_LABEL_TEXT, DNS1123_LABEL, &["my-name", "123-abc"]));
        }
    }
    faults
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// A subdomain of RFC 1123, at most 253 bytes.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(max_length(253));
    }
    if !is_subdomain(text) {
        faults.push(regex_error(DNS1123_SUBDOMAIN_TEXT, DNS1123_SUBDOMAIN, &["example.com"]));
    }
    faults
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A key of labels and annotations: an optional DNS prefix and a name part.
pub fn qualified(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let mut parts = text.split('/');
    let (first, second, more) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    let name = match (second, more) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                faults.push("prefix part must be non-empty".into());
            } else {
                faults.extend(dns1123_subdomain(first).into_iter().map(|e| format!("prefix part {e}")));
            }
            name
        }
        (Some(_), Some(_)) => {
            let error = regex_error(&format!("a qualified name {QUALIFIED_TEXT}"), QUALIFIED, &examples);
            return vec![format!(
                "{error} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", max_length(63)));
    }
    if !is_qualified_part(name) {
        faults.push(regex_error(&format!("name part {QUALIFIED_TEXT}"), QUALIFIED, &examples));
    }
    faults
}

/// The value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(max_length(63));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        faults.push(regex_error(LABEL_VALUE_TEXT, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    faults
}

/// A name that can be a segment of a URL path, or the beginning of one.
pub fn path_segment(text: &str, prefix: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if !prefix && (text == "." || text == "..") {
        return vec![format!("may not be '{text}'")];
    }
    for illegal in ["/", "%"] {
        if text.contains(illegal) {
            faults.push(format!("may not contain '{illegal}'"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_worded_as_kubernetes_words_them() {
        assert_eq!(
            dns1035_label("my_thing"),
            [
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
             validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            dns1123_subdomain("Upper.example.com"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            qualified("a b"),
            [
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(dns1035_label("1a").len(), 1);
        assert_eq!(dns1035_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
    }

    #[test]
    fn valid_names_have_no_faults() {
        assert!(dns1035_label("a-1").is_empty() && dns1123_label("1a").is_empty());
        assert!(dns1123_subdomain("a.b-c.d").is_empty() && qualified("example.com/A_b.c").is_empty());
        assert!(
            label_value("").is_empty()
                && label_value("a_b").is_empty()
                && path_segment("a:b", false).is_empty()
        );
    }
}

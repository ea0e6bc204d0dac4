//! YAML out, as sigs.k8s.io/yaml writes JSON values: sorted keys, lists not indented, strings quoted only
//! where they would read as something else.

use std::fmt::Write as _;

use serde_json::Value;

/// Writes a value as a YAML document.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => object(&mut out, fields, 0),
        Value::Array(items) if !items.is_empty() => array(&mut out, items, 0),
        scalar => {
            inline(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn object(out: &mut String, fields: &serde_json::Map<String, Value>, depth: usize) {
    for (i, (key, value)) in fields.iter().enumerate() {
        if i > 0 || depth == 0 {
            indent(out, depth);
        }
        // A key is one line: a block would end at its colon.
        if key.contains('\n') {
            let _ = write!(out, "{}", Value::from(key.as_str()));
        } else {
            text(out, key, depth);
        }
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                indent(out, depth + 1);
                object(out, inner, depth + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                array(out, items, depth);
            }
            scalar => {
                out.push(' ');
                inline(out, scalar, depth);
                out.push('\n');
            }
        }
    }
}

fn array(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => object(out, inner, depth + 1),
            Value::Array(inner) if !inner.is_empty() => {
                let mut nested = String::new();
                array(&mut nested, inner, depth + 1);
                out.push_str(nested.trim_start());
            }
            scalar => {
                inline(out, scalar, depth);
                out.push('\n');
            }
        }
    }
}

fn inline(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        Value::String(s) => text(out, s, depth),
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn text(out: &mut String, s: &str, depth: usize) {
    if s.contains('\n') && !s.starts_with([' ', '\n']) && s.chars().all(|c| c == '\n' || !c.is_control()) {
        out.push('|');
        match s.len() - s.trim_end_matches('\n').len() {
            0 => out.push('-'),
            1 => {}
            _ => out.push('+'),
        }
        for line in s.strip_suffix('\n').unwrap_or(s).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                indent(out, depth + 1);
                out.push_str(line);
            }
        }
    } else if s.chars().any(|c| c.is_control()) {
        let _ = write!(out, "{}", Value::from(s));
    } else if is_plain(s) {
        out.push_str(s);
    } else if reads_as_other(s) {
        let _ = write!(out, "{}", Value::from(s));
    } else {
        out.push('\'');
        out.push_str(&s.replace('\'', "''"));
        out.push('\'');
    }
}

/// Whether the text would be read as a number, a boolean, null or a time.
fn reads_as_other(s: &str) -> bool {
    const WORDS: [&str; 22] = [
        "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE", "yes", "Yes",
        "YES", "no", "No", "NO", "on", "On", "off", "y", "n",
    ];
    let numeric = s.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && (s.replace('_', "").parse::<f64>().is_ok() || s.starts_with("0x") || s.starts_with("0o"));
    let bytes = s.as_bytes();
    let date = bytes.len() >= 10
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && bytes[5..7].iter().chain(&bytes[8..10]).all(u8::is_ascii_digit);
    WORDS.contains(&s) || numeric || date || matches!(s, "N" | "Y" | "ON" | "OFF" | "Off" | ".inf" | ".nan")
}

fn is_plain(s: &str) -> bool {
    !reads_as_other(s)
        && !s.starts_with([
            '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`',
            ' ', '=',
        ])
        // The end of a document.
        && !s.starts_with("...")
        && !s.ends_with([' ', ':'])
        && !s.contains(": ")
        && !s.contains(" #")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        kubewright_machinery::decode::yaml(text.as_bytes()).unwrap().value
    }

    #[test]
    fn a_document_is_written_as_kubernetes_writes_it() {
        let value = json!({
            "kind": "APIGroup", "versions": [{"groupVersion": "policy/v1", "version": "v1"}], "empty": {},
            "number": "1", "time": "2020-01-01T00:00:00Z", "yes": "true", "a": {"b": ["x", 2]},
        });
        let text = "a:\n  b:\n  - x\n  - 2\nempty: {}\nkind: APIGroup\nnumber: \"1\"\n\
                    time: \"2020-01-01T00:00:00Z\"\nversions:\n- groupVersion: policy/v1\n  version: v1\n\"yes\": \"true\"\n";
        assert_eq!(write(&value), text);
    }

    #[test]
    fn what_is_written_reads_back() {
        for s in [
            "",
            "a: b",
            "...",
            "... and so on",
            "- x",
            "line\nline\n",
            "x\n\ny",
            " lead",
            "it's",
            "tab\t",
            "#",
            "null",
            "é",
            "0x1f",
            "a #b",
        ] {
            let value = json!({"k": {"list": [s, {"v": s}]}});
            assert_eq!(read(&write(&value)), value, "{s:?}\n{}", write(&value));
        }
    }

    #[test]
    fn nested_lists_and_objects_in_lists_read_back() {
        let value = json!([[1, [2, {"a": [3], "b": {"c": null}}]], {"x": [], "y": {}}]);
        assert_eq!(read(&write(&value)), value, "{}", write(&value));
    }
}

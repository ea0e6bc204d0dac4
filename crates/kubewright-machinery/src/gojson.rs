//! JSON as Kubernetes' own encoders write it, where the bytes are part of an answer: in messages, in keys of `fieldsV1`
//! and in the annotation of the last applied configuration. Keys are sorted, as [`Value`] keeps them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::field::exponent;

/// Which of Go's encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `encoding/json`.
    Standard,
    /// json-iterator in its standard-compatible configuration, in which the keys of `fieldsV1` are written: it knows no
    /// `\b` and `\f`, and leaves names of fields as they are.
    Iterator,
}

/// Appends a value. `<`, `>`, `&` and the two line separators are escaped; numbers with a fraction are the shortest that
/// read back the same, with an exponent below 1e-6 and from 1e21 on.
pub fn write(out: &mut String, value: &Value, style: Style) {
    match value {
        Value::Null | Value::Bool(_) => {
            let _ = write!(out, "{value}");
        }
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(f) if f != 0.0 && !(1e-6..1e21).contains(&f.abs()) => out.push_str(&exponent(f, 1)),
            Some(f) => {
                let _ = write!(out, "{f}");
            }
            None => {
                let _ = write!(out, "{number}");
            }
        },
        Value::String(text) => write_string(out, text, style, true),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(out, item, style);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (i, (name, item)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, name, style, true);
                out.push(':');
                write(out, item, style);
            }
            out.push('}');
        }
    }
}

/// Appends the name of a field in a path.
pub fn write_name(out: &mut String, name: &str) {
    write_string(out, name, Style::Iterator, false);
}

fn write_string(out: &mut String, text: &str, style: Style, html: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' if style == Style::Standard => out.push_str("\\b"),
            '\x0c' if style == Style::Standard => out.push_str("\\f"),
            '\0'..'\x20' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if html => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(value: &Value, style: Style) -> String {
        let mut out = String::new();
        write(&mut out, value, style);
        out
    }

    #[test]
    fn numbers_are_gos() {
        let value = json!([1.0, 0.5, 1e-7, 1e21, 123456789.5, -0.000001, u64::MAX, 0.0]);
        let text = "[1,0.5,1e-7,1e+21,123456789.5,-0.000001,18446744073709551615,0]";
        assert_eq!(written(&value, Style::Standard), text);
    }

    #[test]
    fn encoders_differ_in_what_they_escape() {
        let value = json!({"<": "a\u{8}\u{1}&\n"});
        assert_eq!(written(&value, Style::Standard), r#"{"\u003c":"a\b\u0001\u0026\n"}"#);
        assert_eq!(written(&value, Style::Iterator), r#"{"\u003c":"a\u0008\u0001\u0026\n"}"#);
        let mut name = String::new();
        write_name(&mut name, "<\"");
        assert_eq!(name, r#""<\"""#);
    }
}

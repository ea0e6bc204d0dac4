//! Field errors of validation: a path, a kind of fault, the bad value and a detail
//! (apimachinery `util/validation/field`). Their wording is Kubernetes'; their order is the validator's.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use serde_json::Value;

use crate::gojson::{self, Style};

/// A path to a field, built while a validator descends. Cheap: each step borrows its parent.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The path of the object itself.
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// The path of a top-level field.
    pub const fn new(name: &'a str) -> Self {
        Path { parent: None, step: Step::Name(name) }
    }

    /// `self.name`.
    pub const fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Name(name) }
    }

    /// `self[index]`.
    pub const fn index<'b>(&'b self, index: usize) -> Path<'b> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// `self[key]`.
    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    /// As Kubernetes prints it: `spec.containers[0].name`, and `<nil>` for the object itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut empty = true;
        match self.parent {
            Some(parent) if !matches!(parent.step, Step::Root) => {
                parent.fmt(f)?;
                empty = false;
            }
            Some(_) => {}
            None if matches!(self.step, Step::Root) => return f.write_str("<nil>"),
            None => {}
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Name(name) if empty => f.write_str(name),
            Step::Name(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No object at the path.
    NotFound,
    /// A required value is missing.
    Required,
    /// The value occurs twice where it must be unique.
    Duplicate,
    /// Malformed value.
    Invalid,
    /// Not one of the supported values.
    NotSupported,
    /// Valid, but not allowed here.
    Forbidden,
    /// Longer than allowed (bytes).
    TooLong,
    /// More items than allowed.
    TooMany,
    /// Shorter than allowed (characters).
    TooShort,
    /// Fewer items than allowed.
    TooFew,
    /// Internal error.
    Internal,
    /// Of the wrong type.
    TypeInvalid,
}

impl Kind {
    /// The reason of the Status cause.
    pub fn cause(self) -> &'static str {
        match self {
            Kind::NotFound => "FieldValueNotFound",
            Kind::Required => "FieldValueRequired",
            Kind::Duplicate => "FieldValueDuplicate",
            Kind::Invalid => "FieldValueInvalid",
            Kind::NotSupported => "FieldValueNotSupported",
            Kind::Forbidden => "FieldValueForbidden",
            Kind::TooLong => "FieldValueTooLong",
            Kind::TooMany => "FieldValueTooMany",
            Kind::TooShort => "FieldValueTooShort",
            Kind::TooFew => "FieldValueTooFew",
            Kind::Internal => "InternalError",
            Kind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Kind::NotFound => "Not found",
            Kind::Required => "Required value",
            Kind::Duplicate => "Duplicate value",
            Kind::Invalid | Kind::TypeInvalid => "Invalid value",
            Kind::NotSupported => "Unsupported value",
            Kind::Forbidden => "Forbidden",
            Kind::TooLong => "Too long",
            Kind::TooMany => "Too many",
            Kind::TooShort => "Too short",
            Kind::TooFew => "Too few",
            Kind::Internal => "Internal error",
        }
    }
}

/// One field error.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What is wrong.
    pub kind: Kind,
    /// Path of the field.
    pub field: String,
    /// The bad value; ignored for `Required`, `Forbidden`, `TooLong`, `TooMany` and `Internal`.
    pub value: Value,
    /// More words.
    pub detail: String,
    /// The bad value as the message shows it, where Kubernetes prints its own type's field order instead of
    /// the JSON value's; see [`Error::showing`].
    pub shown: Option<Box<str>>,
}

impl Error {
    /// `Invalid value: value: detail`.
    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, path, value.into(), detail)
    }
    /// `Required value: detail`.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Required, path, Value::Null, detail)
    }
    /// `Forbidden: detail`.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, path, Value::Null, detail)
    }
    /// `Duplicate value: value`.
    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(Kind::Duplicate, path, value.into(), "")
    }
    /// `Not found: value`.
    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(Kind::NotFound, path, value.into(), "")
    }
    /// `Unsupported value: value: supported values: "a", "b"`. The caller gives the order.
    pub fn not_supported(path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut detail = String::new();
        for (i, s) in supported.iter().enumerate() {
            detail.push_str(if i == 0 { "supported values: " } else { ", " });
            detail.push_str(&quote(s));
        }
        Self::new(Kind::NotSupported, path, value.into(), detail)
    }
    /// `Too long: may not be more than max bytes`.
    pub fn too_long(path: &Path<'_>, max: usize) -> Self {
        let noun = if max == 1 { "byte" } else { "bytes" };
        Self::new(Kind::TooLong, path, Value::Null, format!("may not be more than {max} {noun}"))
    }
    /// `Too long: may not be more than max characters`.
    pub fn too_long_characters(path: &Path<'_>, max: usize) -> Self {
        let noun = if max == 1 { "character" } else { "characters" };
        Self::new(Kind::TooLong, path, Value::Null, format!("may not be more than {max} {noun}"))
    }
    /// `Too short: must be at least min characters`.
    pub fn too_short(path: &Path<'_>, min: usize) -> Self {
        let noun = if min == 1 { "character" } else { "characters" };
        Self::new(Kind::TooShort, path, Value::Null, format!("must be at least {min} {noun}"))
    }
    /// `Too few: actual: must have at least min items`.
    pub fn too_few(path: &Path<'_>, actual: usize, min: usize) -> Self {
        let noun = if min == 1 { "item" } else { "items" };
        Self::new(Kind::TooFew, path, Value::from(actual), format!("must have at least {min} {noun}"))
    }
    /// `Too many: actual: must have at most max items`.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        let noun = if max == 1 { "item" } else { "items" };
        Self::new(Kind::TooMany, path, Value::from(actual), format!("must have at most {max} {noun}"))
    }
    /// `Internal error: detail`.
    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Internal, path, Value::Null, detail)
    }
    /// `Invalid value: value: detail`, with the cause reason for a wrong type.
    pub fn type_invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(Kind::TypeInvalid, path, value.into(), detail)
    }

    fn new(kind: Kind, path: &Path<'_>, value: Value, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), value, detail: detail.into(), shown: None }
    }

    /// Shows `text` (JSON of a Go struct, in its field order) in the message instead of the JSON value.
    pub fn showing(mut self, text: impl Into<Box<str>>) -> Self {
        self.shown = Some(text.into());
        self
    }

    /// The message without the field, as a Status cause has it.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_string();
        match self.kind {
            Kind::Required | Kind::Forbidden | Kind::TooLong | Kind::TooShort | Kind::Internal => {}
            _ => {
                out.push_str(": ");
                match (&self.shown, &self.value) {
                    (Some(text), _) => out.push_str(text),
                    (None, Value::String(s)) => out.push_str(&quote(s)),
                    (None, Value::Number(n)) => out.push_str(&number(n)),
                    (None, other) => gojson::write(&mut out, other, Style::Standard),
                }
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

/// A string as Go's `%q` writes it: printable characters as they are, the others escaped (`\t`, `\x00`, `\u200b`).
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_print(c) => out.push(c),
            c => {
                let n = u32::from(c);
                let _ = match n {
                    0..0x80 => write!(out, "\\x{n:02x}"),
                    0x80..0x1_0000 => write!(out, "\\u{n:04x}"),
                    _ => write!(out, "\\U{n:08x}"),
                };
            }
        }
    }
    out.push('"');
    out
}

/// Whether Go's `unicode.IsPrint` holds: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    static PRINTABLE: LazyLock<regex::Regex> = LazyLock::new(|| {
        regex::Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]$").expect("the pattern is a constant that compiles")
    });
    PRINTABLE.is_match(c.encode_utf8(&mut [0; 4]))
}

/// A number as Go's `%v` prints an int64 or a float64.
pub fn number(n: &serde_json::Number) -> String {
    match n.as_f64() {
        Some(f) if n.is_f64() => float(f),
        _ => n.to_string(),
    }
}

/// A number as Go's `%v` writes a float64: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub fn float(f: f64) -> String {
    let magnitude = f.abs();
    if magnitude != 0.0 && f.is_finite() && !(1e-4..1e6).contains(&magnitude) {
        exponent(f, 2)
    } else {
        format!("{f}")
    }
}

/// `d.ddde+xx`, with an exponent of at least `digits` digits.
pub(crate) fn exponent(f: f64, digits: usize) -> String {
    let text = format!("{f:e}");
    let (mantissa, exp) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exp) = exp.strip_prefix('-').map_or(('+', exp), |e| ('-', e));
    format!("{mantissa}e{sign}{exp:0>digits$}")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// The errors as one text: as it is for one, `[a, b]` for several, each distinct message once.
pub fn aggregate(errors: &[Error]) -> Option<String> {
    let mut seen: Vec<String> = Vec::new();
    for e in errors {
        let text = e.to_string();
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    match seen.len() {
        0 => None,
        1 => seen.pop(),
        _ => Some(format!("[{}]", seen.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_print_as_kubernetes_prints_them() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        assert_eq!(first.child("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::ROOT.to_string(), "<nil>");
        assert_eq!(Path::ROOT.child("spec").to_string(), "spec");
        assert_eq!(Path::new("data").key("a b").to_string(), "data[a b]");
    }

    #[test]
    fn strings_are_quoted_as_go_does() {
        assert_eq!(quote("a\tb\u{0}\u{7f}é\u{200b}\"\\"), r#""a\tb\x00\x7fé\u200b\"\\""#);
    }

    #[test]
    fn values_print_as_go_prints_them() {
        let p = Path::new("x");
        assert_eq!(Error::invalid(&p, 1.0, "no").to_string(), "x: Invalid value: 1: no");
        assert_eq!(Error::invalid(&p, 1e21, "no").to_string(), "x: Invalid value: 1e+21: no");
        assert_eq!(Error::invalid(&p, 1e-7, "").to_string(), "x: Invalid value: 1e-07");
        assert_eq!(
            Error::invalid(&p, json!({"b": "<", "a": [1e-7]}), "").to_string(),
            r#"x: Invalid value: {"a":[1e-7],"b":"\u003c"}"#
        );
        assert_eq!(Error::invalid(&p, Value::Null, "").to_string(), "x: Invalid value: null");
        assert_eq!(Error::too_long(&p, 128).to_string(), "x: Too long: may not be more than 128 bytes");
        assert_eq!(Error::too_many(&p, 3, 1).to_string(), "x: Too many: 3: must have at most 1 item");
    }

    #[test]
    fn an_aggregate_names_each_message_once() {
        let p = Path::new("x");
        let e = Error::required(&p, "");
        assert_eq!(aggregate(&[e.clone(), e.clone()]).as_deref(), Some("x: Required value"));
        let other = Error::forbidden(&p, "no");
        assert_eq!(aggregate(&[e, other]).as_deref(), Some("[x: Required value, x: Forbidden: no]"));
        assert_eq!(aggregate(&[]), None);
    }
}

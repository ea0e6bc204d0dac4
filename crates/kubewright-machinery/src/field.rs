//! Field errors of validation: a path, a kind of fault, the bad value and a detail
//! (apimachinery `util/validation/field`). Their wording is Kubernetes'; their order is the validator's.

use std::fmt::{self, Write as _};

use serde_json::Value;

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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut empty = true;
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            empty = parent.parent.is_none() && matches!(parent.step, Step::Root);
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
            let _ = write!(detail, "{s:?}");
        }
        Self::new(Kind::NotSupported, path, value.into(), detail)
    }
    /// `Too long: may not be more than max bytes`.
    pub fn too_long(path: &Path<'_>, max: usize) -> Self {
        Self::new(Kind::TooLong, path, Value::Null, format!("may not be more than {max} bytes"))
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
        Self { kind, field: path.to_string(), value, detail: detail.into() }
    }

    /// The message without the field, as a Status cause has it.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_string();
        match self.kind {
            Kind::Required | Kind::Forbidden | Kind::TooLong | Kind::Internal => {}
            _ => {
                out.push_str(": ");
                match &self.value {
                    Value::String(s) => {
                        let _ = write!(out, "{}", quote(s));
                    }
                    Value::Number(n) if n.is_f64() => out.push_str(&float(n.as_f64().unwrap_or_default())),
                    other => {
                        let _ = write!(out, "{other}");
                    }
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

/// A number as Go's `%v` writes a float64: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub fn float(n: f64) -> String {
    if n == 0.0 || !n.is_finite() {
        return format!("{n}");
    }
    let scientific = format!("{n:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{n}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A string as Go's `%q` writes it.
pub fn quote(s: &str) -> String {
    Value::from(s).to_string()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str("<nil>: ")?
        } else {
            write!(f, "{}: ", self.field)?
        };
        f.write_str(&self.body())
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

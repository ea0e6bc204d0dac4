//! Request bodies → values, with the semantics of Go's `encoding/json` as Kubernetes uses it: case-sensitive keys,
//! whole numbers kept whole, the last of duplicate keys wins, null fields are absent.
//!
//! JSON or YAML is read into a tree that keeps order and duplicates ([`parse`], [`yaml`]), and that tree becomes a
//! `serde_json::Value`, either as it is or as the type that a schema describes ([`typed`]). What a strict decoder
//! would refuse is collected in the order of the text; the caller warns or refuses.

mod parse;
mod typed;
mod yaml;

use serde_json::Value;

use crate::schema::Schema;
use crate::status::Status;
use crate::{quantity, time};

/// Nesting of objects and arrays that is followed.
pub const MAX_DEPTH: usize = 500;

/// A body can't be decoded. The text is what a Kubernetes API server says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text ends too early.
    #[error("unexpected end of JSON input")]
    UnexpectedEnd,
    /// A character that has no place here.
    #[error("invalid character {character} {context}")]
    Syntax {
        /// The character, quoted as Go does.
        character: String,
        /// Where it stands.
        context: String,
    },
    /// Nested more deeply than [`MAX_DEPTH`].
    #[error("exceeded max depth")]
    Depth,
    /// The YAML is not well-formed.
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
    /// A value of another type than its field.
    #[error("json: cannot unmarshal {found} into Go {place} of type {expected}")]
    Type {
        /// What stands there: `string`, `number 1.5`, `object`…
        found: String,
        /// `value`, or `struct field` with the path.
        place: String,
        /// Go's name of the field's type.
        expected: String,
    },
    /// A quantity that is none.
    #[error(transparent)]
    Quantity(#[from] quantity::Error),
    /// A time or duration that is none.
    #[error(transparent)]
    Time(#[from] time::Error),
    /// A `byte` field that is no base64; where it stops being one.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
}

/// A decoded body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The value.
    pub value: Value,
    /// What a strict decoder refuses, in the order of the text: `unknown field "spec.x"`,
    /// `duplicate field "data.a"`.
    pub strict: Vec<String>,
}

impl Decoded {
    /// The error of a strict decoder, if there is anything it refuses.
    pub fn strict_error(&self) -> Option<String> {
        (!self.strict.is_empty()).then(|| format!("strict decoding error: {}", self.strict.join(", ")))
    }
}

/// Decodes JSON as it is (custom resources, patches); reports duplicate fields.
///
/// # Errors
/// When the bytes are not JSON.
pub fn json(bytes: &[u8]) -> Result<Decoded, Error> {
    typed::decode(parse::parse(bytes)?, None)
}

/// Decodes JSON as the type that a schema describes; reports duplicate and unknown fields and drops the latter.
///
/// # Errors
/// When the bytes are not JSON, or a value is not of its field's type.
pub fn json_as(bytes: &[u8], schema: &Schema) -> Result<Decoded, Error> {
    typed::decode(parse::parse(bytes)?, Some(schema))
}

/// Decodes the first document of YAML as it is; duplicate keys are reported with their line.
///
/// # Errors
/// When the text is not YAML, or more than JSON can hold.
pub fn yaml(bytes: &[u8]) -> Result<Decoded, Error> {
    yaml_maybe(bytes, None)
}

/// Decodes the first document of YAML as the type that a schema describes.
///
/// # Errors
/// When the text is not YAML, or a value is not of its field's type.
pub fn yaml_as(bytes: &[u8], schema: &Schema) -> Result<Decoded, Error> {
    yaml_maybe(bytes, Some(schema))
}

fn yaml_maybe(bytes: &[u8], schema: Option<&Schema>) -> Result<Decoded, Error> {
    let (node, duplicates) = yaml::parse(bytes)?;
    let mut decoded = typed::decode(node, schema)?;
    decoded.strict.splice(0..0, duplicates);
    Ok(decoded)
}

/// Decodes a value again as the type that a schema describes: what a patch made, or stored under another schema.
///
/// # Errors
/// When a value is not of its field's type.
pub fn value_as(value: Value, schema: &Schema) -> Result<Decoded, Error> {
    typed::decode(parse::Node::from(value), Some(schema))
}

/// The answer to a body that can't be decoded as its kind: 400 `BadRequest`. `version` is that of the kind,
/// without group.
pub fn cannot_handle(kind: &str, version: &str, error: impl std::fmt::Display) -> Status {
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"))
}

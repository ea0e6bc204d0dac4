//! Request bodies → values, with the semantics of Go's `encoding/json` as Kubernetes uses it: case-sensitive keys,
//! whole numbers kept whole, the last of duplicate keys wins, null fields are absent.
//!
//! JSON (`parse`), or a tree that was read from YAML ([`yaml`]) or made by a patch (`tree`), is read piece by piece
//! (`reader`), with its order and its duplicates, and becomes a `serde_json::Value` at once, either as it is or as the
//! type that a schema describes (`typed`). What a strict decoder would refuse is collected in the order of the text; the
//! caller warns or refuses. Empty lists and maps stay: defaulting may tell them from absent ones.

mod parse;
mod reader;
mod tree;
mod typed;
mod yaml;

pub(crate) use self::parse::ends_in;
use serde_json::Value;

use crate::schema::Schema;
use crate::status::Status;
use crate::{quantity, time};

/// Nesting of objects and arrays that is followed. What is decoded is stored, and read back by a parser that follows 127
/// levels; the fields that managers own are nested four levels more than the object.
pub const MAX_DEPTH: usize = 120;

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
    #[error("yaml: {0}")]
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
        // Duplicates in YAML come first, as one error of several lines.
        let count = self.strict.iter().take_while(|fault| fault.starts_with("line ")).count();
        let (duplicates, others) = self.strict.split_at(count);
        let duplicates =
            (count > 0).then(|| format!("yaml: unmarshal errors:\n  {}", duplicates.join("\n  ")));
        let faults: Vec<_> = duplicates.iter().chain(others).map(String::as_str).collect();
        (!faults.is_empty()).then(|| format!("strict decoding error: {}", faults.join(", ")))
    }
}

/// Decodes JSON as it is (custom resources, patches); reports duplicate fields.
///
/// # Errors
/// When the bytes are not JSON.
pub fn json(bytes: &[u8]) -> Result<Decoded, Error> {
    typed::decode(parse::Text::new(bytes), None)
}

/// Decodes JSON as the type that a schema describes; reports duplicate and unknown fields and drops the latter.
///
/// # Errors
/// When the bytes are not JSON, or a value is not of its field's type.
pub fn json_as(bytes: &[u8], schema: &Schema) -> Result<Decoded, Error> {
    typed::decode(parse::Text::new(bytes), Some(schema))
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
    let mut decoded = typed::decode(tree::Tree::new(node), schema)?;
    decoded.strict.splice(0..0, duplicates);
    Ok(decoded)
}

/// Decodes a value again as the type that a schema describes: what a patch made, or stored under another schema.
///
/// # Errors
/// When a value is not of its field's type.
pub fn value_as(value: Value, schema: &Schema) -> Result<Decoded, Error> {
    typed::decode(tree::Tree::new(value.into()), Some(schema))
}

/// What JSON calls the type of a value, in messages.
pub fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The answer to a body that can't be decoded as its kind: 400 `BadRequest`. `version` is that of the kind,
/// without group.
pub fn cannot_handle(kind: &str, version: &str, error: impl std::fmt::Display) -> Status {
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{SchemaRef, Type};
    use proptest::prelude::*;
    use serde_json::json;

    fn of(ty: Type) -> Schema {
        Schema { ty: Some(ty), ..Schema::default() }
    }

    fn format(ty: Type, format: &str) -> Schema {
        Schema { format: Some(format.into()), ..of(ty) }
    }

    fn object(name: &str, fields: Vec<(&str, Schema)>) -> Schema {
        let properties = fields.into_iter().map(|(k, s)| (k.into(), SchemaRef::from(s))).collect();
        Schema { properties, name: Some(name.into()), ..of(Type::Object) }
    }

    fn map(values: Schema) -> Schema {
        Schema { additional: Some(values.into()), ..of(Type::Object) }
    }

    fn list(items: Schema) -> Schema {
        Schema { items: Some(items.into()), ..of(Type::Array) }
    }

    fn thing() -> Schema {
        let string = || of(Type::String);
        let item = object("v1.Item", vec![("name", string()), ("port", format(Type::Integer, "int32"))]);
        let mut schema = object(
            "io.k8s.api.core.v1.Thing",
            vec![
                ("kind", string()),
                ("metadata", object("v1.ObjectMeta", vec![("name", string()), ("labels", map(string()))])),
                ("data", map(string())),
                ("items", list(item)),
                ("limits", map(Schema { format: Some("quantity".into()), ..of(Type::String) })),
                ("time", format(Type::String, "date-time")),
                ("bytes", format(Type::String, "byte")),
                ("target", Schema { int_or_string: true, ..Schema::default() }),
                ("size", format(Type::Integer, "int64")),
                ("free", Schema { preserve_unknown_fields: true, ..of(Type::Object) }),
                ("on", of(Type::Boolean)),
                ("rules", list(string())),
            ],
        );
        schema.required.push("rules".into());
        schema
    }

    fn decoded(text: &str) -> Decoded {
        json_as(text.as_bytes(), &thing()).unwrap()
    }

    fn error(text: &str) -> String {
        json_as(text.as_bytes(), &thing()).unwrap_err().to_string()
    }

    #[test]
    fn strict_faults_come_in_the_order_of_the_text() {
        let d = decoded(
            r#"{"other":1,"metadata":{"nope":1,"name":"a","name":"b"},"data":{"k":"v","k":"w"},"items":[{},{"prt":1}],"Data":{},"other":2}"#,
        );
        assert_eq!(
            d.strict,
            [
                r#"unknown field "other""#,
                r#"unknown field "metadata.nope""#,
                r#"duplicate field "metadata.name""#,
                r#"duplicate field "data.k""#,
                r#"unknown field "items[1].prt""#,
                r#"unknown field "Data""#,
            ]
        );
        assert_eq!(d.value, json!({"metadata": {"name": "b"}, "data": {"k": "w"}, "items": [{}, {}]}));
        let d = json(br#"{"a":{"x":1,"x":2},"b":[{"y":1,"y":2}]}"#).unwrap();
        assert_eq!(
            d.strict_error().as_deref(),
            Some(r#"strict decoding error: duplicate field "a.x", duplicate field "b[0].y""#)
        );
    }

    #[test]
    fn values_become_canonical_and_stay_when_empty() {
        let d = decoded(
            r#"{"limits":{"cpu":"1000m","memory":1e9,"x":null},"time":"2026-01-01T02:00:00.5+02:00","bytes":"YQ==\n",
               "target":80,"size":5,"free":{"a":null},"on":false,"data":{},"items":null,"rules":[],"kind":null}"#,
        );
        assert_eq!(
            d.value,
            json!({"limits": {"cpu": "1", "memory": "1e9", "x": "0"}, "time": "2026-01-01T00:00:00Z", "bytes": "YQ==",
                "target": 80, "size": 5, "free": {"a": null}, "on": false, "data": {}, "rules": []})
        );
        assert_eq!(decoded(r#"{"data":{"a":null}}"#).value, json!({"data": {"a": ""}}));
        assert_eq!(
            decoded(r#"{"metadata":{"name":"a"},"metadata":{"labels":{"b":"c"}}}"#).value["metadata"],
            json!({"name": "a", "labels": {"b": "c"}})
        );
    }

    #[test]
    fn wrong_types_are_refused_in_gos_words() {
        assert_eq!(
            error(r#"{"data":{"a":1}}"#),
            "json: cannot unmarshal number into Go struct field Thing.data.a of type string"
        );
        assert_eq!(
            error(r#"{"items":[{"port":"x"}]}"#),
            "json: cannot unmarshal string into Go struct field Item.items.port of type int32"
        );
        assert_eq!(
            error(r#"{"size":1.5}"#),
            "json: cannot unmarshal number 1.5 into Go struct field Thing.size of type int64"
        );
        assert!(error(r#"{"items":[{"port":4294967296}]}"#).contains("number 4294967296"));
        assert_eq!(error("[]"), "json: cannot unmarshal array into Go value of type v1.Thing");
        assert_eq!(error(r#"{"bytes":"a"}"#), "illegal base64 data at input byte 0");
        assert_eq!(error(r#"{"limits":{"cpu":true}}"#), quantity::Error::Format.to_string());
        assert!(error(r#"{"time":"x"}"#).starts_with(r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": "#));
        // A type with its own decoder ends the decoding, so its fault wins over earlier ones.
        assert_eq!(error(r#"{"size":"x","limits":{"cpu":"1mi"}}"#), "unable to parse quantity's suffix");
        assert_eq!(
            cannot_handle("Thing", "v1", "no").message,
            r#"Thing in version "v1" cannot be handled as a Thing: no"#
        );
    }

    #[test]
    fn faults_of_the_text_are_named_as_go_names_them() {
        let error = |t: &str| json(t.as_bytes()).unwrap_err().to_string();
        for (text, expected) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\"", "unexpected end of JSON input"),
            ("spec: 1", "invalid character 's' looking for beginning of value"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        assert_eq!(error(&deep), "exceeded max depth");
    }

    #[test]
    fn strings_and_numbers_are_read_as_go_reads_them() {
        let value = |t: &[u8]| json(t).unwrap().value;
        assert_eq!(value(br#""\ud83d\ude00\ud800x""#), json!("\u{1f600}\u{fffd}x"));
        assert_eq!(value(b"\"\xff\""), json!("\u{fffd}"));
        assert_eq!(value(b"[1.0, 1e3, 9223372036854775807, 0.5]"), json!([1, 1000, i64::MAX, 0.5]));
        assert!(json(b"1e999").is_err());
    }

    #[test]
    fn yaml_notes_duplicates_with_their_line() {
        let text = "kind: Thing\nmetadata:\n  name: a\nnope: 1\ndata:\n  k: v\n  k: \"2\"\non: yes\n---\nkind: Other\n";
        let d = yaml_as(text.as_bytes(), &thing()).unwrap();
        assert_eq!(d.strict, ["line 7: key \"k\" already set in map", "unknown field \"nope\""]);
        assert_eq!(
            d.value,
            json!({"kind": "Thing", "metadata": {"name": "a"}, "data": {"k": "2"}, "on": true})
        );
        assert_eq!(yaml(b"").unwrap().value, Value::Null);
        assert_eq!(yaml(b"{\"a\": [1, null, 0.5, x]}").unwrap().value, json!({"a": [1, null, 0.5, "x"]}));
        assert!(yaml(b"a: [").is_err() && yaml(b"a: b: c").is_err());
    }

    proptest! {
        #[test]
        fn json_is_read_as_any_other_parser_reads_it(value in crate::patch::any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(&json(text.as_bytes()).unwrap().value, &value);
            prop_assert_eq!(&yaml(text.as_bytes()).unwrap().value, &value);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'{'), Just(b'}'), Just(b'['), Just(b':'), Just(b'\\'), Just(b'u'), Just(b'1'), any::<u8>()], 0..30)) {
            let ours = json(&bytes);
            if let Ok(theirs) = serde_json::from_slice::<Value>(&bytes) {
                let whole = ours.map(|d| d.value.to_string().replace(".0", "")).unwrap_or_default();
                prop_assert_eq!(whole, theirs.to_string().replace(".0", ""));
            }
            let _ = yaml(&bytes);
            let _ = json_as(&bytes, &thing());
        }
    }
}

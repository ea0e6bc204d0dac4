//! ObjectMeta as the Go type decodes it: which fields it has, their types, and what is left after a round trip.
//!
//! Resources that are free-form JSON (custom resources, embedded ones) get metadata of this shape.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::time;

/// The Go type of a field.
#[derive(Clone, Copy)]
enum Go {
    Text,
    Named(&'static str),
    Int,
    Bool,
    Time,
    Texts,
    TextMap,
    Raw,
    Structs(&'static str, &'static str, &'static [(&'static str, Go)]),
}

const OWNER: &[(&str, Go)] = &[
    ("apiVersion", Go::Text),
    ("blockOwnerDeletion", Go::Bool),
    ("controller", Go::Bool),
    ("kind", Go::Text),
    ("name", Go::Text),
    ("uid", Go::Named("types.UID")),
];

const MANAGED: &[(&str, Go)] = &[
    ("apiVersion", Go::Text),
    ("fieldsType", Go::Text),
    ("fieldsV1", Go::Raw),
    ("manager", Go::Text),
    ("operation", Go::Named("v1.ManagedFieldsOperationType")),
    ("subresource", Go::Text),
    ("time", Go::Time),
];

const FIELDS: &[(&str, Go)] = &[
    ("annotations", Go::TextMap),
    ("creationTimestamp", Go::Time),
    ("deletionGracePeriodSeconds", Go::Int),
    ("deletionTimestamp", Go::Time),
    ("finalizers", Go::Texts),
    ("generateName", Go::Text),
    ("generation", Go::Int),
    ("labels", Go::TextMap),
    ("managedFields", Go::Structs("[]v1.ManagedFieldsEntry", "v1.ManagedFieldsEntry", MANAGED)),
    ("name", Go::Text),
    ("namespace", Go::Text),
    ("ownerReferences", Go::Structs("[]v1.OwnerReference", "v1.OwnerReference", OWNER)),
    ("resourceVersion", Go::Text),
    ("selfLink", Go::Text),
    ("uid", Go::Named("types.UID")),
];

/// Metadata that does not decode, in the words of Go's `encoding/json`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mistyped(String);

/// What is left of metadata after it was decoded and encoded: known fields, without empty ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The metadata.
    pub metadata: Value,
    /// Paths below the metadata of fields it does not have.
    pub unknown: Vec<String>,
}

/// Decodes metadata. With `drop_mistyped`, fields of the wrong type are left out instead of being an error.
///
/// # Errors
/// The first field of the wrong type; metadata that is no object, always.
pub fn decode(metadata: &Value, drop_mistyped: bool) -> Result<Decoded, Mistyped> {
    let mut decoder = Decoder { unknown: Vec::new(), path: String::new() };
    let fields = match metadata {
        Value::Object(fields) => fields,
        Value::Null => return Ok(Decoded { metadata: Value::Object(Map::new()), unknown: Vec::new() }),
        other => {
            return Err(Mistyped(format!(
                "json: cannot unmarshal {} into Go value of type v1.ObjectMeta",
                kind(other)
            )));
        }
    };
    let mut out = Map::new();
    for (name, value) in fields {
        let Some((_, go)) = FIELDS.iter().find(|(known, _)| known == name) else {
            decoder.unknown.push(name.clone());
            continue;
        };
        match decoder.value(*go, value, "ObjectMeta", name) {
            Ok(value) => out.extend(value.map(|value| (name.clone(), value))),
            Err(error) if !drop_mistyped => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Decoded { metadata: Value::Object(out), unknown: decoder.unknown })
}

struct Decoder {
    unknown: Vec<String>,
    path: String,
}

impl Decoder {
    /// The value as it is encoded again; none where it is empty and left out.
    fn value(&mut self, go: Go, value: &Value, outer: &str, name: &str) -> Result<Option<Value>, Mistyped> {
        let wrong = |value: &Value, ty: &str| {
            Mistyped(format!(
                "json: cannot unmarshal {} into Go struct field {outer}.{name} of type {ty}",
                kind(value)
            ))
        };
        let keep = |keep: bool| Ok(keep.then(|| value.clone()));
        match (go, value) {
            (_, Value::Null) => Ok(None),
            (Go::Text | Go::Named(_), Value::String(text)) => keep(!text.is_empty()),
            (Go::Text, _) => Err(wrong(value, "string")),
            (Go::Named(ty), _) => Err(wrong(value, ty)),
            (Go::Bool, Value::Bool(_)) => keep(true),
            (Go::Bool, _) => Err(wrong(value, "bool")),
            (Go::Int, Value::Number(n)) if n.is_i64() => keep(n.as_i64() != Some(0) || name != "generation"),
            (Go::Int, _) => Err(wrong(value, "int64")),
            (Go::Time, Value::String(text)) => match time::parse(text) {
                Ok(_) => keep(true),
                Err(error) => Err(Mistyped(error.to_string())),
            },
            (Go::Time, _) => Err(wrong(value, "string")),
            (Go::Raw, _) => keep(true),
            (Go::Texts, Value::Array(items)) => match items.iter().find(|v| !v.is_string() && !v.is_null()) {
                Some(item) => Err(wrong(item, "string")),
                None => keep(!items.is_empty()),
            },
            (Go::Texts, _) => Err(wrong(value, "[]string")),
            (Go::TextMap, Value::Object(fields)) => {
                match fields.values().find(|v| !v.is_string() && !v.is_null()) {
                    Some(field) => Err(wrong(field, "string")),
                    None if fields.is_empty() => Ok(None),
                    None => {
                        let text = |v: &Value| if v.is_null() { Value::from("") } else { v.clone() };
                        Ok(Some(fields.iter().map(|(k, v)| (k.clone(), text(v))).collect()))
                    }
                }
            }
            (Go::TextMap, _) => Err(wrong(value, "map[string]string")),
            (Go::Structs(_, item_type, fields), Value::Array(items)) => {
                let mut out = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    let len = self.path.len();
                    let _ = write!(self.path, "{name}[{i}].");
                    let Value::Object(object) = item else { return Err(wrong(item, item_type)) };
                    let mut inner = Map::new();
                    for (key, value) in object {
                        let Some((_, go)) = fields.iter().find(|(known, _)| known == key) else {
                            self.unknown.push(format!("{}{key}", self.path));
                            continue;
                        };
                        let value = self.value(*go, value, &format!("{outer}.{name}"), key)?;
                        inner.extend(value.map(|value| (key.clone(), value)));
                    }
                    self.path.truncate(len);
                    out.push(Value::Object(inner));
                }
                Ok((!out.is_empty()).then_some(Value::Array(out)))
            }
            (Go::Structs(list_type, ..), _) => Err(wrong(value, list_type)),
        }
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(n) if n.is_f64() => format!("number {n}"),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_and_empty_fields_are_left_out() {
        let metadata = json!({"name": "a", "labels": {}, "bogus": 1, "creationTimestamp": null,
            "ownerReferences": [{"kind": "K", "x": 1}]});
        let decoded = decode(&metadata, false).unwrap();
        assert_eq!(decoded.metadata, json!({"name": "a", "ownerReferences": [{"kind": "K"}]}));
        assert_eq!(decoded.unknown, ["bogus", "ownerReferences[0].x"]);
    }

    #[test]
    fn a_wrong_type_is_an_error_or_dropped() {
        let metadata = json!({"labels": {"a": 1}, "name": "x"});
        assert_eq!(
            decode(&metadata, false).unwrap_err().to_string(),
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"
        );
        assert_eq!(decode(&metadata, true).unwrap().metadata, json!({"name": "x"}));
        assert_eq!(
            decode(&json!("x"), true).unwrap_err().to_string(),
            "json: cannot unmarshal string into Go value of type v1.ObjectMeta"
        );
        assert_eq!(
            decode(&json!({"creationTimestamp": "x"}), false).unwrap_err().to_string(),
            "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\""
        );
    }
}

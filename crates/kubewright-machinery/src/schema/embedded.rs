//! Embedded resources (`x-kubernetes-embedded-resource`): their apiVersion, kind and metadata are those of a real
//! resource. [`coerce`] is part of decoding, [`validate`] of validation.

use serde_json::Value;

use super::{Schema, object_meta};
use crate::field::{Error, Path};
use crate::{meta, names};

/// Gives the metadata of embedded resources the shape of ObjectMeta and returns the paths of the fields that were
/// removed, sorted. With `drop_invalid`, what has the wrong type goes silently (objects read from storage).
///
/// # Errors
/// apiVersion, kind or metadata of the wrong type.
pub fn coerce(
    value: &mut Value,
    schema: &Schema,
    resource_root: bool,
    drop_invalid: bool,
    path: &Path<'_>,
) -> Result<Vec<String>, Box<Error>> {
    let mut unknown = Vec::new();
    descend(value, schema, resource_root || schema.embedded_resource, drop_invalid, path, &mut unknown)?;
    unknown.sort();
    Ok(unknown)
}

fn descend(
    value: &mut Value,
    schema: &Schema,
    resource: bool,
    drop: bool,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), Box<Error>> {
    match value {
        Value::Object(fields) => {
            if resource {
                for name in ["apiVersion", "kind"] {
                    let Some(field) = fields.get(name).filter(|v| !v.is_string()) else { continue };
                    if !drop {
                        return Err(Box::new(Error::invalid(
                            &path.child(name),
                            field.clone(),
                            "must be a string",
                        )));
                    }
                    fields.remove(name);
                }
                if let Some(metadata) = fields.get_mut("metadata") {
                    let path = path.child("metadata");
                    match object_meta::decode(metadata, drop) {
                        Ok(decoded) => {
                            unknown.extend(decoded.unknown.iter().map(|field| format!("{path}.{field}")));
                            *metadata = decoded.metadata;
                        }
                        Err(error) if !drop => {
                            return Err(Box::new(Error::invalid(&path, metadata.take(), error.to_string())));
                        }
                        Err(_) => {}
                    }
                }
            }
            for (name, field) in fields {
                if let Some(schema) = schema.properties.get(name.as_str()) {
                    descend(field, schema, schema.embedded_resource, drop, &path.child(name), unknown)?;
                } else if let Some(schema) = schema.additional.as_deref() {
                    descend(field, schema, schema.embedded_resource, drop, &path.key(name), unknown)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return Ok(()) };
            for (i, item) in items.iter_mut().enumerate() {
                descend(item, schema, schema.embedded_resource, drop, &path.index(i), unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The faults of apiVersion, kind and metadata of embedded resources (and of the value itself with `resource_root`).
pub fn validate(schema: &Schema, value: &Value, resource_root: bool, path: &Path<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    judge(value, schema, resource_root || schema.embedded_resource, path, &mut errors);
    errors
}

fn judge(value: &Value, schema: &Schema, resource: bool, path: &Path<'_>, errors: &mut Vec<Error>) {
    match value {
        Value::Object(fields) => {
            if resource {
                resource_faults(fields, path, errors);
            }
            for (name, field) in fields {
                if let Some(schema) = schema.properties.get(name.as_str()) {
                    judge(field, schema, schema.embedded_resource, &path.child(name), errors);
                } else if let Some(schema) = schema.additional.as_deref() {
                    judge(field, schema, schema.embedded_resource, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return };
            for (i, item) in items.iter().enumerate() {
                judge(item, schema, schema.embedded_resource, &path.index(i), errors);
            }
        }
        _ => {}
    }
}

fn resource_faults(fields: &serde_json::Map<String, Value>, path: &Path<'_>, errors: &mut Vec<Error>) {
    let (version_path, kind_path) = (path.child("apiVersion"), path.child("kind"));
    for (path, value) in [(&version_path, fields.get("apiVersion")), (&kind_path, fields.get("kind"))] {
        if value.is_none() {
            errors.push(Error::required(path, ""));
        }
    }
    for (path, name) in [(&version_path, "apiVersion"), (&kind_path, "kind")] {
        match fields.get(name) {
            None => {}
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(Error::invalid(path, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "apiVersion" && text.matches('/').count() < 2 => {}
            Some(Value::String(text)) if name == "apiVersion" => {
                let detail = format!("unexpected GroupVersion string: {text}");
                errors.push(Error::invalid(path, text.as_str(), detail));
            }
            Some(Value::String(text)) => {
                let faults = names::is_dns1035_label(&text.to_lowercase());
                if !faults.is_empty() {
                    let detail =
                        format!("may have mixed case, but should otherwise match: {}", faults.join(","));
                    errors.push(Error::invalid(path, text.as_str(), detail));
                }
            }
            Some(other) => errors.push(Error::invalid(path, other.clone(), "must be a string")),
        }
    }
    if let Some(metadata) = fields.get("metadata") {
        let path = path.child("metadata");
        match object_meta::decode(metadata, false) {
            Err(error) => errors.push(Error::invalid(&path, metadata.clone(), error.to_string())),
            Ok(mut decoded) => {
                // An embedded resource may be without a name, and anywhere.
                if let Some(metadata) = decoded.metadata.as_object_mut() {
                    metadata.entry("name").or_insert_with(|| "unnamed".into());
                }
                let namespaced = decoded.metadata.get("namespace").is_some();
                errors.extend(meta::validate(
                    &decoded.metadata,
                    namespaced,
                    names::name_is_path_segment,
                    &path,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::structural::parse;
    use super::*;

    fn schema() -> Schema {
        parse(&json!({"type": "object", "properties": {"e": {"type": "object",
            "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}))
    }

    #[test]
    fn metadata_is_coerced_and_what_goes_is_named() {
        let mut value =
            json!({"e": {"kind": "K", "apiVersion": "v1", "metadata": {"name": "a", "bogus": 1}}});
        let unknown = coerce(&mut value, &schema(), false, false, &Path::ROOT).unwrap();
        assert_eq!(unknown, ["e.metadata.bogus"]);
        assert_eq!(value["e"]["metadata"], json!({"name": "a"}));

        let mut value = json!({"e": {"kind": 1, "metadata": {"labels": {"a": 1}}}});
        let error = coerce(&mut value.clone(), &schema(), false, false, &Path::ROOT).unwrap_err();
        assert_eq!(error.to_string(), "e.kind: Invalid value: 1: must be a string");
        coerce(&mut value, &schema(), false, true, &Path::ROOT).unwrap();
        assert_eq!(value, json!({"e": {"metadata": {}}}));
    }

    #[test]
    fn an_embedded_resource_needs_type_and_valid_metadata() {
        let faults = |e: Value| -> Vec<String> {
            let errors = validate(&schema(), &json!({"e": e}), false, &Path::ROOT);
            errors.iter().map(ToString::to_string).collect()
        };
        assert_eq!(faults(json!({})), ["e.apiVersion: Required value", "e.kind: Required value"]);
        let faults = faults(json!({"apiVersion": "a/b/c", "kind": "K", "metadata": {"labels": {"a b": ""}}}));
        assert_eq!(
            faults[0],
            "e.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"
        );
        assert!(
            faults[1].starts_with("e.metadata.labels: Invalid value: \"a b\": name part must consist of")
        );
    }
}

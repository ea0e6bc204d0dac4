//! Validation of ObjectMeta at creation and update (apimachinery `api/validation` and `apis/meta/v1/validation`):
//! the same checks in the same order with the same words. Takes the `metadata` value, not the object.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER};
use crate::field::{self, Error, Path};
use crate::gojson::{self, Style};
use crate::gvk::GroupVersion;
use crate::names::{self, NameRule};

/// What all annotations of an object may weigh together: keys and values, in bytes.
pub const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

const IMMUTABLE: &str = "field is immutable";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(meta: &'a Value, field: &str) -> &'a [Value] {
    meta.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn strings<'a>(meta: &'a Value, field: &str) -> Vec<&'a str> {
    items(meta, field).iter().filter_map(Value::as_str).collect()
}

fn invalid_each(errors: &mut Vec<Error>, path: &Path<'_>, value: &str, messages: Vec<String>) {
    errors.extend(messages.into_iter().map(|m| Error::invalid(path, value, m)));
}

/// Validates the metadata of an object to be created, after its name was generated.
pub fn validate(meta: &Value, namespaced: bool, rule: NameRule, path: &Path<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    let generate_name = text(meta, "generateName");
    if !generate_name.is_empty() {
        invalid_each(&mut errors, &path.child("generateName"), generate_name, rule(generate_name, true));
    }
    let name = text(meta, "name");
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name or generateName is required"));
    } else {
        invalid_each(&mut errors, &path.child("name"), name, rule(name, false));
    }
    let namespace = text(meta, "namespace");
    let namespace_path = path.child("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(Error::required(&namespace_path, "")),
        (true, false) => {
            invalid_each(&mut errors, &namespace_path, namespace, names::name_is_label(namespace, false));
        }
        (false, false) => errors.push(Error::forbidden(&namespace_path, "not allowed on this type")),
        (false, true) => {}
    }
    generation_not_negative(meta, path, &mut errors);
    validate_labels(meta.get("labels").and_then(Value::as_object), &path.child("labels"), &mut errors);
    validate_annotations(
        meta.get("annotations").and_then(Value::as_object),
        &path.child("annotations"),
        &mut errors,
    );
    validate_owner_references(items(meta, "ownerReferences"), &path.child("ownerReferences"), &mut errors);
    validate_finalizers(&strings(meta, "finalizers"), &path.child("finalizers"), &mut errors);
    validate_managed_fields(items(meta, "managedFields"), &path.child("managedFields"), &mut errors);
    errors
}

/// Validates the metadata of an update against the stored one.
pub fn validate_update(new: &Value, old: &Value, path: &Path<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    if old.get("deletionTimestamp").is_some_and(|v| !v.is_null()) {
        let found = no_new_finalizers(
            &strings(new, "finalizers"),
            &strings(old, "finalizers"),
            &path.child("finalizers"),
        );
        errors.extend(found);
    }
    if text(new, "resourceVersion").is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    generation_not_negative(new, path, &mut errors);
    let generation = |meta: &Value| meta.get("generation").and_then(Value::as_i64).unwrap_or_default();
    if generation(new) < generation(old) {
        errors.push(Error::invalid(&path.child("generation"), generation(new), "must not be decremented"));
    }
    for field in ["name", "namespace", "uid"] {
        if text(new, field) != text(old, field) {
            errors.push(Error::invalid(&path.child(field), text(new, field), IMMUTABLE));
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (new.get(field).unwrap_or(&Value::Null), old.get(field).unwrap_or(&Value::Null));
        if new != old {
            errors.push(Error::invalid(&path.child(field), new.clone(), IMMUTABLE));
        }
    }
    validate_labels(new.get("labels").and_then(Value::as_object), &path.child("labels"), &mut errors);
    validate_annotations(
        new.get("annotations").and_then(Value::as_object),
        &path.child("annotations"),
        &mut errors,
    );
    validate_owner_references(items(new, "ownerReferences"), &path.child("ownerReferences"), &mut errors);
    validate_managed_fields(items(new, "managedFields"), &path.child("managedFields"), &mut errors);
    errors
}

fn generation_not_negative(meta: &Value, path: &Path<'_>, errors: &mut Vec<Error>) {
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64).filter(|g| *g < 0) {
        errors.push(Error::invalid(
            &path.child("generation"),
            generation,
            "must be greater than or equal to 0",
        ));
    }
}

/// Validates keys and values of labels; the path is that of the map.
pub fn validate_labels(labels: Option<&Map<String, Value>>, path: &Path<'_>, errors: &mut Vec<Error>) {
    for (key, value) in labels.into_iter().flatten() {
        invalid_each(errors, path, key, names::is_qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        invalid_each(errors, path, value, names::is_label_value(value));
    }
}

/// Validates keys and the total size of annotations.
pub fn validate_annotations(
    annotations: Option<&Map<String, Value>>,
    path: &Path<'_>,
    errors: &mut Vec<Error>,
) {
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        let messages = names::is_qualified_name(&key.to_lowercase());
        invalid_each(errors, path, key, messages);
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_ANNOTATIONS_BYTES {
        errors.push(Error::too_long(path, MAX_ANNOTATIONS_BYTES));
    }
}

/// Validates owner references: each complete, at most one controller.
pub fn validate_owner_references(references: &[Value], path: &Path<'_>, errors: &mut Vec<Error>) {
    let mut controller: Option<String> = None;
    for reference in references {
        let api_version = text(reference, "apiVersion");
        if !api_version.parse::<GroupVersion>().is_ok_and(|gv| !gv.version.is_empty()) {
            let path = path.child("apiVersion");
            errors.push(Error::invalid(&path, api_version, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(reference, field).is_empty() {
                errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        let (kind, name) = (text(reference, "kind"), text(reference, "name"));
        if api_version == "v1" && kind == "Event" {
            errors.push(
                Error::invalid(path, reference.clone(), "/v1, Kind=Event is disallowed from being an owner")
                    .showing(owner_text(reference)),
            );
        }
        if reference.get("controller").and_then(Value::as_bool) == Some(true) {
            let current = format!("{kind}/{name}");
            match &controller {
                Some(first) => {
                    let shown: Vec<String> = references.iter().map(owner_text).collect();
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"
                    );
                    errors.push(
                        Error::invalid(path, references.to_vec(), detail)
                            .showing(format!("[{}]", shown.join(","))),
                    );
                }
                None => controller = Some(current),
            }
        }
    }
}

/// An owner reference as its Go type prints: in field order.
fn owner_text(reference: &Value) -> String {
    let mut out = String::from("{");
    for field in ["apiVersion", "kind", "name", "uid"] {
        if out.len() > 1 {
            out.push(',');
        }
        gojson::write(&mut out, &Value::from(field), Style::Standard);
        out.push(':');
        gojson::write(&mut out, &Value::from(text(reference, field)), Style::Standard);
    }
    for field in ["controller", "blockOwnerDeletion"] {
        if let Some(value) = reference.get(field).and_then(Value::as_bool) {
            out.push_str(&format!(",\"{field}\":{value}"));
        }
    }
    out.push('}');
    out
}

/// Validates finalizer names, and that the two of the garbage collector exclude each other.
pub fn validate_finalizers(finalizers: &[&str], path: &Path<'_>, errors: &mut Vec<Error>) {
    for finalizer in finalizers {
        invalid_each(errors, path, finalizer, names::is_qualified_name(finalizer));
    }
    if finalizers.contains(&ORPHAN_FINALIZER) && finalizers.contains(&FOREGROUND_FINALIZER) {
        let detail = format!("finalizer {ORPHAN_FINALIZER} and {FOREGROUND_FINALIZER} cannot be both set");
        errors.push(Error::invalid(path, finalizers.to_vec(), detail));
    }
}

/// An object that is being deleted takes no new finalizers.
pub fn no_new_finalizers(new: &[&str], old: &[&str], path: &Path<'_>) -> Option<Error> {
    let extra: BTreeSet<&str> = new.iter().copied().filter(|f| !old.contains(f)).collect();
    if extra.is_empty() {
        return None;
    }
    let list: Vec<String> = extra.into_iter().map(field::quote).collect();
    Some(Error::forbidden(
        path,
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            list.join(", ")
        ),
    ))
}

/// Validates the entries of managedFields.
pub fn validate_managed_fields(entries: &[Value], path: &Path<'_>, errors: &mut Vec<Error>) {
    for (i, entry) in entries.iter().enumerate() {
        let item = path.index(i);
        match text(entry, "operation") {
            "" => errors.push(Error::required(&item.child("operation"), "must not be empty")),
            "Apply" | "Update" => {}
            other => errors.push(Error::not_supported(&item.child("operation"), other, &["Apply", "Update"])),
        }
        let fields_type = text(entry, "fieldsType");
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            errors.push(Error::invalid(&item.child("fieldsType"), fields_type, "must be `FieldsV1`"));
        }
        validate_field_manager(text(entry, "manager"), &item.child("manager"), errors);
        if text(entry, "subresource").len() > 256 {
            errors.push(Error::too_long(&item.child("subresource"), 256));
        }
    }
}

/// Validates a field manager's name: at most 128 bytes, printable.
pub fn validate_field_manager(manager: &str, path: &Path<'_>, errors: &mut Vec<Error>) {
    if manager.len() > 128 {
        errors.push(Error::too_long(path, 128));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| !field::is_print(*c)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(Error::invalid(path, manager, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const META: Path<'static> = Path::new("metadata");

    fn texts(errors: &[Error]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_object_needs_a_name_and_a_namespace_where_it_has_one() {
        let e = validate(&json!({}), true, names::name_is_subdomain, &META);
        assert_eq!(
            texts(&e),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
        let e = validate(&json!({"name": "a", "namespace": "b"}), false, names::name_is_subdomain, &META);
        assert_eq!(texts(&e), ["metadata.namespace: Forbidden: not allowed on this type"]);
    }

    #[test]
    fn only_one_owner_may_be_the_controller() {
        let owner = |n: &str| json!({"uid": "u", "name": n, "kind": "ConfigMap", "apiVersion": "v1", "controller": true});
        let e = validate(
            &json!({"name": "c", "namespace": "n", "ownerReferences": [owner("o2"), owner("o3")]}),
            true,
            names::name_is_subdomain,
            &META,
        );
        assert_eq!(
            texts(&e),
            [
                r#"metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"ConfigMap","name":"o2","uid":"u","controller":true},{"apiVersion":"v1","kind":"ConfigMap","name":"o3","uid":"u","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for ConfigMap/o2 and ConfigMap/o3"#
            ]
        );
    }

    #[test]
    fn an_update_keeps_what_the_server_owns() {
        let old = json!({"name": "a", "uid": "1", "resourceVersion": "5", "generation": 2,
            "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/a"]});
        let new = json!({"name": "a", "uid": "2", "generation": 1, "finalizers": ["x/c", "x/b"],
            "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5});
        assert_eq!(
            texts(&validate_update(&new, &old, &META)),
            [
                r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/b", "x/c"}"#,
                r#"metadata.resourceVersion: Invalid value: "": must be specified for an update"#,
                "metadata.generation: Invalid value: 1: must not be decremented",
                r#"metadata.uid: Invalid value: "2": field is immutable"#,
                "metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable",
            ]
        );
    }

    #[test]
    fn annotations_are_limited_together() {
        let big = json!({"name": "a", "namespace": "n", "annotations": {"A/B": "x".repeat(200_000), "c": "y".repeat(70_000)}});
        let e = validate(&big, true, names::name_is_subdomain, &META);
        assert_eq!(texts(&e), ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
    }

    #[test]
    fn managers_are_printable() {
        let mut e = Vec::new();
        validate_field_manager("a\tb", &Path::new("fieldManager"), &mut e);
        assert_eq!(
            texts(&e),
            [r#"fieldManager: Invalid value: "a\tb": invalid character U+0009 (at position 1)"#]
        );
    }
}

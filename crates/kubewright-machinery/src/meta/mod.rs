//! Metadata of plain JSON objects: typed reading and writing of `metadata` without building or cloning anything,
//! and its validation ([`validate`]). Absent fields read as empty; fields of a wrong type read as absent (the
//! decoder refuses them before anybody looks).

mod validate;

use serde_json::{Map, Value};

pub use validate::{
    MAX_ANNOTATIONS_BYTES, no_new_finalizers, validate, validate_annotations, validate_field_manager,
    validate_finalizers, validate_labels, validate_managed_fields, validate_owner_references,
    validate_update,
};

/// The finalizer that makes the garbage collector orphan an object's dependents.
pub const ORPHAN_FINALIZER: &str = "orphan";
/// The finalizer that makes the garbage collector delete an object's dependents first.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// A string of the object itself (`kind`, `apiVersion`); empty if absent.
pub fn top<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The object's kind.
pub fn kind(object: &Value) -> &str {
    top(object, "kind")
}

/// The object's apiVersion.
pub fn api_version(object: &Value) -> &str {
    top(object, "apiVersion")
}

/// A field of the metadata, whatever its type; null counts as absent.
pub fn get<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(field).filter(|v| !v.is_null())
}

/// A string of the metadata; empty if absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    get(object, field).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.generateName`.
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.generation`; 0 if absent.
pub fn generation(object: &Value) -> i64 {
    get(object, "generation").and_then(Value::as_i64).unwrap_or_default()
}

/// `metadata.creationTimestamp`, as written.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    get(object, "creationTimestamp").and_then(Value::as_str)
}

/// `metadata.deletionTimestamp`, as written.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    get(object, "deletionTimestamp").and_then(Value::as_str)
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    get(object, "deletionTimestamp").is_some()
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    get(object, "deletionGracePeriodSeconds").and_then(Value::as_i64)
}

/// A map of the metadata.
fn map<'a>(object: &'a Value, field: &str) -> Option<&'a Map<String, Value>> {
    get(object, field).and_then(Value::as_object)
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    map(object, "labels")
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// `metadata.annotations`.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    map(object, "annotations")
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "finalizers").iter().filter_map(Value::as_str)
}

/// Whether the object has the finalizer.
pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    finalizers(object).any(|f| f == finalizer)
}

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    get(object, field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    list(object, "ownerReferences")
}

/// `metadata.managedFields`.
pub fn managed_fields(object: &Value) -> &[Value] {
    list(object, "managedFields")
}

/// The owner reference that says `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|r| r.get("controller").and_then(Value::as_bool) == Some(true))
}

/// Whether `uid` is among the owners.
pub fn is_owned_by(object: &Value, uid: &str) -> bool {
    owner_references(object).iter().any(|r| top(r, "uid") == uid)
}

/// The metadata for writing; made if absent. A value that is no object becomes an empty one first.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let root = object_mut(object);
    object_mut(root.entry("metadata").or_insert_with(|| Value::Object(Map::new())))
}

fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("the value was made an object above"),
    }
}

/// Sets a field of the metadata.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(field.to_string(), value.into());
}

/// Removes a field of the metadata and returns it.
pub fn remove(object: &mut Value, field: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(field)
}

/// Sets a label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    set_in(object, "labels", key, value);
}

/// Sets an annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    set_in(object, "annotations", key, value);
}

fn set_in(object: &mut Value, field: &str, key: &str, value: &str) {
    let map = metadata_mut(object).entry(field).or_insert_with(|| Value::Object(Map::new()));
    object_mut(map).insert(key.to_string(), value.into());
}

/// Removes a label; labels that become empty go too.
pub fn remove_label(object: &mut Value, key: &str) {
    remove_in(object, "labels", key);
}

/// Removes an annotation; annotations that become empty go too.
pub fn remove_annotation(object: &mut Value, key: &str) {
    remove_in(object, "annotations", key);
}

fn remove_in(object: &mut Value, field: &str, key: &str) {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if let Some(map) = meta.get_mut(field).and_then(Value::as_object_mut) {
        map.remove(key);
        if map.is_empty() {
            meta.remove(field);
        }
    }
}

/// Adds a finalizer; returns whether it was new.
pub fn add_finalizer(object: &mut Value, finalizer: &str) -> bool {
    if has_finalizer(object, finalizer) {
        return false;
    }
    let list = metadata_mut(object).entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
    match list {
        Value::Array(items) => items.push(finalizer.into()),
        other => *other = Value::Array(vec![finalizer.into()]),
    }
    true
}

/// Removes a finalizer; returns whether it was there. A list that becomes empty goes.
pub fn remove_finalizer(object: &mut Value, finalizer: &str) -> bool {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return false };
    let Some(items) = meta.get_mut("finalizers").and_then(Value::as_array_mut) else { return false };
    let before = items.len();
    items.retain(|f| f.as_str() != Some(finalizer));
    let found = items.len() < before;
    if items.is_empty() {
        meta.remove("finalizers");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_and_mistyped_fields_read_as_empty() {
        for o in [
            json!({}),
            json!([]),
            json!({"metadata": 3}),
            json!({"metadata": {"name": 1, "labels": "x", "generation": "2"}}),
        ] {
            assert_eq!((name(&o), uid(&o), generation(&o)), ("", "", 0));
            assert!(labels(&o).is_none() && !is_deleting(&o) && finalizers(&o).next().is_none());
        }
    }

    #[test]
    fn writing_makes_what_is_missing_and_leaves_nothing_empty() {
        let mut o = json!({});
        set(&mut o, "name", "x");
        set_label(&mut o, "a", "b");
        assert!(add_finalizer(&mut o, "f/g"));
        assert!(!add_finalizer(&mut o, "f/g"));
        assert_eq!(o, json!({"metadata": {"name": "x", "labels": {"a": "b"}, "finalizers": ["f/g"]}}));
        remove_label(&mut o, "a");
        assert!(remove_finalizer(&mut o, "f/g"));
        assert!(!remove_finalizer(&mut o, "f/g"));
        assert_eq!(remove(&mut o, "name"), Some(json!("x")));
        assert_eq!(o, json!({"metadata": {}}));
    }

    #[test]
    fn the_controller_is_the_owner_that_says_so() {
        let o = json!({"metadata": {"ownerReferences": [{"uid": "1"}, {"uid": "2", "controller": true}]}});
        assert_eq!(controller_of(&o).map(|r| top(r, "uid")), Some("2"));
        assert!(is_owned_by(&o, "1") && !is_owned_by(&o, "3"));
    }
}

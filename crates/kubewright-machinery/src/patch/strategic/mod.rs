//! Strategic merge patch: a merge patch that knows the lists of built-in kinds. Lists with patch strategy `merge`
//! are merged by key (or as sets), and directives in the patch delete, replace, order and retain.
//!
//! What is merged how stands in the schema ([`PatchFacts`](crate::schema::PatchFacts)); a place without schema is
//! merged like a merge patch. Follows `strategicpatch` of apimachinery, order of list items included.

mod lists;
mod order;

use serde_json::{Map, Value};

use super::go_text;
use crate::decode::{self, Decoded};
use crate::field::quote;
use crate::schema::Schema;
use crate::status::Status;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder";
const DELETE: &str = "$deleteFromPrimitiveList";

/// A strategic merge patch can't be read or applied. The text is the server's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or no object.
    #[error(transparent)]
    Decode(#[from] decode::Error),
    /// `$deleteFromPrimitiveList` without a field.
    #[error("invalid patch format of primitive list")]
    DeleteFormat,
    /// `$retainKeys` that is no list, or that lacks a field of the patch.
    #[error("invalid patch format of retainKeys")]
    RetainKeysFormat,
    /// `$setElementOrder` without a field or a list.
    #[error("invalid patch format of setElementOrder list")]
    OrderFormat,
    /// A list in a list.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// An item without the list's merge key.
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The item, as Go prints it.
        item: String,
        /// The merge key.
        key: String,
    },
    /// A value of another type than the patch needs.
    #[error("expected a {expected}, but received a {found}")]
    WrongType {
        /// Go's name of the type.
        expected: &'static str,
        /// Go's name of the value's type.
        found: &'static str,
    },
    /// A `$patch` that is none of delete, replace and merge.
    #[error("unknown patch type: {directive} in map: {map}")]
    Directive {
        /// The word.
        directive: String,
        /// The patch around it, as Go prints it.
        map: String,
    },
    /// `$patch: merge` in a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeInList,
    /// Items of the patch that their `$setElementOrder` has in another order, or not at all.
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    Order {
        /// The list of the patch, as Go prints it.
        patch: String,
        /// The order, as Go prints it.
        order: String,
    },
    /// Items of different types.
    #[error("list element types are not identical: {0}")]
    MixedItems(String),
    /// `$setElementOrder` of an empty list.
    #[error("no elements in any of the given slices")]
    NoItems,
    /// A list that is merged but has no merge key.
    #[error("cannot merge lists without merge key for {0}")]
    NoKeyDeclared(String),
    /// An item to be merged by key that is no object.
    #[error("value for key {0} is not a map")]
    ItemNotMap(usize),
    /// A map inside a map, or a directive about a field of a map.
    #[error("merging an object in json but data type is not struct, instead is: map")]
    NotStruct,
    /// A directive for lists about a field that is none.
    #[error("expected slice or array type, but got: struct")]
    NotList,
    /// A directive about a field that the type does not have.
    #[error("unable to find api field in struct {kind} for the json field {}", quote(.field))]
    NoField {
        /// The type.
        kind: String,
        /// The field.
        field: String,
    },
}

impl Error {
    /// The answer: 400 for a body or a directive that can't be read, 422 for lists in lists, and what Kubernetes
    /// did not foresee is a 500 without a reason.
    pub fn status(&self) -> Status {
        match self {
            Error::Decode(_) | Error::DeleteFormat | Error::RetainKeysFormat | Error::OrderFormat => {
                Status::bad_request(self.to_string())
            }
            Error::ListOfLists => Status::unprocessable(),
            _ => Status::failure(500, "", self.to_string()),
        }
    }
}

/// Reads a patch; also gives its duplicate fields. null is the empty patch.
///
/// # Errors
/// When the body is not JSON or no object.
pub fn parse(body: &[u8]) -> Result<Decoded, Error> {
    let mut decoded = decode::json(body)?;
    match &decoded.value {
        Value::Object(_) => {}
        Value::Null => decoded.value = Value::Object(Map::new()),
        other => {
            return Err(Error::Decode(decode::Error::Type {
                found: decode::json_type(other).into(),
                place: "value".into(),
                expected: "map[string]interface {}".into(),
            }));
        }
    }
    Ok(decoded)
}

/// Merges a patch into an object of the type that the schema describes.
///
/// # Errors
/// When either is no object, or directives or list items in the patch can't be followed.
pub fn apply(original: Value, patch: Value, schema: &Schema) -> Result<Value, Error> {
    match (original, patch) {
        (Value::Object(original), Value::Object(patch)) => {
            merge_map(original, patch, Some(schema)).map(Value::Object)
        }
        (Value::Object(_), other) | (other, _) => Err(wrong_type("map[string]interface {}", &other)),
    }
}

fn wrong_type(expected: &'static str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    Error::WrongType { expected, found }
}

/// What is known of a field: its schema, whether it is merged or replaced, and its merge key.
#[derive(Clone, Copy, Default)]
struct Facts<'s> {
    schema: Option<&'s Schema>,
    merge: bool,
    replace: bool,
    key: Option<&'s str>,
}

/// Looks a field up. A struct that lacks it is a fault; a map has no fields.
fn lookup<'s>(schema: Option<&'s Schema>, field: &str) -> Result<Facts<'s>, Error> {
    let Some(schema) = schema else { return Ok(Facts::default()) };
    let found = match schema.properties.get(field) {
        Some(found) => found,
        None if schema.properties.is_empty() && schema.additional.is_some() => return Err(Error::NotStruct),
        None if schema.properties.is_empty() => return Ok(Facts::default()),
        None => {
            let name = schema.name.as_deref().unwrap_or_default();
            let kind = name.rsplit('.').next().unwrap_or_default().to_string();
            return Err(Error::NoField { kind, field: field.to_string() });
        }
    };
    let facts = found.patch.as_deref();
    Ok(Facts {
        schema: Some(found),
        merge: facts.is_some_and(|f| f.merge),
        replace: facts.is_some_and(|f| f.replace),
        key: facts.and_then(|f| f.merge_key.as_deref()),
    })
}

impl<'s> Facts<'s> {
    fn items(&self) -> Option<&'s Schema> {
        self.schema?.items.as_deref()
    }
}

type Object = Map<String, Value>;

fn merge_map(mut original: Object, mut patch: Object, schema: Option<&Schema>) -> Result<Object, Error> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::order_lists(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        let deletes = key.starts_with(DELETE);
        let key =
            if deletes { after_slash(&key, DELETE).ok_or(Error::DeleteFormat)?.to_string() } else { key };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (None, value) if deletes => {
                drop(value);
                continue;
            }
            (Some(Value::Object(before)), Value::Object(value)) => {
                let facts = lookup(schema, &key)?;
                let merged = if facts.replace { value } else { merge_map(before, value, facts.schema)? };
                Some(Value::Object(merged))
            }
            (Some(Value::Array(before)), Value::Array(value)) => {
                let facts = lookup(schema, &key)?;
                Some(Value::Array(lists::merge_field(before, value, facts, deletes)?))
            }
            (Some(before), _) if deletes => Some(before),
            (_, value) => without_directives(without_nulls(value)),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

fn unknown_directive(directive: &Value, map: &Object) -> Error {
    Error::Directive { directive: go_text(directive), map: go_text(&Value::Object(map.clone())) }
}

/// The field that a directive such as `$setElementOrder/containers` is about.
fn after_slash<'k>(key: &'k str, prefix: &str) -> Option<&'k str> {
    key.split_once('/').filter(|(head, _)| *head == prefix).map(|(_, field)| field)
}

/// Clears what `$retainKeys` does not name; it has to name all that the patch sets.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(Error::RetainKeysFormat) };
    let named = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let unnamed = |(key, value): (&String, &Value)| {
        !value.is_null() && !key.starts_with(DELETE) && !key.starts_with(ORDER) && !named(key)
    };
    if patch.iter().any(unnamed) {
        return Err(Error::RetainKeysFormat);
    }
    original.retain(|key, _| named(key));
    Ok(())
}

/// A new value without the nulls of its objects.
fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            for v in map.values_mut() {
                *v = without_nulls(v.take());
            }
        }
        Value::Array(items) => {
            for v in items {
                *v = without_nulls(v.take());
            }
        }
        _ => {}
    }
    value
}

/// A new value without the objects that only carry a `$patch`; none if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => Some(Value::Object(
            map.into_iter().filter_map(|(k, v)| without_directives(v).map(|v| (k, v))).collect(),
        )),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests;

//! Strategic merge patch: a merge patch that knows the lists of built-in kinds. Lists with patch strategy `merge`
//! are merged by key (or as sets), and directives in the patch delete, replace, order and retain.
//!
//! What is merged how stands in the schema ([`PatchFacts`](crate::schema::PatchFacts)); a place without schema is
//! merged like a merge patch. Follows `strategicpatch` of apimachinery, order of list items included.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::go_text;
use crate::decode::{self, Decoded};
use crate::field::quote;
use crate::schema::{Schema, Type};
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
                found: super::json::type_name(other).into(),
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

/// Looks a field up. A struct that lacks it is a fault; in a map every key is a field.
fn lookup<'s>(schema: Option<&'s Schema>, field: &str) -> Result<Facts<'s>, Error> {
    let Some(schema) = schema else { return Ok(Facts::default()) };
    let found = match schema.properties.get(field) {
        Some(found) => found,
        None if schema.properties.is_empty() => match &schema.additional {
            Some(values) => values,
            None => return Ok(Facts::default()),
        },
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
    order_lists(&mut original, &mut patch, schema)?;
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
                Some(Value::Array(merge_field(before, value, facts, deletes)?))
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

/// Merges the lists that have a `$setElementOrder` and puts them in that order.
fn order_lists(original: &mut Object, patch: &mut Object, schema: Option<&Schema>) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(ORDER)).cloned().collect();
    for directive in directives {
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            Some(other) => return Err(wrong_type("[]interface {}", &other)),
            None => continue,
        };
        let field = after_slash(&directive, ORDER).ok_or(Error::OrderFormat)?;
        let list = |map: &Object| match map.get(field) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.clone())),
            Some(other) => Err(wrong_type("[]interface {}", other)),
        };
        let (live, patched) = (list(original)?, list(patch)?);
        let facts = lookup(schema, field)?;
        check_order(patched.as_deref().unwrap_or_default(), &order, facts.key)?;
        let merged = match (live.clone(), patched.clone()) {
            (None, None) => continue,
            (Some(live), None) => live,
            (None, Some(patched)) => match without_directives(Value::Array(patched)) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(live), Some(patched)) => merge_field(live, patched, facts, false)?,
        };
        let (live, patched) = (live.unwrap_or_default(), patched.unwrap_or_default());
        if !one_type(&[&live, &patched])? {
            return Err(Error::NoItems);
        }
        let (mine, others) = partition(merged, &order, facts.key)?;
        original.insert(field.to_string(), Value::Array(arrange(mine, others, &order, &live, facts.key)));
        patch.remove(field);
    }
    Ok(())
}

/// The items of the patch must stand in the order list, in the same order (deletions apart).
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let expected = identity(item, key)?;
        loop {
            let Some(candidate) = wanted.next() else {
                let text = |list: &[Value]| go_text(&Value::Array(list.to_vec()));
                return Err(Error::Order { patch: text(patch), order: text(order) });
            };
            if identity(candidate, key)? == expected {
                break;
            }
        }
    }
    Ok(())
}

/// What identifies an item: the value of the merge key, or the item itself.
fn identity<'v>(item: &'v Value, key: Option<&str>) -> Result<&'v Value, Error> {
    let Some(key) = key else { return Ok(item) };
    let Value::Object(map) = item else { return Err(wrong_type("map[string]interface {}", item)) };
    map.get(key).ok_or_else(|| Error::NoMergeKey { item: go_text(item), key: key.to_string() })
}

/// Merges a list of the patch into the live one, as the field's strategy says.
fn merge_field(
    live: Vec<Value>,
    patch: Vec<Value>,
    facts: Facts<'_>,
    deletes: bool,
) -> Result<Vec<Value>, Error> {
    if !facts.merge && !deletes {
        return Ok(patch);
    }
    if !one_type(&[&live, &patch])? {
        return Ok(live);
    }
    let objects = live.first().or(patch.first()).is_some_and(Value::is_object);
    if !objects {
        if deletes {
            return Ok(live.into_iter().filter(|item| !patch.contains(item)).collect());
        }
        let mut merged: Vec<Value> = Vec::with_capacity(live.len() + patch.len());
        for item in live.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        let (mine, others) = partition(merged, &patch, None)?;
        return Ok(arrange(mine, others, &patch, &live, None));
    }
    let key = facts.key.ok_or_else(|| {
        let kind = facts.items().and_then(|s| s.ty).map_or("struct", |ty| match ty {
            Type::Array => "slice",
            Type::String => "string",
            _ => "struct",
        });
        Error::NoKeyDeclared(kind.to_string())
    })?;
    let (live, patch) = apply_item_directives(live, patch, key)?;
    let order = live.clone();
    let mut merged = live;
    for item in &patch {
        let Value::Object(item) = item else { return Err(wrong_type("map[string]interface {}", item)) };
        let Some(value) = item.get(key) else {
            return Err(Error::NoMergeKey {
                item: go_text(&Value::Object(item.clone())),
                key: key.to_string(),
            });
        };
        match find(&merged, key, value)? {
            Some(at) => {
                let Value::Object(before) = merged[at].take() else { return Err(Error::ItemNotMap(at)) };
                merged[at] = Value::Object(merge_map(before, item.clone(), facts.items())?);
            }
            None => merged.push(Value::Object(item.clone())),
        }
    }
    let (mine, others) = partition(merged, &patch, Some(key))?;
    Ok(arrange(mine, others, &patch, &order, Some(key)))
}

/// Follows the `$patch` items of a list: deletions from the live list, or its replacement by the patch.
fn apply_item_directives(
    mut live: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replaces = false;
    for item in patch {
        let Some(directive) = item.get(PATCH) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let value = identity(&item, Some(key))?;
                while let Some(at) = find(&live, key, value)? {
                    live.remove(at);
                }
            }
            Some("replace") => replaces = true,
            Some("merge") => return Err(Error::MergeInList),
            _ => {
                let map = item.as_object().map_or(Cow::Owned(Object::new()), Cow::Borrowed);
                return Err(unknown_directive(directive, &map));
            }
        }
    }
    Ok(if replaces { (plain, Vec::new()) } else { (live, plain) })
}

fn find(items: &[Value], key: &str, value: &Value) -> Result<Option<usize>, Error> {
    for (at, item) in items.iter().enumerate() {
        let Value::Object(map) = item else { return Err(Error::ItemNotMap(at)) };
        if map.get(key) == Some(value) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Whether there is any item; all have to be of one type, and no list.
fn one_type(lists: &[&[Value]]) -> Result<bool, Error> {
    let kind = |item: &Value| wrong_type("", item);
    let mut items = lists.iter().flat_map(|l| l.iter());
    let Some(first) = items.next() else { return Ok(false) };
    if first.is_array() {
        return Err(Error::ListOfLists);
    }
    if items.all(|item| kind(item) == kind(first)) {
        return Ok(true);
    }
    Err(Error::MixedItems(go_text(&Value::from(
        lists.iter().map(|l| Value::from(l.to_vec())).collect::<Vec<_>>(),
    ))))
}

/// Splits items into those that a list names and the others.
fn partition(items: Vec<Value>, by: &[Value], key: Option<&str>) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in items {
        let is_named = match key {
            Some(key) => find(by, key, identity(&item, Some(key))?)?.is_some(),
            None => by.contains(&item),
        };
        if is_named { named.push(item) } else { others.push(item) }
    }
    Ok((named, others))
}

/// Puts the items of the patch in their order and the others in theirs, then interleaves both as the live list
/// had them, as far as that is possible.
fn arrange(
    mut mine: Vec<Value>,
    mut others: Vec<Value>,
    order: &[Value],
    live: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let position = |list: &[Value], item: &Value| {
        let of = |v: &Value| key.map_or_else(|| Some(v.clone()), |k| v.get(k).cloned());
        let wanted = of(item);
        list.iter().position(|v| of(v) == wanted)
    };
    mine.sort_by_key(|item| position(order, item).unwrap_or(usize::MAX));
    others.sort_by_key(|item| position(live, item).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(mine.len() + others.len());
    let (mut mine, mut others) = (mine.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(other), Some(own)) = (others.peek(), mine.peek()) {
        let first = match (position(live, other), position(live, own)) {
            (Some(other), Some(own)) => other < own,
            _ => false,
        };
        out.extend(if first { others.next() } else { mine.next() });
    }
    out.extend(mine);
    out.extend(others);
    out
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
mod tests {
    use super::super::merge::{self, tests::any_json};
    use super::*;
    use crate::schema::{PatchFacts, SchemaRef};
    use proptest::prelude::*;
    use serde_json::json;

    fn object(fields: &[(&str, Schema)]) -> Schema {
        Schema {
            ty: Some(Type::Object),
            properties: fields.iter().map(|(k, s)| ((*k).into(), SchemaRef::from(s.clone()))).collect(),
            name: Some("io.k8s.api.core.v1.Thing".into()),
            ..Schema::default()
        }
    }

    fn list(item: Schema, facts: PatchFacts) -> Schema {
        Schema {
            ty: Some(Type::Array),
            items: Some(item.into()),
            patch: Some(Box::new(facts)),
            ..Schema::default()
        }
    }

    fn merged_by(key: &str) -> PatchFacts {
        PatchFacts { merge: true, merge_key: Some(key.into()), ..PatchFacts::default() }
    }

    /// Containers by name with env by name, a set of finalizers, an atomic list, a map and a union.
    fn schema() -> Schema {
        let string = Schema { ty: Some(Type::String), ..Schema::default() };
        let env = object(&[("name", string.clone()), ("value", string.clone())]);
        let container = object(&[
            ("name", string.clone()),
            ("image", string.clone()),
            ("env", list(env, merged_by("name"))),
        ]);
        let map =
            Schema { ty: Some(Type::Object), additional: Some(string.clone().into()), ..Schema::default() };
        let strategy = Schema {
            patch: Some(Box::new(PatchFacts { retain_keys: true, ..PatchFacts::default() })),
            ..object(&[("type", string.clone()), ("rollingUpdate", map.clone())])
        };
        object(&[
            ("containers", list(container, merged_by("name"))),
            ("finalizers", list(string.clone(), PatchFacts { merge: true, ..PatchFacts::default() })),
            ("args", list(string, PatchFacts::default())),
            ("labels", map),
            ("strategy", strategy),
        ])
    }

    fn patched(original: Value, patch: Value) -> Result<Value, Error> {
        apply(original, patch, &schema())
    }

    fn containers(names: &[&str]) -> Value {
        names.iter().map(|n| json!({"name": n, "image": format!("{n}:1")})).collect()
    }

    fn names(value: &Value, field: &str) -> Vec<String> {
        let list = value[field].as_array().cloned().unwrap_or_default();
        list.iter().map(|v| v["name"].as_str().or(v.as_str()).unwrap_or_default().to_string()).collect()
    }

    #[test]
    fn lists_are_merged_by_key_and_new_items_come_first() {
        let out = patched(
            json!({"containers": containers(&["a", "b"])}),
            json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "b", "image": "b:2"}]}),
        )
        .unwrap();
        assert_eq!(names(&out, "containers"), ["c", "a", "b"]);
        assert_eq!(out["containers"][2]["image"], "b:2");
        let out = patched(json!({"args": ["a"]}), json!({"args": ["b"]})).unwrap();
        assert_eq!(out, json!({"args": ["b"]}));
    }

    #[test]
    fn directives_delete_and_replace_items() {
        let live = || json!({"containers": containers(&["a", "b"]), "labels": {"x": "1"}});
        let out = patched(live(), json!({"containers": [{"name": "a", "$patch": "delete"}]})).unwrap();
        assert_eq!(names(&out, "containers"), ["b"]);
        let out = patched(live(), json!({"containers": [{"$patch": "replace"}, {"name": "n"}]})).unwrap();
        assert_eq!(names(&out, "containers"), ["n"]);
        let out = patched(live(), json!({"labels": {"$patch": "replace", "y": "2"}})).unwrap();
        assert_eq!(out["labels"], json!({"y": "2"}));
        let out = patched(live(), json!({"labels": {"$patch": "delete"}})).unwrap();
        assert_eq!(out["labels"], json!({}));
        assert_eq!(patched(live(), json!({"strategy": {"$patch": "delete"}})), Ok(live()));
        let error = patched(live(), json!({"labels": {"$patch": "frob"}})).unwrap_err();
        assert_eq!(error.to_string(), "unknown patch type: frob in map: map[$patch:frob]");
        assert_eq!(error.status().code, 500);
        let error = patched(live(), json!({"containers": [{"image": "x"}]})).unwrap_err();
        assert_eq!(error.to_string(), "map: map[image:x] does not contain declared merge key: name");
    }

    #[test]
    fn element_order_wins_over_the_live_order() {
        let live = json!({"containers": containers(&["a", "b", "s"])});
        let order = json!([{"name": "b"}, {"name": "n"}, {"name": "a"}]);
        let out = patched(
            live.clone(),
            json!({"$setElementOrder/containers": order, "containers": [{"name": "n", "image": "n:1"}]}),
        )
        .unwrap();
        assert_eq!(names(&out, "containers"), ["b", "n", "a", "s"]);
        let out =
            patched(live.clone(), json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}))
                .unwrap();
        assert_eq!(names(&out, "containers"), ["b", "a", "s"]);
        let error = patched(
            live,
            json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n"
        );
    }

    #[test]
    fn primitive_lists_are_sets_with_deletions_and_an_order() {
        let live = || json!({"finalizers": ["a", "b", "c"]});
        let out = patched(
            live(),
            json!({"$deleteFromPrimitiveList/finalizers": ["a", "x"], "finalizers": ["c", "d"]}),
        )
        .unwrap();
        assert_eq!(names(&out, "finalizers"), ["b", "c", "d"]);
        let out =
            patched(live(), json!({"$setElementOrder/finalizers": ["c", "d", "b"], "finalizers": ["d"]}))
                .unwrap();
        assert_eq!(names(&out, "finalizers"), ["a", "c", "d", "b"]);
        assert_eq!(patched(json!({}), json!({"$deleteFromPrimitiveList/finalizers": ["a"]})), Ok(json!({})));
        assert_eq!(
            patched(live(), json!({"$deleteFromPrimitiveList": ["a"]})).unwrap_err().status().code,
            400
        );
    }

    #[test]
    fn retained_keys_clear_the_others() {
        let live = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "1"}}});
        let out = patched(live.clone(), json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}))
            .unwrap();
        assert_eq!(out["strategy"], json!({"type": "Recreate"}));
        for bad in [json!({"$retainKeys": ["type"], "rollingUpdate": {}}), json!({"$retainKeys": "type"})] {
            let error = patched(live.clone(), json!({"strategy": bad})).unwrap_err();
            assert_eq!(
                (error.to_string().as_str(), error.status().code),
                ("invalid patch format of retainKeys", 400)
            );
        }
    }

    #[test]
    fn items_that_do_not_fit_the_list_are_refused() {
        let live = || json!({"containers": containers(&["a"])});
        assert!(matches!(patched(live(), json!({"containers": ["x"]})), Err(Error::MixedItems(_))));
        assert_eq!(
            patched(live(), json!({"containers": {"name": "x"}})),
            Ok(json!({"containers": {"name": "x"}}))
        );
        assert_eq!(
            patched(live(), json!({"$setElementOrder/nope": ["x"]})).unwrap_err().to_string(),
            "unable to find api field in struct Thing for the json field \"nope\""
        );
        assert_eq!(
            parse(b"[]").unwrap_err().status().message,
            "json: cannot unmarshal array into Go value of type map[string]interface {}"
        );
    }

    proptest! {
        #[test]
        fn without_schema_and_directives_it_is_a_merge_patch(original in prop::collection::btree_map("[a-d]", any_json(true), 0..4), patch in prop::collection::btree_map("[a-d]", any_json(true), 0..4)) {
            let object = |m: std::collections::BTreeMap<String, Value>| Value::Object(m.into_iter().collect());
            let (original, patch) = (object(original), object(patch));
            let ours = apply(original.clone(), patch.clone(), &Schema::any());
            let mut merged = original;
            merge::apply(&mut merged, patch);
            // A list that replaces a list is taken as it is, nulls of its objects included.
            prop_assert_eq!(ours.map(without_nulls), Ok(without_nulls(merged)));
        }

        #[test]
        fn merging_by_key_twice_is_merging_once(live in prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4), patch in prop::sample::subsequence(vec!["c", "e", "b", "a"], 0..=4).prop_shuffle()) {
            let original = json!({"containers": containers(&live)});
            let patch = json!({"containers": patch.iter().map(|n| json!({"name": n, "image": "new"})).collect::<Value>()});
            let once = patched(original, patch.clone()).unwrap();
            prop_assert_eq!(patched(once.clone(), patch), Ok(once));
        }

        #[test]
        fn any_patch_is_applied_or_refused(original in any_json(true), patch in any_json(true), field in "(\\$patch|\\$retainKeys|\\$setElementOrder/(containers|finalizers|x)|\\$deleteFromPrimitiveList/finalizers|containers|finalizers|labels)") {
            let _ = patched(json!({"containers": original, "finalizers": [1], "labels": {}}), json!({field: patch}));
        }
    }
}

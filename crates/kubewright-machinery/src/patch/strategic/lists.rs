//! Lists of a patch over lists of the live object: by merge key, as sets, or in their place.
//!
//! Directives of items (`$patch`) are followed here; the order of what comes out is a matter of [`super::order`].

use std::borrow::Cow;

use serde_json::Value;

use super::order::arrange;
use super::{Error, Facts, Object, PATCH, go_text, merge_map, unknown_directive, wrong_type};
use crate::schema::Type;

/// Merges a list of the patch into the live one, as the field's strategy says.
pub(super) fn merge_field(
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

pub(super) fn find(items: &[Value], key: &str, value: &Value) -> Result<Option<usize>, Error> {
    for (at, item) in items.iter().enumerate() {
        let Value::Object(map) = item else { return Err(Error::ItemNotMap(at)) };
        if map.get(key) == Some(value) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Whether there is any item; all have to be of one type, and no list.
pub(super) fn one_type(lists: &[&[Value]]) -> Result<bool, Error> {
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
pub(super) fn partition(
    items: Vec<Value>,
    by: &[Value],
    key: Option<&str>,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
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

/// What identifies an item: the value of the merge key, or the item itself.
pub(super) fn identity<'v>(item: &'v Value, key: Option<&str>) -> Result<&'v Value, Error> {
    let Some(key) = key else { return Ok(item) };
    let Value::Object(map) = item else { return Err(wrong_type("map[string]interface {}", item)) };
    map.get(key).ok_or_else(|| Error::NoMergeKey { item: go_text(item), key: key.to_string() })
}

//! The order of lists: what `$setElementOrder` asks for, and what is kept of the live order where nothing does.
//!
//! Items of the patch keep the order of the patch, the others that of the live list, and both are interleaved as the live
//! list had them, as far as that is possible. What an item says is not looked at, beyond what identifies it.

use serde_json::Value;

use super::lists::{self, identity, one_type, partition};
use super::{Error, ORDER, Object, PATCH, after_slash, go_text, lookup, without_directives, wrong_type};
use crate::schema::{Schema, Type};

/// Merges the lists that have a `$setElementOrder` and puts them in that order.
pub(super) fn order_lists(
    original: &mut Object,
    patch: &mut Object,
    schema: Option<&Schema>,
) -> Result<(), Error> {
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
        if facts.schema.is_some_and(|schema| matches!(schema.ty, Some(Type::Object | Type::String))) {
            return Err(Error::NotList);
        }
        check_order(patched.as_deref().unwrap_or_default(), &order, facts.key)?;
        let merged = match (live.clone(), patched.clone()) {
            (None, None) => continue,
            (Some(live), None) => live,
            (None, Some(patched)) => match without_directives(Value::Array(patched)) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(live), Some(patched)) => lists::merge_field(live, patched, facts, false)?,
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

/// The items of the patch must stand in the order list, in the same order (deletions apart). A directive after the last
/// of them is one that stands nowhere.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut items = patch.iter().collect::<Vec<_>>();
    if key.is_some() {
        if let Some(item) = items.iter().find(|item| !item.is_object()) {
            return Err(wrong_type("map[string]interface {}", item));
        }
        items.retain(|item| item.get(PATCH).is_none_or(|directive| directive != "delete"));
    }
    let mut items = items.into_iter().peekable();
    let mut order_left = order.iter();
    while let Some(item) = items.peek() {
        if order_left.as_slice().is_empty() {
            let text = |list: &[Value]| go_text(&Value::Array(list.to_vec()));
            return Err(Error::Order { patch: text(patch), order: text(order) });
        }
        if item.get(PATCH).is_some() {
            items.next();
            continue;
        }
        let Some(candidate) = order_left.next() else { break };
        if identity(item, key)? == identity(candidate, key)? {
            items.next();
        }
    }
    Ok(())
}

/// Puts the items of the patch in their order and the others in theirs, then interleaves both as the live list
/// had them, as far as that is possible.
pub(super) fn arrange(
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

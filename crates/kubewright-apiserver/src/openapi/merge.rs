//! Merging the Swagger 2.0 document of another server into this one's. Pure.
//!
//! Taken are the paths under a prefix and the definitions they refer to, directly or not. A definition of a name that
//! is taken by another one gets a new name, and references to it follow.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

const REFERENCE: &str = "#/definitions/";

/// Adds what is under `prefix` (a path without a slash at its end) of `other`. Costs the size of what is added.
pub(super) fn add(document: &mut Value, other: &Value, prefix: &str) {
    let below = format!("{prefix}/");
    let paths = other["paths"].as_object().into_iter().flatten();
    let mut paths: Map<String, Value> = paths
        .filter(|(path, _)| *path == prefix || path.starts_with(&below))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    paths.values().for_each(|item| references(item, &mut open));
    while let Some(name) = open.pop() {
        if let Some(definition) = other["definitions"].get(&name)
            && wanted.insert(name)
        {
            references(definition, &mut open);
        }
    }
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for name in &wanted {
        let is_other = |candidate: &str| {
            let there = document["definitions"].get(candidate);
            there.is_some_and(|there| *there != other["definitions"][name])
        };
        let mut free = name.clone();
        let mut number = 2;
        while is_other(&free) {
            free = format!("{name}_v{number}");
            number += 1;
        }
        names.insert(name.clone(), free);
    }
    names.retain(|name, free| name != free);
    paths.values_mut().for_each(|item| rename(item, &names));
    let definitions = wanted.into_iter().map(|name| {
        let mut definition = other["definitions"][&name].clone();
        rename(&mut definition, &names);
        (names.get(&name).cloned().unwrap_or(name), definition)
    });
    let definitions: Vec<(String, Value)> = definitions.collect();
    for (key, entries) in [("definitions", definitions), ("paths", paths.into_iter().collect())] {
        if let Some(known) = document[key].as_object_mut() {
            known.extend(entries);
        }
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str().filter(|_| key == "$ref").and_then(|r| r.strip_prefix(REFERENCE)) {
                    Some(name) => found.push(name.to_string()),
                    None => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    if names.is_empty() {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = value.as_str().filter(|_| key == "$ref").and_then(|r| r.strip_prefix(REFERENCE));
                match name.and_then(|name| names.get(name)) {
                    Some(new) => *value = format!("{REFERENCE}{new}").into(),
                    None => rename(value, names),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_under_the_prefix_comes_with_what_it_refers_to_and_nothing_else_does() {
        let reference = |name: &str| json!({"$ref": format!("{REFERENCE}{name}")});
        let mut own = json!({
            "paths": {"/api/v1/pods": reference("Pod")},
            "definitions": {"Pod": {"type": "object"}, "Meta": {"type": "string"}, "Same": {"type": "object"}},
        });
        let other = json!({
            "paths": {"/apis/a.io/v1/xs": {"get": reference("X")}, "/apis/a.io/v1beta1/xs": reference("Old"),
                "/api/v1/pods": {"get": "evil"}},
            "definitions": {
                "X": {"properties": {"meta": reference("Meta"), "same": reference("Same"), "me": reference("X")}},
                "Meta": {"type": "object"}, "Same": {"type": "object"}, "Old": {}, "Unused": {},
            },
        });
        add(&mut own, &other, "/apis/a.io/v1");
        assert_eq!(
            own,
            json!({
                "paths": {"/api/v1/pods": reference("Pod"), "/apis/a.io/v1/xs": {"get": reference("X")}},
                "definitions": {
                    "Pod": {"type": "object"}, "Meta": {"type": "string"}, "Meta_v2": {"type": "object"},
                    "Same": {"type": "object"},
                    "X": {"properties": {"meta": reference("Meta_v2"), "same": reference("Same"), "me": reference("X")}},
                },
            })
        );
        let before = own.clone();
        add(&mut own, &json!([1, {"paths": 3}]), "/apis/b.io/v1");
        assert_eq!(own, before);
    }
}

//! Uniqueness of the items of lists of type set and map (KEP-555).

use std::collections::{HashMap, hash_map::Entry};

use serde_json::{Map, Value};

use super::{ListType, Schema};
use crate::field::{Error, Path};

/// Each item that is the second of its kind, in every set and map list of the value. Linear in the value.
pub fn validate(schema: &Schema, value: &Value, path: &Path<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    descend(schema, value, path, &mut errors);
    errors
}

fn descend(schema: &Schema, value: &Value, path: &Path<'_>, errors: &mut Vec<Error>) {
    match value {
        Value::Object(fields) => {
            if let Some(additional) = schema.additional.as_deref() {
                for (name, field) in fields {
                    descend(additional, field, &path.key(name), errors);
                }
            }
            for (name, property) in &schema.properties {
                if let Some(field) = fields.get(&**name) {
                    descend(property, field, &path.child(name), errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type {
                ListType::Set => set(items.iter().map(Some), path, errors),
                ListType::Map if schema.list_type_stated || !schema.list_map_keys.is_empty() => {
                    map(schema, items, path, errors);
                }
                _ => {}
            }
            if let Some(schema) = schema.items.as_deref() {
                for (i, item) in items.iter().enumerate() {
                    descend(schema, item, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

/// Reports the second appearance of each value; none stands for an item without key.
fn set<'a>(values: impl Iterator<Item = Option<&'a Value>>, path: &Path<'_>, errors: &mut Vec<Error>) {
    let mut seen: HashMap<String, bool> = HashMap::new();
    for (i, value) in values.enumerate() {
        let text = value.map_or_else(String::new, ToString::to_string);
        match seen.entry(text) {
            Entry::Vacant(entry) => {
                entry.insert(false);
            }
            Entry::Occupied(mut entry) => {
                if !entry.insert(true) {
                    let value = value.cloned().unwrap_or_else(|| Value::Object(Map::new()));
                    errors.push(Error::duplicate(&path.index(i), value));
                }
            }
        }
    }
}

fn map(schema: &Schema, items: &[Value], path: &Path<'_>, errors: &mut Vec<Error>) {
    if let Some((i, item)) = items.iter().enumerate().find(|(_, item)| !item.is_object() && !item.is_null()) {
        let detail = "must be an object for an array of list-type map";
        errors.push(Error::invalid(&path.index(i), item.clone(), detail));
        return;
    }
    let keys: Vec<Value> = items
        .iter()
        .map(|item| {
            let key = |name: &str| Some((name.to_string(), item.get(name)?.clone()));
            Value::Object(schema.list_map_keys.iter().filter_map(|name| key(name)).collect())
        })
        .collect();
    set(keys.iter().map(Some), path, errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::structural::parse;
    use super::*;

    fn faults(list: Value, value: Value) -> Vec<String> {
        let schema = json!({"type": "object", "properties": {"l": list}});
        let errors = validate(&parse(&schema), &json!({"l": value}), &Path::ROOT);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_second_of_each_value_of_a_set_is_a_duplicate() {
        let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
        assert_eq!(
            faults(set.clone(), json!(["a", "b", "a", "b", "a"])),
            ["l[2]: Duplicate value: \"a\"", "l[3]: Duplicate value: \"b\""]
        );
        assert_eq!(faults(set, json!(["a", "b"])), Vec::<String>::new());
    }

    #[test]
    fn items_of_a_map_list_are_compared_by_their_keys() {
        let map = json!({"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name", "proto"], "items": {"type": "object"}});
        let value =
            json!([{"name": "a", "proto": "T", "x": 1}, {"name": "a", "proto": "T", "x": 2}, {"name": "a"}]);
        assert_eq!(faults(map.clone(), value), ["l[1]: Duplicate value: {\"name\":\"a\",\"proto\":\"T\"}"]);
        assert_eq!(
            faults(map, json!([1, 2])),
            ["l[0]: Invalid value: 1: must be an object for an array of list-type map"]
        );
    }
}

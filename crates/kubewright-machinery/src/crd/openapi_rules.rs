//! The rules for each node of a definition's schema that are not about structure: types, defaults in their place, list
//! and map types, keys, the form of rules. Rules (CEL) are not compiled here.

use serde_json::Value;

use super::field_path;
use crate::field::{Error, Path};
use crate::schema::structural::{self, Node};

/// What is demanded; an update of a definition that already breaks a demand is not held to it.
#[derive(Clone, Copy, Debug)]
pub struct Demands {
    /// Types are those of OpenAPI v3.
    pub valid_types: bool,
    /// Items of sets are scalar or atomic.
    pub atomic_sets: bool,
    /// Keys of map lists are required or defaulted, and items of sets and maps are not null.
    pub keyed_lists: bool,
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Calls `visit` on each schema of a tree until it returns true; returns whether it did.
pub(crate) fn walk(json: &Value, visit: &mut dyn FnMut(&Value) -> bool) -> bool {
    if !json.is_object() {
        return false;
    }
    if visit(json) {
        return true;
    }
    let node = Node::new(json);
    let mut below = |json: &Value| walk(json, visit);
    let single = ["items", "not", "additionalProperties", "additionalItems"];
    single.iter().filter_map(|key| node.get(key)).any(|value| match value {
        Value::Array(items) => items.iter().any(&mut below),
        other => below(other),
    }) || ["allOf", "anyOf", "oneOf"].iter().any(|key| node.list(key).iter().any(&mut below))
        || ["properties", "patternProperties", "definitions", "dependencies"]
            .iter()
            .any(|key| node.map(key).any(|(_, json)| below(json)))
}

/// Whether a type is used that OpenAPI v3 lacks.
pub(crate) fn has_invalid_types(json: &Value) -> bool {
    walk(json, &mut |json| {
        let ty = Node::new(json).text("type");
        !ty.is_empty() && !TYPES.contains(&ty)
    })
}

/// Whether a set has items that are neither scalar nor atomic.
pub(crate) fn has_non_atomic_set(json: &Value) -> bool {
    walk(json, &mut |json| {
        let node = Node::new(json);
        node.text("x-kubernetes-list-type") == "set"
            && node.node("items").is_some_and(|i| non_atomic(i).is_some())
    })
}

/// Whether a list of type set or map breaks [`Demands::keyed_lists`].
pub(crate) fn has_invalid_keyed_list(json: &Value) -> bool {
    walk(json, &mut |json| {
        let mut errors = Vec::new();
        keyed_list(Node::new(json), &Path::ROOT, &mut errors);
        !errors.is_empty()
    })
}

/// The keyword that is at fault where an item of a set is not atomic.
fn non_atomic(items: Node<'_>) -> Option<&'static str> {
    match items.text("type") {
        "array" if !matches!(items.text("x-kubernetes-list-type"), "" | "atomic") => {
            Some("x-kubernetes-list-type")
        }
        "object" if items.text("x-kubernetes-map-type") != "atomic" => Some("x-kubernetes-map-type"),
        _ => None,
    }
}

/// All faults of the schema at `path`, in the order of a real server (properties by name).
pub fn check(json: &Value, path: &Path<'_>, demands: Demands) -> Vec<Error> {
    let mut checker = Checker { demands, errors: Vec::new() };
    checker.schema(json, path, Place { forbidden_default: None, in_metadata: false, root: true });
    checker.errors
}

#[derive(Clone, Copy)]
struct Place<'a> {
    /// Why a default may not be here.
    forbidden_default: Option<&'a str>,
    in_metadata: bool,
    root: bool,
}

struct Checker {
    demands: Demands,
    errors: Vec<Error>,
}

impl Checker {
    fn forbid(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.errors.push(Error::forbidden(path, detail));
    }

    fn schema(&mut self, json: &Value, path: &Path<'_>, place: Place<'_>) {
        let node = Node::new(json);
        self.keywords(node, path, place);
        if node.flag("uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(&path.child("uniqueItems"), detail);
        }
        let inner = Place { root: false, ..place };
        if let Some(additional) = node.get("additionalProperties") {
            let path = path.child("additionalProperties");
            if node.map("properties").next().is_some() && additional != &Value::Bool(true) {
                self.forbid(&path, "additionalProperties and properties are mutual exclusive");
            }
            if additional.is_object() {
                let reason = "inside additionalProperties applying to object metadata";
                let forbidden = if place.in_metadata { Some(reason) } else { place.forbidden_default };
                self.schema(additional, &path, Place { forbidden_default: forbidden, ..inner });
            }
        }
        let embedded = node.flag("x-kubernetes-embedded-resource");
        for (name, property) in node.map("properties") {
            let path = path.child("properties");
            let top_level = format!("in top-level {name}");
            let resource_field = matches!(name, "metadata" | "kind" | "apiVersion");
            let forbidden =
                if resource_field && place.root { Some(top_level.as_str()) } else { place.forbidden_default };
            let in_metadata = place.in_metadata || (resource_field && (place.root || embedded));
            let inner = Place { forbidden_default: forbidden, in_metadata, root: false };
            self.schema(property, &path.key(name), inner);
        }
        self.children(node, path, inner);
        self.map_and_list_types(node, path);
        self.map_list(node, path);
        if self.demands.keyed_lists {
            keyed_list(node, path, &mut self.errors);
        }
        self.rules(json, path);
    }

    fn children(&mut self, node: Node<'_>, path: &Path<'_>, place: Place<'_>) {
        if let Some(not) = node.get("not") {
            self.schema(not, &path.child("not"), place);
        }
        for key in ["allOf", "oneOf", "anyOf"] {
            for (i, json) in node.list(key).iter().enumerate() {
                self.schema(json, &path.child(key).index(i), place);
            }
        }
        for (name, json) in node.map("definitions") {
            self.schema(json, &path.child("definitions").key(name), place);
        }
        match node.get("items") {
            Some(Value::Array(items)) => {
                for (i, json) in items.iter().enumerate() {
                    self.schema(json, &path.child("items").index(i), place);
                }
            }
            Some(json) => self.schema(json, &path.child("items"), place),
            None => {}
        }
        for (name, json) in node.map("dependencies").filter(|(_, json)| json.is_object()) {
            self.schema(json, &path.child("dependencies").key(name), place);
        }
    }

    /// Keywords that are refused, and defaults where none may be.
    fn keywords(&mut self, node: Node<'_>, path: &Path<'_>, place: Place<'_>) {
        let ty = node.text("type");
        if self.demands.valid_types && !ty.is_empty() && !TYPES.contains(&ty) {
            self.errors.push(Error::not_supported(&path.child("type"), ty, &TYPES));
        }
        if let Some(reason) = place.forbidden_default
            && node.get("default").is_some()
        {
            self.forbid(&path.child("default"), format!("must not be set {reason}"));
        }
        for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
            let set = match node.get(key) {
                None => false,
                Some(Value::String(text)) => key != "id" || !text.is_empty(),
                Some(Value::Object(map)) => {
                    matches!(key, "additionalItems" | "dependencies") || !map.is_empty()
                }
                Some(_) => true,
            };
            if set {
                self.forbid(&path.child(key), format!("{key} is not supported"));
            }
        }
        if ty == "null" {
            self.forbid(&path.child("type"), "type cannot be set to null, use nullable as an alternative");
        }
        if matches!(node.get("items"), Some(Value::Array(items)) if !items.is_empty()) {
            self.forbid(&path.child("items"), "items must be a schema object and not an array");
        }
        if place.in_metadata && node.flag("x-kubernetes-embedded-resource") {
            let path = path.child("x-kubernetes-embedded-resource");
            self.forbid(&path, "must not be used inside of resource meta");
        }
    }

    fn map_and_list_types(&mut self, node: Node<'_>, path: &Path<'_>) {
        const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
        const ATOMIC: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
        if node.get(PRESERVE) == Some(&Value::Bool(false)) {
            self.errors.push(Error::invalid(&path.child(PRESERVE), false, "must be true or undefined"));
        }
        let mut typed = |key: &str, ty: &str, allowed: &[&str]| -> Option<()> {
            let stated = node.get(key)?;
            let wrong = node.text("type") != ty;
            if wrong {
                let path = path.child("type");
                let detail = format!("must be {ty} if {key} is specified");
                self.errors.push(match node.text("type") {
                    "" => Error::required(&path, detail),
                    other => Error::invalid(&path, other, detail),
                });
            }
            let atomic = self.demands.atomic_sets && !wrong && stated == "set" && ty == "array";
            if let Some(key) = node.node("items").filter(|_| atomic).and_then(non_atomic) {
                // A real server shows the list type of the item whichever keyword is at fault.
                let value = node.node("items").and_then(|i| i.get("x-kubernetes-list-type")).cloned();
                let items = path.child("items");
                self.errors.push(Error::invalid(&items.child(key), value.unwrap_or_default(), ATOMIC));
            }
            if !allowed.iter().any(|a| stated == a) {
                self.errors.push(Error::not_supported(&path.child(key), stated.clone(), allowed));
            }
            Some(())
        };
        typed("x-kubernetes-map-type", "object", &["atomic", "granular"]);
        typed("x-kubernetes-list-type", "array", &["atomic", "set", "map"]);
    }

    fn map_list(&mut self, node: Node<'_>, path: &Path<'_>) {
        let (type_path, keys_path) =
            (path.child("x-kubernetes-list-type"), path.child("x-kubernetes-list-map-keys"));
        let keys: Vec<&str> = node.texts("x-kubernetes-list-map-keys").collect();
        let list_type = node.text("x-kubernetes-list-type");
        if !keys.is_empty() && list_type != "map" {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            self.errors.push(match node.get("x-kubernetes-list-type") {
                None => Error::required(&type_path, detail),
                Some(other) => Error::invalid(&type_path, other.clone(), detail),
            });
        }
        if list_type != "map" {
            return;
        }
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.errors.push(Error::required(&keys_path, detail));
        }
        let items_path = path.child("items");
        let Some(stated) = node.get("items") else {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            self.errors.push(Error::required(&items_path, detail));
            return;
        };
        let Some(items) = node.node("items") else {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            self.errors.push(Error::invalid(&items_path, stated.clone(), detail));
            return;
        };
        if items.text("type") != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.errors.push(Error::invalid(&items_path.child("type"), items.text("type"), detail));
            return;
        }
        for (i, key) in keys.iter().enumerate() {
            match items.get("properties").and_then(|p| p.get(key)) {
                Some(property) if matches!(Node::new(property).text("type"), "array" | "object") => {
                    let path = items_path.child("properties");
                    let path = path.key(key);
                    let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    self.errors.push(Error::invalid(&path.child("type"), items.text("type"), detail));
                }
                Some(_) => {}
                None => {
                    let detail = "entries must all be names of item properties";
                    self.errors.push(Error::invalid(&keys_path, keys.clone(), detail));
                }
            }
            if keys[..i].contains(key) {
                self.errors.push(Error::invalid(
                    &keys_path,
                    keys.clone(),
                    "must not contain duplicate entries",
                ));
            }
        }
    }

    /// The form of rules: texts that are there, in one line where they must be, and paths into the schema.
    fn rules(&mut self, json: &Value, path: &Path<'_>) {
        const REASONS: [&str; 4] =
            ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
        let breaks = |text: &str| text.contains(['\n', '\r']);
        for (i, rule) in Node::new(json).list("x-kubernetes-validations").iter().enumerate() {
            let rule = Node::new(rule);
            let path = path.child("x-kubernetes-validations");
            let path = path.index(i);
            let (text, message) = (rule.text("rule").trim(), rule.text("message"));
            let message_path = path.child("message");
            if text.is_empty() {
                self.errors.push(Error::required(&path.child("rule"), "rule is not specified"));
            } else if !message.is_empty() && message.trim().is_empty() {
                self.errors.push(Error::invalid(&message_path, message, "must be non-empty if specified"));
            } else if breaks(message.trim()) {
                self.errors.push(Error::invalid(&message_path, message, "must not contain line breaks"));
            } else if breaks(text) && message.is_empty() {
                let detail = "message must be specified if rule contains line breaks";
                self.errors.push(Error::required(&message_path, detail));
            }
            let expression = rule.text("messageExpression");
            if !expression.is_empty() && expression.trim().is_empty() {
                let detail = "messageExpression must be non-empty if specified";
                self.errors.push(Error::required(&path.child("messageExpression"), detail));
            }
            if let Some(reason) = rule.get("reason")
                && !REASONS.iter().any(|r| reason == r)
            {
                self.errors.push(Error::not_supported(&path.child("reason"), reason.clone(), &REASONS));
            }
            let (field, field_path) = (rule.text("fieldPath"), path.child("fieldPath"));
            if field.is_empty() {
                continue;
            }
            if field.trim().is_empty() {
                self.errors.push(Error::invalid(&field_path, field, "must be non-empty if specified"));
            }
            if breaks(field) {
                self.errors.push(Error::invalid(&field_path, field, "must not contain line breaks"));
            }
            let readable = structural::unsupported(json).is_none();
            if readable && field_path::find(field, &structural::parse(json), true).is_err() {
                self.errors.push(Error::invalid(&field_path, field, "must be a valid path"));
            }
        }
    }
}

/// Items of sets and maps are not null; keys are always there.
fn keyed_list(node: Node<'_>, path: &Path<'_>, errors: &mut Vec<Error>) {
    let list_type = node.text("x-kubernetes-list-type");
    let Some(items) = node.node("items").filter(|_| matches!(list_type, "set" | "map")) else { return };
    let path = path.child("items");
    if items.flag("nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Error::forbidden(&path.child("nullable"), detail));
    }
    if list_type == "set" {
        return;
    }
    let properties = path.child("properties");
    for key in node.texts("x-kubernetes-list-map-keys") {
        let Some(property) = items.get("properties").and_then(|p| p.get(key)).map(Node::new) else {
            continue;
        };
        let path = properties.key(key);
        if !items.texts("required").any(|r| r == key) && property.get("default").is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a \
                          required property";
            errors.push(Error::required(&path.child("default"), detail));
        }
        if property.flag("nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&path.child("nullable"), detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_x(x: Value) -> Vec<String> {
        let demands = Demands { valid_types: true, atomic_sets: true, keyed_lists: true };
        let errors = check(&json!({"type": "object", "properties": {"x": x}}), &Path::new("s"), demands);
        errors.iter().map(|e| e.to_string().replacen("s.properties[x].", "", 1)).collect()
    }

    #[test]
    fn list_and_map_types_fit_the_type() {
        assert_eq!(
            of_x(json!({"type": "string", "x-kubernetes-list-type": "set"})),
            ["type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified"]
        );
        assert_eq!(
            of_x(json!({"type": "object", "x-kubernetes-map-type": "loose"})),
            [
                "x-kubernetes-map-type: Unsupported value: \"loose\": supported values: \"atomic\", \"granular\""
            ]
        );
        let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}});
        assert_eq!(
            of_x(set),
            ["items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with \
             x-kubernetes-list-type=set"]
        );
    }

    #[test]
    fn keys_of_map_lists_exist_and_are_always_there() {
        let list = |keys: Value, n: Value| {
            of_x(json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
                "items": {"type": "object", "required": ["r"], "properties": {"n": n, "r": {"type": "string"}}}}))
        };
        assert_eq!(list(json!(["r"]), json!({"type": "string"})), Vec::<String>::new());
        assert_eq!(
            list(json!(["n"]), json!({"type": "string"})),
            [
                "items.properties[n].default: Required value: this property is in x-kubernetes-list-map-keys, so it must \
             have a default or be a required property"
            ]
        );
        assert_eq!(
            list(json!(["m"]), json!({"type": "string"})),
            [
                "x-kubernetes-list-map-keys: Invalid value: [\"m\"]: entries must all be names of item properties"
            ]
        );
        assert_eq!(
            list(json!(["r", "r"]), json!({"type": "string"})),
            ["x-kubernetes-list-map-keys: Invalid value: [\"r\",\"r\"]: must not contain duplicate entries"]
        );
        assert_eq!(
            list(json!([]), json!({"type": "string"})),
            [
                "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"
            ]
        );
    }

    #[test]
    fn keywords_that_are_not_supported_are_named() {
        let x =
            json!({"type": "object", "definitions": {"a": {}}, "patternProperties": {"a": {}}, "$ref": "#"});
        assert_eq!(
            of_x(x),
            [
                "patternProperties: Forbidden: patternProperties is not supported",
                "definitions: Forbidden: definitions is not supported",
                "$ref: Forbidden: $ref is not supported",
            ]
        );
    }

    #[test]
    fn rules_have_a_form() {
        let x = |rule: Value| {
            of_x(json!({"type": "object", "properties": {"a": {"type": "string"}},
            "x-kubernetes-validations": [rule]}))
        };
        assert_eq!(
            x(json!({"rule": "true", "fieldPath": ".a", "reason": "FieldValueInvalid"})),
            Vec::<String>::new()
        );
        assert_eq!(
            x(json!({"rule": ""})),
            ["x-kubernetes-validations[0].rule: Required value: rule is not specified"]
        );
        assert_eq!(
            x(json!({"rule": "true", "fieldPath": ".b"})),
            ["x-kubernetes-validations[0].fieldPath: Invalid value: \".b\": must be a valid path"]
        );
    }

    #[test]
    fn defaults_may_not_be_in_top_level_metadata() {
        let demands = Demands { valid_types: true, atomic_sets: true, keyed_lists: true };
        let schema = json!({"type": "object", "properties": {"metadata": {"type": "object", "default": {}}}});
        let errors = check(&schema, &Path::new("s"), demands);
        assert_eq!(
            errors[0].to_string(),
            "s.properties[metadata].default: Forbidden: must not be set in top-level metadata"
        );
    }
}

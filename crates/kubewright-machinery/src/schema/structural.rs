//! JSONSchemaProps (as JSON) → [`Schema`], and what makes a schema structural.
//!
//! [`parse`] is lenient: it takes what the model knows and drops the rest; whether a schema may be used at all is
//! decided before, by [`unsupported`] and [`check`] (apiextensions, "structural schema", KEP-1002). Nothing here
//! looks at values of custom resources.

use serde_json::{Map, Value};

use super::{ListType, Schema, SchemaRef, Type, Validation, re2};
use crate::field::{Error, Path};

/// A JSONSchemaProps object read by field; null and absent are the same, as in the decoded type.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a>(Option<&'a Map<String, Value>>);

impl<'a> Node<'a> {
    pub(crate) fn new(json: &'a Value) -> Self {
        Self(json.as_object())
    }

    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.0?.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn text(self, key: &str) -> &'a str {
        self.get(key).and_then(Value::as_str).unwrap_or("")
    }

    pub(crate) fn flag(self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn list(self, key: &str) -> &'a [Value] {
        self.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn texts(self, key: &str) -> impl Iterator<Item = &'a str> {
        self.list(key).iter().filter_map(Value::as_str)
    }

    pub(crate) fn map(self, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.get(key).and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (k.as_str(), v))
    }

    pub(crate) fn node(self, key: &str) -> Option<Node<'a>> {
        self.get(key).filter(|v| v.is_object()).map(Node::new)
    }

    fn entry(self, key: &str, name: &str) -> Option<Node<'a>> {
        self.get(key)?.get(name).map(Node::new)
    }

    fn fields(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.0.into_iter().flatten().map(|(k, v)| (k.as_str(), v))
    }
}

/// Reads a schema. What the model does not know (and what a structural schema may not have) is left out.
pub fn parse(json: &Value) -> Schema {
    let node = Node::new(json);
    let mut schema = Schema {
        ty: parse_type(node),
        format: boxed(node.text("format")),
        int_or_string: node.flag("x-kubernetes-int-or-string"),
        nullable: node.flag("nullable"),
        preserve_unknown_fields: node.flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: node.flag("x-kubernetes-embedded-resource"),
        default: node.get("default").map(|v| Box::new(v.clone())),
        properties: node.map("properties").map(|(k, v)| (k.into(), SchemaRef::from(parse(v)))).collect(),
        items: node.get("items").filter(|v| v.is_object()).map(|v| SchemaRef::from(parse(v))),
        required: node.texts("required").map(Into::into).collect(),
        list_type: match node.text("x-kubernetes-list-type") {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        },
        list_type_stated: node.get("x-kubernetes-list-type").is_some(),
        list_map_keys: node.texts("x-kubernetes-list-map-keys").map(Into::into).collect(),
        map_atomic: node.text("x-kubernetes-map-type") == "atomic",
        map_type_stated: node.get("x-kubernetes-map-type").is_some(),
        title: boxed(node.text("title")),
        description: boxed(node.text("description")),
        external_docs: node.get("externalDocs").map(|v| Box::new(v.clone())),
        example: node.get("example").map(|v| Box::new(v.clone())),
        validation: validation(node).map(Box::new),
        ..Schema::default()
    };
    match node.get("additionalProperties") {
        Some(Value::Bool(true)) => schema.additional = Some(Schema::untyped().into()),
        Some(Value::Bool(false)) => schema.additional_false = true,
        Some(v @ Value::Object(_)) => schema.additional = Some(parse(v).into()),
        _ => {}
    }
    schema
}

pub(crate) fn parse_type(node: Node<'_>) -> Option<Type> {
    match node.text("type") {
        "object" => Some(Type::Object),
        "array" => Some(Type::Array),
        "string" => Some(Type::String),
        "integer" => Some(Type::Integer),
        "number" => Some(Type::Number),
        "boolean" => Some(Type::Boolean),
        _ => None,
    }
}

fn boxed(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

fn validation(node: Node<'_>) -> Option<Validation> {
    const KEYS: [&str; 20] = [
        "enum",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "x-kubernetes-validations",
        "required",
    ];
    if !KEYS.iter().any(|key| node.get(key).is_some()) {
        return None;
    }
    let number = |key| node.get(key).and_then(Value::as_f64);
    let count = |key| node.get(key).and_then(Value::as_i64);
    let schemas = |key| node.list(key).iter().map(parse).collect();
    Some(Validation {
        one_of_values: node.list("enum").to_vec(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: node.flag("exclusiveMinimum"),
        exclusive_maximum: node.flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: boxed(node.text("pattern")),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: node.flag("uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        all_of: schemas("allOf"),
        any_of: schemas("anyOf"),
        one_of: schemas("oneOf"),
        not: node.get("not").map(|v| Box::new(parse(v))),
        rules: node.list("x-kubernetes-validations").to_vec(),
        ..Validation::default()
    })
}

/// The first keyword that cannot be expressed at all, as an error text; none where [`parse`] loses nothing.
pub fn unsupported(json: &Value) -> Option<String> {
    let node = Node::new(json);
    let not_supported = |key: &str| Some(format!("OpenAPIV3Schema '{key}' is not supported"));
    for (key, name) in [("id", "id"), ("$schema", "schema"), ("$ref", "$ref")] {
        if !node.text(key).is_empty() {
            return not_supported(name);
        }
    }
    for key in ["patternProperties", "dependencies", "additionalItems", "definitions"] {
        let filled = match node.get(key) {
            Some(Value::Object(map)) => key == "additionalItems" || !map.is_empty(),
            Some(_) => true,
            None => false,
        };
        if filled {
            return not_supported(key);
        }
    }
    if node.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        return Some(
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".into(),
        );
    }
    if matches!(node.get("items"), Some(Value::Array(items)) if !items.is_empty()) {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
    }
    let below = ["not", "items", "additionalProperties"].into_iter().filter_map(|key| node.get(key));
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| node.list(key));
    below.chain(lists).chain(node.map("properties").map(|(_, v)| v)).find_map(unsupported)
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that keeps a schema from being structural, sorted by text. `path` is the schema's own
/// (`spec.validation.openAPIV3Schema`).
pub fn check(path: &Path<'_>, json: &Value) -> Vec<Error> {
    let node = Node::new(json);
    let mut errors = Vec::new();
    invariants(node, Level::Root, path, &mut errors);
    value_completeness(node, Some(node), path, path, &mut errors);
    errors.sort_by_cached_key(|e| e.to_string());
    errors
}

fn invariants(node: Node<'_>, level: Level, path: &Path<'_>, errors: &mut Vec<Error>) {
    let ty = node.text("type");
    if ty == "array" && node.get("items").is_none_or(|items| items == &Value::Array(Vec::new())) {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = node.node("items") {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in node.map("properties") {
        invariants(Node::new(property), Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = node.get("additionalProperties");
    if let Some(additional) = additional {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(Error::forbidden(&path, "must not be used at the root"));
        }
        if additional.is_object() {
            invariants(Node::new(additional), Level::Field, &path, errors);
        }
    }

    let int_or_string = node.flag("x-kubernetes-int-or-string");
    let preserve = node.flag("x-kubernetes-preserve-unknown-fields");
    let embedded = node.flag("x-kubernetes-embedded-resource");
    for (key, set) in
        [("x-kubernetes-preserve-unknown-fields", preserve), ("x-kubernetes-embedded-resource", embedded)]
    {
        if int_or_string && set {
            errors.push(Error::invalid(
                &path.child(key),
                true,
                "must be false if x-kubernetes-int-or-string is true",
            ));
        }
    }

    let any_of = is_int_or_string(node.list("anyOf"));
    let first_all_of =
        node.list("allOf").first().is_some_and(|first| is_int_or_string(Node::new(first).list("anyOf")));
    value_validation(node, any_of, first_all_of, path, errors);

    let type_path = path.child("type");
    if embedded && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if ty.is_empty() {
            Error::required(&type_path, detail)
        } else {
            Error::invalid(&type_path, ty, detail)
        });
    } else if ty.is_empty() && !int_or_string && !preserve {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&type_path, detail));
    }
    if embedded && additional.is_some() {
        errors.push(Error::forbidden(
            &path.child("additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        ));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(Error::invalid(&type_path, ty, "must be object at the root"));
    }
    resource_fields(node, level, embedded, path, errors);
    if embedded && !preserve && node.map("properties").next().is_none() {
        errors.push(Error::required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without \
             x-kubernetes-preserve-unknown-fields",
        ));
    }
}

/// What a schema may say of apiVersion, kind and metadata of a resource.
fn resource_fields(node: Node<'_>, level: Level, embedded: bool, path: &Path<'_>, errors: &mut Vec<Error>) {
    let resource = level == Level::Root || embedded;
    let properties = path.child("properties");
    for name in ["kind", "apiVersion"] {
        if let Some(property) = node.entry("properties", name).filter(|_| resource)
            && property.text("type") != "string"
        {
            let path = properties.key(name);
            errors.push(Error::invalid(&path.child("type"), property.text("type"), "must be string"));
        }
    }
    let Some(metadata) = node.entry("properties", "metadata") else { return };
    let path = properties.key("metadata");
    if resource && metadata.text("type") != "object" {
        errors.push(Error::invalid(&path.child("type"), metadata.text("type"), "must be object"));
    }
    if level == Level::Root {
        let names_only = metadata.map("properties").all(|(k, _)| k == "name" || k == "generateName");
        let other = metadata.fields().any(|(key, value)| match key {
            "type" | "default" => false,
            "properties" => !names_only,
            _ => !is_zero(value),
        });
        if other {
            errors.push(Error::forbidden(
                &path,
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            ));
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    }
}

/// Exactly `[{type: integer}, {type: string}]`, the one place where types may be inside a junctor.
fn is_int_or_string(any_of: &[Value]) -> bool {
    let only = |value: &Value, ty: &str| {
        Node::new(value).text("type") == ty
            && Node::new(value).fields().all(|(k, v)| k == "type" || is_zero(v))
    };
    matches!(any_of, [first, second] if only(first, "integer") && only(second, "string"))
}

fn value_validation(
    node: Node<'_>,
    skip_any_of: bool,
    skip_first_all_of: bool,
    path: &Path<'_>,
    errors: &mut Vec<Error>,
) {
    if !skip_any_of {
        for (i, schema) in node.list("anyOf").iter().enumerate() {
            nested(Node::new(schema), false, &path.child("anyOf").index(i), errors);
        }
    }
    for (i, schema) in node.list("allOf").iter().enumerate() {
        nested(Node::new(schema), skip_first_all_of && i == 0, &path.child("allOf").index(i), errors);
    }
    for (i, schema) in node.list("oneOf").iter().enumerate() {
        nested(Node::new(schema), false, &path.child("oneOf").index(i), errors);
    }
    if let Some(not) = node.node("not") {
        nested(not, false, &path.child("not"), errors);
    }
    let pattern = node.text("pattern");
    if !pattern.is_empty()
        && let Err(error) = re2::compile(pattern)
    {
        errors.push(Error::invalid(
            &path.child("pattern"),
            pattern,
            format!("must be a valid regular expression, but isn't: {error}"),
        ));
    }
}

/// A schema under a junctor may validate, but not say anything of the structure.
fn nested(node: Node<'_>, skip_any_of: bool, path: &Path<'_>, errors: &mut Vec<Error>) {
    value_validation(node, skip_any_of, false, path, errors);
    if let Some(items) = node.node("items") {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, property) in node.map("properties") {
        nested(Node::new(property), false, &path.child("properties").key(name), errors);
    }
    let mut forbid = |key: &str, set: bool, detail: &str| {
        if set {
            errors.push(Error::forbidden(&path.child(key), detail));
        }
    };
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    forbid("type", !node.text("type").is_empty(), EMPTY);
    let additional =
        node.get("additionalProperties").is_some_and(|v| v.is_object() || v == &Value::Bool(true));
    forbid("additionalProperties", additional, UNDEFINED);
    forbid("default", node.get("default").is_some(), UNDEFINED);
    forbid("title", !node.text("title").is_empty(), EMPTY);
    forbid("description", !node.text("description").is_empty(), EMPTY);
    for key in [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        forbid(key, node.flag(key), FALSE);
    }
    forbid("x-kubernetes-list-map-keys", !node.list("x-kubernetes-list-map-keys").is_empty(), EMPTY);
    forbid("x-kubernetes-list-type", node.get("x-kubernetes-list-type").is_some(), UNDEFINED);
    forbid("x-kubernetes-map-type", node.get("x-kubernetes-map-type").is_some(), UNDEFINED);
    forbid("x-kubernetes-validations", !node.list("x-kubernetes-validations").is_empty(), EMPTY);
    if node.entry("properties", "metadata").is_some() {
        errors.push(Error::forbidden(
            &path.child("properties").key("metadata"),
            "must not be specified in a nested context",
        ));
    }
}

/// Every field that a junctor of the root validates must be specified outside of junctors too (a real server does not
/// look at junctors further inside). `schema` is at `path` in the
/// structure, `node` at `validated` under the junctors.
fn value_completeness(
    node: Node<'_>,
    schema: Option<Node<'_>>,
    path: &Path<'_>,
    validated: &Path<'_>,
    errors: &mut Vec<Error>,
) {
    if let Some(not) = node.node("not") {
        completeness(not, schema, path, &validated.child("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, nested) in node.list(key).iter().enumerate() {
            completeness(Node::new(nested), schema, path, &validated.child(key).index(i), errors);
        }
    }
}

fn completeness(
    node: Node<'_>,
    schema: Option<Node<'_>>,
    path: &Path<'_>,
    validated: &Path<'_>,
    errors: &mut Vec<Error>,
) {
    let Some(schema) = schema else {
        errors.push(Error::required(path, format!("because it is defined in {validated}")));
        return;
    };
    value_completeness(node, Some(schema), path, validated, errors);
    if let Some(items) = node.node("items") {
        completeness(items, schema.node("items"), &path.child("items"), &validated.child("items"), errors);
    }
    let (properties, below) = (path.child("properties"), validated.child("properties"));
    for (name, property) in node.map("properties") {
        let (path, validated) = (properties.key(name), below.key(name));
        completeness(Node::new(property), schema.entry("properties", name), &path, &validated, errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(schema: Value) -> Vec<String> {
        check(&Path::new("s"), &schema).iter().map(ToString::to_string).collect()
    }

    fn of_x(x: Value) -> Vec<String> {
        texts(json!({"type": "object", "properties": {"x": x}}))
    }

    #[test]
    fn a_structural_schema_has_no_faults() {
        let schema = json!({"type": "object", "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "^a"}}},
            "x": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "y": {"type": "object", "additionalProperties": {"type": "string"}}}});
        assert_eq!(texts(schema), Vec::<String>::new());
    }

    #[test]
    fn types_are_required_at_each_level_in_its_own_words() {
        assert_eq!(texts(json!({})), ["s.type: Required value: must not be empty at the root"]);
        assert_eq!(
            of_x(json!({})),
            ["s.properties[x].type: Required value: must not be empty for specified object fields"]
        );
        assert_eq!(
            of_x(json!({"type": "array", "items": {}})),
            ["s.properties[x].items.type: Required value: must not be empty for specified array items"]
        );
        assert_eq!(
            of_x(json!({"type": "array"})),
            ["s.properties[x].items: Required value: must be specified"]
        );
    }

    #[test]
    fn junctors_may_not_describe_structure_and_must_be_covered_by_it() {
        assert_eq!(
            of_x(json!({"type": "string", "anyOf": [{"type": "string", "default": "a"}]})),
            [
                "s.properties[x].anyOf[0].default: Forbidden: must be undefined to be structural",
                "s.properties[x].anyOf[0].type: Forbidden: must be empty to be structural",
            ]
        );
        assert_eq!(
            texts(json!({"type": "object", "not": {"properties": {"a": {"minimum": 1}}}})),
            ["s.properties[a]: Required value: because it is defined in s.not.properties[a]"]
        );
    }

    #[test]
    fn root_metadata_may_restrict_names_only() {
        let schema = json!({"type": "object", "properties": {
            "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}});
        assert_eq!(
            texts(schema),
            ["s.properties[metadata]: Forbidden: must not specify anything other than name \
             and generateName, but metadata is implicitly specified"]
        );
    }

    #[test]
    fn unsupported_keywords_are_found_below() {
        let schema = json!({"type": "object", "properties": {"x": {"anyOf": [{"$ref": "#/a"}]}}});
        assert_eq!(unsupported(&schema).as_deref(), Some("OpenAPIV3Schema '$ref' is not supported"));
        assert_eq!(unsupported(&json!({"type": "object"})), None);
    }

    #[test]
    fn rules_are_found_anywhere() {
        let rule = json!([{"rule": "true"}]);
        let schema = json!({"type": "object", "properties": {"l": {"type": "array",
            "items": {"type": "object", "x-kubernetes-validations": rule}}}});
        assert!(parse(&schema).has_rules());
        assert!(!parse(&json!({"type": "object"})).has_rules());
    }
}

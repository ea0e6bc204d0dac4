//! Validation of custom resources as a whole: schema, scale, embedded resources, list types, in the order of a real
//! server. Metadata is validated before, by the caller, whose faults are passed in.

use serde_json::Value;

use super::Scale;
use super::jsonpath;
use crate::field::{Error, Kind, Path};
use crate::schema::{Schema, embedded, list_map, validate};

/// The faults of a new object, after those already found.
pub fn create(schema: &Schema, scale: Option<&Scale>, object: &Value, found: Vec<Error>) -> Vec<Error> {
    whole(schema, scale, object, None, found)
}

/// The faults of a changed object, after those already found; what is as it was is forgiven (KEP-4008).
pub fn update(
    schema: &Schema,
    scale: Option<&Scale>,
    object: &Value,
    old: &Value,
    found: Vec<Error>,
) -> Vec<Error> {
    whole(schema, scale, object, Some(old), found)
}

fn whole(
    schema: &Schema,
    scale: Option<&Scale>,
    object: &Value,
    old: Option<&Value>,
    found: Vec<Error>,
) -> Vec<Error> {
    let mut errors = found;
    errors.extend(match old {
        Some(old) => validate::validate_update(schema, object, old, None),
        None => validate::validate(schema, object, None),
    });
    spec_replicas(scale, object, &mut errors);
    status_replicas(scale, object, &mut errors);
    errors.extend(embedded::validate(schema, object, false, &Path::ROOT));
    lists(schema, object, old, &mut errors);
    errors.extend(unchecked_rules(schema, &errors));
    errors
}

/// The faults of an object whose status changed through the status subresource, after those already found.
pub fn status_update(
    schema: &Schema,
    scale: Option<&Scale>,
    object: &Value,
    old: &Value,
    found: Vec<Error>,
) -> Vec<Error> {
    let mut errors = found;
    if let (Some(status), Some(schema)) = (object.get("status"), schema.properties.get("status")) {
        let path = Path::new("status");
        errors.extend(match old.get("status") {
            Some(old) => validate::validate_update(schema, status, old, Some(&path)),
            None => validate::validate(schema, status, Some(&path)),
        });
    }
    status_replicas(scale, object, &mut errors);
    lists(schema, object, Some(old), &mut errors);
    errors.extend(unchecked_rules(schema, &errors));
    errors
}

/// List types are held to only where the old object, if there is one, kept them.
fn lists(schema: &Schema, object: &Value, old: Option<&Value>, errors: &mut Vec<Error>) {
    let new = list_map::validate(schema, object, &Path::ROOT);
    let kept = |old| list_map::validate(schema, old, &Path::ROOT).is_empty();
    if !new.is_empty() && old.is_none_or(kept) {
        errors.extend(new);
    }
}

/// The fault that says that rules were not looked at; none where there are no rules, or where the faults found do not
/// keep rules from being judged.
pub fn unchecked_rules(schema: &Schema, errors: &[Error]) -> Option<Error> {
    let blocks = |e: &Error| {
        matches!(
            e.kind,
            Kind::NotSupported | Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid
        )
    };
    (errors.iter().any(blocks) && schema.has_rules()).then(|| Error {
        kind: Kind::Invalid,
        field: "<nil>".into(),
        value: Value::Null,
        detail: "some validation rules were not checked because the object was invalid; correct the existing errors \
                 to complete validation"
            .into(),
        shown: None,
    })
}

fn spec_replicas(scale: Option<&Scale>, object: &Value, errors: &mut Vec<Error>) {
    if let Some(scale) = scale {
        errors.extend(replicas(&scale.spec_replicas, object));
    }
}

fn status_replicas(scale: Option<&Scale>, object: &Value, errors: &mut Vec<Error>) {
    let Some(scale) = scale else { return };
    errors.extend(replicas(&scale.status_replicas, object));
    let Some(path) = &scale.label_selector else { return };
    if let Some(detail) = mistyped(path, object, Value::is_string, "string") {
        errors.push(Error::invalid(&Path::new(path), "", detail));
    }
}

fn replicas(path: &str, object: &Value) -> Option<Error> {
    let field = Path::new(path);
    if let Some(detail) = mistyped(path, object, Value::is_i64, "int64") {
        return Some(Error::invalid(&field, 0, detail));
    }
    let replicas = jsonpath::simple(path, object).and_then(Value::as_i64)?;
    if replicas < 0 {
        return Some(Error::invalid(&field, replicas, "should be a non-negative integer"));
    }
    let max = i64::from(i32::MAX);
    (replicas > max)
        .then(|| Error::invalid(&field, replicas, format!("should be less than or equal to {max}")))
}

/// What Go says where a value on the way is no map, or the value itself not of the type.
fn mistyped(path: &str, object: &Value, fits: fn(&Value) -> bool, ty: &str) -> Option<String> {
    let path = path.strip_prefix('.').unwrap_or(path);
    let mut value = object;
    let mut walked = String::new();
    for name in path.split('.') {
        let Some(fields) = value.as_object() else {
            let (text, go) = (go_text(value), go_type(value));
            if value.is_null() {
                return None;
            }
            return Some(format!(
                "{walked}.{name} accessor error: {text} is of the type {go}, expected map[string]interface {{}}"
            )
            .replace("interface {}", "interface{}"));
        };
        walked = format!("{walked}.{name}");
        value = fields.get(name)?;
    }
    (!fits(value)).then(|| {
        format!(
            "{walked} accessor error: {} is of the type {}, expected {ty}",
            go_text(value),
            go_type(value)
        )
    })
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` writes it.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => crate::field::float(n.as_f64().unwrap_or_default()),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}:{}", go_text(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::structural::parse;

    fn texts(errors: &[Error]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn replicas_are_numbers_of_pods() {
        let scale = Scale {
            spec_replicas: ".spec.n".into(),
            status_replicas: ".status.n".into(),
            label_selector: Some(".status.s".into()),
        };
        let faults = |object: Value| texts(&create(&Schema::any(), Some(&scale), &object, vec![]));
        assert_eq!(faults(json!({"spec": {"n": 3}})), Vec::<String>::new());
        assert_eq!(
            faults(json!({"spec": {"n": -1}, "status": {"s": 1}})),
            [
                ".spec.n: Invalid value: -1: should be a non-negative integer",
                ".status.s: Invalid value: \"\": .status.s accessor error: 1 is of the type int64, expected string",
            ]
        );
        assert_eq!(
            faults(json!({"spec": {"n": 3_000_000_000_i64}})),
            [".spec.n: Invalid value: 3000000000: should be less than or equal to 2147483647"]
        );
    }

    #[test]
    fn rules_are_said_to_be_unchecked_where_faults_keep_them_from_it() {
        let schema = parse(
            &json!({"type": "object", "required": ["a"], "x-kubernetes-validations": [{"rule": "true"}]}),
        );
        assert_eq!(
            texts(&create(&schema, None, &json!({}), vec![])),
            [
                "a: Required value",
                "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
             correct the existing errors to complete validation",
            ]
        );
    }

    #[test]
    fn duplicates_that_were_there_may_stay() {
        let schema = parse(&json!({"type": "object", "properties": {
            "l": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}}));
        let bad = json!({"l": ["a", "a"]});
        assert_eq!(texts(&create(&schema, None, &bad, vec![])), ["l[1]: Duplicate value: \"a\""]);
        let worse = json!({"l": ["a", "a", "b", "b"]});
        assert_eq!(texts(&update(&schema, None, &worse, &bad, vec![])), Vec::<String>::new());
        assert_eq!(texts(&update(&schema, None, &bad, &json!({}), vec![])), ["l[1]: Duplicate value: \"a\""]);
    }

    #[test]
    fn a_status_is_judged_under_its_own_path() {
        let schema = parse(&json!({"type": "object", "properties": {
            "spec": {"type": "string"}, "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}}));
        let object = json!({"spec": 1, "status": {"phase": 1}});
        assert_eq!(
            texts(&status_update(&schema, None, &object, &json!({}), vec![])),
            ["status.phase: Invalid value: \"integer\": phase in body must be of type string: \"integer\""]
        );
    }
}

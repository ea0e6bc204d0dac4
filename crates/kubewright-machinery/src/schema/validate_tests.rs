use serde_json::json;

use super::super::structural::parse;
use super::*;

fn faults(schema: Value, value: Value) -> Vec<String> {
    validate(&parse(&schema), &value, None).iter().map(ToString::to_string).collect()
}

/// The faults of `value` as the field `x`.
fn of_x(x: Value, value: Value) -> Vec<String> {
    faults(json!({"type": "object", "properties": {"x": x}}), json!({"x": value}))
}

fn one(x: Value, value: Value) -> String {
    of_x(x, value).join(" & ")
}

#[test]
fn types_are_named_as_they_are_and_as_they_should_be() {
    let says = |ty: &str, value: Value| one(json!({"type": ty}), value);
    assert_eq!(
        says("string", json!(1)),
        r#"x: Invalid value: "integer": x in body must be of type string: "integer""#
    );
    assert_eq!(
        says("string", json!(null)),
        r#"x: Invalid value: "null": x in body must be of type string: "null""#
    );
    assert_eq!(
        says("array", json!({})),
        r#"x: Invalid value: "object": x in body must be of type array: "object""#
    );
    assert_eq!(
        says("integer", json!(1.5)),
        "x: Invalid value: \"number\": x in body must be of type integer: \"number\" & \
         <nil>: Invalid value: \"\": Checked value must be of type integer (default format) in x"
    );
    assert_eq!(says("integer", json!(3.0)), "");
    assert_eq!(says("number", json!(3)), "");
    assert_eq!(
        one(json!({"x-kubernetes-int-or-string": true}), json!(true)),
        r#"x: Invalid value: "boolean": x in body must be of type integer,string: "boolean""#
    );
}

#[test]
fn numbers_are_judged_by_bounds_multiples_and_format() {
    let both = json!({"type": "integer", "multipleOf": 2, "minimum": 5});
    assert_eq!(
        of_x(both, json!(3)),
        [
            "x: Invalid value: 3: x in body should be a multiple of 2",
            "x: Invalid value: 3: x in body should be greater than or equal to 5",
        ]
    );
    let exclusive = json!({"type": "number", "maximum": 9, "exclusiveMaximum": true});
    assert_eq!(one(exclusive, json!(9)), "x: Invalid value: 9: x in body should be less than 9");
    assert_eq!(
        one(json!({"type": "number", "minimum": 0.5}), json!(0.25)),
        "x: Invalid value: 0.25: x in body should be greater than or equal to 0.5"
    );
    assert_eq!(
        one(json!({"type": "number", "multipleOf": 0.5}), json!(0.7)),
        "x: Invalid value: 0.7: x in body should be a multiple of 0.5"
    );
    assert_eq!(
        one(json!({"type": "integer", "format": "int32"}), json!(3_000_000_000_u64)),
        "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in x"
    );
    assert_eq!(
        of_x(json!({"type": "integer", "format": "int64"}), json!(1e19)),
        [
            r#"x: Invalid value: "float64": x in body must be of type int64: "float64""#,
            "<nil>: Invalid value: \"\": Checked value must be of type integer with format int64 in x",
        ]
    );
    assert_eq!(
        one(json!({"type": "number", "format": "float"}), json!(1e39)),
        "<nil>: Invalid value: \"\": Checked value must be of type number with format float in x"
    );
}

#[test]
fn strings_are_judged_by_characters_pattern_enum_and_format() {
    assert_eq!(
        one(json!({"type": "string", "maxLength": 3}), json!("äöüß")),
        "x: Too long: may not be more than 3 bytes"
    );
    assert_eq!(one(json!({"type": "string", "maxLength": 4}), json!("äöüß")), "");
    assert_eq!(
        one(json!({"type": "string", "minLength": 3, "pattern": "^a"}), json!("b")),
        "x: Invalid value: \"b\": x in body should be at least 3 chars long"
    );
    assert_eq!(
        one(json!({"type": "string", "pattern": "^[a-z]+$"}), json!("ABC")),
        "x: Invalid value: \"ABC\": x in body should match '^[a-z]+$'"
    );
    assert_eq!(
        one(json!({"type": "string", "enum": ["a", "b"]}), json!("c")),
        r#"x: Unsupported value: "c": supported values: "a", "b""#
    );
    assert_eq!(
        one(json!({"type": "string", "nullable": true, "enum": ["a", null]}), json!(null)),
        r#"x: Unsupported value: null: supported values: "a", "null""#
    );
    assert_eq!(
        one(json!({"type": "string", "format": "date"}), json!("2024-13-01")),
        r#"x: Invalid value: "2024-13-01": x in body must be of type date: "2024-13-01""#
    );
    assert_eq!(one(json!({"type": "string", "format": "unheard-of"}), json!("y")), "");
}

#[test]
fn lists_and_maps_name_the_part_at_fault() {
    let schema = json!({"type": "array", "maxItems": 1, "items": {"type": "integer", "minimum": 0}});
    assert_eq!(
        of_x(schema, json!([0, -1])),
        [
            "x[1]: Invalid value: -1: x[1] in body should be greater than or equal to 0",
            "x: Too many: 2: must have at most 1 item",
        ]
    );
    let schema = json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2});
    assert_eq!(
        of_x(schema, json!({"k": "v"})),
        [
            "x: Invalid value: 1: x in body should have at least 2 properties",
            r#"x.k: Invalid value: "string": x.k in body must be of type integer: "string""#,
        ]
    );
    let schema = json!({"type": "object", "required": ["a", "b"]});
    assert_eq!(of_x(schema, json!({})), ["x.a: Required value", "x.b: Required value"]);
    assert_eq!(
        one(json!({"type": "object", "additionalProperties": false}), json!({"k": 1})),
        r#"x: Invalid value: "k": x.k in body is a forbidden property"#
    );
}

#[test]
fn junctors_report_the_alternative_that_got_furthest() {
    let schema = json!({"type": "integer", "oneOf": [{"minimum": 10}, {"minimum": 20}]});
    assert_eq!(
        of_x(schema.clone(), json!(1)),
        [
            "<nil>: Invalid value: \"\": \"x\" must validate one and only one schema (oneOf). Found none valid",
            "x: Invalid value: 1: x in body should be greater than or equal to 10",
        ]
    );
    assert_eq!(
        of_x(schema, json!(30)),
        [
            "<nil>: Invalid value: \"\": \"x\" must validate one and only one schema (oneOf). Found 2 valid alternatives"
        ]
    );
    assert_eq!(
        one(json!({"type": "integer", "not": {"minimum": 3}}), json!(4)),
        "<nil>: Invalid value: \"\": \"x\" must not validate the schema (not)"
    );
    assert_eq!(
        of_x(
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({})
        ),
        [
            "<nil>: Invalid value: \"\": \"x\" must validate at least one schema (anyOf)",
            "x.a: Required value",
        ]
    );
}

#[test]
fn a_base_is_in_the_field_but_not_in_the_message() {
    let base = Path::new("default");
    let faults = |schema: Value, value: Value| -> Vec<String> {
        validate(&parse(&schema), &value, Some(&base)).iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        faults(json!({"type": "integer"}), json!("a")),
        [r#"default: Invalid value: "string":  in body must be of type integer: "string""#]
    );
    assert_eq!(
        faults(json!({"type": "object", "required": ["a"]}), json!({})),
        ["default.a: Required value"]
    );
}

#[test]
fn unchanged_faults_are_forgiven_on_update() {
    let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer", "minimum": 1000}}});
    let schema = parse(&json!({"type": "object", "properties": {
        "size": {"type": "integer", "minimum": 10}, "free": {"type": "string"},
        "atom": {"type": "array", "items": {"type": "string", "maxLength": 2}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": item}}}));
    let old = json!({"size": 1, "free": "a", "atom": ["long"], "ports": [{"name": "a", "port": 1}]});
    let update = |value: Value| -> Vec<String> {
        validate_update(&schema, &value, &old, None).iter().map(ToString::to_string).collect()
    };
    let mut same = old.clone();
    same["free"] = json!("b");
    assert_eq!(update(same), Vec::<String>::new());
    assert_eq!(
        update(json!({"size": 2})),
        ["size: Invalid value: 2: size in body should be greater than or equal to 10"]
    );
    let ports = json!({"ports": [{"name": "b", "port": 2}, {"name": "a", "port": 1}]});
    assert_eq!(
        update(ports),
        ["ports[0].port: Invalid value: 2: ports[0].port in body should be greater than or equal to 1000"]
    );
    assert_eq!(update(json!({"atom": ["long", "x"]})), ["atom[0]: Too long: may not be more than 2 bytes"]);
}

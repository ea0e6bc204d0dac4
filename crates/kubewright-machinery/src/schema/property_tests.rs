//! What holds for any schema and any value.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::structural::parse;
use super::{default, list_map, openapi, prune, validate};
use crate::field::Path;

const NAMES: [&str; 4] = ["a", "b", "c", "metadata"];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(&NAMES[..]).prop_map(ToString::to_string)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ab]{0,3}|é|2024-01-01".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(name(), inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    let present = fields.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn maybe<T: std::fmt::Debug + Into<Value>>(
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<Value>> {
    prop::option::of(of.prop_map(Into::into))
}

/// A scalar schema with keywords of any kind, fitting or not.
fn scalar() -> impl Strategy<Value = Value> {
    let types = prop::sample::select(&["string", "integer", "number", "boolean"][..]);
    let formats = prop::sample::select(&["int32", "int64", "float", "date", "ipv4", "duration", "x"][..]);
    let patterns = prop::sample::select(&["^a+$", "[", "\\d", "b{2}"][..]);
    (
        types,
        maybe(formats),
        maybe(patterns),
        maybe(-2_i64..3),
        maybe(-2.5_f64..3.0),
        maybe(-1_i64..3),
        maybe(any::<bool>()),
        prop::option::of(vec(value(), 0..3).prop_map(Value::from)),
    )
        .prop_map(|(ty, format, pattern, minimum, multiple, length, nullable, values)| {
            object(vec![
                ("type", Some(ty.into())),
                ("format", format),
                ("pattern", pattern),
                ("minimum", minimum),
                ("multipleOf", multiple),
                ("maxLength", length),
                ("nullable", nullable),
                ("enum", values),
            ])
        })
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        scalar(),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"x-kubernetes-preserve-unknown-fields": true})),
    ];
    let nested = leaf.prop_recursive(3, 24, 4, |inner| {
        let list_types = prop::sample::select(&["atomic", "set", "map"][..]);
        let properties =
            btree_map(name(), inner.clone(), 0..4).prop_map(|m| Value::Object(m.into_iter().collect()));
        prop_oneof![
            (inner.clone(), maybe(list_types)).prop_map(|(items, list_type)| object(vec![
                ("type", Some("array".into())),
                ("items", Some(items)),
                ("x-kubernetes-list-type", list_type),
                ("x-kubernetes-list-map-keys", Some(json!(["a"]))),
            ])),
            inner.clone().prop_map(|v| json!({"type": "object", "additionalProperties": v})),
            any::<bool>().prop_map(|v| json!({"type": "object", "additionalProperties": v})),
            (properties, maybe(any::<bool>()), any::<bool>()).prop_map(|(properties, preserve, require)| {
                let names = properties.as_object().into_iter().flatten().map(|(name, _)| name.clone());
                let required = require.then(|| names.take(2).map(Value::from).collect());
                object(vec![
                    ("type", Some("object".into())),
                    ("properties", Some(properties)),
                    ("required", required),
                    ("x-kubernetes-preserve-unknown-fields", preserve.filter(|p| *p == true)),
                ])
            }),
        ]
    });
    // Defaults that are valid where they are.
    (nested, vec(value(), 8)).prop_map(|(mut schema, defaults)| {
        let mut defaults = defaults.into_iter().cycle();
        set_defaults(&mut schema, &mut defaults);
        schema
    })
}

fn set_defaults(schema: &mut Value, defaults: &mut dyn Iterator<Item = Value>) {
    let below: Vec<&mut Value> = match schema.as_object_mut() {
        None => return,
        Some(fields) => fields
            .iter_mut()
            .flat_map(|(key, value)| match key.as_str() {
                "properties" => value.as_object_mut().into_iter().flatten().map(|(_, v)| v).collect(),
                "items" | "additionalProperties" => vec![value],
                _ => vec![],
            })
            .collect(),
    };
    below.into_iter().for_each(|schema| set_defaults(schema, defaults));
    let Some(mut value) = defaults.next().filter(|v| !v.is_null()) else { return };
    let parsed = parse(schema);
    prune::prune(&mut value, &parsed, false);
    default::apply(&mut value, &parsed);
    if validate::validate(&parsed, &value, None).is_empty()
        && let Some(fields) = schema.as_object_mut()
    {
        fields.insert("default".into(), value);
    }
}

fn replace_nulls(value: &mut Value) {
    match value {
        Value::Null => *value = 0.into(),
        Value::Array(items) => items.iter_mut().for_each(replace_nulls),
        Value::Object(fields) => fields.values_mut().for_each(replace_nulls),
        _ => {}
    }
}

/// A schema with junctors, whose validity is nobody's business.
fn with_junctors() -> impl Strategy<Value = Value> {
    (schema(), prop::sample::select(&["allOf", "anyOf", "oneOf"][..]), vec(schema(), 1..3), schema())
        .prop_map(|(mut schema, junctor, alternatives, not)| {
            if let Some(fields) = schema.as_object_mut() {
                fields.insert(junctor.into(), alternatives.into());
                fields.insert("not".into(), not);
            }
            schema
        })
}

proptest! {
    #[test]
    fn defaulting_twice_is_defaulting_once(schema in schema(), mut value in value()) {
        let schema = parse(&schema);
        default::apply(&mut value, &schema);
        let once = value.clone();
        default::apply(&mut value, &schema);
        prop_assert_eq!(value, once);
    }

    #[test]
    fn pruning_twice_is_pruning_once(schema in schema(), mut value in value(), root in any::<bool>()) {
        let schema = parse(&schema);
        prune::prune(&mut value, &schema, root);
        let once = value.clone();
        prop_assert!(prune::prune(&mut value, &schema, root).is_empty());
        prop_assert_eq!(value, once);
    }

    #[test]
    fn any_value_can_be_judged_by_any_schema(schema in with_junctors(), value in value(), old in value()) {
        let schema = parse(&schema);
        validate::validate(&schema, &value, None);
        validate::validate_update(&schema, &value, &old, Some(&Path::new("x")));
        list_map::validate(&schema, &value, &Path::ROOT);
    }

    #[test]
    fn an_update_that_changes_nothing_is_valid(schema in with_junctors(), value in value()) {
        let schema = parse(&schema);
        prop_assert!(validate::validate_update(&schema, &value, &value, None).is_empty());
    }

    #[test]
    fn openapi_says_what_was_stated(schema in with_junctors()) {
        let once = openapi::schema(&parse(&schema), openapi::Version::V3);
        prop_assert_eq!(openapi::schema(&parse(&once), openapi::Version::V3), once);
    }
}

proptest! {
    // Three of four values are not valid for their schema, so that the usual limit is near.
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_valid_stays_valid_when_defaulted_and_pruned(schema in schema(), mut value in value()) {
        let schema = parse(&schema);
        // A null where nothing is said of null is valid, and yet dropped.
        replace_nulls(&mut value);
        prop_assume!(validate::validate(&schema, &value, None).is_empty());
        default::apply(&mut value, &schema);
        prune::prune(&mut value, &schema, false);
        let faults = validate::validate(&schema, &value, None);
        prop_assert!(faults.is_empty(), "{value} {faults:?}");
    }
}

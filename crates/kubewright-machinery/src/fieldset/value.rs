//! Values as field sets and their messages see them: equality, order and text.
//!
//! Two numbers are equal when their values are, so `1` and `1.0` are one field value. The texts are those
//! of Kubernetes' messages, which print values the way its language formats them.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::field::{number, quote};

/// Whether two values are the same field value.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b) == Ordering::Equal,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| equal(x, y)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, x), (l, y))| k == l && equal(x, y))
        }
        _ => a == b,
    }
}

/// A total order over values: numbers, strings, booleans, lists, maps, null.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            for (x, y) in a.iter().zip(b) {
                let order = compare(x, y);
                if order != Ordering::Equal {
                    return order;
                }
            }
            a.len().cmp(&b.len())
        }
        (Value::Object(a), Value::Object(b)) => {
            for ((k, x), (l, y)) in a.iter().zip(b) {
                let order = k.cmp(l).then_with(|| compare(x, y));
                if order != Ordering::Equal {
                    return order;
                }
            }
            a.len().cmp(&b.len())
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
    }
}

/// The text of a value in a path: strings quoted, lists in brackets.
pub fn display(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(text) => quote(text),
        Value::Array(items) => format!("[{}]", items.iter().map(display).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => fields.iter().map(|(k, v)| format!("{k}={}", display(v))).collect(),
        Value::Bool(_) | Value::Number(_) => plain(value),
    }
}

/// The text of a value as Go's `%v` prints a decoded one: `map[a:1 b:[x y]]`.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => number(n),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// The text of a value as Go's `%#v` prints a decoded one: `map[string]interface {}{"a":1}`.
pub fn literal(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::String(text) => quote(text),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(k, v)| format!("{}:{}", quote(k), literal(v))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        Value::Bool(_) | Value::Number(_) => plain(value),
    }
}

/// The name of a value's decoded Go type (`%T`).
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if integer(number).is_some() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_float_is_the_integer() {
        assert!(equal(&json!({"a": [1.0]}), &json!({"a": [1]})));
        assert!(!equal(&json!({"a": 1}), &json!({"a": 1, "b": null})));
        assert_eq!(compare(&json!(2.5), &json!(2)), Ordering::Greater);
    }

    #[test]
    fn texts_are_those_of_messages() {
        let value = json!({"a": 1, "b": ["x", null, true], "c": 1.5});
        assert_eq!(plain(&value), "map[a:1 b:[x <nil> true] c:1.5]");
        assert_eq!(
            literal(&value),
            r#"map[string]interface {}{"a":1, "b":[]interface {}{"x", interface {}(nil), true}, "c":1.5}"#
        );
        assert_eq!(plain(&json!(1234567.5)), "1.2345675e+06");
        assert_eq!(plain(&json!(123456.5)), "123456.5");
        assert_eq!(plain(&json!(0.00001)), "1e-05");
    }
}

//! Amounts of named resources (`ResourceList`): reading, adding, comparing. Pure.

use std::collections::BTreeMap;

use kubewright_machinery::quantity::Quantity;
use serde_json::{Map, Value};

/// Amounts by name of the resource.
pub(crate) type Amounts = BTreeMap<Box<str>, Quantity>;

/// The amounts an object of quantities tells. What is no quantity is left out: validation refuses it.
pub(crate) fn read(value: &Value) -> Amounts {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(name, v)| Some((name.as_str().into(), Quantity::from_value(v).ok()?))).collect()
}

/// The object of quantities that a server writes.
pub(crate) fn written(amounts: &Amounts) -> Value {
    Value::Object(
        amounts.iter().map(|(name, q)| (name.to_string(), q.to_string().into())).collect::<Map<_, _>>(),
    )
}

/// Adds `more` to `to`, name by name.
pub(crate) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        match to.get_mut(name) {
            Some(sum) => sum.add(quantity),
            None => drop(to.insert(name.clone(), quantity.clone())),
        }
    }
}

/// Raises `to` to at least `other`, name by name.
pub(crate) fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        match to.get_mut(name) {
            Some(most) if *most >= *quantity => {}
            _ => drop(to.insert(name.clone(), quantity.clone())),
        }
    }
}

/// What `amounts` has more than `before`, never below zero, for the names of both.
pub(crate) fn growth(amounts: &Amounts, before: &Amounts) -> Amounts {
    let mut grown: Amounts = before.keys().map(|name| (name.clone(), Quantity::default())).collect();
    for (name, quantity) in amounts {
        let mut more = quantity.clone();
        if let Some(before) = before.get(name) {
            more.sub(before);
        }
        grown.insert(name.clone(), if more.signum() > 0 { more } else { Quantity::default() });
    }
    grown
}

/// `name=amount` of each, with commas between.
pub(crate) fn listed(amounts: &Amounts) -> String {
    let parts: Vec<_> = amounts.iter().map(|(name, quantity)| format!("{name}={quantity}")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_keep_the_suffixes_of_their_parts() {
        let mut sum = read(&json!({"memory": "0", "cpu": "400m"}));
        add(&mut sum, &read(&json!({"memory": "256Mi", "cpu": "1", "pods": 1})));
        assert_eq!(written(&sum), json!({"cpu": "1400m", "memory": "256Mi", "pods": "1"}));
    }

    #[test]
    fn growth_is_never_negative_and_names_everything() {
        let grown =
            growth(&read(&json!({"a": "3", "b": "1"})), &read(&json!({"a": "1", "b": "2", "c": "9"})));
        assert_eq!(listed(&grown), "a=2,b=0,c=0");
    }
}

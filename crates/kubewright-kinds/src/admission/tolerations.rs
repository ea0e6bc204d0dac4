//! Lists of tolerations: which one covers another, and merging without saying anything twice. Pure.

use serde_json::Value;

use crate::fields::{int, text};

/// What a toleration says, with what it leaves out as empty.
fn terms(toleration: &Value) -> (&str, &str, &str, &str, Option<i64>) {
    let of = |field| text(toleration, &[field]);
    (of("key"), of("operator"), of("value"), of("effect"), int(toleration, &["tolerationSeconds"]))
}

/// Whether whatever `narrow` tolerates, `wide` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    let (w, n) = (terms(wide), terms(narrow));
    if w == n {
        return true;
    }
    let ((w_key, w_operator, w_value, w_effect, w_seconds), (key, operator, value, effect, seconds)) = (w, n);
    // Without a key, Exists means every key.
    if key != w_key && (!w_key.is_empty() || w_operator != "Exists") {
        return false;
    }
    if effect != w_effect && !w_effect.is_empty() {
        return false;
    }
    if w_effect == "NoExecute"
        && let Some(most) = w_seconds
        && seconds.is_none_or(|s| s > most)
    {
        return false;
    }
    match w_operator {
        "Equal" | "" => operator == "Equal" && value == w_value,
        "Exists" => true,
        _ => false,
    }
}

/// Both lists as one, without what another entry covers; of equal ones the first stays.
pub(super) fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::with_capacity(all.len());
    for (i, toleration) in all.iter().enumerate() {
        let before = merged.iter().any(|m| covers(m, toleration));
        let later = all[i + 1..].iter().any(|t| terms(t) != terms(toleration) && covers(t, toleration));
        if !before && !later {
            merged.push((*toleration).clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_another_toleration_covers_is_left_out() {
        let narrow = json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"});
        let wide = json!({"key": "a", "operator": "Exists"});
        let all = json!({"operator": "Exists"});
        let brief = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        assert_eq!(
            merge(std::slice::from_ref(&narrow), &[wide.clone(), narrow.clone()]),
            std::slice::from_ref(&wide)
        );
        assert_eq!(merge(&[narrow.clone(), brief.clone()], &[]), [narrow.clone(), brief.clone()]);
        assert_eq!(merge(&[narrow, wide, brief], std::slice::from_ref(&all)), [all]);
    }
}

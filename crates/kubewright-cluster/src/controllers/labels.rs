//! `metav1.LabelSelector` on labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether a selector takes these labels. An empty selector takes everything; one with an operator that does not exist,
/// which the API server refuses, takes nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let by_label = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    by_label
        && selector.match_expressions.iter().flatten().all(|expression| {
            let found = value(&expression.key);
            let among = || found.is_some_and(|found| expression.values.iter().flatten().any(|v| v == found));
            match expression.operator.as_str() {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_label_and_expression_must_hold() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}],
        }))
        .unwrap();
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert!(selects(&selector, Some(&labels(&[("app", "web")]))));
        assert!(!selects(&selector, Some(&labels(&[("app", "web"), ("tier", "db")]))));
        assert!(!selects(&selector, None));
    }
}

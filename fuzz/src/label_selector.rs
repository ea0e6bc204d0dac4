//! Label selectors. Input: a line with the text of a selector, a line with labels as a JSON object.

use kubewright_machinery::decode;
use kubewright_machinery::selector::LabelSelector;
use serde_json::{Value, json};

/// What is read prints as text that reads as the same, and both choose the same labels, however these are looked at.
pub fn check(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (text, rest) = input.split_once('\n').unwrap_or((input, ""));
    let labels: Value = serde_json::from_str(rest).unwrap_or(json!({}));
    if let Ok(selector) = LabelSelector::parse(text) {
        let printed = selector.to_string();
        let again = LabelSelector::parse(&printed).expect("what was printed can be read");
        assert_eq!(again.to_string(), printed);
        let matched = selector.matches_labels(labels.as_object());
        assert_eq!(again.matches_labels(labels.as_object()), matched, "{text:?} and {printed:?}");
        let object = json!({"metadata": {"labels": labels}});
        assert_eq!(selector.matches_object(&object), matched);
        let of_texts = |labels: &Value| labels.as_object().is_some_and(|l| l.values().all(Value::is_string));
        // Of a key that stands there twice one reader takes the first and one the last; what is stored has none.
        let unambiguous = decode::json(rest.as_bytes()).is_ok_and(|decoded| decoded.strict.is_empty());
        if unambiguous && serde_json::from_str(rest).is_ok_and(|labels| of_texts(&labels)) {
            assert_eq!(selector.matches_json(Some(rest.as_bytes())), matched, "{text:?} of {rest:?}");
        }
    }
    // The same text as a LabelSelector of an object.
    if let Ok(value) = serde_json::from_str::<Value>(text)
        && let Ok(selector) = LabelSelector::from_value(Some(&value))
        && let Ok(again) = LabelSelector::parse(&selector.to_string())
    {
        let labels = labels.as_object();
        if selector.requirements().is_some() {
            assert_eq!(
                again.matches_labels(labels),
                selector.matches_labels(labels),
                "{value} as {selector}"
            );
        }
    }
}

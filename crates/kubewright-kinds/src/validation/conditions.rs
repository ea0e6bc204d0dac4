//! Conditions of the shared type (`metav1.Condition`), as the kinds that check them do.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::checks;
use super::errors::Errors;
use super::read::Fields;

const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const LONGEST_REASON: usize = 1024;
const LONGEST_MESSAGE: usize = 32 * 1024;
const REASON: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
const REASON_MESSAGE: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
const REASON_EXAMPLES: [&str; 5] = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];

/// A list of conditions: each of its own type, and complete.
pub(super) fn conditions(conditions: &[Value], path: &Path<'_>, e: &mut Errors) {
    for (i, condition) in conditions.iter().enumerate() {
        let item = path.index(i);
        let kind = condition.text("type");
        if conditions[..i].iter().any(|other| other.text("type") == kind) {
            e.duplicate(&item, kind);
        }
        one(condition, kind, &item, e);
    }
}

fn one(condition: &Value, kind: &str, path: &Path<'_>, e: &mut Errors) {
    match kind {
        "" => e.required(&path.child("type"), "is required"),
        kind => checks::label_key(kind, &path.child("type"), e),
    }
    match condition.text("status") {
        "" => e.required(&path.child("status"), ""),
        status if !STATUSES.contains(&status) => e.not_supported(&path.child("status"), status, &STATUSES),
        _ => {}
    }
    let observed = condition.int("observedGeneration");
    if observed < 0 {
        e.invalid(&path.child("observedGeneration"), observed, "must be greater than or equal to zero");
    }
    if !condition.has("lastTransitionTime") {
        e.required(&path.child("lastTransitionTime"), "");
    }
    let reason = condition.text("reason");
    let reason_path = path.child("reason");
    if reason.is_empty() {
        e.required(&reason_path, "");
    } else {
        if !is_reason(reason) {
            e.invalid(&reason_path, reason, names::regex_error(REASON_MESSAGE, REASON, &REASON_EXAMPLES));
        }
        if reason.len() > LONGEST_REASON {
            e.too_long(&reason_path, LONGEST_REASON);
        }
    }
    if condition.text("message").len() > LONGEST_MESSAGE {
        e.too_long(&path.child("message"), LONGEST_MESSAGE);
    }
}

fn is_reason(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let (first, last) = (text.as_bytes().first(), text.as_bytes().last());
    first.is_some_and(u8::is_ascii_alphabetic)
        && last.is_some_and(|b| word(*b))
        && text.bytes().all(|b| word(b) || matches!(b, b',' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn a_condition_is_complete_and_of_its_own_type() {
        let list = json!([
            {"type": "A", "status": "True", "reason": "Ok", "lastTransitionTime": "2020-01-01T00:00:00Z"},
            {"type": "A", "status": "Maybe", "reason": "not ok", "observedGeneration": -1},
        ]);
        let texts = errors::texts(|e| conditions(list.as_array().expect("a list"), &Path::new("c"), e));
        assert_eq!(
            texts[..4],
            [
                r#"c[1]: Duplicate value: "A""#,
                r#"c[1].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown""#,
                "c[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
                "c[1].lastTransitionTime: Required value",
            ]
        );
        assert!(
            texts[4].starts_with(r#"c[1].reason: Invalid value: "not ok": a condition reason must start"#)
        );
        assert!(is_reason("ReasonA,ReasonB") && is_reason("x") && !is_reason("a:") && !is_reason("1a"));
    }
}

//! PriorityClasses and RuntimeClasses.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::{Value, json};

use super::errors::Errors;
use super::read::{Fields, same};
use super::{affinity, checks, gopod, metadata, resources};

const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
const PREEMPTION: [&str; 2] = ["PreemptLowerPriority", "Never"];
/// The classes that every cluster has.
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) fn priority_create(class: &Value, e: &mut Errors) {
    metadata::create(class, false, names::name_is_subdomain, e);
    let (name, value) = (metadata::name(class), class.int("value"));
    if name.starts_with("system-") {
        if let Some(error) = system_error(name, value, class.flag("globalDefault")) {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {error}"
            );
            e.forbidden(&Path::new("metadata").child("name"), detail);
        }
    } else if value > HIGHEST_USER_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        e.forbidden(&Path::new("value"), detail);
    }
    if let Some(policy) = class.opt_text("preemptionPolicy").filter(|p| !PREEMPTION.contains(p)) {
        e.not_supported(&Path::new("preemptionPolicy"), policy, &PREEMPTION);
    }
}

fn system_error(name: &str, value: i64, global: bool) -> Option<String> {
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, expected)) if *expected != value => {
            Some(format!("value of {name} PriorityClass must be {expected}"))
        }
        Some(_) if global => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}

pub(super) fn priority_update(class: &Value, old: &Value, e: &mut Errors) {
    metadata::update(class, old, e);
    if class.int("value") != old.int("value") {
        e.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    let path = Path::new("preemptionPolicy");
    checks::immutable(class.sub("preemptionPolicy"), old.sub("preemptionPolicy"), &path, e);
}

pub(super) fn runtime_create(class: &Value, e: &mut Errors) {
    metadata::create(class, false, names::name_is_subdomain, e);
    checks::label(class.text("handler"), &Path::new("handler"), e);
    if let Some(overhead) = class.some("overhead") {
        let fixed = json!({"limits": overhead.sub("podFixed")});
        let path = Path::new("overhead");
        let path = path.child("podFixed");
        resources::requirements(&fixed, resources::Of::Container, &[], &path, e);
    }
    if let Some(scheduling) = class.some("scheduling") {
        let path = Path::new("scheduling");
        checks::labels(scheduling, "nodeSelector", &path, e);
        tolerations(scheduling.items("tolerations"), &path.child("tolerations"), e);
    }
}

/// Tolerations are valid and there are no two of the same.
fn tolerations(tolerations: &[Value], path: &Path<'_>, e: &mut Errors) {
    affinity::tolerations(tolerations, path, e);
    for (i, toleration) in tolerations.iter().enumerate() {
        if tolerations[..i].iter().any(|other| same(other, toleration)) {
            e.duplicate_go(&path.index(i), &gopod::ONE_TOLERATION, toleration, "");
        }
    }
}

pub(super) fn runtime_update(class: &Value, old: &Value, e: &mut Errors) {
    metadata::update(class, old, e);
    checks::immutable(class.sub("handler"), old.sub("handler"), &Path::new("handler"), e);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;

    #[test]
    fn users_have_their_own_range_of_priorities() {
        let class = |name: &str, value: i64| json!({"metadata": {"name": name, "resourceVersion": "1"}, "value": value});
        assert!(texts(|e| priority_create(&class("system-node-critical", 2_000_001_000), e)).is_empty());
        assert_eq!(
            texts(|e| priority_create(&class("high", 1_000_000_001), e)),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
        );
        assert_eq!(
            texts(|e| priority_create(&class("system-x", 1), e)),
            [
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class"
            ]
        );
        assert_eq!(
            texts(|e| priority_update(&class("a", 2), &class("a", 1), e)),
            ["value: Forbidden: may not be changed in an update."]
        );
    }

    #[test]
    fn a_runtime_has_a_handler() {
        let class = json!({"metadata": {"name": "r"}, "handler": "", "scheduling": {"tolerations": [{"key": "k", "operator": "Wrong"}]}});
        let found = texts(|e| runtime_create(&class, e));
        assert!(
            found[0].starts_with("handler: Invalid value: \"\": a lowercase RFC 1123 label"),
            "{found:?}"
        );
        assert_eq!(
            found[1],
            r#"scheduling.tolerations[0].operator: Unsupported value: "Wrong": supported values: "Equal", "Exists""#
        );
    }
}

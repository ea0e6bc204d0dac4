//! PodDisruptionBudgets.

use kubewright_machinery::field::Path;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::workloads::SPEC;
use super::{checks, conditions, gotypes};

const EVICTION: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];

pub(super) fn budget(budget: &Value, e: &mut Errors) {
    let spec = budget.sub("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        e.invalid_go(&SPEC, &gotypes::DISRUPTION_BUDGET, spec, detail);
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(count) = spec.some(field) {
            let path = SPEC.child(field);
            checks::positive_int_or_percent(count, &path, e);
            checks::not_over_100_percent(count, &path, e);
        }
    }
    checks::label_selector(spec.some("selector"), false, &SPEC.child("selector"), e);
    if let Some(policy) = spec.opt_text("unhealthyPodEvictionPolicy").filter(|p| !EVICTION.contains(p)) {
        e.not_supported(&SPEC.child("unhealthyPodEvictionPolicy"), policy, &EVICTION);
    }
}

pub(super) fn budget_status(budget: &Value, e: &mut Errors) {
    let status = budget.sub("status");
    let list = Path::new("status");
    conditions::conditions(status.items("conditions"), &list.child("conditions"), e);
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        checks::non_negative(status.int(field), &Path::new("status").child(field), e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn a_budget_says_one_bound() {
        let object = json!({"spec": {"minAvailable": -1, "maxUnavailable": "101%"}});
        let texts = errors::texts(|e| budget(&object, e));
        assert!(texts[0].ends_with("minAvailable and maxUnavailable cannot be both set"), "{texts:?}");
        assert_eq!(
            texts[1..],
            [
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
                r#"spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#,
            ]
        );
    }
}

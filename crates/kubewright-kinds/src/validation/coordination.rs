//! Leases.

use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::workloads::SPEC;
use super::{checks, metadata};

const STRATEGIES: [&str; 1] = ["OldestEmulationVersion"];

pub(super) fn create(lease: &Value, e: &mut Errors) {
    metadata::create_generic(lease, true, names::name_is_subdomain, e);
    spec(lease.sub("spec"), e);
}

pub(super) fn update(lease: &Value, old: &Value, e: &mut Errors) {
    metadata::update_generic(lease, old, e);
    spec(lease.sub("spec"), e);
}

fn spec(spec: &Value, e: &mut Errors) {
    if let Some(seconds) = spec.opt_int("leaseDurationSeconds").filter(|s| *s <= 0) {
        e.invalid(&SPEC.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    checks::opt_non_negative(spec, "leaseTransitions", &SPEC, e);
    if let Some(strategy) = spec.opt_text("strategy") {
        let path = SPEC.child("strategy");
        let path = path.child("strategy");
        if strategy.contains('/') {
            checks::qualified_name(strategy, &path, e);
        } else if !STRATEGIES.contains(&strategy) {
            e.not_supported(&path, strategy, &STRATEGIES);
        }
    }
    if !spec.text("preferredHolder").is_empty() && spec.text("strategy").is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        e.forbidden(&SPEC.child("preferredHolder"), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn a_lease_lasts() {
        let lease = json!({"metadata": {"name": "l", "namespace": "n"}, "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}});
        let texts = errors::texts(|e| create(&lease, e));
        assert_eq!(
            texts,
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }
}

//! Namespaces and Nodes.

use kubewright_machinery::field::Path;
use kubewright_machinery::{meta, names};
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{affinity, checks, gotypes, metadata, resources};

pub(super) fn namespace_create(object: &Value, e: &mut Errors) {
    metadata::create(object, false, names::name_is_label, e);
    let spec = Path::new("spec");
    for finalizer in object.sub("spec").strings("finalizers") {
        finalizer_name(finalizer, &spec.child("finalizers"), e);
    }
}

fn finalizer_name(finalizer: &str, path: &Path<'_>, e: &mut Errors) {
    let mut found = Vec::new();
    meta::validate_finalizers(&[finalizer], path, &mut found);
    e.extend(found);
    metadata::known_finalizer(finalizer, path, e);
}

pub(super) fn namespace_status(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    let phase = object.sub("status").text("phase");
    let path = Path::new("status");
    let path = path.child("Phase");
    match (object.sub("metadata").has("deletionTimestamp"), phase) {
        (false, "Active") | (true, "Terminating") => {}
        (false, _) => e.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty"),
        (true, _) => e.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"),
    }
}

pub(super) fn namespace_finalize(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    let spec = Path::new("spec");
    let list = spec.child("finalizers");
    for (i, finalizer) in object.sub("spec").strings("finalizers").into_iter().enumerate() {
        finalizer_name(finalizer, &list.index(i), e);
    }
}

const SPEC: Path<'static> = Path::new("spec");
const METADATA: Path<'static> = Path::new("metadata");

pub(super) fn node_create(node: &Value, e: &mut Errors) {
    metadata::create(node, false, names::name_is_subdomain, e);
    let spec = node.sub("spec");
    affinity::taints(spec.items("taints"), &METADATA.child("taints"), e);
    node_resources(node, e);
    let cidrs = spec.strings("podCIDRs");
    let path = SPEC.child("podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        checks::cidr_unless(&[], cidr, &path.index(i), e);
    }
    if cidrs.len() < 2 {
        return;
    }
    let networks: Vec<_> = cidrs.iter().map(|c| checks::parse_cidr(c).map(|(ip, _)| ip)).collect();
    if networks.contains(&None) {
        let bad = cidrs.iter().find(|c| checks::parse_cidr(c).is_none()).copied().unwrap_or_default();
        let detail = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR address: {bad}"
        );
        e.push(kubewright_machinery::field::Error::internal(&path, detail));
    }
    let dual = !networks.contains(&None) && checks::is_dual_stack(networks.into_iter());
    if !dual || cidrs.len() > 2 {
        e.invalid(&path, cidrs.clone(), "may specify no more than one CIDR for each IP family");
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        if cidrs[..i].contains(cidr) {
            e.duplicate(&path.index(i), *cidr);
        }
    }
}

fn node_resources(node: &Value, e: &mut Errors) {
    let status = Path::new("status");
    for field in ["capacity", "allocatable"] {
        let path = status.child(field);
        for (name, value) in node.sub("status").entries(field) {
            resources::amount(name, value, &path.child(name), e);
        }
    }
}

pub(super) fn node_update(node: &Value, old: &Value, e: &mut Errors) {
    metadata::update(node, old, e);
    node_resources(node, e);
    let (spec, old_spec, status) = (node.sub("spec"), old.sub("spec"), node.sub("status"));
    let status_path = Path::new("status");
    let addresses = status.items("addresses");
    for (i, address) in addresses.iter().enumerate() {
        if addresses[..i].contains(address) {
            e.duplicate_go(&status_path.child("addresses").index(i), &gotypes::NODE_ADDRESS, address, "");
        }
    }
    let (cidrs, old_cidrs) = (spec.strings("podCIDRs"), old_spec.strings("podCIDRs"));
    if !old_cidrs.is_empty() {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        let changed = if cidrs.len() == old_cidrs.len() {
            cidrs.iter().zip(&old_cidrs).filter(|(a, b)| a != b).count()
        } else {
            1
        };
        (0..changed).for_each(|_| e.forbidden(&SPEC.child("podCIDRs"), detail));
    }
    let provider = old_spec.text("providerID");
    if !provider.is_empty() && spec.text("providerID") != provider {
        let detail = "node updates may not change providerID except from \"\" to valid";
        e.forbidden(&SPEC.child("providerID"), detail);
    }
    affinity::taints(spec.items("taints"), &METADATA.child("taints"), e);
    if spec.text("externalID") != old_spec.text("externalID") {
        e.forbidden(&SPEC.child("externalID"), "may not be updated");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn finalizers_of_a_namespace_have_a_domain() {
        let texts = errors::texts(|e| {
            namespace_create(
                &json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["bad", "kubernetes"]}}),
                e,
            )
        });
        assert_eq!(
            texts,
            [
                r#"spec.finalizers: Invalid value: "bad": name is neither a standard finalizer name nor is it fully qualified"#
            ]
        );
    }

    #[test]
    fn the_provider_of_a_node_is_set_once() {
        let node =
            |id: &str| json!({"metadata": {"name": "n", "resourceVersion": "1"}, "spec": {"providerID": id}});
        let texts = errors::texts(|e| node_update(&node("b"), &node("a"), e));
        assert_eq!(
            texts,
            [r#"spec.providerID: Forbidden: node updates may not change providerID except from "" to valid"#]
        );
    }
}

//! What is allowed but unwise: the `Warning` headers of writes, in the words of Kubernetes.
//!
//! A template is warned about when the object is new or its generation changes; what is said of other fields is
//! said on every write that can change them.

mod addresses;
mod labels;
mod networking;
mod paths;
mod pods;
mod secrets;
mod storage;
mod workloads;

pub(crate) use networking::{
    endpoint_slice, endpoints, ingress, ingress_status, network_policy, node, service, service_status,
};
pub(crate) use pods::{app_armor_annotation, app_armor_profile, pod, pod_status};
pub(crate) use secrets::secret;
pub(crate) use storage::{claim, persistent_volume, storage_capacity, storage_class};
pub(crate) use workloads::{
    controller, cron_job, daemon_set, job, named_template, pod_template, stateful_set,
};

use kubewright_machinery::quantity::Quantity;
use serde_json::Value;

use crate::fields::{at, entries, text};

/// Volume sources that no longer work.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn old_volumes(source: &Value, path: &str, out: &mut Vec<String>) {
    for (name, why) in OLD_VOLUMES {
        if !at(source, &[name]).is_null() {
            let field = if name == "storageos" { "storageOS" } else { name };
            out.push(format!("{path}.{field}: {why}"));
        }
    }
}

/// Bytes of memory and local storage come whole.
fn amounts(list: &Value, path: &str, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        amount(list, name, path, out);
    }
}

/// Bytes come whole.
fn amount(list: &Value, name: &str, path: &str, out: &mut Vec<String>) {
    if let Some(quantity) = list.get(name).and_then(|value| Quantity::from_value(value).ok())
        && !quantity.is_integer()
    {
        out.push(format!(
            "{path}[{name}]: fractional byte value \"{quantity}\" is invalid, must be an integer"
        ));
    }
}

/// A name with dots makes surprising host names.
fn name_is_a_hostname(object: &Value, what: &str, out: &mut Vec<String>) {
    let faults = kubewright_machinery::names::is_dns1123_label(text(object, &["metadata", "name"]));
    if !faults.is_empty() {
        out.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            faults.join(" ")
        ));
    }
}

pub(crate) fn service_account(object: &Value, old: Option<&Value>) -> Vec<String> {
    let annotation = "kubernetes.io/enforce-mountable-secrets";
    let has = |o: &Value| !at(o, &["metadata", "annotations", annotation]).is_null();
    if has(object) && !old.is_some_and(has) {
        return vec![format!(
            "metadata.annotations[{annotation}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        )];
    }
    Vec::new()
}

pub(crate) fn runtime_class(object: &Value, _: Option<&Value>) -> Vec<String> {
    let labels = entries(object, &["scheduling", "nodeSelector"]);
    let old = labels.filter_map(|(key, _)| labels::old_label(key));
    old.map(|why| format!("scheduling.nodeSelector: {why}")).collect()
}

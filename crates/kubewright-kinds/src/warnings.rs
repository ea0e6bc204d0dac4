//! What is allowed but unwise: the `Warning` headers of writes, in the words of Kubernetes.
//!
//! A template is warned about when it is new or has changed; everything else on every write.

use kubewright_machinery::names;
use kubewright_machinery::quantity::Quantity;
use serde_json::Value;

use crate::fields::{at, entries, int, items, text};

/// Labels of nodes that have a newer name.
const OLD_NODE_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
];

fn old_label(key: &str) -> Option<&'static str> {
    OLD_NODE_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

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

/// Warnings for a pod; after the creation only what the main endpoint may change is looked at again.
pub(crate) fn pod(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() {
        name_is_a_hostname(object, "the Pod's hostname", &mut out);
    }
    spec_and_metadata(object, "", &mut out);
    out
}

/// A name with dots makes surprising host names.
fn name_is_a_hostname(object: &Value, what: &str, out: &mut Vec<String>) {
    let faults = names::is_dns1123_label(text(object, &["metadata", "name"]));
    if !faults.is_empty() {
        out.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            faults.join(" ")
        ));
    }
}

/// Warnings for a kind with a pod template.
fn of_template(object: &Value, old: Option<&Value>, path: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() && path != ["template"] {
        name_is_a_hostname(object, "Pod names and hostnames", &mut out);
    }
    let template = at(object, path);
    if old.is_none_or(|old| at(old, path) != template) {
        spec_and_metadata(template, &format!("{}.", path.join(".")), &mut out);
    }
    out
}

pub(crate) fn template_in_spec(object: &Value, old: Option<&Value>) -> Vec<String> {
    of_template(object, old, &["spec", "template"])
}

pub(crate) fn template(object: &Value, old: Option<&Value>) -> Vec<String> {
    of_template(object, old, &["template"])
}

pub(crate) fn cron_job(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = of_template(object, old, &["spec", "jobTemplate", "spec", "template"]);
    if text(object, &["spec", "schedule"]).contains("TZ") {
        out.push(
            "spec.schedule: CRON_TZ or TZ used in spec.schedule is not officially supported, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#unsupported-timezone-specification for \
             more details"
                .to_string(),
        );
    }
    out
}

/// `base` ends with a dot, or is empty for a pod.
fn spec_and_metadata(object: &Value, base: &str, out: &mut Vec<String>) {
    let spec = at(object, &["spec"]);
    for (key, _) in entries(spec, &["nodeSelector"]) {
        if let Some(why) = old_label(key) {
            out.push(format!("{base}spec.nodeSelector[{key}]: {why}"));
        }
    }
    affinity(spec, base, out);
    for (i, constraint) in items(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        if let Some(why) = old_label(text(constraint, &["topologyKey"])) {
            out.push(format!("{base}spec.topologySpreadConstraints[{i}].topologyKey: {why}"));
        }
    }
    annotations(object, base, out);
    for (i, volume) in items(spec, &["volumes"]).iter().enumerate() {
        for (source, why) in OLD_VOLUMES {
            if !at(volume, &[source]).is_null() {
                let field = if source == "storageos" { "storageOS" } else { source };
                out.push(format!("{base}spec.volumes[{i}].{field}: {why}"));
            }
        }
    }
    for (i, secret) in items(spec, &["imagePullSecrets"]).iter().enumerate() {
        if text(secret, &["name"]).is_empty() {
            out.push(format!("{base}spec.imagePullSecrets[{i}].name: invalid empty name \"\""));
        }
    }
    let aliases = items(spec, &["hostAliases"]);
    for (i, alias) in aliases.iter().enumerate() {
        if aliases[..i].iter().any(|a| a["ip"] == alias["ip"]) {
            let ip = text(alias, &["ip"]);
            out.push(format!("{base}spec.hostAliases[{i}].ip: duplicate ip \"{ip}\""));
        }
    }
    amounts(at(spec, &["overhead"]), &format!("{base}spec.overhead"), out);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in items(spec, &[list]).iter().enumerate() {
            container_warnings(container, &format!("{base}spec.{list}[{i}]"), out);
        }
    }
    ports(spec, base, out);
    if int(spec, &["terminationGracePeriodSeconds"]).is_some_and(|s| s < 0) {
        out.push(format!(
            "{base}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
}

fn affinity(spec: &Value, base: &str, out: &mut Vec<String>) {
    let node = at(spec, &["affinity", "nodeAffinity"]);
    let mut term_keys = |term: &Value, path: String| {
        for (i, expression) in items(term, &["matchExpressions"]).iter().enumerate() {
            if let Some(why) = old_label(text(expression, &["key"])) {
                out.push(format!("{path}.matchExpressions[{i}].key: {why}"));
            }
        }
    };
    let base_path = format!("{base}spec.affinity.nodeAffinity");
    let required = items(node, &["requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"]);
    for (i, term) in required.iter().enumerate() {
        term_keys(
            term,
            format!("{base_path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{i}]"),
        );
    }
    for (i, weighted) in items(node, &["preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate()
    {
        term_keys(
            at(weighted, &["preference"]),
            format!("{base_path}.preferredDuringSchedulingIgnoredDuringExecution[{i}].preference"),
        );
    }
}

fn annotations(object: &Value, base: &str, out: &mut Vec<String>) {
    for (key, _) in entries(object, &["metadata", "annotations"]) {
        let why = match key {
            "scheduler.alpha.kubernetes.io/critical-pod" => {
                "non-functional in v1.16+; use the \"priorityClassName\" field instead"
            }
            "seccomp.security.alpha.kubernetes.io/pod" => {
                "non-functional in v1.27+; use the \"seccompProfile\" field instead"
            }
            "security.alpha.kubernetes.io/sysctls" | "security.alpha.kubernetes.io/unsafe-sysctls" => {
                "non-functional in v1.11+; use the \"sysctls\" field instead"
            }
            _ if key.starts_with("container.seccomp.security.alpha.kubernetes.io/") => {
                "non-functional in v1.27+; use the \"seccompProfile\" field instead"
            }
            _ if key.starts_with("container.apparmor.security.beta.kubernetes.io/") => {
                "deprecated since v1.30; use the \"appArmorProfile\" field instead"
            }
            _ => continue,
        };
        out.push(format!("{base}metadata.annotations[{key}]: {why}"));
    }
}

fn container_warnings(container: &Value, path: &str, out: &mut Vec<String>) {
    for field in ["limits", "requests"] {
        amounts(at(container, &["resources", field]), &format!("{path}.resources.{field}"), out);
    }
    let env = items(container, &["env"]);
    for (i, variable) in env.iter().enumerate() {
        let name = text(variable, &["name"]);
        if env[..i].iter().any(|v| text(v, &["name"]) == name) {
            out.push(format!(
                "{path}.env[{i}]: hides previous definition of \"{name}\", which may be dropped when using apply"
            ));
        }
    }
}

/// Bytes come whole.
fn amounts(list: &Value, path: &str, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let Some(value) = list.get(name) else { continue };
        let Ok(quantity) = Quantity::from_value(value) else { continue };
        if !quantity.is_integer() {
            out.push(format!(
                "{path}[{name}]: fractional byte value \"{quantity}\" is invalid, must be an integer"
            ));
        }
    }
}

/// The same port twice, in one container or in two.
fn ports(spec: &Value, base: &str, out: &mut Vec<String>) {
    let mut seen: Vec<(i64, &str, i64, &str, String)> = Vec::new();
    for (i, container) in items(spec, &["containers"]).iter().enumerate() {
        for (j, port) in items(container, &["ports"]).iter().enumerate() {
            let path = format!("{base}spec.containers[{i}].ports[{j}]");
            let key = (
                int(port, &["containerPort"]).unwrap_or_default(),
                text(port, &["protocol"]),
                int(port, &["hostPort"]).unwrap_or_default(),
                text(port, &["hostIP"]),
            );
            let same = seen.iter().find(|s| (s.0, s.1) == (key.0, key.1) && (s.2, s.3) == (key.2, key.3));
            match same {
                Some(known) => out.push(format!("{path}: duplicate port definition with {}", known.4)),
                None => seen.push((key.0, key.1, key.2, key.3, path)),
            }
        }
    }
}

pub(crate) fn service(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let annotation = "service.kubernetes.io/topology-aware-hints";
    if !at(object, &["metadata", "annotations", annotation]).is_null() {
        out.push(format!(
            "annotation {annotation} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let spec = at(object, &["spec"]);
    let external_ips = !items(spec, &["externalIPs"]).is_empty();
    if text(spec, &["clusterIP"]) == "None" {
        if external_ips {
            out.push("spec.externalIPs is ignored for headless services".into());
        }
        if !matches!(text(spec, &["sessionAffinity"]), "" | "None") {
            out.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    let by_name = text(spec, &["type"]) == "ExternalName";
    if by_name && external_ips {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !by_name && !text(spec, &["externalName"]).is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if text(spec, &["trafficDistribution"]) == "PreferClose" {
        out.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\" instead".into(),
        );
    }
    out
}

pub(crate) fn endpoint_slice(object: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_none() && text(object, &["addressType"]) == "FQDN" {
        return vec!["spec.addressType: FQDN endpoints are deprecated".into()];
    }
    Vec::new()
}

pub(crate) fn ingress(object: &Value, old: Option<&Value>) -> Vec<String> {
    let annotation = "kubernetes.io/ingress.class";
    if old.is_none() && !at(object, &["metadata", "annotations", annotation]).is_null() {
        return vec![format!(
            "annotation \"{annotation}\" is deprecated, please use 'spec.ingressClassName' instead"
        )];
    }
    Vec::new()
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

/// Volumes and claims.
pub(crate) fn volume(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let annotation = "volume.beta.kubernetes.io/storage-class";
    if !at(object, &["metadata", "annotations", annotation]).is_null() {
        out.push(format!(
            "metadata.annotations[{annotation}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    let spec = at(object, &["spec"]);
    if text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
        out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    if old.is_none() {
        for (source, why) in OLD_VOLUMES {
            if !at(spec, &[source]).is_null() {
                let field = if source == "storageos" { "storageOS" } else { source };
                out.push(format!("spec.{field}: {why}"));
            }
        }
    }
    for (list, path) in [
        (at(spec, &["capacity"]), "spec.capacity[storage]"),
        (at(spec, &["resources", "requests"]), "spec.resources.requests[storage]"),
    ] {
        if let Some(quantity) = list.get("storage").and_then(|v| Quantity::from_value(v).ok())
            && !quantity.is_integer()
        {
            out.push(format!("{path}: fractional byte value \"{quantity}\" is invalid, must be an integer"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_variable_that_hides_another_is_warned_about() {
        let object = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "env": [{"name": "A"}, {"name": "A"}], "resources": {"limits": {"memory": "100m"}}}]}});
        assert_eq!(
            pod(&object, None),
            [
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            ]
        );
    }

    #[test]
    fn an_unchanged_template_is_not_warned_about_again() {
        let object = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec":
            {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}}}});
        assert_eq!(template_in_spec(&object, None).len(), 1);
        assert!(template_in_spec(&object, Some(&object)).is_empty());
    }
}

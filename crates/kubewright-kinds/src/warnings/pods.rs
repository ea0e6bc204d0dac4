//! Warnings about pods and pod templates.

use kubewright_machinery::field::quote;
use serde_json::Value;

use super::labels::{node_selector_term, old_label};
use super::{addresses, amounts, old_volumes, paths, storage};
use crate::fields::{at, entries, int, items, text};

/// Warnings for a new pod, and for addresses in a new status. Updates of pods are not warned about: machines
/// write most of them.
pub(crate) fn pod(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() {
        super::name_is_a_hostname(object, "the Pod's hostname", &mut out);
        app_armor_of_pod(object, &mut out);
        spec_and_metadata(object, "", &mut out);
    }
    out
}

/// Warnings for a new status of a pod.
pub(crate) fn pod_status(object: &Value, _: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for list in ["podIPs", "hostIPs"] {
        for (i, entry) in items(object, &["status", list]).iter().enumerate() {
            addresses::ip(&format!("status.{list}[{i}].ip"), text(entry, &["ip"]), &mut out);
        }
    }
    out
}

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const APP_ARMOR_OLD: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";

/// The profile of AppArmor that an old annotation means; none where it means nothing.
pub(crate) fn app_armor_profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(serde_json::json!({"type": "Unconfined"})),
        "runtime/default" => Some(serde_json::json!({"type": "RuntimeDefault"})),
        _ => annotation
            .strip_prefix("localhost/")
            .filter(|name| !name.is_empty() && name.trim() == *name && name.len() <= 4095)
            .map(|name| serde_json::json!({"type": "Localhost", "localhostProfile": name})),
    }
}

/// The key and the old AppArmor annotation of a container that has no profile of its own.
pub(crate) fn app_armor_annotation<'v>(pod: &'v Value, container: &Value) -> Option<(String, &'v str)> {
    let key = format!("{APP_ARMOR}{}", text(container, &["name"]));
    let annotation = at(pod, &["metadata", "annotations"]).get(&key)?.as_str()?;
    at(container, &["securityContext", "appArmorProfile"]).is_null().then_some((key, annotation))
}

/// Annotations that say something which no field says yet.
fn app_armor_of_pod(pod: &Value, out: &mut Vec<String>) {
    if text(pod, &["spec", "os", "name"]) == "windows" {
        return;
    }
    let of_pod = at(pod, &["spec", "securityContext", "appArmorProfile"]);
    for (container, _) in containers(at(pod, &["spec"]), "spec") {
        if let Some((key, annotation)) = app_armor_annotation(pod, container)
            && app_armor_profile(annotation).is_none_or(|profile| profile != *of_pod)
        {
            out.push(format!("metadata.annotations[{key}]: {APP_ARMOR_OLD}"));
        }
    }
}

/// All containers with their paths, in the order in which Kubernetes visits them.
fn containers<'v>(spec: &'v Value, path: &str) -> Vec<(&'v Value, String)> {
    let mut all = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list_items = items(spec, &[list]).iter().enumerate();
        all.extend(list_items.map(|(i, c)| (c, format!("{path}.{list}[{i}]"))));
    }
    all
}

/// What is said of the pod or template; `base` ends with a dot, or is empty for a pod.
pub(super) fn spec_and_metadata(object: &Value, base: &str, out: &mut Vec<String>) {
    let spec = at(object, &["spec"]);
    for (key, _) in entries(spec, &["nodeSelector"]) {
        if let Some(why) = old_label(key) {
            out.push(format!("{base}spec.nodeSelector[{key}]: {why}"));
        }
    }
    node_affinity(spec, base, out);
    for (i, constraint) in items(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let path = format!("{base}spec.topologySpreadConstraints[{i}]");
        let key = text(constraint, &["topologyKey"]);
        if let Some(why) = old_label(key) {
            out.push(format!("{path}.topologyKey: {key} is {why}"));
        }
        no_selector(constraint, &path, out);
    }
    for (key, why) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ] {
        if !at(object, &["metadata", "annotations", key]).is_null() {
            out.push(format!("{base}metadata.annotations[{key}]: {why}"));
        }
    }
    for (i, volume) in items(spec, &["volumes"]).iter().enumerate() {
        old_volumes(volume, &format!("{base}spec.volumes[{i}]"), out);
        let claim = at(volume, &["ephemeral", "volumeClaimTemplate"]);
        let path = format!("{base}spec.volumes[{i}].ephemeral.volumeClaimTemplate.spec");
        storage::claim_spec(at(claim, &["spec"]), &path, out);
    }
    paths::overlapping(spec, out);
    repeated(spec, base, "hostAliases", "ip", out);
    repeated(spec, base, "imagePullSecrets", "name", out);
    for (i, secret) in items(spec, &["imagePullSecrets"]).iter().enumerate() {
        if text(secret, &["name"]).is_empty() {
            out.push(format!("{base}spec.imagePullSecrets[{i}].name: invalid empty name \"\""));
        }
    }
    amounts(at(spec, &["overhead"]), &format!("{base}spec.overhead"), out);
    const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let annotated = |key: &str| !at(object, &["metadata", "annotations", key]).is_null();
    let pod_key = "seccomp.security.alpha.kubernetes.io/pod";
    if at(spec, &["securityContext", "seccompProfile"]).is_null() && annotated(pod_key) {
        out.push(format!("{base}metadata.annotations[{pod_key}]: {SECCOMP}"));
    }
    let pod_armor = !at(spec, &["securityContext", "appArmorProfile"]).is_null();
    let all = containers(spec, &format!("{base}spec"));
    for (container, path) in &all {
        let name = text(container, &["name"]);
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
        if at(container, &["securityContext", "seccompProfile"]).is_null() && annotated(&key) {
            out.push(format!("{base}metadata.annotations[{key}]: {SECCOMP}"));
        }
        // Pods themselves are warned when the annotation becomes a field.
        if !base.is_empty()
            && !pod_armor
            && let Some((key, _)) = app_armor_annotation(object, container)
        {
            out.push(format!("{base}metadata.annotations[{key}]: {APP_ARMOR_OLD}"));
        }
        container_amounts(container, path, out);
        hidden_variables(container, path, out);
    }
    ports(&all, out);
    if int(spec, &["terminationGracePeriodSeconds"]).is_some_and(|s| s < 0) {
        out.push(format!(
            "{base}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    pod_affinity(spec, base, out);
    for (i, server) in items(spec, &["dnsConfig", "nameservers"]).iter().enumerate() {
        let path = format!("{base}spec.dnsConfig.nameservers[{i}]");
        addresses::ip(&path, server.as_str().unwrap_or_default(), out);
    }
    for (i, alias) in items(spec, &["hostAliases"]).iter().enumerate() {
        addresses::ip(&format!("{base}spec.hostAliases[{i}].ip"), text(alias, &["ip"]), out);
    }
}

/// Entries of a list that name the same twice.
fn repeated(spec: &Value, base: &str, list: &str, field: &str, out: &mut Vec<String>) {
    let all = items(spec, &[list]);
    for (i, item) in all.iter().enumerate() {
        let value = text(item, &[field]);
        if all[..i].iter().any(|other| text(other, &[field]) == value) {
            out.push(format!("{base}spec.{list}[{i}].{field}: duplicate {field} {}", quote(value)));
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn node_affinity(spec: &Value, base: &str, out: &mut Vec<String>) {
    let node = at(spec, &["affinity", "nodeAffinity"]);
    let path = format!("{base}spec.affinity.nodeAffinity");
    for (i, term) in items(node, &[REQUIRED, "nodeSelectorTerms"]).iter().enumerate() {
        node_selector_term(term, false, &format!("{path}.{REQUIRED}.nodeSelectorTerms[{i}]"), out);
    }
    for (i, weighted) in items(node, &[PREFERRED]).iter().enumerate() {
        let term = at(weighted, &["preference"]);
        node_selector_term(term, true, &format!("{path}.{PREFERRED}[{i}].preference"), out);
    }
}

/// A selector that is absent selects nothing.
fn no_selector(term: &Value, path: &str, out: &mut Vec<String>) {
    if at(term, &["labelSelector"]).is_null() {
        out.push(format!("{path}.labelSelector: a null labelSelector results in matching no pod"));
    }
}

fn pod_affinity(spec: &Value, base: &str, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = at(spec, &["affinity", kind]);
        let path = format!("{base}spec.affinity.{kind}");
        for (i, term) in items(affinity, &[REQUIRED]).iter().enumerate() {
            no_selector(term, &format!("{path}.{REQUIRED}[{i}]"), out);
        }
        for (i, weighted) in items(affinity, &[PREFERRED]).iter().enumerate() {
            let term = at(weighted, &["podAffinityTerm"]);
            no_selector(term, &format!("{path}.{PREFERRED}[{i}].podAffinityTerm"), out);
        }
    }
}

/// Bytes come whole.
fn container_amounts(container: &Value, path: &str, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        for field in ["limits", "requests"] {
            let list = at(container, &["resources", field]);
            super::amount(list, name, &format!("{path}.resources.{field}"), out);
        }
    }
}

/// A variable that is set again must build on its first value.
fn hidden_variables(container: &Value, path: &str, out: &mut Vec<String>) {
    let env = items(container, &["env"]);
    for (i, variable) in env.iter().enumerate() {
        let (name, value) = (text(variable, &["name"]), text(variable, &["value"]));
        if !env[..i].iter().any(|v| text(v, &["name"]) == name) {
            continue;
        }
        let reference = format!("$({name})");
        let sourced = !at(variable, &["valueFrom"]).is_null();
        if sourced || value == reference || !value.contains(&reference) {
            let name = quote(name);
            out.push(format!(
                "{path}.env[{i}]: hides previous definition of {name}, which may be dropped when using apply"
            ));
        }
    }
}

/// Ports and their names that more than one container has.
fn ports(containers: &[(&Value, String)], out: &mut Vec<String>) {
    struct Port<'v> {
        path: String,
        key: (i64, &'v str),
        host: (i64, &'v str),
    }
    let mut seen: Vec<Port<'_>> = Vec::new();
    for (container, path) in containers {
        for (i, port) in items(container, &["ports"]).iter().enumerate() {
            let number = |field: &str| int(port, &[field]).unwrap_or_default();
            let path = format!("{path}.ports[{i}]");
            let (key, host) = (
                (number("containerPort"), text(port, &["protocol"])),
                (number("hostPort"), text(port, &["hostIP"])),
            );
            if host.0 == 0 && !host.1.is_empty() {
                let name = text(port, &["name"]);
                out.push(format!(
                    "{path}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                    key.0, key.1, host.1
                ));
            }
            for other in seen.iter().filter(|other| other.key == key) {
                let what = if other.host == host {
                    "duplicate"
                } else if host.0 == 0 || other.host.0 == 0 {
                    "overlapping"
                } else if host.0 == other.host.0 && host.1.is_empty() != other.host.1.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                out.push(format!("{path}: {what} port definition with {}", other.path));
            }
            seen.push(Port { path, key, host });
        }
    }
    let mut named: Vec<(&str, String)> = Vec::new();
    for (container, path) in containers {
        for (i, port) in items(container, &["ports"]).iter().enumerate() {
            let (name, path) = (text(port, &["name"]), format!("{path}.ports[{i}]"));
            if name.is_empty() {
                continue;
            }
            match named.iter().find(|(other, _)| *other == name) {
                Some((_, first)) => out.push(format!(
                    "{path}: duplicate port name {} with {first}, services and probes that select ports by name will use {first}",
                    quote(name)
                )),
                None => named.push((name, path)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: Value) -> Vec<String> {
        pod(&json!({"metadata": {"name": "p"}, "spec": spec}), None)
    }

    #[test]
    fn a_variable_that_hides_another_is_warned_about() {
        let env = json!([{"name": "A", "value": "x"}, {"name": "A", "value": "y"}, {"name": "A", "value": "$(A)z"}]);
        assert_eq!(
            of(
                json!({"containers": [{"name": "c", "env": env, "resources": {"limits": {"memory": "100m"}}}]})
            ),
            [
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            ]
        );
    }

    #[test]
    fn ports_that_meet_are_told_apart() {
        let ports = json!([
            {"name": "a", "containerPort": 80, "protocol": "TCP"},
            {"name": "a", "containerPort": 80, "protocol": "TCP", "hostPort": 8080},
            {"containerPort": 80, "protocol": "TCP", "hostPort": 8080, "hostIP": "10.0.0.1"},
            {"containerPort": 81, "protocol": "TCP", "hostIP": "10.0.0.1"},
        ]);
        assert_eq!(
            of(json!({"containers": [{"name": "c", "ports": ports}]})),
            [
                "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: dangerously ambiguous port definition with spec.containers[0].ports[1]",
                "spec.containers[0].ports[3]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:81 Protocol:TCP HostIP:10.0.0.1}",
                "spec.containers[0].ports[1]: duplicate port name \"a\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]",
            ]
        );
    }

    #[test]
    fn old_labels_and_absent_selectors_are_warned_about() {
        let term = json!({"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "In", "values": ["-"]}]});
        assert_eq!(
            of(json!({
                "nodeSelector": {"beta.kubernetes.io/arch": "x"},
                "affinity": {
                    "nodeAffinity": {PREFERRED: [{"weight": 1, "preference": term}]},
                    "podAntiAffinity": {REQUIRED: [{"topologyKey": "zone"}]},
                },
                "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
            })),
            [
                "spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]: - is invalid, a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
            ]
        );
    }

    #[test]
    fn an_app_armor_annotation_counts_where_no_field_says_the_same() {
        let pod_with = |own: Value| {
            json!({"metadata": {"name": "p", "annotations": {format!("{APP_ARMOR}c"): "runtime/default"}},
                "spec": {"containers": [{"name": "c", "securityContext": own}]}})
        };
        assert_eq!(
            pod(&pod_with(json!({})), None),
            [format!("metadata.annotations[{APP_ARMOR}c]: {APP_ARMOR_OLD}")]
        );
        assert!(pod(&pod_with(json!({"appArmorProfile": {"type": "RuntimeDefault"}})), None).is_empty());
    }
}

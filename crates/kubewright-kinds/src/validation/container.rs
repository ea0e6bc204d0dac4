//! Containers of pods: what all of them share, and the rules of regular, init and ephemeral ones.

use std::collections::{BTreeMap, BTreeSet};

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::resources::{self, Of};
use super::{checks, container_env, pod_security, probe};

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
pub(super) const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

/// What the containers of a pod are checked against.
pub(super) struct Context<'a> {
    /// The volumes that are valid, by name.
    pub volumes: BTreeMap<&'a str, &'a Value>,
    /// Names of the pod's resource claims.
    pub claims: Vec<&'a str>,
    /// The pod's grace period.
    pub grace: Option<i64>,
    /// The pod's restart policy.
    pub restart_policy: &'a str,
    /// Whether the pod shares the host's user namespace.
    pub host_users: bool,
    /// The name of the pod's operating system.
    pub os: &'a str,
}

/// `spec.containers`.
pub(super) fn regular(containers: &[Value], cx: &Context<'_>, path: &Path<'_>, e: &mut Errors) {
    if containers.is_empty() {
        return e.required(path, "");
    }
    let mut names = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let item = path.index(i);
        common(container, cx, &item, e);
        if !names.insert(container.text("name")) {
            e.duplicate(&item.child("name"), container.text("name"));
        }
        probe::lifecycle(container, cx.grace, cx.os, &item, e);
        probe::probes(container, cx.grace, &item, e);
        restart_policy(container, &item, e);
    }
    host_ports(containers, path, e);
}

/// `spec.initContainers`.
pub(super) fn init(
    containers: &[Value],
    regular: &[Value],
    cx: &Context<'_>,
    path: &Path<'_>,
    e: &mut Errors,
) {
    let mut names: BTreeSet<&str> = regular.iter().map(|c| c.text("name")).collect();
    for (i, container) in containers.iter().enumerate() {
        let item = path.index(i);
        common(container, cx, &item, e);
        restart_policy(container, &item, e);
        let name = container.text("name");
        if names.contains(name) {
            e.duplicate(&item.child("name"), name);
        } else if !name.is_empty() {
            names.insert(name);
        }
        host_ports(std::slice::from_ref(container), path, e);
        if is_sidecar(container) {
            probe::lifecycle(container, cx.grace, cx.os, &item, e);
            probe::probes(container, cx.grace, &item, e);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                e.forbidden(&item.child(field), detail);
            }
        }
    }
}

/// Fields that ephemeral containers may not have, in the order in which Go declares them.
const NOT_EPHEMERAL: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// `spec.ephemeralContainers`.
pub(super) fn ephemeral(spec: &Value, cx: &Context<'_>, path: &Path<'_>, e: &mut Errors) {
    let others: BTreeSet<&str> =
        spec.items("containers").iter().chain(spec.items("initContainers")).map(|c| c.text("name")).collect();
    let mut names = others.clone();
    for (i, container) in spec.items("ephemeralContainers").iter().enumerate() {
        let item = path.index(i);
        common(container, cx, &item, e);
        only_for_pod(container, &item, e);
        if !names.insert(container.text("name")) {
            e.duplicate(&item.child("name"), container.text("name"));
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            e.not_found(&item.child("targetContainerName"), target);
        }
        for field in NOT_EPHEMERAL {
            let set = match container.some(field) {
                Some(Value::Array(items)) => !items.is_empty(),
                Some(Value::Object(fields)) if field == "resources" => !fields.is_empty(),
                found => found.is_some(),
            };
            if set {
                e.forbidden(&item.child(field), "cannot be set for an Ephemeral Container");
            }
        }
        let mounts = item.child("volumeMounts");
        for (i, mount) in container.items("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    e.forbidden(&mounts.index(i).child(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// What holds for containers of pods, but not yet for those of templates.
pub(super) fn only_for_pod(container: &Value, path: &Path<'_>, e: &mut Errors) {
    let image = container.text("image");
    if image.trim().len() != image.len() {
        e.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

/// An init container that keeps running beside the others.
pub(super) fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

fn restart_policy(container: &Value, path: &Path<'_>, e: &mut Errors) {
    let (policy_path, rules_path) = (path.child("restartPolicy"), path.child("restartPolicyRules"));
    let rules = container.items("restartPolicyRules");
    match container.opt_text("restartPolicy") {
        None if !rules.is_empty() => {
            e.required(&policy_path, "must specify restartPolicy when restart rules are used");
        }
        Some(policy) if !matches!(policy, "Always" | "Never" | "OnFailure") => {
            e.not_supported(&policy_path, policy, &["Always", "Never", "OnFailure"]);
        }
        _ => {}
    }
    if rules.len() > 20 {
        e.too_many(&rules_path, rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        let item = rules_path.index(i);
        let action = rule.text("action");
        if !matches!(action, "Restart" | "RestartAllContainers") {
            e.not_supported(&item.child("action"), action, &["Restart", "RestartAllContainers"]);
        }
        let codes_path = item.child("exitCodes");
        let Some(codes) = rule.some("exitCodes") else {
            e.required(&codes_path, "must be specified");
            continue;
        };
        let operator = codes.text("operator");
        if !matches!(operator, "In" | "NotIn") {
            e.not_supported(&codes_path.child("operator"), operator, &["In", "NotIn"]);
        }
        if codes.items("values").len() > 255 {
            e.too_many(&codes_path.child("values"), codes.items("values").len(), 255);
        }
    }
}

fn common(container: &Value, cx: &Context<'_>, path: &Path<'_>, e: &mut Errors) {
    let name = container.text("name");
    if name.is_empty() {
        e.required(&path.child("name"), "");
    } else {
        checks::label(name, &path.child("name"), e);
    }
    if container.text("image").is_empty() {
        e.required(&path.child("image"), "");
    }
    let policy = container.text("terminationMessagePolicy");
    match policy {
        "File" | "FallbackToLogsOnError" => {}
        "" => e.required(&path.child("terminationMessagePolicy"), ""),
        _ => e.not_supported(
            &path.child("terminationMessagePolicy"),
            policy,
            &["File", "FallbackToLogsOnError"],
        ),
    }
    ports(container.items("ports"), &path.child("ports"), e);
    container_env::variables(container.items("env"), &path.child("env"), e);
    container_env::sources(container.items("envFrom"), &path.child("envFrom"), e);
    mounts(container, &cx.volumes, &path.child("volumeMounts"), e);
    devices(container, &cx.volumes, &path.child("volumeDevices"), e);
    pull_policy(container.text("imagePullPolicy"), &path.child("imagePullPolicy"), e);
    resources::requirements(
        container.sub("resources"),
        Of::Container,
        &cx.claims,
        &path.child("resources"),
        e,
    );
    resize_policy(container.items("resizePolicy"), cx.restart_policy, &path.child("resizePolicy"), e);
    pod_security::container(
        container.some("securityContext"),
        cx.host_users,
        &path.child("securityContext"),
        e,
    );
}

pub(super) fn pull_policy(policy: &str, path: &Path<'_>, e: &mut Errors) {
    if policy.is_empty() {
        e.required(path, "");
    } else if !PULL_POLICIES.contains(&policy) {
        e.not_supported(path, policy, &PULL_POLICIES);
    }
}

fn ports(ports: &[Value], path: &Path<'_>, e: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let item = path.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            let messages = names::is_port_name(name);
            if !messages.is_empty() {
                e.each(&item.child("name"), name, messages);
            } else if !seen.insert(name) {
                e.duplicate(&item.child("name"), name);
            }
        }
        match port.int("containerPort") {
            0 => e.required(&item.child("containerPort"), ""),
            number => checks::port(number, &item.child("containerPort"), e),
        }
        if port.int("hostPort") != 0 {
            checks::port(port.int("hostPort"), &item.child("hostPort"), e);
        }
        protocol(port.text("protocol"), &item.child("protocol"), e);
    }
}

pub(super) fn protocol(protocol: &str, path: &Path<'_>, e: &mut Errors) {
    if protocol.is_empty() {
        e.required(path, "");
    } else if !PROTOCOLS.contains(&protocol) {
        e.not_supported(path, protocol, &PROTOCOLS);
    }
}

/// Ports of the host are taken once.
fn host_ports(containers: &[Value], path: &Path<'_>, e: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let item = path.index(i);
        let ports = item.child("ports");
        for (i, port) in container.items("ports").iter().enumerate().filter(|(_, p)| p.int("hostPort") != 0) {
            let key = format!("{}/{}/{}", port.text("protocol"), port.text("hostIP"), port.int("hostPort"));
            if !seen.insert(key.clone()) {
                e.duplicate(&ports.index(i).child("hostPort"), key);
            }
        }
    }
}

fn mounts(container: &Value, volumes: &BTreeMap<&str, &Value>, path: &Path<'_>, e: &mut Errors) {
    let devices = container.items("volumeDevices");
    let mut seen = BTreeSet::new();
    for (i, mount) in container.items("volumeMounts").iter().enumerate() {
        let item = path.index(i);
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            e.required(&item.child("name"), "");
        }
        let volume = volumes.get(name);
        if volume.is_none() {
            e.not_found(&item.child("name"), name);
        }
        if target.is_empty() {
            e.required(&item.child("mountPath"), "");
        }
        if !seen.insert(target) {
            e.invalid(&item.child("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|d| d.text("name") == name) {
            e.invalid(&item.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|d| d.text("devicePath") == target) {
            e.invalid(&item.child("mountPath"), target, "must not already exist as a path in volumeDevices");
        }
        // Paths below here lack the index of the mount: that is how the API says it.
        let sub_path = mount.text("subPath");
        if !sub_path.is_empty() {
            checks::descending_path(sub_path, &path.child("subPath"), e);
        }
        let expression = mount.text("subPathExpr");
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                e.invalid(&item.child("subPathExpr"), expression, detail);
            }
            checks::descending_path(expression, &path.child("subPathExpr"), e);
        }
        propagation(mount, container, &path.child("mountPropagation"), e);
        recursive_read_only(mount, &path.child("recursiveReadOnly"), e);
    }
}

fn propagation(mount: &Value, container: &Value, path: &Path<'_>, e: &mut Errors) {
    let Some(mode) = mount.opt_text("mountPropagation") else { return };
    if !matches!(mode, "Bidirectional" | "HostToContainer" | "None") {
        e.not_supported(path, mode, &["Bidirectional", "HostToContainer", "None"]);
    }
    if mode == "Bidirectional" && !container.sub("securityContext").flag("privileged") {
        e.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(mount: &Value, path: &Path<'_>, e: &mut Errors) {
    match mount.opt_text("recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.flag("readOnly") {
                e.forbidden(path, "may only be specified when readOnly is true");
            }
            if !matches!(mount.opt_text("mountPropagation"), None | Some("None")) {
                e.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => e.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn devices(container: &Value, volumes: &BTreeMap<&str, &Value>, path: &Path<'_>, e: &mut Errors) {
    let mounts = container.items("volumeMounts");
    let (mut names, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in container.items("volumeDevices").iter().enumerate() {
        let item = path.index(i);
        let (name_path, target_path) = (item.child("name"), item.child("devicePath"));
        let (name, target) = (device.text("name"), device.text("devicePath"));
        let volume = volumes.get(name);
        if name.is_empty() {
            e.required(&name_path, "");
        }
        if names.contains(name) {
            e.invalid(&name_path, name, "must be unique");
        }
        match volume {
            Some(v) if !v.has("persistentVolumeClaim") && !v.has("ephemeral") => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                e.invalid(&name_path, name, detail);
            }
            Some(_) => {}
            None => e.not_found(&name_path, name),
        }
        if target.is_empty() {
            e.required(&target_path, "");
        }
        if targets.contains(target) {
            e.invalid(&target_path, target, "must be unique");
        }
        if target.split('/').any(|part| part == "..") {
            e.invalid(&target_path, target, "can not contain backsteps ('..')");
        } else {
            targets.insert(target);
        }
        if mounts.iter().any(|m| m.text("name") == name) {
            e.invalid(&name_path, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|m| m.text("mountPath") == target) {
            e.invalid(&target_path, target, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

fn resize_policy(policies: &[Value], pod_restart_policy: &str, path: &Path<'_>, e: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, policy) in policies.iter().enumerate() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !seen.insert(resource) {
            e.duplicate(&path.index(i), resource);
        }
        match resource {
            "cpu" | "memory" => {}
            "" => e.required(path, ""),
            _ => e.not_supported(path, resource, &["cpu", "memory"]),
        }
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => e.required(path, ""),
            _ => e.not_supported(path, restart, &["NotRequired", "RestartContainer"]),
        }
        if pod_restart_policy == "Never" && restart != "NotRequired" {
            e.invalid(path, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

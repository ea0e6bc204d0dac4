//! The checks of the Pod Security Standards: what a pod does that a level forbids.
//!
//! A pod's metadata and spec flow in, violations come out in the order and words of a real server. Pure.

use std::collections::BTreeSet;

use kubewright_machinery::field::quote;
use serde_json::Value;

use super::policy::{Level, Standard, Version};

/// What is forbidden, and what of the pod does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub reason: String,
    detail: String,
}

/// All violations as one text with their details.
pub(super) fn details(violations: &[Violation]) -> String {
    let each: Vec<String> = violations.iter().map(|v| format!("{} ({})", v.reason, v.detail)).collect();
    each.join(", ")
}

/// All violations as one text without details.
pub(super) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|v| v.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// One pod to be checked.
struct Pod<'v> {
    annotations: &'v Value,
    spec: &'v Value,
    version: Version,
}

type Check = fn(&Pod<'_>) -> Option<Violation>;

/// Checks in the order of their names in Kubernetes; the level from which each applies, and up to which.
const CHECKS: [(Level, Level, Check); 18] = [
    (Level::Restricted, Level::Restricted, allow_privilege_escalation),
    (Level::Baseline, Level::Restricted, app_armor),
    (Level::Baseline, Level::Baseline, capabilities_baseline),
    (Level::Restricted, Level::Restricted, capabilities_restricted),
    (Level::Baseline, Level::Restricted, host_namespaces),
    (Level::Baseline, Level::Baseline, host_path_volumes),
    (Level::Baseline, Level::Restricted, host_ports),
    (Level::Baseline, Level::Restricted, probe_hosts),
    (Level::Baseline, Level::Restricted, privileged),
    (Level::Baseline, Level::Restricted, proc_mount),
    (Level::Restricted, Level::Restricted, restricted_volumes),
    (Level::Restricted, Level::Restricted, run_as_non_root),
    (Level::Restricted, Level::Restricted, run_as_user),
    (Level::Baseline, Level::Restricted, se_linux),
    (Level::Baseline, Level::Baseline, seccomp_baseline),
    (Level::Restricted, Level::Restricted, seccomp_restricted),
    (Level::Baseline, Level::Restricted, sysctls),
    (Level::Baseline, Level::Restricted, host_process),
];

/// What of a pod (its metadata and spec) violates a standard.
pub(super) fn violations(standard: Standard, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let pod = Pod { annotations: &metadata["annotations"], spec, version: standard.version };
    let applies = |(from, to, _): &&(Level, Level, Check)| (*from..=*to).contains(&standard.level);
    CHECKS.iter().filter(applies).filter_map(|(_, _, check)| check(&pod)).collect()
}

impl<'v> Pod<'v> {
    fn containers(&self) -> impl Iterator<Item = &'v Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| spec[list].as_array().into_iter().flatten())
    }

    fn volumes(&self) -> impl Iterator<Item = &'v Value> {
        self.spec["volumes"].as_array().into_iter().flatten()
    }

    /// Names of the containers that something holds of.
    fn containers_that(&self, holds: impl Fn(&Value) -> bool) -> Vec<&'v str> {
        self.containers().filter(|c| holds(c)).map(|c| text(&c["name"])).collect()
    }

    fn since(&self, minor: u32) -> bool {
        self.version.is_none_or(|version| version >= minor)
    }

    fn is_windows(&self) -> bool {
        self.since(25) && self.spec["os"]["name"] == "windows"
    }

    /// Root inside of a user namespace is nobody outside.
    fn has_own_users(&self) -> bool {
        self.since(35) && self.spec["hostUsers"] == false
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn violation(reason: impl Into<String>, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason: reason.into(), detail: detail.into() })
}

fn plural<'t>(one: &'t str, many: &'t str, count: usize) -> &'t str {
    if count == 1 { one } else { many }
}

fn quoted<'t>(items: impl IntoIterator<Item = &'t str>) -> String {
    items.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names.iter().copied()))
}

/// The pod itself and containers, as what sets something: `pod and container "a"`.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let mut parts = Vec::new();
    if pod {
        parts.push("pod".to_string());
    }
    if !names.is_empty() {
        parts.push(containers(names));
    }
    (!parts.is_empty()).then(|| parts.join(" and "))
}

fn allow_privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() || !pod.since(8) {
        return None;
    }
    let bad = pod.containers_that(|c| c["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    violation(
        "allowPrivilegeEscalation != false",
        format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad)),
    )
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let profile = |of: &Value| text(&of["securityContext"]["appArmorProfile"]["type"]).to_string();
    let allowed = |kind: &str| matches!(kind, "" | "RuntimeDefault" | "Localhost");
    let mut values: BTreeSet<String> = BTreeSet::new();
    let of_pod = profile(pod.spec);
    let pod_is_bad = !allowed(&of_pod);
    if pod_is_bad {
        values.insert(of_pod);
    }
    let bad = pod.containers_that(|c| !allowed(&profile(c)));
    values.extend(pod.containers().map(profile).filter(|kind| !allowed(kind)));
    let mut values: Vec<String> = values.into_iter().collect();
    let mut who: Vec<String> = setters(pod_is_bad, &bad).into_iter().collect();
    let fine = |value: &str| matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
    let annotations: Vec<String> = pod
        .annotations
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with(PREFIX) && !fine(text(value)))
        .map(|(key, value)| format!("{key}={}", quote(text(value))))
        .collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_string());
        values.extend(annotations);
    }
    if who.is_empty() {
        return None;
    }
    violation(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len()),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(values.iter().map(String::as_str))
        ),
    )
}

/// Containers that add capabilities beyond some, and which.
fn added_beyond<'v>(pod: &Pod<'v>, allowed: &[&str]) -> (Vec<&'v str>, BTreeSet<&'v str>) {
    let (mut names, mut capabilities) = (Vec::new(), BTreeSet::new());
    for container in pod.containers() {
        let added = container["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten();
        let beyond: Vec<&str> = added.map(text).filter(|capability| !allowed.contains(capability)).collect();
        if !beyond.is_empty() {
            names.push(text(&container["name"]));
            capabilities.extend(beyond);
        }
    }
    (names, capabilities)
}

fn must_not_add(names: &[&str], capabilities: BTreeSet<&str>) -> String {
    let capabilities = quoted(capabilities);
    format!("{} must not include {capabilities} in securityContext.capabilities.add", containers(names))
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    const DEFAULT: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (names, capabilities) = added_beyond(pod, &DEFAULT);
    if names.is_empty() {
        return None;
    }
    violation("non-default capabilities", must_not_add(&names, capabilities))
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.since(22) {
        return capabilities_baseline(pod);
    }
    if pod.is_windows() {
        return None;
    }
    let keeps = pod.containers_that(|c| {
        let dropped = c["securityContext"]["capabilities"]["drop"].as_array();
        !dropped.into_iter().flatten().any(|capability| capability == "ALL")
    });
    let mut parts = Vec::new();
    if !keeps.is_empty() {
        parts.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeps)));
    }
    let (names, capabilities) = added_beyond(pod, &["NET_BIND_SERVICE"]);
    if !names.is_empty() {
        parts.push(must_not_add(&names, capabilities));
    }
    if parts.is_empty() { None } else { violation("unrestricted capabilities", parts.join("; ")) }
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"];
    let used: Vec<String> =
        fields.iter().filter(|f| pod.spec[**f] == true).map(|f| format!("{f}=true")).collect();
    if used.is_empty() { None } else { violation("host namespaces", used.join(", ")) }
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let bad: Vec<&str> =
        pod.volumes().filter(|v| v["hostPath"].is_object()).map(|v| text(&v["name"])).collect();
    if bad.is_empty() {
        return None;
    }
    let volumes = plural("volume", "volumes", bad.len());
    violation("hostPath volumes", format!("{volumes} {}", quoted(bad)))
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let ports = |c: &Value| -> Vec<String> {
        let ports = c["ports"].as_array().into_iter().flatten();
        ports.filter_map(|p| p["hostPort"].as_i64()).filter(|p| *p != 0).map(|p| p.to_string()).collect()
    };
    let bad = pod.containers_that(|c| !ports(c).is_empty());
    if bad.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = pod.containers().flat_map(ports).collect();
    let word = plural("hostPort", "hostPorts", all.len());
    let list = all.into_iter().collect::<Vec<_>>().join(", ");
    let uses = plural("uses", "use", bad.len());
    violation(word, format!("{} {uses} {word} {list}", containers(&bad)))
}

fn probe_hosts(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.since(34) {
        return None;
    }
    let hosts = |c: &Value| -> Vec<String> {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|name| &c[name]);
        let hooks = ["postStart", "preStop"].map(|name| &c["lifecycle"][name]);
        let handlers = probes.into_iter().chain(hooks);
        handlers
            .flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]])
            .map(text)
            .filter(|host| !host.is_empty())
            .map(str::to_string)
            .collect()
    };
    let bad = pod.containers_that(|c| !hosts(c).is_empty());
    if bad.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = pod.containers().flat_map(hosts).collect();
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", all.len());
    let uses = plural("uses", "use", bad.len());
    let list = quoted(all.iter().map(String::as_str));
    violation("probe or lifecycle host", format!("{} {uses} {word} {list}", containers(&bad)))
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.containers_that(|c| c["securityContext"]["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&bad)))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    let mount = |c: &Value| text(&c["securityContext"]["procMount"]).to_string();
    let is_bad = |kind: &str| !matches!(kind, "" | "Default");
    let bad = pod.containers_that(|c| is_bad(&mount(c)));
    if bad.is_empty() {
        return None;
    }
    let values: BTreeSet<String> = pod.containers().map(mount).filter(|kind| is_bad(kind)).collect();
    let values = quoted(values.iter().map(String::as_str));
    violation("procMount", format!("{} must not set securityContext.procMount to {values}", containers(&bad)))
}

fn restricted_volumes(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in pod.volumes() {
        let source = volume.as_object().into_iter().flatten().find(|(key, v)| *key != "name" && !v.is_null());
        match source {
            Some((kind, _)) if ALLOWED.contains(&kind.as_str()) => {}
            found => {
                names.push(text(&volume["name"]));
                kinds.insert(found.map_or("unknown", |(kind, _)| kind.as_str()));
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let count = names.len();
    let word = plural("restricted volume type", "restricted volume types", kinds.len());
    violation(
        "restricted volume types",
        format!(
            "{} {} {} {word} {}",
            plural("volume", "volumes", count),
            quoted(names),
            plural("uses", "use", count),
            quoted(kinds)
        ),
    )
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if pod.has_own_users() {
        return None;
    }
    let said = |of: &Value| of["securityContext"]["runAsNonRoot"].as_bool();
    let of_pod = said(pod.spec);
    if let Some(who) = setters(of_pod == Some(false), &pod.containers_that(|c| said(c) == Some(false))) {
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = pod.containers_that(|c| said(c).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent)))
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() || !pod.since(23) {
        return None;
    }
    let is_root = |of: &Value| of["securityContext"]["runAsUser"] == 0;
    let who = setters(is_root(pod.spec), &pod.containers_that(is_root))?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    let allowed = |kind: &str| {
        matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (kind == "container_engine_t" && pod.since(31))
    };
    let field = |of: &Value, name: &str| text(&of["securityContext"]["seLinuxOptions"][name]).to_string();
    let is_bad = |of: &Value| {
        !allowed(&field(of, "type")) || !field(of, "user").is_empty() || !field(of, "role").is_empty()
    };
    let who = setters(is_bad(pod.spec), &pod.containers_that(is_bad))?;
    let everything = || std::iter::once(pod.spec).chain(pod.containers());
    let types: BTreeSet<String> =
        everything().map(|of| field(of, "type")).filter(|kind| !allowed(kind)).collect();
    let mut parts = Vec::new();
    if !types.is_empty() {
        let list = quoted(types.iter().map(String::as_str));
        parts.push(format!("{} {list}", plural("type", "types", types.len())));
    }
    for name in ["user", "role"] {
        if everything().any(|of| !field(of, name).is_empty()) {
            parts.push(format!("{name} may not be set"));
        }
    }
    violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {}", parts.join("; ")),
    )
}

fn seccomp_type(of: &Value) -> &str {
    text(&of["securityContext"]["seccompProfile"]["type"])
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    if !pod.since(19) {
        return None;
    }
    let is_bad = |of: &Value| !matches!(seccomp_type(of), "" | "RuntimeDefault" | "Localhost");
    let who = setters(is_bad(pod.spec), &pod.containers_that(is_bad))?;
    let everything = std::iter::once(pod.spec).chain(pod.containers());
    let values: BTreeSet<&str> = everything.filter(|of| is_bad(of)).map(seccomp_type).collect();
    let values = quoted(values);
    violation("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {values}"))
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    if let Some(bad) = seccomp_baseline(pod) {
        return Some(bad);
    }
    let silent = pod.containers_that(|c| seccomp_type(c).is_empty());
    if !pod.since(19) || !seccomp_type(pod.spec).is_empty() || silent.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        ),
    )
}

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    /// Safe sysctls and the version since which they are.
    const SAFE: [(&str, u32); 12] = [
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let is_safe = |name: &str| SAFE.iter().any(|(safe, since)| *safe == name && pod.since(*since));
    let set = pod.spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let bad: Vec<&str> = set.map(|s| text(&s["name"])).filter(|name| !is_safe(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad = |of: &Value| of["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let who = setters(is_bad(pod.spec), &pod.containers_that(is_bad))?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(level: Level, version: Version, spec: Value) -> String {
        details(&violations(Standard { level, version }, &Value::Null, &spec))
    }

    #[test]
    fn a_pod_that_says_nothing_is_baseline_and_not_restricted() {
        let pod = json!({"containers": [{"name": "c"}]});
        assert_eq!(check(Level::Baseline, None, pod.clone()), "");
        let found = violations(Standard { level: Level::Restricted, version: None }, &Value::Null, &pod);
        assert_eq!(
            reasons(&found),
            "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
        );
        assert_eq!(check(Level::Privileged, None, json!({"hostPID": true})), "");
    }

    #[test]
    fn pod_and_containers_are_named_as_what_sets_something() {
        let bad = json!({"seccompProfile": {"type": "Unconfined"}});
        let pod = json!({"securityContext": bad, "containers": [
            {"name": "a", "securityContext": bad}, {"name": "b", "securityContext": bad}, {"name": "c"},
        ]});
        assert_eq!(
            check(Level::Baseline, None, pod),
            "seccompProfile (pod and containers \"a\", \"b\" must not set securityContext.seccompProfile.type to \
             \"Unconfined\")"
        );
    }

    #[test]
    fn a_safe_sysctl_is_safe_from_its_version_on() {
        let pod = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
        assert_eq!(check(Level::Baseline, None, pod.clone()), "");
        assert_eq!(check(Level::Baseline, Some(31), pod), "forbidden sysctls (net.ipv4.tcp_rmem)");
    }

    #[test]
    fn several_ports_and_volumes_are_many() {
        let pod = json!({
            "containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}]}],
            "volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "hostPath": {}}],
        });
        assert_eq!(
            check(Level::Baseline, None, pod),
            "hostPath volumes (volumes \"v\", \"w\"), hostPorts (container \"c\" uses hostPorts 443, 80)"
        );
    }
}

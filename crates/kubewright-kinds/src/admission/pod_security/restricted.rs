//! The checks of the restricted level: what hardened pods must say. Pure.

use serde_json::Value;

use super::baseline::{is_unconfined, seccomp as seccomp_baseline};
use super::checks::{Subject, Texts, Violation, named, plural, quoted, setters, uses};
use crate::fields::{at, int, items, text};

pub(super) fn privilege_escalation(pod: Subject<'_>) -> Option<Violation> {
    let may = |c: &&Value| at(c, &["securityContext", "allowPrivilegeEscalation"]) != &Value::Bool(false);
    let containers = pod.containers_that(may);
    if containers.is_empty() {
        return None;
    }
    let who = named("container", &containers);
    let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
    Violation::new("allowPrivilegeEscalation != false", detail)
}

pub(super) fn privilege_escalation_but_on_windows(pod: Subject<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { privilege_escalation(pod) }
}

pub(super) fn capabilities(pod: Subject<'_>) -> Option<Violation> {
    let list = |c, field: &str| items(at(c, &["securityContext", "capabilities"]), &[field]).iter();
    let mut added = Texts::new();
    let keeping = pod.containers_that(|c| !list(c, "drop").any(|name| name == "ALL"));
    let adding = pod.containers_that(|c| {
        let more = list(c, "add").filter_map(Value::as_str).filter(|name| *name != "NET_BIND_SERVICE");
        more.map(|name| added.insert(name)).count() > 0
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = named("container", &keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let who = named("container", &adding);
        details.push(format!("{who} must not include {} in securityContext.capabilities.add", quoted(added)));
    }
    if details.is_empty() { None } else { Violation::new("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn capabilities_but_on_windows(pod: Subject<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

const VOLUMES: [&str; 9] = [
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

pub(super) fn volumes(pod: Subject<'_>) -> Option<Violation> {
    let source = |volume: &'_ Value, name: &str| at(volume, &[name]).is_object();
    let mut types = Texts::new();
    let mut names = Vec::new();
    for volume in items(pod.spec(&[]), &["volumes"]) {
        if VOLUMES.iter().any(|name| source(volume, name)) {
            continue;
        }
        names.push(text(volume, &["name"]));
        let fields = volume.as_object().into_iter().flatten();
        let kind = fields.map(|(name, _)| name.as_str()).find(|name| source(volume, name));
        types.insert(kind.unwrap_or("unknown"));
    }
    if names.is_empty() {
        return None;
    }
    let (who, verb) = (named("volume", &names), uses(names.len()));
    let what = plural("restricted volume type", types.len());
    Violation::new("restricted volume types", format!("{who} {verb} {what} {}", quoted(types)))
}

pub(super) fn non_root(pod: Subject<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let of_pod = pod.spec(&["securityContext", "runAsNonRoot"]).as_bool();
    let of_container = |c| at(c, &["securityContext", "runAsNonRoot"]).as_bool();
    let explicit = pod.containers_that(|c| of_container(c) == Some(false));
    let who = setters(of_pod == Some(false), &explicit);
    if !who.is_empty() {
        return Violation::new(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = pod.containers_that(|c| of_container(c).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    let who = named("container", &silent);
    Violation::new(REASON, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

pub(super) fn non_root_with_host_users(pod: Subject<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { non_root(pod) }
}

pub(super) fn root_user(pod: Subject<'_>) -> Option<Violation> {
    const FIELD: &[&str] = &["securityContext", "runAsUser"];
    let containers = pod.containers_that(|c| int(c, FIELD) == Some(0));
    let who = setters(int(pod.spec(&[]), FIELD) == Some(0), &containers);
    if who.is_empty() {
        None
    } else {
        Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0"))
    }
}

pub(super) fn root_user_with_host_users(pod: Subject<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { root_user(pod) }
}

pub(super) fn seccomp(pod: Subject<'_>) -> Option<Violation> {
    if let Some(explicit) = seccomp_baseline(pod) {
        return Some(explicit);
    }
    let of_pod = pod.spec(&["securityContext", "seccompProfile"]);
    let silent = pod.containers_that(|c| !at(c, &["securityContext", "seccompProfile"]).is_object());
    if silent.is_empty() || (of_pod.is_object() && !is_unconfined(of_pod)) {
        return None;
    }
    let who = named("container", &silent);
    let detail = format!(
        "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
    );
    Violation::new("seccompProfile", detail)
}

pub(super) fn seccomp_but_on_windows(pod: Subject<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { seccomp(pod) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn detail(check: fn(Subject<'_>) -> Option<Violation>, template: &Value) -> Option<String> {
        check(Subject { template }).map(|v| v.detail)
    }

    #[test]
    fn the_pod_speaks_for_containers_that_say_nothing() {
        let mut pod = json!({"spec": {"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "Localhost"}},
            "containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(detail(non_root, &pod), None);
        assert_eq!(detail(seccomp, &pod), None);
        pod["spec"]["containers"][1]["securityContext"] = json!({"runAsNonRoot": false});
        assert_eq!(
            detail(non_root, &pod).unwrap(),
            "container \"b\" must not set securityContext.runAsNonRoot=false"
        );
        pod["spec"]["securityContext"] = json!({});
        assert!(detail(seccomp, &pod).unwrap().starts_with("pod or containers \"a\", \"b\" must set"));
    }

    #[test]
    fn capabilities_are_dropped_and_few_are_added() {
        let pod = json!({"spec": {"containers": [
            {"name": "a", "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}}},
            {"name": "b", "securityContext": {"capabilities": {"drop": ["KILL"]}}}]}});
        assert_eq!(
            detail(capabilities, &pod).unwrap(),
            "container \"b\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"a\" must not include \
             \"CHOWN\" in securityContext.capabilities.add"
        );
        let windows = json!({"spec": {"os": {"name": "windows"}, "containers": [{"name": "a"}]}});
        assert_eq!(detail(capabilities_but_on_windows, &windows), None);
    }

    #[test]
    fn volumes_of_other_types_are_named_with_them() {
        let pod = json!({"spec": {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "nfs": {}}, {"name": "c"}]}});
        assert_eq!(
            detail(volumes, &pod).unwrap(),
            "volumes \"b\", \"c\" use restricted volume types \"nfs\", \"unknown\""
        );
    }
}

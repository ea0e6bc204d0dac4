//! The checks of the baseline: nothing that is known to lead out of a pod. Pure.

use kubewright_machinery::meta;
use serde_json::Value;

use super::checks::{Subject, Texts, Violation, assigned, named, plural, quoted, setters, uses};
use crate::fields::{at, flag, int, items, text};

pub(super) fn app_armor(pod: Subject<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let bad = |profile: &Value| {
        profile.is_object() && !matches!(text(profile, &["type"]), "RuntimeDefault" | "Localhost")
    };
    let mut values = Texts::new();
    let of_pod = pod.spec(&["securityContext", "appArmorProfile"]);
    if bad(of_pod) {
        values.insert(text(of_pod, &["type"]));
    }
    let containers = pod.containers_that(|c| {
        let profile = at(c, &["securityContext", "appArmorProfile"]);
        bad(profile) && {
            values.insert(text(profile, &["type"]));
            true
        }
    });
    let annotations = meta::annotations(pod.template).into_iter().flatten();
    let annotations = annotations.filter_map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        let good = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        (key.starts_with(ANNOTATION) && !good).then(|| assigned(key, value))
    });
    let annotations: Vec<String> = annotations.collect();
    let mut who = setters(bad(of_pod), &containers);
    if !annotations.is_empty() {
        let noun = plural("annotation", annotations.len());
        who = if who.is_empty() { noun } else { format!("{who} and {noun}") };
    }
    if who.is_empty() {
        return None;
    }
    let mut all: Vec<String> = values.into_iter().map(String::from).collect();
    all.extend(annotations);
    let reason = plural("forbidden AppArmor profile", all.len());
    Violation::new(&reason, format!("{who} must not set AppArmor profile type to {}", quoted(&all)))
}

const CAPABILITIES: [&str; 13] = [
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

pub(super) fn capabilities(pod: Subject<'_>) -> Option<Violation> {
    let mut added = Texts::new();
    let containers = pod.containers_that(|c| {
        let all = items(c, &["securityContext", "capabilities", "add"]).iter().filter_map(Value::as_str);
        let before = all.filter(|name| !CAPABILITIES.contains(name)).map(|name| added.insert(name));
        before.count() > 0
    });
    if containers.is_empty() {
        return None;
    }
    let who = named("container", &containers);
    let detail = format!("{who} must not include {} in securityContext.capabilities.add", quoted(added));
    Violation::new("non-default capabilities", detail)
}

pub(super) fn host_namespaces(pod: Subject<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|name| flag(pod.spec(&[]), &[name]))
        .map(|name| format!("{name}=true"))
        .collect();
    if shared.is_empty() { None } else { Violation::new("host namespaces", shared.join(", ")) }
}

pub(super) fn host_paths(pod: Subject<'_>) -> Option<Violation> {
    let volumes = items(pod.spec(&[]), &["volumes"]).iter().filter(|v| at(v, &["hostPath"]).is_object());
    let volumes: Vec<&str> = volumes.map(|v| text(v, &["name"])).collect();
    if volumes.is_empty() { None } else { Violation::new("hostPath volumes", named("volume", &volumes)) }
}

pub(super) fn host_ports(pod: Subject<'_>) -> Option<Violation> {
    // Told as texts in their order, as the field's own words have it.
    let mut ports = std::collections::BTreeSet::new();
    let containers = pod.containers_that(|c| {
        let all = items(c, &["ports"]).iter().filter_map(|p| int(p, &["hostPort"]));
        all.filter(|port| *port != 0).map(|port| ports.insert(port.to_string())).count() > 0
    });
    if containers.is_empty() {
        return None;
    }
    let listed = ports.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (who, verb) = (named("container", &containers), uses(containers.len()));
    Violation::new("hostPort", format!("{who} {verb} {} {listed}", plural("hostPort", ports.len())))
}

pub(super) fn probe_hosts(pod: Subject<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = Texts::new();
    let mut containers = Texts::new();
    for container in pod.containers() {
        for path in HANDLERS {
            for kind in ["httpGet", "tcpSocket"] {
                let host = text(at(container, path), &[kind, "host"]);
                if !host.is_empty() {
                    hosts.insert(host);
                    containers.insert(text(container, &["name"]));
                }
            }
        }
    }
    if hosts.is_empty() {
        return None;
    }
    let containers: Vec<&str> = containers.into_iter().collect();
    let (who, verb) = (named("container", &containers), uses(containers.len()));
    let what = plural("probe or lifecycle host", hosts.len());
    Violation::new("probe or lifecycle host", format!("{who} {verb} {what} {}", quoted(hosts)))
}

pub(super) fn privileged(pod: Subject<'_>) -> Option<Violation> {
    let containers = pod.containers_that(|c| flag(c, &["securityContext", "privileged"]));
    if containers.is_empty() {
        return None;
    }
    let who = named("container", &containers);
    Violation::new("privileged", format!("{who} must not set securityContext.privileged=true"))
}

pub(super) fn proc_mount(pod: Subject<'_>) -> Option<Violation> {
    let mut types = Texts::new();
    let containers = pod.containers_that(|c| {
        let kind = at(c, &["securityContext", "procMount"]).as_str().filter(|kind| *kind != "Default");
        kind.is_some_and(|kind| {
            types.insert(kind);
            true
        })
    });
    if containers.is_empty() {
        return None;
    }
    let who = named("container", &containers);
    Violation::new("procMount", format!("{who} must not set securityContext.procMount to {}", quoted(types)))
}

pub(super) fn proc_mount_with_host_users(pod: Subject<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { proc_mount(pod) }
}

fn selinux_but(pod: Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    let mut types = Texts::new();
    let (mut user, mut role) = (false, false);
    let of_pod = pod.spec(&["securityContext", "seLinuxOptions"]);
    let of_container = |c| at(c, &["securityContext", "seLinuxOptions"]);
    let mut bad = |options| {
        let kind = text(options, &["type"]);
        let good_type = kind.is_empty() || allowed.contains(&kind);
        if !good_type {
            types.insert(kind);
        }
        let sets_user = !text(options, &["user"]).is_empty();
        let sets_role = !text(options, &["role"]).is_empty();
        (user, role) = (user || sets_user, role || sets_role);
        !good_type || sets_user || sets_role
    };
    let bad_pod = bad(of_pod);
    let containers = pod.containers_that(|c| bad(of_container(c)));
    if !bad_pod && containers.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", types.len()), quoted(types)));
    }
    if user {
        what.push("user may not be set".into());
    }
    if role {
        what.push("role may not be set".into());
    }
    let who = setters(bad_pod, &containers);
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    Violation::new("seLinuxOptions", detail)
}

pub(super) fn selinux(pod: Subject<'_>) -> Option<Violation> {
    selinux_but(pod, &["container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn selinux_with_engines(pod: Subject<'_>) -> Option<Violation> {
    selinux_but(pod, &["container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

pub(super) fn seccomp_annotations(pod: Subject<'_>) -> Option<Violation> {
    let names = pod.containers().map(|c| text(c, &["name"]));
    let keys = names.map(|name| format!("container.seccomp.security.alpha.kubernetes.io/{name}"));
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_string()).chain(keys);
    let bad = keys.filter_map(|key| {
        let value = pod.annotation(&key)?;
        let good = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
        (!good).then(|| assigned(&key, value))
    });
    let bad: std::collections::BTreeSet<String> = bad.collect();
    if bad.is_empty() {
        return None;
    }
    let listed = bad.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    Violation::new("seccompProfile", format!("forbidden {} {listed}", plural("annotation", bad.len())))
}

/// A profile that is set, and none that confines.
pub(super) fn is_unconfined(profile: &Value) -> bool {
    profile.is_object() && !matches!(text(profile, &["type"]), "RuntimeDefault" | "Localhost")
}

pub(super) fn seccomp(pod: Subject<'_>) -> Option<Violation> {
    let of_pod = pod.spec(&["securityContext", "seccompProfile"]);
    let mut types = Texts::new();
    if is_unconfined(of_pod) {
        types.insert(text(of_pod, &["type"]));
    }
    let containers = pod.containers_that(|c| {
        let profile = at(c, &["securityContext", "seccompProfile"]);
        is_unconfined(profile) && {
            types.insert(text(profile, &["type"]));
            true
        }
    });
    if types.is_empty() {
        return None;
    }
    let who = setters(is_unconfined(of_pod), &containers);
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(types));
    Violation::new("seccompProfile", detail)
}

/// Sysctls that pods may set, and since which minor version.
const SYSCTLS: [(&str, u32); 12] = [
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

fn sysctls(pod: Subject<'_>, minor: u32) -> Option<Violation> {
    let set = items(pod.spec(&["securityContext"]), &["sysctls"]).iter().map(|s| text(s, &["name"]));
    let allowed = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= minor);
    let bad: Vec<&str> = set.filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { Violation::new("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn sysctls_1_0(pod: Subject<'_>) -> Option<Violation> {
    sysctls(pod, 0)
}

pub(super) fn sysctls_1_27(pod: Subject<'_>) -> Option<Violation> {
    sysctls(pod, 27)
}

pub(super) fn sysctls_1_29(pod: Subject<'_>) -> Option<Violation> {
    sysctls(pod, 29)
}

pub(super) fn sysctls_1_32(pod: Subject<'_>) -> Option<Violation> {
    sysctls(pod, 32)
}

pub(super) fn windows_host_process(pod: Subject<'_>) -> Option<Violation> {
    const FIELD: &[&str] = &["securityContext", "windowsOptions", "hostProcess"];
    let of_pod = flag(pod.spec(&[]), FIELD);
    let containers = pod.containers_that(|c| flag(c, FIELD));
    let who = setters(of_pod, &containers);
    if who.is_empty() {
        return None;
    }
    Violation::new(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn detail(check: fn(Subject<'_>) -> Option<Violation>, template: &Value) -> Option<String> {
        check(Subject { template }).map(|v| format!("{}: {}", v.reason, v.detail))
    }

    #[test]
    fn profiles_are_told_by_who_sets_them() {
        let pod = json!({
            "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}},
            "spec": {
                "securityContext": {"appArmorProfile": {"type": "Unconfined"}, "seccompProfile": {"type": "Localhost"}},
                "containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}],
            },
        });
        assert_eq!(
            detail(app_armor, &pod).unwrap(),
            "forbidden AppArmor profiles: pod and annotation must not set AppArmor profile type to \"Unconfined\", \
             \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\""
        );
        assert_eq!(
            detail(seccomp, &pod).unwrap(),
            "seccompProfile: container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\""
        );
    }

    #[test]
    fn ports_and_hosts_are_counted() {
        let pod = json!({"spec": {
            "containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 9}],
                "livenessProbe": {"httpGet": {"host": "x"}}, "lifecycle": {"preStop": {"tcpSocket": {"host": "y"}}}}],
            "initContainers": [{"name": "b", "ports": [{"hostPort": 80}]}],
        }});
        assert_eq!(
            detail(host_ports, &pod).unwrap(),
            "hostPort: containers \"b\", \"a\" use hostPorts 80, 9"
        );
        assert_eq!(
            detail(probe_hosts, &pod).unwrap(),
            "probe or lifecycle host: container \"a\" uses probe or lifecycle hosts \"x\", \"y\""
        );
    }

    #[test]
    fn mounts_of_proc_are_free_with_own_users() {
        let pod = json!({"spec": {"hostUsers": false,
            "containers": [{"name": "a", "securityContext": {"procMount": "Unmasked"}}]}});
        assert_eq!(detail(proc_mount_with_host_users, &pod), None);
        assert!(detail(proc_mount, &pod).unwrap().ends_with("procMount to \"Unmasked\""));
    }
}

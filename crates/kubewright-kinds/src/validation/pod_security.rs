//! Security contexts of pods and containers.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use regex::Regex;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, gotypes};

fn id(context: &Value, field: &str, path: &Path<'_>, e: &mut Errors) {
    if let Some(id) = context.opt_int(field) {
        for message in names::is_unix_id(id) {
            e.invalid(&path.child(field), id, message);
        }
    }
}

/// The security context of a container.
pub(super) fn container(context: Option<&Value>, host_users: bool, path: &Path<'_>, e: &mut Errors) {
    let Some(context) = context else { return };
    id(context, "runAsUser", path, e);
    id(context, "runAsGroup", path, e);
    if let Some(mount) = context.opt_text("procMount") {
        if !matches!(mount, "Default" | "Unmasked") {
            e.not_supported(&path.child("procMount"), mount, &["Default", "Unmasked"]);
        }
        if host_users && mount == "Unmasked" {
            e.invalid(&path.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(context.some("seccompProfile"), &path.child("seccompProfile"), e);
    if context.opt_flag("allowPrivilegeEscalation") == Some(false) {
        if context.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            e.invalid_go(path, &gotypes::SECURITY_CONTEXT, context, detail);
        }
        for _ in context.sub("capabilities").strings("add").into_iter().filter(|c| *c == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            e.invalid_go(path, &gotypes::SECURITY_CONTEXT, context, detail);
        }
    }
    windows_options(context.some("windowsOptions"), &path.child("windowsOptions"), e);
    app_armor(context.some("appArmorProfile"), &path.child("appArmorProfile"), e);
}

/// The security context of a pod.
pub(super) fn pod(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let Some(context) = spec.some("securityContext") else { return };
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context, field, path, e);
    }
    let groups = path.child("supplementalGroups");
    for (i, group) in context.items("supplementalGroups").iter().filter_map(Value::as_i64).enumerate() {
        for message in names::is_unix_id(group) {
            e.invalid(&groups.index(i), group, message);
        }
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        e.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    sysctls(context.items("sysctls"), spec, &path.child("sysctls"), e);
    one_of(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, e);
    seccomp(context.some("seccompProfile"), &path.child("seccompProfile"), e);
    windows_options(context.some("windowsOptions"), &path.child("windowsOptions"), e);
    app_armor(context.some("appArmorProfile"), &path.child("appArmorProfile"), e);
    one_of(context, "supplementalGroupsPolicy", &["Merge", "Strict"], path, e);
    one_of(context, "seLinuxChangePolicy", &["MountOption", "Recursive"], path, e);
}

fn one_of(context: &Value, field: &str, supported: &[&str], path: &Path<'_>, e: &mut Errors) {
    if let Some(value) = context.opt_text(field).filter(|v| !supported.contains(v)) {
        e.not_supported(&path.child(field), value, supported);
    }
}

const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
static SYSCTL_NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(SYSCTL).expect("a constant pattern"));

fn sysctls(sysctls: &[Value], spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, sysctl) in sysctls.iter().enumerate() {
        let name = sysctl.text("name");
        let item = path.index(i);
        let path = &item.child("name");
        if name.is_empty() {
            e.required(path, "");
        } else if name.len() > 253 || !SYSCTL_NAME.is_match(name) {
            e.invalid(path, name, format!("must have at most 253 characters and match regex {SYSCTL}"));
        } else if seen.contains(name) {
            e.duplicate(path, name);
        }
        seen.insert(name);
        let dotted = name.replace('/', ".");
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p))
            || dotted == "kernel.sem";
        if spec.flag("hostNetwork") && dotted.starts_with("net.") {
            e.invalid(path, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.flag("hostIPC") && ipc {
            e.invalid(path, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn seccomp(profile: Option<&Value>, path: &Path<'_>, e: &mut Errors) {
    let Some(profile) = profile else { return };
    let kind = profile.text("type");
    match kind {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => e.required(&path.child("type"), "type is required when seccompProfile is set"),
        _ => e.not_supported(&path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    let local = &path.child("localhostProfile");
    match (kind, profile.opt_text("localhostProfile")) {
        ("Localhost", None) => e.required(local, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(file)) => checks::descending_path(file, local, e),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            e.invalid_go(local, &gotypes::SECCOMP_PROFILE, profile, detail);
        }
        (_, None) => {}
    }
}

fn app_armor(profile: Option<&Value>, path: &Path<'_>, e: &mut Errors) {
    let Some(profile) = profile else { return };
    let local = &path.child("localhostProfile");
    let named = profile.opt_text("localhostProfile");
    match (profile.text("type"), named) {
        ("Localhost", None) => e.required(local, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                e.invalid(local, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                e.required(local, "must be set when AppArmor type is Localhost");
            }
            if name.len() > 4095 {
                e.too_long(local, 4095);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            e.invalid(local, name, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => e.required(&path.child("type"), "type is required when appArmorProfile is set"),
        (kind, _) => {
            e.not_supported(&path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"])
        }
    }
}

static NET_BIOS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"^[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}$"#).expect("a constant pattern"));
static DNS: LazyLock<Regex> = LazyLock::new(|| {
    let label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
    Regex::new(&format!(r"^{label}(?:\.{label})*$")).expect("a constant pattern")
});

fn windows_options(options: Option<&Value>, path: &Path<'_>, e: &mut Errors) {
    let Some(options) = options else { return };
    if let Some(name) = options.opt_text("gmsaCredentialSpecName") {
        checks::subdomain(name, &path.child("gmsaCredentialSpecName"), e);
    }
    if let Some(spec) = options.opt_text("gmsaCredentialSpec") {
        let path = &path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            e.invalid(path, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > 64 * 1024 {
            e.invalid(path, spec, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = options.opt_text("runAsUserName") {
        windows_user(name, &path.child("runAsUserName"), e);
    }
}

fn windows_user(name: &str, path: &Path<'_>, e: &mut Errors) {
    if name.is_empty() {
        return e.invalid(path, name, "runAsUserName cannot be an empty string");
    }
    if name.bytes().any(|b| b.is_ascii_control()) {
        return e.invalid(path, name, "runAsUserName cannot contain control characters");
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, user)) if user.contains('\\') => {
            return e.invalid(path, name, "runAsUserName cannot contain more than one backslash");
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    if domain.is_some_and(|d| d.len() >= 256) {
        e.invalid(path, name, "runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|d| !NET_BIOS.is_match(d) && !DNS.is_match(d)) {
        e.invalid(path, name, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        e.invalid(path, name, "runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        e.invalid(path, name, "runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.bytes().all(|b| matches!(b, b'.' | b' ')) {
        e.invalid(path, name, "runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let detail = r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
        e.invalid(path, name, detail);
    }
}

/// The old seccomp annotations of a pod or template.
pub(super) fn seccomp_annotations(metadata: &Value, path: &Path<'_>, e: &mut Errors) {
    let mut check = |key: &str, profile: &str| {
        let path = &path.child(key);
        match profile.strip_prefix("localhost/") {
            _ if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
            Some(file) => checks::descending_path(file, path, e),
            None => e.invalid(path, profile, "must be a valid seccomp profile"),
        }
    };
    if let Some(profile) = metadata.entry("annotations", "seccomp.security.alpha.kubernetes.io/pod") {
        check("seccomp.security.alpha.kubernetes.io/pod", profile);
    }
    for (key, profile) in metadata.entries("annotations") {
        if key.starts_with("container.seccomp.security.alpha.kubernetes.io/") {
            check(key, profile.as_str().unwrap_or_default());
        }
    }
}

/// Seccomp and AppArmor of old annotations match the fields.
pub(super) fn annotations_match(metadata: &Value, spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let pod_context = spec.sub("securityContext");
    let pod_annotation = metadata.entry("annotations", "seccomp.security.alpha.kubernetes.io/pod");
    if let (Some(profile), Some(annotation)) = (pod_context.some("seccompProfile"), pod_annotation) {
        seccomp_matches(annotation, profile, &path.child("securityContext").child("seccompProfile"), e);
    }
    super::pod::visit_containers(spec, path, |container, path| {
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{}", container.text("name"));
        let profile = container.sub("securityContext").some("seccompProfile");
        if let (Some(profile), Some(annotation)) = (profile, metadata.entry("annotations", &key)) {
            seccomp_matches(annotation, profile, &path.child("securityContext").child("seccompProfile"), e);
        }
    });
    if spec.sub("os").text("name") == "windows" {
        return;
    }
    super::pod::visit_containers(spec, path, |container, path| {
        let own = container.sub("securityContext").some("appArmorProfile");
        let Some(profile) = own.or(pod_context.some("appArmorProfile")) else { return };
        let key = format!("container.apparmor.security.beta.kubernetes.io/{}", container.text("name"));
        let Some(annotation) = metadata.entry("annotations", &key) else { return };
        let context = path.child("securityContext");
        let path = context.child("appArmorProfile");
        let matches_type = match profile.text("type") {
            "Unconfined" => annotation == "unconfined",
            "RuntimeDefault" => annotation == "runtime/default",
            "Localhost" => annotation.starts_with("localhost/"),
            _ => true,
        };
        if !matches_type {
            e.forbidden(&path.child("type"), "apparmor type in annotation and field must match");
        } else if profile.text("type") == "Localhost"
            && annotation.strip_prefix("localhost/") != profile.opt_text("localhostProfile")
        {
            e.forbidden(
                &path.child("localhostProfile"),
                "apparmor profile in annotation and field must match",
            );
        }
    });
}

fn seccomp_matches(annotation: &str, profile: &Value, path: &Path<'_>, e: &mut Errors) {
    let local = annotation.strip_prefix("localhost/");
    let matches_type = match profile.text("type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => matches!(annotation, "runtime/default" | "docker/default"),
        "Localhost" => local.is_some(),
        _ => true,
    };
    if !matches_type {
        e.forbidden(&path.child("type"), "seccomp type in annotation and field must match");
    } else if profile.text("type") == "Localhost" && local != profile.opt_text("localhostProfile") {
        e.forbidden(&path.child("localhostProfile"), "seccomp profile in annotation and field must match");
    }
}

/// The old AppArmor annotations of a pod or template.
pub(super) fn app_armor_annotations(metadata: &Value, spec: &Value, path: &Path<'_>, e: &mut Errors) {
    for (key, profile) in metadata.entries("annotations") {
        let Some(name) = key.strip_prefix("container.apparmor.security.beta.kubernetes.io/") else {
            continue;
        };
        let mut found = false;
        super::pod::visit_containers(spec, &Path::ROOT, |container, _| {
            found |= container.text("name") == name
        });
        if !found {
            e.invalid(&path.key(key), name, "container not found");
        }
        let profile = profile.as_str().unwrap_or_default();
        let known =
            matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
        if !known {
            e.invalid(&path.key(key), profile, format!("invalid AppArmor profile name: {profile:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn no_escalation_excludes_sys_admin_and_shows_the_context_as_go_does() {
        let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}});
        let texts = errors::texts(|e| container(Some(&context), true, &Path::new("s"), e));
        assert_eq!(
            texts,
            [
                r#"s: Invalid value: {"Capabilities":{"Add":["CAP_SYS_ADMIN"],"Drop":null},"Privileged":null,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"#
            ]
        );
    }

    #[test]
    fn sysctls_have_known_names_once() {
        let spec = json!({"securityContext": {"sysctls": [{"name": "a.b"}, {"name": "a.b"}, {}]}});
        let texts = errors::texts(|e| pod(&spec, &Path::new("s"), e));
        assert_eq!(
            texts,
            [r#"s.sysctls[1].name: Duplicate value: "a.b""#, "s.sysctls[2].name: Required value"]
        );
    }
}

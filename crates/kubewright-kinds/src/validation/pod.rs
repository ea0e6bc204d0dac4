//! Pods and what they are made from: the pod spec, pod templates and pod objects at creation.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::container::{self, Context};
use super::errors::Errors;
use super::read::Fields;
use super::resources::{self, Of};
use super::{affinity, checks, gotypes, metadata, pod_security, volume};

const SPEC: Path<'static> = Path::new("spec");
const METADATA: Path<'static> = Path::new("metadata");
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Calls `visit` with every container and its path: init, regular and ephemeral ones.
pub(super) fn visit_containers<'v>(
    spec: &'v Value,
    path: &Path<'_>,
    mut visit: impl FnMut(&'v Value, &Path<'_>),
) {
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        let list = path.child(kind);
        for (i, container) in spec.items(kind).iter().enumerate() {
            visit(container, &list.index(i));
        }
    }
}

/// A new pod.
pub(super) fn create(pod: &Value, e: &mut Errors) {
    metadata_and_spec(pod, e);
    let spec = pod.sub("spec");
    if !spec.items("ephemeralContainers").is_empty() {
        e.forbidden(&SPEC.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.items("schedulingGates").is_empty() {
        e.forbidden(&SPEC.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    pod_security::annotations_match(pod.sub("metadata"), spec, &SPEC, e);
}

/// What holds for a pod at every write.
pub(super) fn metadata_and_spec(pod: &Value, e: &mut Errors) {
    metadata::create(pod, true, names::name_is_subdomain, e);
    let (meta, spec) = (pod.sub("metadata"), pod.sub("spec"));
    annotations(meta, spec, &METADATA.child("annotations"), e);
    self::spec(spec, Some(meta.text("name")), &SPEC, e);
    if spec.text("serviceAccountName").is_empty() {
        tokens_without_account(spec, e);
    }
    for kind in ["containers", "initContainers"] {
        let list = SPEC.child(kind);
        for (i, container) in spec.items(kind).iter().enumerate() {
            container::only_for_pod(container, &list.index(i), e);
        }
    }
}

fn tokens_without_account(spec: &Value, e: &mut Errors) {
    let volumes = SPEC.child("volumes");
    for (i, volume) in spec.items("volumes").iter().enumerate() {
        let item = volumes.index(i);
        let projected = item.child("projected");
        let sources = projected.child("sources");
        for (i, source) in volume.sub("projected").items("sources").iter().enumerate() {
            if source.has("serviceAccountToken") {
                let detail = "must not be specified when serviceAccountName is not set";
                e.forbidden(&sources.index(i).child("serviceAccountToken"), detail);
            }
        }
    }
}

/// Annotations that mean something to pods.
pub(super) fn annotations(meta: &Value, spec: &Value, path: &Path<'_>, e: &mut Errors) {
    if let Some(mirror) = meta.entry("annotations", MIRROR).filter(|_| spec.text("nodeName").is_empty()) {
        e.invalid(&path.key(MIRROR), mirror, "must set spec.nodeName if mirror pod annotation is set");
    }
    if let Some(cost) = meta.entry("annotations", DELETION_COST).filter(|cost| !is_deletion_cost(cost)) {
        e.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
    }
    pod_security::seccomp_annotations(meta, path, e);
    pod_security::app_armor_annotations(meta, spec, path, e);
}

/// A 32 bit number without a leading `+` or zeros.
fn is_deletion_cost(cost: &str) -> bool {
    let plain = match cost.strip_prefix('-').unwrap_or(cost) {
        "0" => !cost.starts_with('-'),
        digits => !digits.starts_with(['0', '+']),
    };
    plain && cost.parse::<i32>().is_ok()
}

/// `template` of workloads.
pub(super) fn template(template: &Value, path: &Path<'_>, e: &mut Errors) {
    let (meta, spec) = (template.sub("metadata"), template.sub("spec"));
    checks::labels(meta, "labels", path, e);
    checks::annotations(meta, path, e);
    annotations(meta, spec, &path.child("annotations"), e);
    let spec_path = path.child("spec");
    self::spec(spec, None, &spec_path, e);
    pod_security::annotations_match(meta, spec, &spec_path, e);
    if !spec.items("ephemeralContainers").is_empty() {
        e.forbidden(
            &spec_path.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// The spec of a pod, with the pod's name, or of a template.
pub(super) fn spec(spec: &Value, pod: Option<&str>, path: &Path<'_>, e: &mut Errors) {
    let grace = spec.opt_int("terminationGracePeriodSeconds");
    if grace.is_none() {
        e.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volume::volumes(spec.items("volumes"), pod, &path.child("volumes"), e);
    resource_claims(spec.items("resourceClaims"), &path.child("resourceClaims"), e);
    let claims =
        spec.items("resourceClaims").iter().map(|c| c.text("name")).filter(|n| !n.is_empty()).collect();
    let restart_policy = spec.text("restartPolicy");
    let host_users = spec.opt_flag("hostUsers").unwrap_or(true);
    let cx = Context { volumes, claims, grace, restart_policy, host_users, os: spec.sub("os").text("name") };
    let containers = spec.items("containers");
    container::regular(containers, &cx, &path.child("containers"), e);
    container::init(spec.items("initContainers"), containers, &cx, &path.child("initContainers"), e);
    container::ephemeral(spec, &cx, &path.child("ephemeralContainers"), e);
    pod_resources(spec, &cx.claims, &path.child("resources"), e);
    host_network_ports(spec, pod.is_some(), &path.child("containers"), e);
    one_of(restart_policy, &["Always", "OnFailure", "Never"], &path.child("restartPolicy"), e);
    let dns_policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec.text("dnsPolicy"), &dns_policies, &path.child("dnsPolicy"), e);
    checks::labels(spec, "nodeSelector", path, e);
    pod_security::pod(spec, &path.child("securityContext"), e);
    affinity::affinity(spec.sub("affinity"), &path.child("affinity"), e);
    dns_config(spec, &path.child("dnsConfig"), e);
    let gates = path.child("readinessGates");
    for (i, gate) in spec.items("readinessGates").iter().enumerate() {
        checks::qualified_name(gate.text("conditionType"), &gates.index(i).child("conditionType"), e);
    }
    scheduling_gates(spec.items("schedulingGates"), &path.child("schedulingGates"), e);
    affinity::topology_spread(
        spec.items("topologySpreadConstraints"),
        &path.child("topologySpreadConstraints"),
        e,
    );
    windows_host_process(spec, path, e);
    host_users_alone(spec, path, e);
    named_fields(spec, path, e);
    if let Some(overhead) = spec.some("overhead") {
        let limits = serde_json::json!({ "limits": overhead });
        resources::requirements(&limits, Of::Container, &[], &path.child("overhead"), e);
    }
    operating_system(spec, path, e);
}

fn one_of(value: &str, supported: &[&str], path: &Path<'_>, e: &mut Errors) {
    if value.is_empty() {
        e.required(path, "");
    } else if !supported.contains(&value) {
        e.not_supported(path, value, supported);
    }
}

/// Fields that are names of something, and what is checked among them.
fn named_fields(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    for field in ["serviceAccountName", "nodeName"] {
        if !spec.text(field).is_empty() {
            checks::subdomain(spec.text(field), &path.child(field), e);
        }
    }
    let deadline = spec.opt_int("activeDeadlineSeconds");
    if let Some(seconds) = deadline.filter(|s| !(1..=i64::from(i32::MAX)).contains(s)) {
        let detail = "must be between 1 and 2147483647, inclusive";
        e.invalid(&path.child("activeDeadlineSeconds"), seconds, detail);
    }
    for field in ["hostname", "subdomain"] {
        if !spec.text(field).is_empty() {
            checks::label(spec.text(field), &path.child(field), e);
        }
    }
    affinity::tolerations(spec.items("tolerations"), &path.child("tolerations"), e);
    let aliases = path.child("hostAliases");
    for (i, alias) in spec.items("hostAliases").iter().enumerate() {
        let item = aliases.index(i);
        checks::ip(alias.text("ip"), &item.child("ip"), e);
        let list = item.child("hostnames");
        for (i, name) in alias.strings("hostnames").into_iter().enumerate() {
            checks::subdomain(name, &list.index(i), e);
        }
    }
    if !spec.text("priorityClassName").is_empty() {
        checks::subdomain(spec.text("priorityClassName"), &path.child("priorityClassName"), e);
    }
    if let Some(class) = spec.opt_text("runtimeClassName") {
        checks::subdomain(class, &path.child("runtimeClassName"), e);
    }
    if let Some(policy) = spec.opt_text("preemptionPolicy") {
        one_of(policy, &["PreemptLowerPriority", "Never"], &path.child("preemptionPolicy"), e);
    }
    if let Some(name) = spec.opt_text("hostnameOverride") {
        let path = &path.child("hostnameOverride");
        if spec.flag("setHostnameAsFQDN") {
            e.forbidden(path, "may not be specified when setHostnameAsFQDN is true");
        }
        if spec.flag("hostNetwork") {
            e.forbidden(path, "may not be specified when hostNetwork is true");
        }
        checks::subdomain(name, path, e);
        if name.len() > 64 {
            e.too_long(path, 64);
        }
    }
}

fn resource_claims(claims: &[Value], path: &Path<'_>, e: &mut Errors) {
    let mut seen = Vec::new();
    for (i, claim) in claims.iter().enumerate() {
        let item = path.index(i);
        let name = claim.text("name");
        if name.is_empty() {
            e.required(&item.child("name"), "");
        } else if seen.contains(&name) {
            e.duplicate(&item.child("name"), name);
        } else {
            checks::label(name, &item.child("name"), e);
            seen.push(name);
        }
        let (by_name, by_template) =
            (claim.opt_text("resourceClaimName"), claim.opt_text("resourceClaimTemplateName"));
        if by_name.is_some() && by_template.is_some() {
            let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            e.invalid_go(&item, &gotypes::POD_RESOURCE_CLAIM, claim, detail);
        }
        if by_name.is_none() && by_template.is_none() {
            let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            e.invalid_go(&item, &gotypes::POD_RESOURCE_CLAIM, claim, detail);
        }
        for (field, value) in [("resourceClaimName", by_name), ("resourceClaimTemplateName", by_template)] {
            if let Some(value) = value {
                checks::subdomain(value, &item.child(field), e);
            }
        }
    }
}

/// Resources of the whole pod: at least what its containers ask for, at most what each may use.
fn pod_resources(spec: &Value, claims: &[&str], path: &Path<'_>, e: &mut Errors) {
    let Some(total) = spec.some("resources") else { return };
    if total.has("claims") {
        e.forbidden(&path.child("claims"), "claims cannot be set for Resources at pod-level");
    }
    resources::requirements(total, Of::Pod, claims, path, e);
    let requests = path.child("requests");
    for (name, sum) in super::pod_quantities::container_requests(spec) {
        let own = total.sub("requests").some(&name).map(checks::quantity).unwrap_or_default();
        if sum > own {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            e.invalid(&requests.key(&name), own.to_string(), detail);
        }
    }
    let containers = path.child("containers");
    for (i, container) in spec.items("containers").iter().enumerate() {
        for (name, limit) in container.sub("resources").entries("limits") {
            let Some(own) = total.sub("limits").some(name).map(checks::quantity) else { continue };
            let limit = checks::quantity(limit);
            if limit > own {
                let detail = format!("must be less than or equal to pod limits of {own}");
                e.invalid(&containers.index(i).key(name).child("limits"), limit.to_string(), detail);
            }
        }
    }
}

/// Pods on the host's network have the same ports inside and outside; in templates the outer may be unset.
fn host_network_ports(spec: &Value, of_pod: bool, path: &Path<'_>, e: &mut Errors) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for (i, container) in spec.items("containers").iter().enumerate() {
        let item = path.index(i);
        let ports = item.child("ports");
        for (i, port) in container.items("ports").iter().enumerate() {
            let (outer, inner) = (port.int("hostPort"), port.int("containerPort"));
            if (of_pod || outer != 0) && outer != inner {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                e.invalid(&ports.index(i).child("hostPort"), outer, detail);
            }
        }
    }
}

fn dns_config(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let config = spec.some("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        match config {
            None => return e.required(path, "must provide `dnsConfig` when `dnsPolicy` is None"),
            Some(config) if config.items("nameservers").is_empty() => {
                let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
                return e.required(&path.child("nameservers"), detail);
            }
            Some(_) => {}
        }
    }
    let Some(config) = config else { return };
    let (servers, searches) = (config.strings("nameservers"), config.strings("searches"));
    let servers_path = path.child("nameservers");
    if servers.len() > 3 {
        e.invalid(&servers_path, servers.clone(), "must not have more than 3 nameservers");
    }
    for (i, server) in servers.into_iter().enumerate() {
        checks::ip(server, &servers_path.index(i), e);
    }
    let searches_path = path.child("searches");
    if searches.len() > 32 {
        e.invalid(&searches_path, searches.clone(), "must not have more than 32 search paths");
    }
    if searches.join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        e.invalid(&searches_path, searches.clone(), detail);
    }
    for (i, search) in searches.into_iter().enumerate().filter(|(_, s)| *s != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        e.each(&searches_path.index(i), search, names::is_dns1123_subdomain_with_underscore(search));
    }
    let options = path.child("options");
    for (i, _) in config.items("options").iter().enumerate().filter(|(_, o)| o.text("name").is_empty()) {
        e.required(&options.index(i), "must not be empty");
    }
}

fn scheduling_gates(gates: &[Value], path: &Path<'_>, e: &mut Errors) {
    let mut seen = Vec::new();
    for (i, gate) in gates.iter().enumerate() {
        let name = gate.text("name");
        checks::qualified_name(name, &path.index(i), e);
        if seen.contains(&name) {
            e.duplicate(&path.index(i), name);
        }
        seen.push(name);
    }
}

fn windows_host_process(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let option = |v: &Value| v.sub("securityContext").sub("windowsOptions").opt_flag("hostProcess");
    let of_pod = option(spec);
    let (mut all, mut on_host) = (0, 0);
    visit_containers(spec, path, |container, path| {
        all += 1;
        let own = option(container);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let context = path.child("securityContext");
            let options = context.child("windowsOptions");
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            e.invalid(&options.child("hostProcess"), own, detail);
        }
        on_host += usize::from(own.or(of_pod) == Some(true));
    });
    if on_host == 0 {
        return;
    }
    if on_host != all {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        e.invalid(path, "", detail);
    }
    if !spec.flag("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        e.invalid(&path.child("hostNetwork"), false, detail);
    }
}

/// A pod with users of its own shares no other namespace of the host.
fn host_users_alone(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    if spec.opt_flag("hostUsers") != Some(false) {
        return;
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.flag(field) {
            e.forbidden(&path.child(field), "when `hostUsers` is false");
        }
    }
}

fn operating_system(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let Some(os) = spec.some("os") else { return };
    match os.text("name") {
        "" => e.required(&path.child("os").child("name"), "cannot be empty"),
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            if spec.sub("securityContext").has("windowsOptions") {
                e.forbidden(&path.child("securityContext").child("windowsOptions"), detail);
            }
            visit_containers(spec, path, |container, path| {
                if container.sub("securityContext").has("windowsOptions") {
                    e.forbidden(&path.child("securityContext").child("windowsOptions"), detail);
                }
            });
        }
        "windows" => not_for_windows(spec, path, e),
        other => e.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

fn not_for_windows(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    const DETAIL: &str = "cannot be set for a windows pod";
    /// Fields of the pod and whether they are in its security context, in the order of the checks.
    const OF_POD: [(&str, bool); 15] = [
        ("appArmorProfile", true),
        ("seLinuxOptions", true),
        ("hostUsers", false),
        ("hostPID", false),
        ("hostIPC", false),
        ("seccompProfile", true),
        ("fsGroup", true),
        ("fsGroupChangePolicy", true),
        ("sysctls", true),
        ("shareProcessNamespace", false),
        ("runAsUser", true),
        ("runAsGroup", true),
        ("supplementalGroups", true),
        ("supplementalGroupsPolicy", true),
        ("seLinuxChangePolicy", true),
    ];
    const OF_CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let context = path.child("securityContext");
    for (field, in_context) in OF_POD {
        let (owner, owner_path) =
            if in_context { (spec.sub("securityContext"), &context) } else { (spec, path) };
        let set = match field {
            "hostPID" | "hostIPC" => owner.flag(field),
            "sysctls" => !owner.items(field).is_empty(),
            _ => owner.has(field),
        };
        if set {
            e.forbidden(&owner_path.child(field), DETAIL);
        }
    }
    visit_containers(spec, path, |container, path| {
        for field in OF_CONTAINER {
            if container.sub("securityContext").has(field) {
                e.forbidden(&path.child("securityContext").child(field), DETAIL);
            }
        }
    });
}

/// `PodTemplate` objects.
pub(super) fn pod_template_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    template(object.sub("template"), &Path::new("template"), e);
}

pub(super) fn pod_template_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    template(object.sub("template"), &Path::new("template"), e);
}

/// `pods/binding` and `bindings`.
pub(super) fn binding(binding: &Value, e: &mut Errors) {
    let target = binding.sub("target");
    let path = Path::new("target");
    if !matches!(target.text("kind"), "" | "Node") {
        e.not_supported(&path.child("kind"), target.text("kind"), &["Node", "<empty>"]);
    }
    if target.text("name").is_empty() {
        e.required(&path.child("name"), "");
    }
}

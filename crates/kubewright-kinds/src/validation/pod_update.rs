//! Updates of pods: the few fields that may change, the subresource `ephemeralcontainers`, and status updates.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::{Value, json};

use super::container::is_sidecar;
use super::errors::Errors;
use super::read::{Fields, same};
use super::{affinity, checks, gopod, gotypes, metadata, pod};

const SPEC: Path<'static> = Path::new("spec");
const ANNOTATIONS: &str = "container.apparmor.security.beta.kubernetes.io/";
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Sets a field, or takes it away where the value is null.
pub(super) fn put(object: &mut Value, field: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        if value.is_null() {
            map.remove(field);
        } else {
            map.insert(field.to_string(), value);
        }
    }
}

fn annotation_changes(object: &Value, old: &Value, e: &mut Errors) {
    let metadata = Path::new("metadata");
    let path = metadata.child("annotations");
    let (new_meta, old_meta) = (object.sub("metadata"), old.sub("metadata"));
    for (key, value) in old_meta.entries("annotations") {
        if new_meta.entry("annotations", key) == value.as_str() {
            continue;
        }
        if key.starts_with(ANNOTATIONS) {
            e.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == pod::MIRROR {
            e.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in
        new_meta.entries("annotations").filter(|(k, _)| old_meta.entry("annotations", k).is_none())
    {
        if key.starts_with(ANNOTATIONS) {
            e.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == pod::MIRROR {
            e.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
    pod::annotations(new_meta, object.sub("spec"), &path, e);
}

/// An update of a pod.
pub(super) fn update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    pod::metadata_and_spec(object, e);
    annotation_changes(object, old, e);
    let (spec, old_spec) = (object.sub("spec"), old.sub("spec"));
    for kind in ["containers", "initContainers"] {
        let path = SPEC.child(kind);
        if spec.items(kind).len() != old_spec.items(kind).len() {
            return e.forbidden(&path, "pod updates may not add or remove containers");
        }
        for (i, container) in spec.items(kind).iter().enumerate() {
            let (image, path) = (container.text("image"), path.index(i));
            if image.is_empty() {
                e.required(&path.child("image"), "");
            }
            super::container::only_for_pod(container, &path, e);
        }
    }
    if !deadline(spec, old_spec, e) {
        return;
    }
    added_tolerations(
        spec.items("tolerations"),
        old_spec.items("tolerations"),
        &SPEC.child("tolerations"),
        e,
    );
    let gates = SPEC.child("schedulingGates");
    for (i, gate) in spec.items("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !old_spec.items("schedulingGates").iter().any(|g| g.text("name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            e.forbidden(&gates.index(i).child("name"), detail);
        }
    }
    if same(spec, old_spec) {
        return;
    }
    let munged = munged(spec, old_spec, e);
    if !same(&munged, old_spec) {
        let diff = gotypes::diff(&gopod::POD_SPEC, &gopod::internal(old_spec), &gopod::internal(&munged));
        e.forbidden(&SPEC, format!("{UPDATABLE}\n{diff}"));
    }
}

/// `activeDeadlineSeconds` may be set and shortened; whether to go on.
fn deadline(spec: &Value, old: &Value, e: &mut Errors) -> bool {
    let path = SPEC.child("activeDeadlineSeconds");
    match (spec.opt_int("activeDeadlineSeconds"), old.opt_int("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            e.invalid(&path, new, "must be between 0 and 2147483647, inclusive");
            return false;
        }
        (Some(new), Some(old)) if old < new => {
            e.invalid(&path, new, "must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => {
            e.invalid(&path, Value::Null, "must not update from a positive integer to nil value")
        }
        _ => {}
    }
    true
}

fn added_tolerations(new: &[Value], old: &[Value], path: &Path<'_>, e: &mut Errors) {
    let without_seconds = |t: &Value| {
        let mut t = t.clone();
        put(&mut t, "tolerationSeconds", Value::Null);
        t
    };
    let kept = |old: &Value| new.iter().any(|new| same(&without_seconds(new), &without_seconds(old)));
    if old.iter().all(kept) {
        affinity::tolerations(new, path, e);
    } else {
        e.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

/// The new spec with what may change put back to the old.
fn munged(spec: &Value, old: &Value, e: &mut Errors) -> Value {
    let mut munged = spec.clone();
    for kind in ["containers", "initContainers"] {
        let containers = munged.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, old) in containers.zip(old.items(kind)) {
            put(container, "image", old.sub("image").clone());
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put(&mut munged, field, old.sub(field).clone());
    }
    if old.int("terminationGracePeriodSeconds") < 0 && munged.int("terminationGracePeriodSeconds") == 1 {
        put(&mut munged, "terminationGracePeriodSeconds", old.sub("terminationGracePeriodSeconds").clone());
    }
    if !old.items("schedulingGates").is_empty() {
        gated(&mut munged, old, e);
    }
    munged
}

/// A pod that waits for its gates may still be told more about where to run.
fn gated(munged: &mut Value, old: &Value, e: &mut Errors) {
    let (new_selector, old_selector) = (munged.sub("nodeSelector").clone(), old.sub("nodeSelector"));
    if !same(&new_selector, old_selector) {
        if old.entries("nodeSelector").any(|(k, v)| new_selector.get(k) != Some(v)) {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            e.invalid(&SPEC.child("nodeSelector"), new_selector, detail);
        }
        put(munged, "nodeSelector", old_selector.clone());
    }
    let old_affinity = old.sub("affinity").sub("nodeAffinity");
    let new_affinity = munged.sub("affinity").sub("nodeAffinity").clone();
    if same(old_affinity, &new_affinity) {
        return;
    }
    node_affinity_mutation(&new_affinity, old_affinity, e);
    let alone = !munged.sub("affinity").has("podAffinity") && !munged.sub("affinity").has("podAntiAffinity");
    match munged.some("affinity") {
        None => put(munged, "affinity", json!({ "nodeAffinity": old_affinity })),
        Some(_) if !old.has("affinity") && alone => put(munged, "affinity", Value::Null),
        Some(_) => {
            if let Some(affinity) = munged.get_mut("affinity") {
                put(affinity, "nodeAffinity", old_affinity.clone());
            }
        }
    }
}

fn node_affinity_mutation(new: &Value, old: &Value, e: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let Some(old) = old.some(REQUIRED) else { return };
    let (old_terms, new_terms) =
        (old.items("nodeSelectorTerms"), new.sub(REQUIRED).items("nodeSelectorTerms"));
    let affinity = SPEC.child("affinity");
    let nodes = affinity.child("nodeAffinity");
    let required = nodes.child(REQUIRED);
    let path = required.child("nodeSelectorTerms");
    if !old_terms.is_empty() && old_terms.len() != new_terms.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return e.invalid_go(
            &path,
            &gotypes::NODE_SELECTOR_TERMS,
            new.sub(REQUIRED).sub("nodeSelectorTerms"),
            detail,
        );
    }
    for (i, (new, old)) in new_terms.iter().zip(old_terms).enumerate() {
        let empty = |t: &Value| t.items("matchExpressions").is_empty() && t.items("matchFields").is_empty();
        let extends = |field: &str| {
            let (new, old) = (new.items(field), old.items(field));
            new.len() >= old.len() && new.iter().zip(old).all(|(a, b)| same(a, b))
        };
        if (empty(old) && !empty(new)) || !extends("matchExpressions") || !extends("matchFields") {
            let detail = "only additions are allowed (no mutations or deletions)";
            e.invalid_go(&path.index(i), &gotypes::NODE_SELECTOR_TERM, new, detail);
        }
    }
}

/// `pods/ephemeralcontainers`.
pub(super) fn ephemeral_containers(object: &Value, old: &Value, e: &mut Errors) {
    if metadata::annotation(old, pod::MIRROR).is_some() {
        return e.forbidden(&Path::new(""), "static pods do not support ephemeral containers");
    }
    metadata::update(object, old, e);
    pod::metadata_and_spec(object, e);
    annotation_changes(object, old, e);
    let path = SPEC.child("ephemeralContainers");
    for old in old.sub("spec").items("ephemeralContainers") {
        let name = old.text("name");
        let found = object.sub("spec").items("ephemeralContainers").iter().rfind(|c| c.text("name") == name);
        match found {
            None => {
                e.forbidden(&path, format!("existing ephemeral containers \"{name}\" may not be removed\n"))
            }
            Some(new) if !same(old, new) => {
                let diff = gotypes::diff(&gopod::EPHEMERAL_CONTAINER, old, new);
                e.forbidden(
                    &path,
                    format!("existing ephemeral containers \"{name}\" may not be changed\n{diff}"),
                );
            }
            Some(_) => {}
        }
    }
}

/// `pods/status`.
pub(super) fn status(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    annotation_changes(object, old, e);
    let (status, old_status) = (object.sub("status"), old.sub("status"));
    let metadata_path = Path::new("metadata");
    let conditions = metadata_path.child("conditions");
    for (i, condition) in status.items("conditions").iter().enumerate() {
        let kind = condition.text("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            checks::qualified_name(kind, &conditions.index(i).child("Type"), e);
        }
    }
    let path = Path::new("status");
    if object.sub("spec").text("nodeName") != old.sub("spec").text("nodeName") {
        e.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    let nominated = status.text("nominatedNodeName");
    if nominated != old_status.text("nominatedNodeName") && !nominated.is_empty() {
        e.each(&path.child("nominatedNodeName"), nominated, names::name_is_subdomain(nominated, false));
    }
    if status.text("qosClass") != old_status.text("qosClass") {
        e.invalid(&path.child("qosClass"), status.text("qosClass"), checks::IMMUTABLE);
    }
    let spec = old.sub("spec");
    for kind in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        transitions(kind, status, old_status, spec, &path.child(kind), e);
    }
    claim_statuses(object, &path.child("resourceClaimStatuses"), e);
    addresses(status, &path, e);
}

/// Containers that ended stay ended, unless they are restarted by policy.
fn transitions(kind: &str, new: &Value, old: &Value, spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let policy = if kind == "ephemeralContainerStatuses" { "Never" } else { spec.text("restartPolicy") };
    let all_restart =
        |c: &Value| c.items("restartPolicyRules").iter().any(|r| r.text("action") == "RestartAllContainers");
    if policy == "Always"
        || spec.items("containers").iter().chain(spec.items("initContainers")).any(all_restart)
    {
        return;
    }
    for (i, old) in old.items(kind).iter().enumerate() {
        let Some(terminated) = old.sub("state").some("terminated") else { continue };
        let name = old.text("name");
        let own = spec
            .items("containers")
            .iter()
            .chain(spec.items("initContainers"))
            .find(|c| c.text("name") == name);
        let restarts = own.is_some_and(|c| {
            is_sidecar(c)
                || c.text("restartPolicy") == "OnFailure"
                || !c.items("restartPolicyRules").is_empty()
        });
        if restarts || (terminated.int("exitCode") != 0 && policy == "OnFailure") {
            continue;
        }
        let back = |s: &&Value| s.text("name") == name && !s.sub("state").has("terminated");
        for _ in new.items(kind).iter().filter(back) {
            e.forbidden(&path.index(i).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn claim_statuses(object: &Value, path: &Path<'_>, e: &mut Errors) {
    let mut seen = Vec::new();
    for (i, status) in object.sub("status").items("resourceClaimStatuses").iter().enumerate() {
        let name = status.text("name");
        let item = path.index(i);
        let name_path = &item.child("name");
        if !object.sub("spec").items("resourceClaims").iter().any(|c| c.text("name") == name) {
            e.invalid(name_path, name, "must match the name of an entry in `spec.resourceClaims`");
        }
        if seen.contains(&name) {
            e.duplicate(name_path, name);
        } else {
            seen.push(name);
        }
        if let Some(claim) = status.opt_text("resourceClaimName") {
            checks::subdomain(claim, name_path, e);
        }
    }
}

fn addresses(status: &Value, path: &Path<'_>, e: &mut Errors) {
    for field in ["podIPs", "hostIPs"] {
        let list = path.child(field);
        let entries = status.items(field);
        if let Some(first) =
            entries.first().filter(|f| field == "hostIPs" && f.text("ip") != status.text("hostIP"))
        {
            e.invalid(&list.index(0).child("ip"), first.text("ip"), "must be equal to `hostIP`");
        }
        for (i, entry) in entries.iter().enumerate() {
            checks::ip(entry.text("ip"), &list.index(i), e);
        }
        if entries.len() < 2 {
            continue;
        }
        let dual = checks::is_dual_stack(entries.iter().map(|x| checks::parse_ip(x.text("ip"))));
        let detail = "may specify no more than one IP for each IP family";
        let duplicates = |e: &mut Errors| {
            for (i, entry) in entries.iter().enumerate() {
                if entries[..i].iter().any(|x| x.text("ip") == entry.text("ip")) {
                    e.duplicate_go(&list.index(i), &gotypes::IP, entry, "");
                }
            }
        };
        let too_many = |e: &mut Errors| {
            if !dual || entries.len() > 2 {
                e.invalid_go(&list, &gotypes::IPS, status.sub(field), detail);
            }
        };
        if field == "podIPs" {
            too_many(e);
            duplicates(e);
        } else {
            duplicates(e);
            too_many(e);
        }
    }
}

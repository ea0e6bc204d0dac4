//! Persistent volume claims, and their templates in pods and stateful sets.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::{Fields, same};
use super::{checks, gotypes, metadata, resources};

pub(super) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub(super) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const SPEC: Path<'static> = Path::new("spec");

/// The template of the claim of an ephemeral volume: only labels, annotations and the spec are used.
pub(super) fn template(template: &Value, path: &Path<'_>, e: &mut Errors) {
    let meta_path = path.child("metadata");
    let meta = template.sub("metadata");
    checks::annotations(meta, &meta_path, e);
    checks::labels(meta, "labels", &meta_path, e);
    for (field, value) in template.entries("metadata") {
        let zero =
            value.is_null() || value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
        if !zero && !matches!(field, "annotations" | "labels" | "creationTimestamp") {
            e.forbidden(&meta_path.child(field), "cannot be set");
        }
    }
    spec(template.sub("spec"), false, &path.child("spec"), e);
}

/// Access modes of volumes and claims that are known and go together.
pub(super) fn access_modes(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let modes = spec.strings("accessModes");
    let path = path.child("accessModes");
    for mode in modes.iter().filter(|m| !ACCESS_MODES.contains(m)) {
        e.not_supported(&path, *mode, &ACCESS_MODES);
    }
    let others = modes.iter().any(|m| *m != "ReadWriteOncePod" && ACCESS_MODES.contains(m));
    if others && modes.contains(&"ReadWriteOncePod") {
        e.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The spec of a claim. `any_group`: the stored claim names an API group already, so any may stay.
pub(super) fn spec(spec: &Value, any_group: bool, path: &Path<'_>, e: &mut Errors) {
    if spec.items("accessModes").is_empty() {
        e.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    checks::label_selector(spec.some("selector"), false, &path.child("selector"), e);
    access_modes(spec, path, e);
    let resources_path = path.child("resources");
    let storage = resources_path.key("storage");
    match spec.sub("resources").sub("requests").some("storage") {
        None => e.required(&storage, ""),
        Some(amount) => {
            let before = e.len();
            checks::positive_quantity(amount, &storage, e);
            if e.len() == before {
                resources::amount("storage", amount, &storage, e);
            }
        }
    }
    if let Some(class) = spec.opt_text("storageClassName").filter(|c| !c.is_empty()) {
        checks::subdomain(class, &path.child("storageClassName"), e);
    }
    if let Some(mode) = spec.opt_text("volumeMode").filter(|m| !VOLUME_MODES.contains(m)) {
        e.not_supported(&path.child("volumeMode"), mode, &VOLUME_MODES);
    }
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.some(field) {
            data_source(source, any_group, &path.child(field), e);
        }
    }
    if let (Some(source), Some(reference)) = (spec.some("dataSource"), spec.some("dataSourceRef")) {
        // The bad value is a path where it should be the source: that is how the API says it.
        let shown = serde_json::json!({});
        if !reference.text("namespace").is_empty() {
            e.invalid(path, shown, "may not be specified when dataSourceRef.namespace is specified");
        } else if ["apiGroup", "kind", "name"].iter().any(|f| source.opt_text(f) != reference.opt_text(f)) {
            e.invalid(path, shown, "must match dataSourceRef");
        }
    }
    if let Some(class) = spec.opt_text("volumeAttributesClassName").filter(|c| !c.is_empty()) {
        checks::subdomain(class, &path.child("volumeAttributesClassName"), e);
    }
}

fn data_source(source: &Value, any_group: bool, path: &Path<'_>, e: &mut Errors) {
    super::volume_sources::required(source, &["name", "kind"], path, e);
    let group = source.text("apiGroup");
    if group.is_empty() && source.text("kind") != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        e.invalid(path, source.text("kind"), detail);
    }
    if !group.is_empty() && !any_group {
        checks::subdomain(group, &path.child("apiGroup"), e);
    }
    if let Some(namespace) = source.opt_text("namespace").filter(|n| !n.is_empty()) {
        checks::namespace_name(namespace, &path.child("namespace"), e);
    }
}

/// A new claim.
pub(super) fn create(claim: &Value, e: &mut Errors) {
    metadata::create(claim, true, names::name_is_subdomain, e);
    spec(claim.sub("spec"), false, &SPEC, e);
}

fn put(value: &mut Value, path: &[&str], new: Value) {
    let mut at = value;
    let Some((last, parents)) = path.split_last() else { return };
    for parent in parents {
        let Some(next) = at.get_mut(parent) else { return };
        at = next;
    }
    if let Some(map) = at.as_object_mut() {
        if new.is_null() {
            map.remove(*last);
        } else {
            map.insert((*last).to_string(), new);
        }
    }
}

/// An update of a claim: bound ones may grow, all else is set once.
pub(super) fn update(claim: &Value, old: &Value, e: &mut Errors) {
    metadata::update(claim, old, e);
    metadata::create(claim, true, names::name_is_subdomain, e);
    let (new_spec, old_spec) = (claim.sub("spec"), old.sub("spec"));
    let any_group =
        ["dataSource", "dataSourceRef"].iter().any(|f| old_spec.sub(f).opt_text("apiGroup").is_some());
    spec(new_spec, any_group, &SPEC, e);
    let (mut new_clone, mut old_clone) = (new_spec.clone(), old_spec.clone());
    if old_spec.text("volumeName").is_empty() {
        put(&mut old_clone, &["volumeName"], new_spec.sub("volumeName").clone());
    }
    let class = |spec: &Value| spec.opt_text("storageClassName").map(str::to_string);
    let (new_class, old_class) = (class(new_spec), class(old_spec));
    let annotation = |object| metadata::annotation(object, BETA_CLASS);
    let (new_beta, old_beta) = (annotation(claim), annotation(old));
    let from_annotation = old_beta.is_some()
        && old_class.is_none()
        && new_class.as_deref() == old_beta
        && (new_beta.is_none() || new_beta == old_beta);
    if from_annotation {
        put(&mut new_clone, &["storageClassName"], Value::Null);
    } else {
        if new_beta.unwrap_or_default() != old_beta.unwrap_or_default() {
            let metadata_path = Path::new("metadata");
            let annotations = metadata_path.child("annotations");
            e.invalid(&annotations.child(BETA_CLASS), new_beta.unwrap_or_default(), checks::IMMUTABLE);
        }
        let from_none = new_class.is_some()
            && old_class.is_none()
            && (old_beta.is_none() || new_class.as_deref() == old_beta);
        if from_none {
            put(&mut new_clone, &["storageClassName"], old_spec.sub("storageClassName").clone());
        }
    }
    let storage = |object: &Value| object.sub("resources").sub("requests").sub("storage").clone();
    if claim.sub("status").text("phase") == "Bound" {
        if new_clone.sub("resources").has("requests") {
            put(&mut new_clone, &["resources", "requests", "storage"], storage(old_spec));
        }
        if new_clone.has("volumeAttributesClassName") {
            let class = old_clone.sub("volumeAttributesClassName").clone();
            put(&mut new_clone, &["volumeAttributesClassName"], class);
        }
    }
    if !same(&new_clone, &old_clone) {
        let diff = gotypes::diff(&gotypes::CLAIM_SPEC, &old_clone, &new_clone);
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        e.forbidden(&SPEC, format!("{detail}\n{diff}"));
    }
    let size = |value: &Value| checks::quantity(value);
    let capacity = old.sub("status").sub("capacity").sub("storage");
    if size(&storage(new_spec)) < size(&storage(old_spec)) && size(&storage(new_spec)) <= size(capacity) {
        let resources_path = SPEC.child("resources");
        let path = resources_path.child("requests");
        e.forbidden(&path.child("storage"), "field can not be less than status.capacity");
    }
    checks::immutable_field(new_spec, old_spec, "volumeMode", &Path::ROOT, e);
    let path = &SPEC.child("volumeAttributesClassName");
    match (old_spec.opt_text("volumeAttributesClassName"), new_spec.opt_text("volumeAttributesClassName")) {
        (Some(_), None) => e.forbidden(path, "update from non-nil value to nil is forbidden"),
        (Some(old), Some("")) if !old.is_empty() => {
            e.forbidden(path, "update from non-nil value to an empty string is forbidden");
        }
        _ => {}
    }
}

/// `persistentvolumeclaims/status`.
pub(super) fn status(claim: &Value, old: &Value, e: &mut Errors) {
    const STATES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    metadata::update(claim, old, e);
    if claim.sub("metadata").text("resourceVersion").is_empty() {
        e.required(&Path::new("resourceVersion"), "");
    }
    if claim.sub("spec").items("accessModes").is_empty() {
        e.required(&Path::new("Spec").child("accessModes"), "");
    }
    let status = claim.sub("status");
    let path = Path::new("status");
    let capacity = path.child("capacity");
    for (name, amount) in status.entries("capacity") {
        basic_resource(amount, &capacity.key(name), e);
    }
    let resizing = path.child("allocatedResourceStatus");
    for (name, state) in status.entries("allocatedResourceStatuses") {
        resource_key(name, &resizing, e);
        if !state.as_str().is_some_and(|s| STATES.contains(&s)) {
            let mut supported = STATES;
            supported.sort_unstable();
            e.not_supported(&resizing, name, &supported);
        }
    }
    let allocated = path.child("allocatedResources");
    for (name, amount) in status.entries("allocatedResources") {
        let before = e.len();
        resource_key(name, &allocated, e);
        if e.len() != before {
            continue;
        }
        basic_resource(amount, &allocated.key(name), e);
        if e.len() == before {
            resources::amount("storage", amount, &allocated.key(name), e);
        }
    }
}

fn resource_key(name: &str, path: &Path<'_>, e: &mut Errors) {
    let messages = names::is_qualified_name(name);
    if !messages.is_empty() {
        e.each(path, name, messages);
    } else if resources::is_native(name) && name != "storage" {
        e.not_supported(path, name, &["storage"]);
    }
}

/// An amount that is not negative.
pub(super) fn basic_resource(amount: &Value, path: &Path<'_>, e: &mut Errors) {
    let value = checks::quantity(amount).value();
    if value < 0 {
        e.invalid(path, value, "must be a valid resource quantity");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn claim(size: &str, phase: &str) -> Value {
        json!({"metadata": {"name": "c", "namespace": "n", "resourceVersion": "1"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
            "status": {"phase": phase, "capacity": {"storage": "1Gi"}}})
    }

    fn update_texts(new: &Value, old: &Value) -> Vec<String> {
        errors::texts(|e| update(new, old, e))
    }

    #[test]
    fn bound_claims_may_grow_and_others_not() {
        assert!(update_texts(&claim("2Gi", "Bound"), &claim("1Gi", "Bound")).is_empty());
        let texts = update_texts(&claim("2Gi", "Pending"), &claim("1Gi", "Pending"));
        assert_eq!(texts.len(), 1);
        assert!(
            texts[0].starts_with("spec: Forbidden: spec is immutable after creation except"),
            "{texts:?}"
        );
    }

    #[test]
    fn a_bound_claim_does_not_shrink_below_its_capacity() {
        assert_eq!(
            update_texts(&claim("512Mi", "Bound"), &claim("2Gi", "Bound")),
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        );
    }
}

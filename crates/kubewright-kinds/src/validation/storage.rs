//! Kinds of `storage.k8s.io`: classes, CSI drivers, nodes and capacities, attachments.

use std::collections::BTreeSet;

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::{Fields, same};
use super::{checks, metadata, names_of, persistent_volume, volume_sources};

const SPEC: Path<'static> = Path::new("spec");
const MAX_PARAMETERS: usize = 512;
const MAX_BYTES: usize = 256 * 1024;

fn provisioner(name: &str, path: &Path<'_>, e: &mut Errors) {
    if name.is_empty() {
        e.required(path, "");
    } else {
        checks::qualified_name(&name.to_lowercase(), path, e);
    }
}

fn parameters(object: &Value, required: bool, e: &mut Errors) {
    let path = Path::new("parameters");
    if object.entries("parameters").count() > MAX_PARAMETERS {
        return e.too_long(&path, MAX_PARAMETERS);
    }
    let mut size = 0;
    for (key, value) in object.entries("parameters") {
        if key.is_empty() {
            e.invalid(&path, key, "field can not be empty.");
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_BYTES {
        e.too_long(&path, MAX_BYTES);
    }
    if required && object.entries("parameters").next().is_none() {
        e.required(&path, "must contain at least one key/value pair");
    }
}

pub(super) fn class_create(class: &Value, e: &mut Errors) {
    metadata::create(class, false, names::name_is_subdomain, e);
    provisioner(class.text("provisioner"), &Path::new("provisioner"), e);
    parameters(class, false, e);
    let policy = class.text("reclaimPolicy");
    if !matches!(policy, "" | "Delete" | "Retain") {
        e.not_supported(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
    }
    let path = Path::new("volumeBindingMode");
    match class.opt_text("volumeBindingMode") {
        None => e.required(&path, ""),
        Some("Immediate" | "WaitForFirstConsumer") => {}
        Some(mode) => e.not_supported(&path, mode, &["Immediate", "WaitForFirstConsumer"]),
    }
    topologies(class.items("allowedTopologies"), e);
}

fn topologies(terms: &[Value], e: &mut Errors) {
    let list = Path::new("allowedTopologies");
    let mut seen: Vec<Vec<(&str, BTreeSet<&str>)>> = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let item = list.index(i);
        let expressions = item.child("matchLabelExpressions");
        let mut pairs: Vec<(&str, BTreeSet<&str>)> = Vec::new();
        for (i, expression) in term.items("matchLabelExpressions").iter().enumerate() {
            let path = expressions.index(i);
            let values_path = path.child("values");
            let (key, values) = (expression.text("key"), expression.strings("values"));
            if values.is_empty() {
                e.required(&values_path, "");
            }
            for (i, value) in values.iter().enumerate() {
                if values[..i].contains(value) {
                    e.duplicate(&values_path.index(i), *value);
                }
            }
            checks::label_key(key, &path.child("key"), e);
            if pairs.iter().any(|(k, _)| *k == key) {
                e.duplicate(&path.child("key"), key);
            }
            pairs.push((key, values.into_iter().collect()));
        }
        pairs.sort();
        for _ in seen.iter().filter(|other| **other == pairs) {
            e.duplicate(&expressions, "");
        }
        seen.push(pairs);
    }
}

pub(super) fn class_update(class: &Value, old: &Value, e: &mut Errors) {
    metadata::update(class, old, e);
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        checks::immutable_field(class, old, field, &Path::ROOT, e);
    }
}

pub(super) fn attributes_class_create(class: &Value, e: &mut Errors) {
    metadata::create(class, false, names::name_is_subdomain, e);
    provisioner(class.text("driverName"), &Path::new("driverName"), e);
    parameters(class, true, e);
}

pub(super) fn attributes_class_update(class: &Value, old: &Value, e: &mut Errors) {
    metadata::update(class, old, e);
    for field in ["driverName", "parameters"] {
        if !same(class.sub(field), old.sub(field)) {
            e.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
        }
    }
    attributes_class_create(class, e);
}

pub(super) fn attachment_create(attachment: &Value, e: &mut Errors) {
    attachment_any(attachment, e);
    let spec = attachment.sub("spec");
    if !spec.text("attacher").is_empty() {
        names_of::csi_driver(spec.text("attacher"), &Path::new("spec.attacher"), e);
    }
    if let Some(name) = spec.sub("source").opt_text("persistentVolumeName") {
        checks::subdomain(name, &Path::new("spec.source.persistentVolumeName"), e);
    }
}

fn attachment_any(attachment: &Value, e: &mut Errors) {
    metadata::create(attachment, false, names::name_is_subdomain, e);
    let spec = attachment.sub("spec");
    volume_sources::required(spec, &["attacher"], &SPEC, e);
    let path = SPEC.child("source");
    let source = spec.sub("source");
    let exactly_one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.some("inlineVolumeSpec"), source.opt_text("persistentVolumeName")) {
        (None, None) => e.required(&path, exactly_one),
        (Some(_), Some(_)) => e.forbidden(&path, exactly_one),
        (None, Some("")) => {
            e.required(&path.child("persistentVolumeName"), "must specify non empty persistentVolumeName");
        }
        (None, Some(_)) => {}
        (Some(inline), None) => persistent_volume::spec(inline, "", true, &path.child("inlineVolumeSpec"), e),
    }
    checks::subdomain(spec.text("nodeName"), &SPEC.child("nodeName"), e);
    let status_path = Path::new("status");
    let status = attachment.sub("status");
    let size: usize =
        status.entries("attachmentMetadata").map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if size > MAX_BYTES {
        e.too_long(&status_path.child("attachmentMetadata"), MAX_BYTES);
    }
    for field in ["attachError", "detachError"] {
        let (error, path) = (status.sub(field), status_path.child(field));
        if error.text("message").len() > 1024 {
            e.too_long(&path.child("message"), MAX_BYTES);
        }
        if let Some(code) = error.opt_int("errorCode").filter(|c| *c < 0) {
            e.invalid(&path.child("errorCode"), code, "must be between 0 and 2147483647, inclusive");
        }
    }
}

pub(super) fn attachment_update(attachment: &Value, old: &Value, e: &mut Errors) {
    attachment_any(attachment, e);
    if !same(attachment.sub("spec"), old.sub("spec")) {
        e.invalid(&SPEC, attachment.sub("spec").clone(), checks::IMMUTABLE);
    }
}

pub(super) fn csi_node_create(node: &Value, e: &mut Errors) {
    csi_node(node, &[], e);
}

fn csi_node(node: &Value, long_ids: &[&str], e: &mut Errors) {
    metadata::create(node, false, names::name_is_subdomain, e);
    let list = SPEC.child("drivers");
    let mut seen = BTreeSet::new();
    for (i, driver) in node.sub("spec").items("drivers").iter().enumerate() {
        let item = list.index(i);
        let (name, id) = (driver.text("name"), driver.text("nodeID"));
        names_of::csi_driver(name, &item.child("name"), e);
        if id.is_empty() {
            e.required(&item.child("nodeID"), "");
        }
        let limit = if long_ids.contains(&name) { 256 } else { 192 };
        if id.len() > limit {
            e.invalid(&item.child("nodeID"), id, format!("must be {limit} characters or less"));
        }
        if let Some(count) = driver.sub("allocatable").opt_int("count") {
            checks::non_negative(count, &item.child("allocatable").child("count"), e);
        }
        if !seen.insert(name) {
            e.duplicate(&item.child("name"), name);
        }
        let keys = driver.strings("topologyKeys");
        for (i, key) in keys.iter().enumerate() {
            if key.is_empty() {
                e.required(&item, "");
            }
            if keys[..i].contains(key) {
                e.duplicate(&item, *key);
            }
            checks::qualified_name(key, &item, e);
        }
    }
}

pub(super) fn csi_node_update(node: &Value, old: &Value, e: &mut Errors) {
    let old_drivers = old.sub("spec").items("drivers");
    let long: Vec<&str> =
        old_drivers.iter().filter(|d| d.text("nodeID").len() > 192).map(|d| d.text("name")).collect();
    csi_node(node, &long, e);
    let without_count = |driver: &Value| {
        let mut driver = driver.clone();
        if let Some(map) = driver.as_object_mut() {
            map.remove("allocatable");
        }
        driver
    };
    for old in old_drivers {
        for new in node.sub("spec").items("drivers").iter().filter(|d| d.text("name") == old.text("name")) {
            checks::immutable(&without_count(new), &without_count(old), &SPEC.child("drivers"), e);
        }
    }
}

fn driver_spec(spec: &Value, e: &mut Errors) {
    const GROUP_POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(field) {
            e.required(&SPEC.child(shown), "");
        }
    }
    if let Some(policy) = spec.opt_text("fsGroupPolicy").filter(|p| !GROUP_POLICIES.contains(p)) {
        e.not_supported(&SPEC.child("fsGroupPolicy"), policy, &GROUP_POLICIES);
    }
    let list = SPEC.child("tokenRequests");
    let mut audiences = BTreeSet::new();
    for (i, request) in spec.items("tokenRequests").iter().enumerate() {
        let item = list.index(i);
        if !audiences.insert(request.text("audience")) {
            e.duplicate(&item.child("audience"), request.text("audience"));
            continue;
        }
        let Some(seconds) = request.opt_int("expirationSeconds") else { continue };
        let path = item.child("expirationSeconds");
        if seconds < 600 {
            e.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > 1 << 32 {
            e.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
    for mode in spec.strings("volumeLifecycleModes") {
        if !matches!(mode, "Persistent" | "Ephemeral") {
            e.not_supported(&SPEC.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
    }
    if !spec.has("seLinuxMount") {
        e.required(&SPEC.child("seLinuxMount"), "");
    }
    if let Some(seconds) = spec.opt_int("nodeAllocatableUpdatePeriodSeconds").filter(|s| *s < 10) {
        let path = SPEC.child("nodeAllocatableUpdatePeriodSeconds");
        e.invalid(&path, seconds, "must be greater than or equal to 10 seconds");
    }
}

pub(super) fn driver_create(driver: &Value, e: &mut Errors) {
    metadata::create(driver, false, names::name_is_subdomain, e);
    driver_spec(driver.sub("spec"), e);
}

pub(super) fn driver_update(driver: &Value, old: &Value, e: &mut Errors) {
    metadata::update(driver, old, e);
    let (spec, old_spec) = (driver.sub("spec"), old.sub("spec"));
    driver_spec(spec, e);
    checks::immutable(
        spec.sub("attachRequired"),
        old_spec.sub("attachRequired"),
        &SPEC.child("attachedRequired"),
        e,
    );
    checks::immutable_field(spec, old_spec, "volumeLifecycleModes", &SPEC, e);
}

pub(super) fn capacity_create(capacity: &Value, e: &mut Errors) {
    metadata::create(capacity, true, names::name_is_subdomain, e);
    checks::label_selector(capacity.some("nodeTopology"), false, &Path::new("nodeTopology"), e);
    checks::subdomain(capacity.text("storageClassName"), &Path::new("storageClassName"), e);
    if let Some(amount) = capacity.some("capacity") {
        checks::non_negative_quantity(amount, &Path::new("capacity"), e);
    }
}

pub(super) fn capacity_update(capacity: &Value, old: &Value, e: &mut Errors) {
    metadata::update(capacity, old, e);
    for field in ["nodeTopology", "storageClassName"] {
        checks::immutable_field(capacity, old, field, &Path::ROOT, e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;
    use serde_json::json;

    #[test]
    fn a_class_names_its_provisioner_and_how_it_binds() {
        let c = json!({"metadata": {"name": "c"}, "volumeBindingMode": "Wrong", "reclaimPolicy": "Wrong", "parameters": {"": "x"}});
        assert_eq!(
            texts(|e| class_create(&c, e)),
            [
                "provisioner: Required value",
                r#"parameters: Invalid value: "": field can not be empty."#,
                r#"reclaimPolicy: Unsupported value: "Wrong": supported values: "Delete", "Retain""#,
                r#"volumeBindingMode: Unsupported value: "Wrong": supported values: "Immediate", "WaitForFirstConsumer""#,
            ]
        );
    }

    #[test]
    fn attributes_of_a_class_are_forbidden_to_change() {
        let c = |v: &str| json!({"metadata": {"name": "c", "resourceVersion": "1"}, "driverName": "d.example.com", "parameters": {"a": v}});
        assert_eq!(
            texts(|e| attributes_class_update(&c("2"), &c("1"), e)),
            ["parameters: Forbidden: updates to parameters are forbidden."]
        );
    }
}

//! Persistent volumes.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::{Map, Value};

use super::errors::Errors;
use super::read::{Fields, same};
use super::volume_sources::{self, Owner};
use super::{affinity, checks, claim, gotypes, metadata};

const SPEC: Path<'static> = Path::new("spec");
const TWICE: &str = "may not specify more than 1 volume type";
const RECLAIM: [&str; 3] = ["Delete", "Recycle", "Retain"];

/// Volume types in the order in which they are checked, with their names in messages: for the wrong number of
/// sources, and below the source.
const SOURCES: [(&str, &str, &str); 22] = [
    ("hostPath", "hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    ("nfs", "nfs", "nfs"),
    ("rbd", "rbd", "rbd"),
    ("quobyte", "quobyte", "quobyte"),
    ("cephfs", "cephFS", "cephfs"),
    ("iscsi", "iscsi", "iscsi"),
    ("cinder", "cinder", "cinder"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("local", "local", "local"),
    ("storageos", "storageos", "storageos"),
    ("csi", "csi", "csi"),
];

/// The spec of a volume; `inline` is one inside of a VolumeAttachment.
pub(super) fn spec(spec: &Value, name: &str, inline: bool, path: &Path<'_>, e: &mut Errors) {
    if inline {
        for field in ["claimRef", "capacity"] {
            if spec.has(field) {
                e.forbidden(&path.child(field), "may not be specified in the context of inline volumes");
            }
        }
        if !spec.has("csi") {
            e.required(&path.child("csi"), "has to be specified in the context of inline volumes");
        }
    }
    if spec.items("accessModes").is_empty() {
        e.required(&path.child("accessModes"), "");
    }
    claim::access_modes(spec, path, e);
    if !inline {
        capacity(spec, &path.child("capacity"), e);
    }
    let reclaim = spec.text("persistentVolumeReclaimPolicy");
    let reclaim_path = path.child("persistentVolumeReclaimPolicy");
    if inline && !matches!(reclaim, "" | "Retain") {
        e.forbidden(&reclaim_path, "may only be Retain in the context of inline volumes");
    } else if !inline && !reclaim.is_empty() && !RECLAIM.contains(&reclaim) {
        e.not_supported(&reclaim_path, reclaim, &RECLAIM);
    }
    let node_affinity = spec.some("nodeAffinity");
    let affinity_path = path.child("nodeAffinity");
    match node_affinity {
        Some(_) if inline => {
            e.forbidden(&affinity_path, "may not be specified in the context of inline volumes")
        }
        Some(affinity) => match affinity.some("required") {
            Some(required) => affinity::node_selector(required, false, &affinity_path.child("required"), e),
            None => e.required(&affinity_path.child("required"), "must specify required node constraints"),
        },
        None => {}
    }
    sources(spec, name, node_affinity.is_some() && !inline, path, e);
    let host_path = spec.some("hostPath").map(|h| h.text("path"));
    if host_path.is_some_and(is_root) && reclaim == "Recycle" {
        e.forbidden(&reclaim_path, "may not be 'recycle' for a hostPath mount of '/'");
    }
    classes(spec, inline, path, e);
}

/// Whether a path means `/`.
fn is_root(path: &str) -> bool {
    let mut depth = 0usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

fn capacity(spec: &Value, path: &Path<'_>, e: &mut Errors) {
    let empty = Map::new();
    let capacity = spec.map("capacity").unwrap_or(&empty);
    if capacity.is_empty() {
        e.required(path, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        e.not_supported(path, spec.sub("capacity").clone(), &["storage"]);
    }
    for (name, amount) in capacity {
        claim::basic_resource(amount, &path.key(name), e);
        checks::positive_quantity(amount, &path.key(name), e);
    }
}

fn sources(spec: &Value, name: &str, has_affinity: bool, path: &Path<'_>, e: &mut Errors) {
    let mut found = false;
    for (kind, too_many, below) in SOURCES {
        let Some(source) = spec.some(kind) else { continue };
        if found && kind != "flexVolume" {
            e.forbidden(&path.child(too_many), TWICE);
            continue;
        }
        found = true;
        let source_path = &path.child(below);
        match kind {
            "local" => {
                match source.text("path") {
                    "" => e.required(&source_path.child("path"), ""),
                    target => checks::no_backsteps(target, &source_path.child("path"), e),
                }
                if !has_affinity {
                    e.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "csi" => volume_sources::persistent_csi(source, source_path, e),
            _ => volume_sources::shared(kind, source, Owner::Volume(name), source_path, e),
        }
    }
    if !found {
        e.required(path, "must specify a volume type");
    }
}

fn classes(spec: &Value, inline: bool, path: &Path<'_>, e: &mut Errors) {
    let class = spec.text("storageClassName");
    if !class.is_empty() && inline {
        e.forbidden(&path.child("storageClassName"), "may not be specified in the context of inline volumes");
    } else if !class.is_empty() {
        checks::subdomain(class, &path.child("storageClassName"), e);
    }
    let mode_path = path.child("volumeMode");
    match spec.opt_text("volumeMode") {
        Some(mode) if inline && mode != "Filesystem" => {
            let detail = "may not specify volumeMode other than Filesystem in the context of inline volumes";
            e.forbidden(&mode_path, detail);
        }
        Some(mode) if !inline && !claim::VOLUME_MODES.contains(&mode) => {
            e.not_supported(&mode_path, mode, &claim::VOLUME_MODES);
        }
        _ => {}
    }
    if let Some(class) = spec.opt_text("volumeAttributesClassName") {
        let class_path = path.child("volumeAttributesClassName");
        if class.is_empty() {
            e.required(&class_path, "an empty string is disallowed");
        } else {
            checks::subdomain(class, &class_path, e);
        }
        if !spec.has("csi") {
            e.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

pub(super) fn create(volume: &Value, e: &mut Errors) {
    metadata::create(volume, false, names::name_is_subdomain, e);
    spec(volume.sub("spec"), metadata::name(volume), false, &SPEC, e);
}

/// The source alone. A secret for expansion that was not there before is left out of the new one.
fn source_of(spec: &Value, old: Option<&Value>) -> Value {
    let mut source: Map<String, Value> = SOURCES
        .iter()
        .filter_map(|(kind, _, _)| spec.some(kind).map(|source| ((*kind).to_string(), source.clone())))
        .collect();
    const SECRET: &str = "controllerExpandSecretRef";
    if old.is_some_and(|old| old.has("csi") && !old.sub("csi").has(SECRET))
        && let Some(csi) = source.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove(SECRET);
    }
    Value::Object(source)
}

pub(super) fn update(volume: &Value, old: &Value, e: &mut Errors) {
    create(volume, e);
    let (spec, old_spec) = (volume.sub("spec"), old.sub("spec"));
    let (new_source, old_source) = (source_of(spec, Some(old_spec)), source_of(old_spec, None));
    if !same(&new_source, &old_source) {
        let diff = gotypes::diff(&gotypes::Go::Raw, &old_source, &new_source);
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{diff}");
        e.forbidden(&SPEC.child("persistentvolumesource"), detail);
    }
    checks::immutable_field(spec, old_spec, "volumeMode", &Path::ROOT, e);
    let moved = |old: &Value| !same_but_for_labels(spec.sub("nodeAffinity"), old);
    if old_spec.some("nodeAffinity").is_some_and(moved) {
        let detail = format!("{}, except for updating from beta label to GA", checks::IMMUTABLE);
        e.invalid_go(
            &Path::new("nodeAffinity"),
            &gotypes::VOLUME_NODE_AFFINITY,
            spec.sub("nodeAffinity"),
            detail,
        );
    }
    let class = |spec: &Value| spec.opt_text("volumeAttributesClassName").is_some();
    if class(old_spec) && !class(spec) {
        let detail = "update from non-nil value to nil is forbidden";
        e.forbidden(&SPEC.child("volumeAttributesClassName"), detail);
    }
}

/// Keys of node labels may move from their beta names to the final ones.
fn same_but_for_labels(new: &Value, old: &Value) -> bool {
    const MOVED: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    if same(new, old) {
        return true;
    }
    let mut old = old.clone();
    let terms = old.pointer_mut("/required/nodeSelectorTerms").and_then(Value::as_array_mut);
    for (i, term) in terms.into_iter().flatten().enumerate() {
        for field in ["matchExpressions", "matchFields"] {
            let requirements = term.get_mut(field).and_then(Value::as_array_mut);
            for (j, requirement) in requirements.into_iter().flatten().enumerate() {
                let new_key = new.pointer(&format!("/required/nodeSelectorTerms/{i}/{field}/{j}/key"));
                let moved = MOVED.iter().find(|(beta, _)| requirement.text("key") == *beta);
                if let (Some(new_key), Some((_, stable))) = (new_key, moved)
                    && new_key.as_str() == Some(stable)
                {
                    requirement["key"] = new_key.clone();
                }
            }
        }
    }
    same(new, &old)
}

pub(super) fn status(volume: &Value, old: &Value, e: &mut Errors) {
    metadata::update(volume, old, e);
    if volume.sub("metadata").text("resourceVersion").is_empty() {
        e.required(&Path::new("resourceVersion"), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn texts(volume: &Value) -> Vec<String> {
        errors::texts(|e| create(volume, e))
    }

    #[test]
    fn a_volume_needs_modes_capacity_and_a_source() {
        assert_eq!(
            texts(&json!({"metadata": {"name": "v"}, "spec": {}})),
            [
                "spec.accessModes: Required value",
                "spec.capacity: Required value",
                r#"spec.capacity: Unsupported value: null: supported values: "storage""#,
                "spec: Required value: must specify a volume type",
            ]
        );
    }

    #[test]
    fn a_local_volume_says_where_it_is() {
        let v = json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "local": {"path": "/x"}}});
        assert_eq!(texts(&v), ["spec.nodeAffinity: Required value: Local volume requires node affinity"]);
    }
}

//! Volumes of pods: exactly one source each, names once.

use std::collections::BTreeMap;

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, volume_projected as projected, volume_sources as sources};

/// The volume types in the order in which they are checked. Some are named otherwise in messages than in the
/// API: for the wrong number of sources, and below the source.
const SOURCES: [(&str, &str, &str); 30] = [
    ("emptyDir", "emptyDir", "emptyDir"),
    ("hostPath", "hostPath", "hostPath"),
    ("gitRepo", "gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret", "secret"),
    ("nfs", "nfs", "nfs"),
    ("iscsi", "iscsi", "iscsi"),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd", "rbd"),
    ("cinder", "cinder", "cinder"),
    ("cephfs", "cephFS", "cephfs"),
    ("quobyte", "quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI", "downwardAPI"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("configMap", "configMap", "configMap"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("storageos", "storageos", "storageos"),
    ("projected", "projected", "projected"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("csi", "csi", "csi"),
    ("ephemeral", "ephemeral", "ephemeral"),
    ("image", "image", "image"),
];

/// `spec.volumes`. `pod` is the name of the pod where it is known: templates have none. Gives the volumes
/// without faults by name; mounts of others are not found.
pub(super) fn volumes<'a>(
    volumes: &'a [Value],
    pod: Option<&str>,
    path: &Path<'_>,
    e: &mut Errors,
) -> BTreeMap<&'a str, &'a Value> {
    let pod_name = pod.filter(|name| !name.is_empty());
    let created: Vec<String> = pod_name.map_or_else(Vec::new, |pod| {
        let ephemeral = volumes.iter().filter(|v| v.has("ephemeral"));
        ephemeral.map(|v| format!("{pod}-{}", v.text("name"))).collect()
    });
    let mut valid = BTreeMap::new();
    for (i, volume) in volumes.iter().enumerate() {
        let item = path.index(i);
        let name = volume.text("name");
        let before = e.len();
        source(volume, name, pod, &item, e);
        if name.is_empty() {
            e.required(&item.child("name"), "");
        } else {
            checks::label(name, &item.child("name"), e);
        }
        if valid.contains_key(name) {
            e.duplicate(&item.child("name"), name);
        }
        if e.len() == before {
            valid.insert(name, volume);
        }
        let claim = volume.sub("persistentVolumeClaim").text("claimName");
        if volume.has("persistentVolumeClaim") && created.iter().any(|c| c == claim) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            e.invalid(&item.child("persistentVolumeClaim").child("claimName"), claim, detail);
        }
    }
    valid
}

fn source(volume: &Value, name: &str, pod: Option<&str>, path: &Path<'_>, e: &mut Errors) {
    let mut found = false;
    // A volume has one or two fields: to look for these among all types is less than the other way round.
    let place = |field: &str| SOURCES.iter().position(|(kind, ..)| *kind == field);
    let fields = volume.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null());
    let mut stated: Vec<(usize, &Value)> =
        fields.filter_map(|(field, source)| Some((place(field)?, source))).collect();
    stated.sort_unstable_by_key(|(place, _)| *place);
    for (place, source) in stated {
        let (kind, too_many, below) = SOURCES[place];
        if found {
            e.forbidden(&path.child(too_many), "may not specify more than 1 volume type");
        } else {
            found = true;
            one_source(kind, source, pod.is_some(), &path.child(below), e);
            if kind == "ephemeral" {
                created_claim(pod.unwrap_or_default(), name, path, e);
            }
        }
        if kind == "iscsi"
            && source.has("initiatorName")
            && name.len() + 1 + source.text("targetPortal").len() > 64
        {
            e.invalid(&path.child("name"), name, sources::ISCSI_TOO_LONG);
        }
    }
    if !found {
        e.required(path, "must specify a volume type");
    }
}

/// The claim that is made for an ephemeral volume needs a valid name.
fn created_claim(pod: &str, volume: &str, path: &Path<'_>, e: &mut Errors) {
    if pod.is_empty() || volume.is_empty() {
        return;
    }
    let claim = format!("{pod}-{volume}");
    for message in names::name_is_subdomain(&claim, false) {
        e.invalid(&path.child("name"), volume, format!("PVC name \"{claim}\": {message}"));
    }
}

fn one_source(kind: &str, source: &Value, of_pod: bool, path: &Path<'_>, e: &mut Errors) {
    match kind {
        "emptyDir" => {
            if source.some("sizeLimit").is_some_and(|limit| checks::quantity(limit).signum() < 0) {
                e.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "gitRepo" => {
            sources::required(source, &["repository"], path, e);
            checks::descending_path(source.text("directory"), &path.child("directory"), e);
        }
        "secret" => projected::file_source(source, "secretName", path, e),
        "configMap" => projected::file_source(source, "name", path, e),
        "persistentVolumeClaim" => sources::required(source, &["claimName"], path, e),
        "downwardAPI" => projected::downward_api(source, path, e),
        "projected" => projected::projected(source, path, e),
        "csi" => sources::csi(source, path, e),
        "ephemeral" => match source.some("volumeClaimTemplate") {
            Some(template) => super::claim::template(template, &path.child("volumeClaimTemplate"), e),
            None => e.required(&path.child("volumeClaimTemplate"), ""),
        },
        "image" => {
            if of_pod && source.text("reference").is_empty() {
                e.required(&path.child("reference"), "");
            }
            super::container::pull_policy(source.text("pullPolicy"), &path.child("pullPolicy"), e);
        }
        _ => sources::shared(kind, source, sources::Owner::Pod, path, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn texts(list: Value) -> Vec<String> {
        errors::texts(|e| drop(volumes(list.as_array().expect("a list"), Some("p"), &Path::new("v"), e)))
    }

    #[test]
    fn a_volume_has_one_source_and_a_unique_name() {
        assert_eq!(
            texts(json!([
                {"emptyDir": {}},
                {"name": "a", "emptyDir": {}},
                {"name": "a", "emptyDir": {}},
                {"name": "b", "emptyDir": {}, "hostPath": {"path": "/x"}},
                {"name": "c"},
            ])),
            [
                "v[0].name: Required value",
                r#"v[2].name: Duplicate value: "a""#,
                "v[3].hostPath: Forbidden: may not specify more than 1 volume type",
                "v[4]: Required value: must specify a volume type",
            ]
        );
    }

    #[test]
    fn secrets_become_files_below_the_mount() {
        assert_eq!(
            texts(
                json!([{"name": "s", "secret": {"secretName": "x", "defaultMode": 9999, "items": [{}, {"key": "k", "path": "/abs"}]}}])
            ),
            [
                "v[0].secret.defaultMode: Invalid value: 9999: must be a number between 0 and 0777 (octal), both inclusive",
                "v[0].secret.items[0].key: Required value",
                "v[0].secret.items[0].path: Required value",
                r#"v[0].secret.items[1].path: Invalid value: "/abs": must be a relative path"#,
            ]
        );
    }
}

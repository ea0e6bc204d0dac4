//! Defaults of volumes, claims and storage.k8s.io.

use serde_json::{Map, Value, json};

use super::pod::round;
use crate::fields::{absent, empty, member, member_made, object_mut};

pub(crate) fn persistent_volume(object: &mut Value) {
    if let Some(status) = object_mut(object, &["status"]) {
        empty(status, "phase", "Pending");
    }
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    empty(spec, "persistentVolumeReclaimPolicy", "Retain");
    absent(spec, "volumeMode", "Filesystem");
    if let Some(capacity) = member(spec, "capacity") {
        round(capacity);
    }
    if let Some(path) = member(spec, "hostPath") {
        absent(path, "type", "");
    }
}

pub(crate) fn persistent_volume_claim(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        claim(object);
    }
}

/// A claim, also inside a StatefulSet.
pub(crate) fn claim(claim: &mut Map<String, Value>) {
    if let Some(spec) = member(claim, "spec") {
        claim_spec(spec);
    }
    if let Some(status) = member_made(claim, "status") {
        empty(status, "phase", "Pending");
        for name in ["capacity", "allocatedResources"] {
            if let Some(list) = member(status, name) {
                round(list);
            }
        }
    }
}

pub(crate) fn claim_spec(spec: &mut Map<String, Value>) {
    absent(spec, "volumeMode", "Filesystem");
    if let Some(resources) = member(spec, "resources") {
        for name in ["limits", "requests"] {
            if let Some(list) = member(resources, name) {
                round(list);
            }
        }
    }
}

pub(crate) fn storage_class(object: &mut Value) {
    if let Some(class) = object.as_object_mut() {
        absent(class, "reclaimPolicy", "Delete");
        absent(class, "volumeBindingMode", "Immediate");
    }
}

pub(crate) fn csi_driver(object: &mut Value) {
    let Some(spec) = object_mut(object, &["spec"]) else { return };
    absent(spec, "attachRequired", true);
    for name in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        absent(spec, name, false);
    }
    absent(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    absent(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

//! Volumes made of files from other objects: secrets, config maps, the downward API, and projections of all.

use std::collections::BTreeSet;

use kubewright_machinery::field::Path;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, container_env, names_of};

/// A secret or config map volume.
pub(super) fn file_source(source: &Value, name: &str, path: &Path<'_>, e: &mut Errors) {
    if source.text(name).is_empty() {
        e.required(&path.child(name), "");
    }
    checks::file_mode(source, "defaultMode", path, e);
    let items = path.child("items");
    for (i, item) in source.items("items").iter().enumerate() {
        key_to_path(item, &items.index(i), e);
    }
}

fn key_to_path(item: &Value, path: &Path<'_>, e: &mut Errors) {
    for field in ["key", "path"] {
        if item.text(field).is_empty() {
            e.required(&path.child(field), "");
        }
    }
    checks::non_reserved_path(item.text("path"), &path.child("path"), e);
    checks::file_mode(item, "mode", path, e);
}

/// A downward API volume.
pub(super) fn downward_api(source: &Value, path: &Path<'_>, e: &mut Errors) {
    checks::file_mode(source, "defaultMode", path, e);
    for file in source.items("items") {
        downward_file(file, path, e);
    }
}

/// One file of the downward API; the messages do not say which.
fn downward_file(file: &Value, path: &Path<'_>, e: &mut Errors) {
    if file.text("path").is_empty() {
        e.required(&path.child("path"), "");
    }
    checks::non_reserved_path(file.text("path"), &path.child("path"), e);
    match (file.some("fieldRef"), file.some("resourceFieldRef")) {
        (Some(field), resource) => {
            container_env::field_ref(field, &container_env::VOLUME_FIELDS, &path.child("fieldRef"), e);
            if resource.is_some() {
                e.invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        }
        (None, Some(resource)) => {
            container_env::resource_ref(resource, true, &path.child("resourceFieldRef"), e)
        }
        (None, None) => e.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    checks::file_mode(file, "mode", path, e);
}

/// A projected volume.
pub(super) fn projected(volume: &Value, path: &Path<'_>, e: &mut Errors) {
    checks::file_mode(volume, "defaultMode", path, e);
    let mut paths = BTreeSet::new();
    let list = path.child("sources");
    for (i, source) in volume.items("sources").iter().enumerate() {
        let item = list.index(i);
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            let Some(object) = source.some(kind) else { continue };
            count += 1;
            let object_path = item.child(kind);
            if object.text("name").is_empty() {
                e.required(&object_path.child("name"), "");
            }
            let items = object_path.child("items");
            for (i, entry) in object.items("items").iter().enumerate() {
                key_to_path(entry, &items.index(i), e);
                let file = entry.text("path");
                if !file.is_empty() && !paths.insert(file) {
                    e.invalid(path, object.text("name"), "conflicting duplicate paths");
                }
            }
        }
        if let Some(downward) = source.some("downwardAPI") {
            count += 1;
            for entry in downward.items("items") {
                downward_file(entry, &item.child("downwardAPI"), e);
                let file = entry.text("path");
                if !file.is_empty() && !paths.insert(file) {
                    e.invalid(path, file, "conflicting duplicate paths");
                }
            }
        }
        if let Some(token) = source.some("serviceAccountToken") {
            count += 1;
            service_account_token(token, &item.child("serviceAccountToken"), path, e);
        }
        if let Some(bundle) = source.some("clusterTrustBundle") {
            count += 1;
            trust_bundle(bundle, &item.child("clusterTrustBundle"), e);
            if !paths.insert(bundle.text("path")) {
                e.invalid(path, bundle.text("path"), "conflicting duplicate paths");
            }
        }
        if let Some(certificate) = source.some("podCertificate") {
            count += 1;
            pod_certificate(certificate, &item.child("podCertificate"), e);
        }
        if count > 1 {
            e.forbidden(&item, "may not specify more than 1 volume type per source");
        }
    }
}

fn service_account_token(token: &Value, path: &Path<'_>, volume: &Path<'_>, e: &mut Errors) {
    let seconds = token.int("expirationSeconds");
    if seconds < 600 {
        e.invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > 1 << 32 {
        e.invalid(
            &path.child("expirationSeconds"),
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    if token.text("path").is_empty() {
        e.required(&volume.child("path"), "");
    } else {
        checks::non_reserved_path(token.text("path"), &volume.child("path"), e);
    }
}

fn trust_bundle(bundle: &Value, path: &Path<'_>, e: &mut Errors) {
    match (bundle.opt_text("name"), bundle.opt_text("signerName")) {
        (Some(_), Some(_)) => e.invalid(path, bundle.clone(), "only one of name and signerName may be used"),
        (Some(name), None) => {
            let name_path = &path.child("name");
            if name.is_empty() {
                e.required(name_path, "must be a valid object name");
            }
            for message in names_of::cluster_trust_bundle(name) {
                e.invalid(name_path, name, format!("not a valid clustertrustbundlename: {message}"));
            }
            if let Some(selector) = bundle.some("labelSelector") {
                let detail = "labelSelector must be unset if name is specified";
                e.invalid(&path.child("labelSelector"), selector.clone(), detail);
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                e.required(&path.child("signerName"), "must be a valid signer name");
            }
            names_of::signer(signer, &path.child("signerName"), e);
            checks::label_selector(bundle.some("labelSelector"), false, &path.child("labelSelector"), e);
        }
        (None, None) => e.required(path, "either name or signerName must be specified"),
    }
    if bundle.text("path").is_empty() {
        e.required(&path.child("path"), "");
    }
    checks::non_reserved_path(bundle.text("path"), &path.child("path"), e);
}

fn pod_certificate(certificate: &Value, path: &Path<'_>, e: &mut Errors) {
    const KEY_TYPES: [&str; 6] = ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
    names_of::signer(certificate.text("signerName"), &path.child("signerName"), e);
    let key_type = certificate.text("keyType");
    if !KEY_TYPES.contains(&key_type) {
        e.not_supported(&path.child("keyType"), key_type, &KEY_TYPES);
    }
    if let Some(seconds) = certificate.opt_int("maxExpirationSeconds").filter(|s| *s < 3600) {
        e.invalid(
            &path.child("maxExpirationSeconds"),
            seconds,
            "if provided, maxExpirationSeconds must be >= 3600",
        );
    }
    let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    if fields.iter().all(|f| certificate.text(f).is_empty()) {
        e.required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
    }
    for field in fields.iter().filter(|f| !certificate.text(f).is_empty()) {
        checks::non_reserved_path(certificate.text(field), &path.child(field), e);
    }
}

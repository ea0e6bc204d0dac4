//! Sources of volumes that name storage outside of the cluster. Pods and persistent volumes share most;
//! persistent volumes must say in which namespace a secret is.

use std::sync::LazyLock;

use kubewright_machinery::field::Path;
use regex::Regex;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, names_of};

/// Whose source it is.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    /// A volume of a pod.
    Pod,
    /// A persistent volume, with its name.
    Volume(&'a str),
}

pub(super) const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
const PARTITION: &str = "must be between 1 and 255, inclusive";

/// Fields that must not be empty.
pub(super) fn required(source: &Value, fields: &[&str], path: &Path<'_>, e: &mut Errors) {
    for field in fields.iter().filter(|field| source.text(field).is_empty()) {
        e.required(&path.child(field), "");
    }
}

/// A source of a type that both pods and persistent volumes have.
pub(super) fn shared(kind: &str, source: &Value, owner: Owner<'_>, path: &Path<'_>, e: &mut Errors) {
    match kind {
        "hostPath" => host_path(source, path, e),
        "gcePersistentDisk" => {
            required(source, &["pdName"], path, e);
            partition(source, path, e);
        }
        "awsElasticBlockStore" => {
            required(source, &["volumeID"], path, e);
            partition(source, path, e);
        }
        "nfs" => {
            required(source, &["server", "path"], path, e);
            if !source.text("path").starts_with('/') {
                e.invalid(&path.child("path"), source.text("path"), "must be an absolute path");
            }
        }
        "iscsi" => iscsi(source, owner, path, e),
        "glusterfs" => {
            required(source, &["endpoints", "path"], path, e);
            match (owner, source.opt_text("endpointsNamespace")) {
                (Owner::Volume(_), Some("")) => {
                    let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                    e.invalid(&path.child("endpointsNamespace"), "", detail);
                }
                (Owner::Volume(_), Some(namespace)) => {
                    checks::namespace_name(namespace, &path.child("endpointsNamespace"), e);
                }
                _ => {}
            }
        }
        "flocker" => flocker(source, path, e),
        "rbd" => {
            if source.items("monitors").is_empty() {
                e.required(&path.child("monitors"), "");
            }
            required(source, &["image"], path, e);
        }
        "cinder" => {
            required(source, &["volumeID"], path, e);
            secret(source, owner, path, e);
        }
        "cephfs" if source.items("monitors").is_empty() => e.required(&path.child("monitors"), ""),
        "quobyte" => quobyte(source, path, e),
        "fc" => fibre_channel(source, path, e),
        "flexVolume" => flex(source, path, e),
        "azureFile" => {
            required(source, &["secretName", "shareName"], path, e);
            if matches!(owner, Owner::Volume(_)) && source.opt_text("secretNamespace") == Some("") {
                e.required(&path.child("secretNamespace"), "");
            }
        }
        "vsphereVolume" => required(source, &["volumePath"], path, e),
        "photonPersistentDisk" => required(source, &["pdID"], path, e),
        "portworxVolume" => required(source, &["volumeID"], path, e),
        "azureDisk" => azure_disk(source, path, e),
        "storageos" => storageos(source, owner, path, e),
        "scaleIO" => required(source, &["gateway", "system", "volumeName"], path, e),
        _ => {}
    }
}

fn host_path(source: &Value, path: &Path<'_>, e: &mut Errors) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let target = source.text("path");
    if target.is_empty() {
        return e.required(&path.child("path"), "");
    }
    checks::no_backsteps(target, &path.child("path"), e);
    if let Some(kind) = source.opt_text("type").filter(|kind| !TYPES.contains(kind)) {
        e.not_supported(&path.child("type"), kind, &TYPES);
    }
}

fn partition(source: &Value, path: &Path<'_>, e: &mut Errors) {
    let partition = source.int("partition");
    if !(0..=255).contains(&partition) {
        e.invalid(&path.child("partition"), partition, PARTITION);
    }
}

/// The secret of a source: persistent volumes name its namespace too.
fn secret(source: &Value, owner: Owner<'_>, path: &Path<'_>, e: &mut Errors) {
    if let Some(secret) = source.some("secretRef") {
        let fields: &[&str] = if matches!(owner, Owner::Pod) { &["name"] } else { &["name", "namespace"] };
        required(secret, fields, &path.child("secretRef"), e);
    }
}

static IQN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"iqn\.[0-9]{4}-[0-9]{2}\.([[:alnum:]\-.]+)(:[^,;*&$|\t\n\f\r ]+)$")
        .expect("a constant pattern")
});
static EUI: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^eui.[[:alnum:]]{16}$").expect("a constant pattern"));
static NAA: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^naa.[[:alnum:]]{32}$").expect("a constant pattern"));

/// A name of an iSCSI node: whether it begins as one, and whether it is one.
fn iscsi_name(name: &str) -> (bool, bool) {
    match name.get(..3) {
        Some("iqn") => (true, IQN.is_match(name)),
        Some("eui") => (true, EUI.is_match(name)),
        Some("naa") => (true, NAA.is_match(name)),
        _ => (false, false),
    }
}

fn iscsi(source: &Value, owner: Owner<'_>, path: &Path<'_>, e: &mut Errors) {
    let portal = source.text("targetPortal");
    required(source, &["targetPortal"], path, e);
    let initiator = source.opt_text("initiatorName");
    let unknown = match owner {
        Owner::Pod => "must be valid format starting with iqn, eui, or naa",
        Owner::Volume(name) => {
            if initiator.is_some() && name.len() + 1 + portal.len() > 64 {
                e.invalid(&path.child("targetportal"), portal, ISCSI_TOO_LONG);
            }
            "must be valid format"
        }
    };
    let named = |name: &str, path: &Path<'_>, e: &mut Errors| match iscsi_name(name) {
        (false, _) => e.invalid(path, name, unknown),
        (true, false) => e.invalid(path, name, "must be valid format"),
        (true, true) => {}
    };
    match source.text("iqn") {
        "" => e.required(&path.child("iqn"), ""),
        name => named(name, &path.child("iqn"), e),
    }
    let lun = source.int("lun");
    if !(0..=255).contains(&lun) {
        e.invalid(&path.child("lun"), lun, "must be between 0 and 255, inclusive");
    }
    if (source.flag("chapAuthDiscovery") || source.flag("chapAuthSession")) && !source.has("secretRef") {
        e.required(&path.child("secretRef"), "");
    }
    if let (Owner::Volume(_), Some(secret)) = (owner, source.some("secretRef")) {
        required(secret, &["name"], &path.child("secretRef"), e);
    }
    if let Some(name) = initiator {
        named(name, &path.child("initiatorname"), e);
    }
}

fn flocker(source: &Value, path: &Path<'_>, e: &mut Errors) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        e.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        e.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.contains('/') {
        e.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(source: &Value, path: &Path<'_>, e: &mut Errors) {
    let registry = source.text("registry");
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        e.required(&path.child("registry"), pairs);
    } else if source.text("tenant").len() >= 65 {
        e.required(&path.child("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for pair in registry.split(',') {
            if !is_host_port(pair) {
                e.invalid(&path.child("registry"), registry, pairs);
            }
        }
    }
    required(source, &["volume"], path, e);
}

/// `host:port` with an IPv6 address in brackets.
fn is_host_port(pair: &str) -> bool {
    match pair.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").is_some_and(|(_, port)| !port.contains(':')),
        None => pair.matches(':').count() == 1 && !pair.contains(']'),
    }
}

fn fibre_channel(source: &Value, path: &Path<'_>, e: &mut Errors) {
    let (targets, ids) = (source.items("targetWWNs"), source.items("wwids"));
    let targets_path = path.child("targetWWNs");
    if targets.is_empty() && ids.is_empty() {
        e.required(&targets_path, "must specify either targetWWNs or wwids, but not both");
    }
    if !targets.is_empty() && !ids.is_empty() {
        e.invalid(
            &targets_path,
            targets.to_vec(),
            "targetWWNs and wwids can not be specified simultaneously",
        );
    }
    if targets.is_empty() {
        return;
    }
    match source.opt_int("lun") {
        None => e.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
        Some(lun) if !(0..=255).contains(&lun) => {
            e.invalid(&path.child("lun"), lun, "must be between 0 and 255, inclusive");
        }
        Some(_) => {}
    }
}

fn flex(source: &Value, path: &Path<'_>, e: &mut Errors) {
    required(source, &["driver"], path, e);
    for (key, _) in source.entries("options") {
        let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            e.invalid(&path.child("options").key(key), key, detail);
        }
    }
}

fn azure_disk(source: &Value, path: &Path<'_>, e: &mut Errors) {
    required(source, &["diskName", "diskURI"], path, e);
    let (caching, kind, uri) =
        (source.opt_text("cachingMode"), source.opt_text("kind"), source.text("diskURI"));
    if let Some(mode) = caching.filter(|m| !matches!(*m, "None" | "ReadOnly" | "ReadWrite")) {
        e.not_supported(&path.child("cachingMode"), mode, &["None", "ReadOnly", "ReadWrite"]);
    }
    let Some(kind) = kind else { return };
    if !matches!(kind, "Dedicated" | "Managed" | "Shared") {
        e.not_supported(&path.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
    }
    if kind == "Managed" && !uri.starts_with("/subscriptions/") {
        let form =
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        e.not_supported(&path.child("diskURI"), uri, &[form]);
    }
    if kind != "Managed" && !uri.starts_with("https://") {
        let form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
        e.not_supported(&path.child("diskURI"), uri, &[form]);
    }
}

fn storageos(source: &Value, owner: Owner<'_>, path: &Path<'_>, e: &mut Errors) {
    match source.text("volumeName") {
        "" => e.required(&path.child("volumeName"), ""),
        name => checks::label(name, &path.child("volumeName"), e),
    }
    if !source.text("volumeNamespace").is_empty() {
        checks::label(source.text("volumeNamespace"), &path.child("volumeNamespace"), e);
    }
    secret(source, owner, path, e);
}

/// A CSI volume of a pod.
pub(super) fn csi(source: &Value, path: &Path<'_>, e: &mut Errors) {
    names_of::csi_driver(source.text("driver"), &path.child("driver"), e);
    if let Some(secret) = source.some("nodePublishSecretRef") {
        match secret.text("name") {
            "" => e.required(&path.child("nodePublishSecretRef").child("name"), ""),
            name => checks::subdomain(name, &path.child("name"), e),
        }
    }
}

/// A CSI volume of a persistent volume.
pub(super) fn persistent_csi(source: &Value, path: &Path<'_>, e: &mut Errors) {
    names_of::csi_driver(source.text("driver"), &path.child("driver"), e);
    required(source, &["volumeHandle"], path, e);
    let secrets = [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ];
    for field in secrets {
        let Some(secret) = source.some(field) else { continue };
        let path = &path.child(field);
        match secret.text("name") {
            "" => e.required(&path.child("name"), ""),
            name => checks::subdomain(name, &path.child("name"), e),
        }
        match secret.text("namespace") {
            "" => e.required(&path.child("namespace"), ""),
            namespace => checks::label(namespace, &path.child("namespace"), e),
        }
    }
}

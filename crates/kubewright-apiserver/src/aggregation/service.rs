//! The rules of APIServices as objects.

use std::sync::Arc;

use kubewright_machinery::field::{self, Path};
use kubewright_machinery::{meta, names};
use kubewright_storage::StoreError;
use serde_json::{Value, json};

use super::availability;
use super::registry::Registry;
use crate::BoxFuture;
use crate::resources::{Strategy, WriteContext};
use crate::server::Core;

const HTTPS_PORT: i64 = 443;
const MAX_GROUP_PRIORITY: i64 = 20_000;
const MAX_VERSION_PRIORITY: i64 = 1_000;

/// Rules of the main endpoint.
pub(super) struct ServiceStrategy {
    registry: Arc<Registry>,
}

impl ServiceStrategy {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

impl Strategy for ServiceStrategy {
    fn default(&self, object: &mut Value) {
        let service = object.pointer_mut("/spec/service").and_then(Value::as_object_mut);
        if let Some(service) = service
            && service.get("port").is_none_or(Value::is_null)
        {
            service.insert("port".into(), HTTPS_PORT.into());
        }
    }

    fn prepare_create(&self, cx: &WriteContext<'_>, object: &mut Value) {
        let Some(fields) = object.as_object_mut() else { return };
        fields.insert("status".into(), json!({}));
        if availability::is_local(object) {
            availability::set(object, &availability::local(), cx.now);
        }
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<field::Error> {
        validate(object)
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        let Some(fields) = object.as_object_mut() else { return };
        fields.insert("status".into(), old.get("status").cloned().unwrap_or_else(|| json!({})));
    }

    fn validate_update(&self, _cx: &WriteContext<'_>, object: &Value, _old: &Value) -> Vec<field::Error> {
        validate(object)
    }

    fn reset_fields(&self) -> &[&[&str]] {
        &[&["status"]]
    }

    fn start<'a>(&'a self, core: &'a Arc<Core>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.registry.start(core))
    }

    fn written<'a>(&'a self, core: &'a Core, _object: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(self.registry.settle_or_log(core))
    }

    fn deleted<'a>(&'a self, cx: &'a WriteContext<'a>, _object: &'a Value) -> BoxFuture<'a, ()> {
        Box::pin(self.registry.settle_or_log(cx.core))
    }
}

/// Rules of `/status`.
pub(super) struct StatusStrategy;

impl Strategy for StatusStrategy {
    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        if let (Some(fields), Some(spec)) = (object.as_object_mut(), old.get("spec")) {
            fields.insert("spec".into(), spec.clone());
        }
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            match meta::get(old, field) {
                Some(value) => meta::set(object, field, value.clone()),
                None => drop(meta::remove(object, field)),
            }
        }
    }

    fn validate_update(&self, _cx: &WriteContext<'_>, object: &Value, _old: &Value) -> Vec<field::Error> {
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let path = Path::new("status");
        let path = path.child("conditions");
        let judged = conditions.into_iter().flatten().enumerate();
        judged
            .filter(|(_, condition)| {
                !matches!(condition["status"].as_str(), Some("True" | "False" | "Unknown"))
            })
            .map(|(i, condition)| {
                let (item, found) = (path.index(i), condition["status"].clone());
                field::Error::not_supported(&item.child("status"), found, &["True", "False", "Unknown"])
            })
            .collect()
    }

    fn reset_fields(&self) -> &[&[&str]] {
        &[&["spec"]]
    }
}

/// What is wrong with an APIService, but for its metadata.
fn validate(object: &Value) -> Vec<field::Error> {
    let none = Value::Null;
    let spec = object.get("spec").unwrap_or(&none);
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let number = |key: &str| spec.get(key).and_then(Value::as_i64).unwrap_or(0);
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let mut errors = Vec::new();

    let metadata = Path::new("metadata");
    let name = meta::name(object);
    let mut faults = names::is_path_segment_name(name);
    let wanted = format!("{version}.{group}");
    if faults.is_empty() && name != wanted {
        faults.push(format!("must be `spec.version+\".\"+spec.group`: {}", field::quote(&wanted)));
    }
    errors
        .extend(faults.into_iter().map(|fault| field::Error::invalid(&metadata.child("name"), name, fault)));

    let path = Path::new("spec");
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.push(field::Error::required(&path.child("group"), why));
    }
    if !group.is_empty() {
        let faults = names::is_dns1123_subdomain(&group).into_iter();
        errors.extend(faults.map(|f| field::Error::invalid(&path.child("group"), &*group, f)));
    }
    let faults = names::is_dns1035_label(&version).into_iter();
    errors.extend(faults.map(|f| field::Error::invalid(&path.child("version"), &*version, f)));
    for (key, max) in
        [("groupPriorityMinimum", MAX_GROUP_PRIORITY), ("versionPriority", MAX_VERSION_PRIORITY)]
    {
        if !(1..=max).contains(&number(key)) {
            let why = format!("must be positive and less than {max}");
            errors.push(field::Error::invalid(&path.child(key), number(key), why));
        }
    }

    let bundle = text(spec, "caBundle");
    let insecure = spec.get("insecureSkipTLSVerify").and_then(Value::as_bool).unwrap_or(false);
    let skip = path.child("insecureSkipTLSVerify");
    let Some(service) = spec.get("service").filter(|s| s.is_object()) else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", decoded_len(&bundle));
            let why = "local APIServices may not have a caBundle";
            errors.push(field::Error::invalid(&path.child("caBundle"), shown, why));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(field::Error::invalid(&skip, true, why));
        }
        return errors;
    };
    let of_service = path.child("service");
    for key in ["namespace", "name"] {
        if text(service, key).is_empty() {
            errors.push(field::Error::required(&of_service.child(key), ""));
        }
    }
    let port = service.get("port").and_then(Value::as_i64).unwrap_or(HTTPS_PORT);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(field::Error::invalid(&of_service.child("port"), port, why));
    }
    if insecure && !bundle.is_empty() {
        errors.push(field::Error::invalid(&skip, true, "may not be true if caBundle is present"));
    }
    errors
}

/// How many bytes base64 text stands for.
fn decoded_len(text: &str) -> usize {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).map_or(0, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(object: Value) -> Vec<String> {
        validate(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_remote_service_is_complete_and_named_after_version_and_group() {
        let good = json!({"metadata": {"name": "v1.x.io"}, "spec": {"group": "x.io", "version": "v1",
            "groupPriorityMinimum": 1, "versionPriority": 1, "service": {"namespace": "n", "name": "s", "port": 1}}});
        assert_eq!(says(good.clone()), Vec::<String>::new());
        let mut bad = good.clone();
        bad["metadata"]["name"] = json!("v2.x.io");
        bad["spec"]["service"] = json!({"port": 0});
        assert_eq!(
            says(bad),
            [
                "metadata.name: Invalid value: \"v2.x.io\": must be `spec.version+\".\"+spec.group`: \"v1.x.io\"",
                "spec.service.namespace: Required value",
                "spec.service.name: Required value",
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ]
        );
    }

    #[test]
    fn a_local_service_needs_no_trust() {
        let local = json!({"metadata": {"name": "v1.x.io"}, "spec": {"group": "x.io", "version": "v1",
            "groupPriorityMinimum": 1, "versionPriority": 1, "caBundle": "Zm9v"}});
        assert_eq!(
            says(local),
            ["spec.caBundle: Invalid value: \"3 bytes\": local APIServices may not have a caBundle"]
        );
    }
}

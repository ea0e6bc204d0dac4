//! APIServices.

use base64::Engine as _;
use kubewright_machinery::field::{self, Path};
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::workloads::SPEC;
use super::{checks, metadata};

const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

pub(super) fn create(service: &Value, e: &mut Errors) {
    // What the name must be depends on the object, which the rules of names don't see.
    metadata::create_generic(service, false, names::name_is_path_segment, e);
    let spec = service.sub("spec");
    let (group, version, name) = (spec.text("group"), spec.text("version"), metadata::name(service));
    let required = format!("{version}.{group}");
    if name != required && names::is_path_segment_name(name).is_empty() && !name.is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {}", field::quote(&required));
        e.invalid(&Path::new("metadata").child("name"), name, detail);
    }
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        e.required(&SPEC.child("group"), detail);
    }
    if !group.is_empty() {
        checks::subdomain(group, &SPEC.child("group"), e);
    }
    e.each(&SPEC.child("version"), version, names::is_dns1035_label(version));
    for (field, most) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
        let priority = spec.int(field);
        if priority <= 0 || priority > most {
            e.invalid(&SPEC.child(field), priority, format!("must be positive and less than {most}"));
        }
    }
    let insecure = spec.flag("insecureSkipTLSVerify");
    let bundle = base64::engine::general_purpose::STANDARD.decode(spec.text("caBundle")).unwrap_or_default();
    let Some(target) = spec.some("service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len());
            e.invalid(&SPEC.child("caBundle"), shown, "local APIServices may not have a caBundle");
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            e.invalid(&SPEC.child("insecureSkipTLSVerify"), true, detail);
        }
        return;
    };
    let path = SPEC.child("service");
    for field in ["namespace", "name"] {
        if target.text(field).is_empty() {
            e.required(&path.child(field), "");
        }
    }
    let port = target.int("port");
    for message in names::is_port_number(port) {
        e.invalid(&path.child("port"), port, format!("port is not valid: {message}"));
    }
    if insecure && !bundle.is_empty() {
        e.invalid(&SPEC.child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
    }
}

pub(super) fn update(service: &Value, old: &Value, e: &mut Errors) {
    metadata::update_generic(service, old, e);
    create(service, e);
}

pub(super) fn status(service: &Value, old: &Value, e: &mut Errors) {
    metadata::update_generic(service, old, e);
    let list = Path::new("status");
    let list = list.child("conditions");
    for (i, condition) in service.sub("status").items("conditions").iter().enumerate() {
        let status = condition.text("status");
        if !STATUSES.contains(&status) {
            e.not_supported(&list.index(i).child("status"), status, &STATUSES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    #[test]
    fn its_name_is_version_and_group() {
        let service = json!({"metadata": {"name": "v2.a.b"}, "spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 0}});
        let texts = errors::texts(|e| create(&service, e));
        assert_eq!(
            texts,
            [
                r#"metadata.name: Invalid value: "v2.a.b": must be `spec.version+"."+spec.group`: "v1.a.b""#,
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            ]
        );
    }
}

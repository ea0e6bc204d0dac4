//! Environment variables of containers and the references that fill them, also those of downward API volumes.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::checks;
use super::errors::Errors;
use super::read::Fields;

const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that downward API volumes offer.
pub(super) const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const HUGEPAGES: [&str; 2] = ["limits.hugepages-", "requests.hugepages-"];
const DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// `env`.
pub(super) fn variables(variables: &[Value], path: &Path<'_>, e: &mut Errors) {
    for (i, variable) in variables.iter().enumerate() {
        let item = path.index(i);
        // There can be very many of them, and they have few fields: one pass over these instead of a look-up for each.
        let (mut name, mut value, mut source) = ("", "", None);
        for (field, found) in variable.as_object().into_iter().flatten() {
            match field.as_str() {
                "name" => name = found.as_str().unwrap_or_default(),
                "value" => value = found.as_str().unwrap_or_default(),
                "valueFrom" => source = Some(found).filter(|source| !source.is_null()),
                _ => {}
            }
        }
        if name.is_empty() {
            e.required(&item.child("name"), "");
        } else {
            e.each(&item.child("name"), name, names::is_relaxed_env_var_name(name));
        }
        if let Some(source) = source {
            value_from(source, value, &item.child("valueFrom"), e);
        }
    }
}

fn value_from(source: &Value, value: &str, path: &Path<'_>, e: &mut Errors) {
    let mut sources = 0;
    if let Some(reference) = source.some("fieldRef") {
        sources += 1;
        field_ref(reference, &FIELDS, &path.child("fieldRef"), e);
    }
    if let Some(reference) = source.some("resourceFieldRef") {
        sources += 1;
        resource_ref(reference, false, &path.child("resourceFieldRef"), e);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source.some(kind) {
            sources += 1;
            key_ref(reference, &path.child(kind), e);
        }
    }
    if let Some(reference) = source.some("fileKeyRef") {
        sources += 1;
        file_ref(reference, &path.child("fileKeyRef"), e);
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        e.invalid(path, "", detail);
    } else if !value.is_empty() {
        e.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        e.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(reference: &Value, path: &Path<'_>, e: &mut Errors) {
    let (name, key) = (reference.text("name"), reference.text("key"));
    checks::subdomain(name, &path.child("name"), e);
    if key.is_empty() {
        e.required(&path.child("key"), "");
    } else {
        e.each(&path.child("key"), key, names::is_config_map_key(key));
    }
}

fn file_ref(reference: &Value, path: &Path<'_>, e: &mut Errors) {
    let (key, file, volume) = (reference.text("key"), reference.text("path"), reference.text("volumeName"));
    if key.is_empty() {
        e.required(&path.child("key"), "");
    } else {
        e.each(&path.child("key"), key, names::is_relaxed_env_var_name(key));
    }
    if volume.is_empty() {
        e.required(&path.child("volumeName"), "");
    }
    if file.is_empty() {
        e.required(&path.child("path"), "");
    } else {
        checks::non_reserved_path(file, &path.child("path"), e);
    }
}

/// `envFrom`.
pub(super) fn sources(sources: &[Value], path: &Path<'_>, e: &mut Errors) {
    for (i, source) in sources.iter().enumerate() {
        let item = path.index(i);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            e.each(&item.child("prefix"), prefix, names::is_relaxed_env_var_name(prefix));
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let Some(reference) = source.some(kind) else { continue };
            count += 1;
            let (name, name_path) = (reference.text("name"), item.child(kind));
            if name.is_empty() {
                e.required(&name_path.child("name"), "");
            } else {
                e.each(&name_path.child("name"), name, names::name_is_subdomain(name, true));
            }
        }
        match count {
            0 => e.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => e.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}

/// The field label that a downward API path means, as the pod's version converts it.
fn convert(api_version: &str, label: &str) -> Result<String, String> {
    if api_version != "v1" {
        return Err(format!("unsupported pod version: {api_version}"));
    }
    if let Some((base, _)) = subscripted(label) {
        return match base {
            "metadata.annotations" | "metadata.labels" => Ok(label.to_string()),
            _ => Err(format!("field label does not support subscript: {label}")),
        };
    }
    match label {
        "spec.host" => Ok("spec.nodeName".to_string()),
        "metadata.annotations"
        | "metadata.labels"
        | "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.serviceAccountName"
        | "spec.schedulerName"
        | "status.phase"
        | "status.hostIP"
        | "status.hostIPs"
        | "status.podIP"
        | "status.podIPs" => Ok(label.to_string()),
        _ => Err(format!("field label not supported: {label}")),
    }
}

/// `base['key']`.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    (!base.is_empty()).then_some(())?;
    Some((base, rest.strip_suffix("']")?))
}

/// An `ObjectFieldSelector`.
pub(super) fn field_ref(reference: &Value, supported: &[&str], path: &Path<'_>, e: &mut Errors) {
    let (api_version, label) = (reference.text("apiVersion"), reference.text("fieldPath"));
    if api_version.is_empty() {
        return e.required(&path.child("apiVersion"), "");
    }
    let field = &path.child("fieldPath");
    if label.is_empty() {
        return e.required(field, "");
    }
    let converted = match convert(api_version, label) {
        Ok(converted) => converted,
        Err(error) => return e.invalid(field, label, format!("error converting fieldPath: {error}")),
    };
    match subscripted(&converted) {
        Some(("metadata.annotations", key)) => checks::qualified_name(&key.to_lowercase(), path, e),
        Some(("metadata.labels", key)) => checks::qualified_name(key, path, e),
        Some((base, _)) => e.invalid(path, base, "does not support subscript"),
        None if !supported.contains(&converted.as_str()) => e.not_supported(field, converted, supported),
        None => {}
    }
}

/// A `ResourceFieldSelector`; those of volumes name the container.
pub(super) fn resource_ref(reference: &Value, volume: bool, path: &Path<'_>, e: &mut Errors) {
    let resource = reference.text("resource");
    if volume && reference.text("containerName").is_empty() {
        e.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        e.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !HUGEPAGES.iter().any(|prefix| resource.starts_with(prefix)) {
        e.not_supported(&path.child("resource"), resource, &RESOURCES);
    }
    let divisor = checks::quantity(reference.sub("divisor"));
    if divisor.is_zero() {
        return;
    }
    let divisor = divisor.to_string();
    let of_bytes = "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the";
    let bytes = match resource {
        "limits.cpu" | "requests.cpu" => {
            if !matches!(divisor.as_str(), "1m" | "1") {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                e.invalid(&path.child("divisor"), resource, detail);
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if HUGEPAGES.iter().any(|prefix| resource.starts_with(prefix)) => "hugepages",
        _ => return,
    };
    if !DIVISORS.contains(&divisor.as_str()) {
        e.invalid(&path.child("divisor"), resource, format!("{of_bytes} {bytes} resource"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn texts(env: Value) -> Vec<String> {
        errors::texts(|e| variables(env.as_array().expect("a list"), &Path::new("env"), e))
    }

    #[test]
    fn a_variable_has_one_source_or_a_value() {
        let key = json!({"name": "n", "key": "k"});
        assert_eq!(
            texts(json!([
                {"name": "a", "value": "v", "valueFrom": {"secretKeyRef": key}},
                {"name": "b", "valueFrom": {"secretKeyRef": key, "configMapKeyRef": key}},
            ])),
            [
                r#"env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
                r#"env[1].valueFrom: Invalid value: "": may not have more than one field specified at a time"#,
            ]
        );
    }

    #[test]
    fn only_known_fields_of_the_pod_are_offered() {
        let field = |path: &str| json!({"name": "a", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
        assert!(texts(json!([field("metadata.labels['a']"), field("spec.nodeName")])).is_empty());
        assert_eq!(
            texts(json!([field("spec.nope")])),
            [
                r#"env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nope": error converting fieldPath: field label not supported: spec.nope"#
            ]
        );
    }
}

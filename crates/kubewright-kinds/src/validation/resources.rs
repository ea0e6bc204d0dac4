//! Names and amounts of compute resources: in containers, pods, overheads, quotas and limit ranges.

use kubewright_machinery::field::{Error, Path};
use kubewright_machinery::names;
use kubewright_machinery::quantity::Quantity;
use serde_json::Value;

use super::checks;
use super::errors::Errors;
use super::read::Fields;

const STANDARD_CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const INTEGER: [&str; 7] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
];
const STANDARD_QUOTA: [&str; 18] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
];
/// What quotas limit of pods: their number, and what they ask for.
const OF_PODS: [&str; 10] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

pub(super) fn is_hugepages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_hugepages(name: &str) -> bool {
    is_hugepages(name) || name.starts_with("requests.hugepages-")
}

fn is_standard(name: &str) -> bool {
    name == "storage" || is_standard_quota(name)
}

/// Standard for quotas: also what is requested and limited.
pub(super) fn is_standard_quota(name: &str) -> bool {
    STANDARD_QUOTA.contains(&name) || name == "services.loadbalancers" || is_quota_hugepages(name)
}

/// Whether a limit of a quota on a standard resource is about pods.
pub(crate) fn is_of_pods(name: &str) -> bool {
    OF_PODS.contains(&name)
}

/// Names of Kubernetes itself: no domain, or one of `kubernetes.io`.
pub(super) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

/// Requests may be lower than limits.
pub(super) fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_hugepages(name)
}

fn is_integer(name: &str) -> bool {
    INTEGER.contains(&name)
        || name == "services.nodeports"
        || name == "services.loadbalancers"
        || is_extended(name)
}

/// A compute resource: standard or with a domain.
pub(super) fn name(value: &str, path: &Path<'_>, e: &mut Errors) {
    let messages = names::is_qualified_name(value);
    if !messages.is_empty() {
        e.each(path, value, messages);
    } else if !value.contains('/') && !is_standard(value) {
        e.invalid(path, value, "must be a standard resource type or fully qualified");
    }
}

/// A resource of containers.
pub(super) fn container_name(value: &str, path: &Path<'_>, e: &mut Errors) {
    name(value, path, e);
    if !value.contains('/') {
        if !STANDARD_CONTAINER.contains(&value) && !is_hugepages(value) {
            e.invalid(path, value, "must be a standard resource for containers");
        }
    } else if !is_native(value) && !is_extended(value) {
        e.invalid(path, value, "doesn't follow extended resource name standard");
    }
}

/// A resource of whole pods.
fn pod_name(value: &str, path: &Path<'_>, e: &mut Errors) {
    let before = e.len();
    name(value, path, e);
    if e.len() == before && !matches!(value, "cpu" | "memory") && !is_hugepages(value) {
        e.not_supported(path, value, &["cpu", "hugepages-", "memory"]);
    }
}

/// A resource that a quota can limit.
pub(super) fn quota_name(value: &str, path: &Path<'_>, e: &mut Errors) {
    name(value, path, e);
    if !value.contains('/') && !is_standard_quota(value) {
        e.invalid(path, value, "must be a standard resource for quota");
    }
}

/// The amount of a resource: not negative, and whole where only whole ones exist. Gives it.
pub(super) fn amount(name: &str, value: &Value, path: &Path<'_>, e: &mut Errors) -> Quantity {
    let quantity = checks::quantity(value);
    if quantity.signum() < 0 {
        e.invalid(path, quantity.to_string(), checks::NEGATIVE);
    }
    if !quantity.is_integer() && is_integer(name) {
        e.invalid(path, quantity.to_string(), "must be an integer");
    }
    quantity
}

/// Whose requirements are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Container,
    Pod,
}

fn hugepages_divisible(name: &str, value: &Value) -> bool {
    let size = checks::quantity(&Value::from(name.trim_start_matches("hugepages-"))).value();
    size > 0 && checks::quantity(value).value() % size == 0
}

fn hugepages(name: &str, value: &Value, path: &Path<'_>, e: &mut Errors) {
    if !hugepages_divisible(name, value) {
        let quantity = checks::quantity(value).to_string();
        e.invalid(path, quantity.as_str(), format!("{quantity} is not positive integer multiple of {name}"));
    }
}

/// `ResourceRequirements`; `claims` are the names of the pod's resource claims.
pub(super) fn requirements(requirements: &Value, of: Of, claims: &[&str], path: &Path<'_>, e: &mut Errors) {
    let name_check = match of {
        Of::Container => container_name,
        Of::Pod => pod_name,
    };
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let (mut compute, mut huge) = (false, false);
    let mut limits: Vec<(&str, Quantity)> = Vec::new();
    for (name, value) in requirements.entries("limits") {
        let item = limits_path.key(name);
        name_check(name, &item, e);
        limits.push((name, amount(name, value, &item, e)));
        if is_hugepages(name) {
            huge = true;
            hugepages(name, value, &item, e);
        }
        compute |= matches!(name, "cpu" | "memory");
    }
    for (name, value) in requirements.entries("requests") {
        let item = requests_path.key(name);
        name_check(name, &item, e);
        let request = amount(name, value, &item, e);
        match limits.iter().find(|(limited, _)| *limited == name).map(|(_, limit)| limit) {
            Some(limit) if request != *limit && !is_overcommit_allowed(name) => {
                e.invalid(
                    &requests_path,
                    request.to_string(),
                    format!("must be equal to {name} limit of {limit}"),
                );
            }
            Some(limit) if request > *limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                e.invalid(&requests_path, request.to_string(), detail);
            }
            Some(_) => {}
            None if !is_overcommit_allowed(name) => {
                e.required(&limits_path, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
        if is_hugepages(name) {
            huge = true;
            hugepages(name, value, &item, e);
        }
        compute |= matches!(name, "cpu" | "memory");
    }
    if huge && !compute {
        e.forbidden(path, "HugePages require cpu or memory");
    }
    claim_names(requirements.items("claims"), claims, &path.child("claims"), e);
}

fn claim_names(claims: &[Value], known: &[&str], path: &Path<'_>, e: &mut Errors) {
    let mut seen: Vec<(String, Option<String>)> = Vec::new();
    for (i, claim) in claims.iter().enumerate() {
        let (name, request, item) = (claim.text("name"), claim.text("request"), path.index(i));
        if name.is_empty() {
            e.required(&item, "");
            continue;
        }
        if seen.iter().any(|(n, r)| n == name && r.is_none()) {
            e.duplicate(&item, name);
        } else {
            let request = (!request.is_empty()).then(|| request.to_string());
            if let Some(request) = &request {
                checks::label(request, &item.child("request"), e);
            }
            let key = (name.to_string(), request);
            match &key.1 {
                Some(request) if seen.contains(&key) => e.duplicate(&item, format!("{name}/{request}")),
                None => {
                    (0..seen.iter().filter(|(n, _)| n == name).count()).for_each(|_| e.duplicate(&item, name))
                }
                Some(_) => {}
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut error = Error::not_found(&item, name);
            let mut sorted = known.to_vec();
            sorted.sort_unstable();
            error.detail = match sorted.as_slice() {
                [] => "must be one of the names in pod.spec.resourceClaims which is empty".to_string(),
                names => format!("must be one of the names in pod.spec.resourceClaims: {}", names.join(", ")),
            };
            e.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;
    use serde_json::json;

    fn texts(value: &Value) -> Vec<String> {
        errors::texts(|e| requirements(value, Of::Container, &[], &Path::new("r"), e))
    }

    #[test]
    fn a_request_may_not_exceed_its_limit() {
        let r = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}});
        assert_eq!(
            texts(&r),
            [r#"r.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#]
        );
    }

    #[test]
    fn extended_resources_are_whole_and_not_overcommitted() {
        let r = json!({"limits": {"example.com/gpu": "1500m"}, "requests": {"example.com/gpu": "1"}});
        assert_eq!(
            texts(&r),
            [
                r#"r.limits[example.com/gpu]: Invalid value: "1500m": must be an integer"#,
                r#"r.requests: Invalid value: "1": must be equal to example.com/gpu limit of 1500m"#,
            ]
        );
        let r = json!({"requests": {"example.com/gpu": "1"}});
        assert_eq!(
            texts(&r),
            ["r.limits: Required value: Limit must be set for non overcommitable resources"]
        );
    }

    #[test]
    fn unknown_names_without_a_domain_are_refused_twice() {
        assert_eq!(
            texts(&json!({"requests": {"foo": "1"}})),
            [
                r#"r.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified"#,
                r#"r.requests[foo]: Invalid value: "foo": must be a standard resource for containers"#,
            ]
        );
    }

    #[test]
    fn huge_pages_come_whole_and_with_cpu_or_memory() {
        let r = json!({"limits": {"hugepages-2Mi": "3Mi"}, "requests": {"hugepages-2Mi": "3Mi"}});
        assert_eq!(
            texts(&r),
            [
                r#"r.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
                r#"r.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
                "r: Forbidden: HugePages require cpu or memory",
            ]
        );
    }
}

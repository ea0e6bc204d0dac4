//! `ResourceQuota`: charges a namespace's quotas for what is created, and refuses what would exceed them.
//!
//! Usage is what the quota's status says; it is raised by compare-and-swap before the object is stored, and given back
//! by the quota controller alone.

use std::sync::Arc;

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::ready;
use kubewright_apiserver::resources::{Storage, splice};
use kubewright_apiserver::storage::{Expect, StoreError};
use kubewright_machinery::meta;
use kubewright_machinery::quantity::Quantity;
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use super::read;
use super::usage::{self, Amounts};
use crate::fields::{at, items, object_mut, text};
use crate::strategies::pods::qos_class;

/// The plugin. It has to run after all others.
#[derive(Clone, Copy, Debug)]
pub struct ResourceQuota;

/// Whether quotas are charged for this write.
fn concerns(attributes: &Attributes<'_>) -> bool {
    if attributes.namespace.is_empty() || attributes.resource.plural.is_empty() {
        return false;
    }
    let (group, plural) = (&*attributes.resource.group, &*attributes.resource.plural);
    if attributes.resource.storage().is_none() || (group, plural) == ("", "namespaces") {
        return false;
    }
    match (attributes.operation, attributes.subresource_name()) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => matches!((group, plural), ("", "services" | "persistentvolumeclaims")),
        (Operation::Update, "resize") => (group, plural) == ("", "pods"),
        _ => false,
    }
}

/// Whether a quota's scopes take the object in. Only pods have scopes here.
fn in_scope(quota: &Value, is_pod: bool, object: &Value) -> bool {
    let scopes =
        items(quota, &["spec", "scopes"]).iter().map(|s| (s.as_str().unwrap_or_default(), "Exists", &[][..]));
    let expressions = items(quota, &["spec", "scopeSelector", "matchExpressions"])
        .iter()
        .map(|e| (text(e, &["scopeName"]), text(e, &["operator"]), items(e, &["values"])));
    let mut all = scopes.chain(expressions);
    all.all(|(scope, operator, values)| is_pod && pod_in_scope(object, scope, operator, values))
}

fn pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    let terminating = at(pod, &["spec", "activeDeadlineSeconds"]).as_i64().is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => qos_class(at(pod, &["spec"])) == "BestEffort",
        "NotBestEffort" => qos_class(at(pod, &["spec"])) != "BestEffort",
        "PriorityClass" => {
            let class = text(pod, &["spec", "priorityClassName"]);
            match operator {
                "Exists" => !class.is_empty(),
                "DoesNotExist" => class.is_empty(),
                "In" => values.iter().any(|v| v == class),
                "NotIn" => !values.iter().any(|v| v == class),
                _ => false,
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether an affinity term of the pod looks at other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let affinity = at(pod, &["spec", "affinity", kind]);
        let required = items(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]).iter();
        let preferred = items(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"])
            .iter()
            .map(|w| at(w, &["podAffinityTerm"]));
        required
            .chain(preferred)
            .any(|t| !items(t, &["namespaces"]).is_empty() || !at(t, &["namespaceSelector"]).is_null())
    })
}

/// Resources that a quota with compute limits wants every container to state.
const STATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What containers do not state although the quota wants it, as the refusal says it.
fn unstated(pod: &Value, hard: &Amounts) -> Option<String> {
    if !at(pod, &["spec", "resources"]).is_null() {
        return None;
    }
    let mut faults = Vec::new();
    for name in hard.keys().filter(|n| STATED.contains(&n.as_str())) {
        let containers =
            items(pod, &["spec", "containers"]).iter().chain(items(pod, &["spec", "initContainers"]));
        let missing: Vec<&str> = containers
            .filter(|c| {
                let of = |field: &str| usage::amounts(at(c, &["resources", field]));
                !usage::compute(&of("requests"), &of("limits")).contains_key(name)
            })
            .map(|c| text(c, &["name"]))
            .collect();
        if !missing.is_empty() {
            faults.push(format!("{name} for: {}", missing.join(",")));
        }
    }
    (!faults.is_empty()).then(|| format!("must specify {}", faults.join("; ")))
}

fn print(amounts: impl Iterator<Item = (String, Quantity)>) -> String {
    amounts.map(|(name, quantity)| format!("{name}={quantity}")).collect::<Vec<_>>().join(",")
}

impl ResourceQuota {
    async fn charge(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        loop {
            let quotas = read(attributes, "", "resourcequotas", attributes.namespace).await?;
            if quotas.is_empty() || self.try_charge(attributes, &quotas).await? {
                return Ok(());
            }
        }
    }

    /// False when a quota changed in between.
    async fn try_charge(&self, attributes: &Attributes<'_>, quotas: &[Arc<Value>]) -> Result<bool, Status> {
        let Some(object) = attributes.object.as_ref() else { return Ok(true) };
        let (group, plural) = (&*attributes.resource.group, &*attributes.resource.plural);
        let is_pod = (group, plural) == ("", "pods");
        let used_by = usage::of_object(group, plural, object);
        let before =
            attributes.old.as_ref().map(|old| usage::of_object(group, plural, old)).unwrap_or_default();
        let mut concerned = Vec::new();
        for quota in quotas {
            let hard = usage::amounts(at(quota, &["status", "hard"]));
            let counted: Vec<&String> = hard.keys().filter(|name| counts(group, plural, name)).collect();
            if counted.is_empty() || !in_scope(quota, is_pod, object) {
                continue;
            }
            let name = meta::name(quota);
            if is_pod && let Some(fault) = unstated(object, &hard) {
                return Err(attributes.forbidden(format!("failed quota: {name}: {fault}")));
            }
            let used = usage::amounts(at(quota, &["status", "used"]));
            if counted.iter().any(|name| !used.contains_key(*name)) {
                let names: Vec<&str> = counted.iter().map(|n| n.as_str()).collect();
                let why = format!("status unknown for quota: {name}, resources: {}", names.join(","));
                return Err(attributes.forbidden(why));
            }
            concerned.push((quota, hard, used));
        }
        let mut delta = used_by;
        for (name, quantity) in &mut delta {
            if let Some(before) = before.get(name) {
                quantity.sub(before);
            }
        }
        delta.retain(|_, quantity| !quantity.is_zero());
        let mut changes = Vec::new();
        for (quota, hard, used) in concerned {
            let requested: Vec<(String, Quantity)> = delta
                .iter()
                .filter(|(name, _)| hard.contains_key(*name))
                .map(|(n, q)| (n.clone(), q.clone()))
                .collect();
            if requested.is_empty() {
                continue;
            }
            let mut sum = used.clone();
            usage::add(&mut sum, &requested.iter().cloned().collect());
            let exceeded: Vec<&str> = requested
                .iter()
                .filter(|(name, quantity)| quantity.signum() > 0 && sum.get(name) > hard.get(name))
                .map(|(name, _)| name.as_str())
                .collect();
            if !exceeded.is_empty() {
                let of = |list: &Amounts| {
                    print(
                        exceeded
                            .iter()
                            .map(|n| ((*n).to_string(), list.get(*n).cloned().unwrap_or_default())),
                    )
                };
                return Err(attributes.forbidden(format!(
                    "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                    meta::name(quota),
                    of(&delta),
                    of(&used),
                    of(&hard)
                )));
            }
            changes.push((quota, requested, sum));
        }
        if attributes.dry_run {
            return Ok(true);
        }
        for (quota, requested, sum) in changes {
            let mut changed = Value::clone(quota);
            if let Some(status) = object_mut(&mut changed, &["status"]) {
                let used = status.entry("used").or_insert_with(|| json!({}));
                for (name, _) in requested {
                    used[&name] = sum.get(&name).cloned().unwrap_or_default().to_string().into();
                }
            }
            let prefix = Storage::prefix_of("", "resourcequotas");
            let key = format!("{prefix}{}/{}", attributes.namespace, meta::name(quota));
            let revision = meta::resource_version(quota).parse().unwrap_or_default();
            match attributes
                .core
                .store()
                .put(&key, splice::at_rest(&changed), Expect::Revision(revision))
                .await
            {
                Ok(_) => {}
                Err(StoreError::Conflict { .. } | StoreError::NotFound) => return Ok(false),
                Err(error) => return Err(Status::internal(error)),
            }
        }
        Ok(true)
    }
}

/// Whether a resource of a quota is about objects of this kind.
fn counts(group: &str, plural: &str, name: &str) -> bool {
    let counted =
        if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") };
    if name == counted {
        return true;
    }
    match (group, plural) {
        ("", "pods") => {
            matches!(
                name,
                "pods" | "cpu" | "memory" | "ephemeral-storage" | "requests.cpu" | "requests.memory"
            ) || matches!(name, "limits.cpu" | "limits.memory" | "requests.ephemeral-storage")
                || name == "limits.ephemeral-storage"
                || name.starts_with("hugepages-")
                || name.starts_with("requests.hugepages-")
                || (name.starts_with("requests.") && name.contains('/'))
        }
        ("", "services") => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        ("", "persistentvolumeclaims") => {
            matches!(name, "persistentvolumeclaims" | "requests.storage")
                || name.ends_with(".storageclass.storage.k8s.io/persistentvolumeclaims")
                || name.ends_with(".storageclass.storage.k8s.io/requests.storage")
        }
        ("", "configmaps" | "secrets" | "resourcequotas" | "replicationcontrollers") => name == plural,
        _ => false,
    }
}

impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if concerns(attributes) { Box::pin(self.charge(attributes)) } else { ready(Ok(())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_of_requests_wants_every_container_to_state_them() {
        let hard = usage::amounts(&json!({"requests.cpu": "1", "requests.memory": "1Gi", "pods": "2"}));
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}, {"name": "d"}]}});
        assert_eq!(
            unstated(&pod, &hard).as_deref(),
            Some("must specify requests.cpu for: d; requests.memory for: c,d")
        );
    }

    #[test]
    fn scopes_take_in_pods_only() {
        let quota = json!({"spec": {"scopes": ["BestEffort"]}});
        assert!(in_scope(&quota, true, &json!({"spec": {"containers": [{}]}})));
        assert!(!in_scope(&quota, false, &json!({})));
        let by_class = json!({"spec": {"scopeSelector": {"matchExpressions":
            [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}});
        assert!(in_scope(&by_class, true, &json!({"spec": {"priorityClassName": "high"}})));
        assert!(!in_scope(&by_class, true, &json!({"spec": {}})));
    }
}

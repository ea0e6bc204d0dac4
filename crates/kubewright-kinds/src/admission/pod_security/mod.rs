//! PodSecurity: pods keep to the Pod Security Standard that the labels of their namespace name; templates of pods that
//! would not are warned of, and so are pods that are there when a namespace becomes stricter.

use std::collections::BTreeMap;

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::resources::{Storage, splice};
use kubewright_machinery::field::quote;
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use kubewright_storage::Range;
use serde_json::Value;

use self::checks::{Subject, brief, detailed, violations};
use self::policy::{Demand, Level, Policy};
use crate::fields::{at, items, text};

mod baseline;
mod checks;
mod policy;
mod restricted;

/// The plugin `PodSecurity`. Nobody is exempt; namespaces without labels are privileged.
pub struct PodSecurity;

/// So many pods are looked at when a namespace becomes stricter.
const MOST_PODS: usize = 3000;

impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            match (&*attributes.resource.group, &*attributes.resource.plural) {
                ("", "namespaces") => namespace(attributes).await,
                ("", "pods") => pod(attributes).await,
                (group, plural) => match template_of(group, plural) {
                    Some(path) if attributes.subresource.is_none() => template(attributes, path).await,
                    _ => Ok(()),
                },
            }
        })
    }
}

/// Where a kind keeps the template of its pods.
fn template_of(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    match (group, plural) {
        ("", "podtemplates") => Some(&["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// Labels have to be readable; pods that are there are held against a stricter level.
async fn namespace(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let Some(object) = attributes.object.as_ref().filter(|_| attributes.subresource.is_none()) else {
        return Ok(());
    };
    let new = Policy::of(object);
    let old = attributes.old.as_deref().map(Policy::of);
    // What was bad before may stay.
    if !new.faults.is_empty() && old.as_ref().is_none_or(|old| old.faults != new.faults) {
        let errors: Vec<_> = new.faults.iter().map(|fault| fault.error()).collect();
        return Err(Status::invalid("", "Namespace", attributes.name, &errors));
    }
    let Some(old) = old else { return Ok(()) };
    let (now, before) = (new.enforce, old.enforce);
    let relaxed = now.version == before.version && now.level <= before.level;
    if now == before || now.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let warnings = existing(attributes, now).await?;
    attributes.warnings.extend(warnings);
    Ok(())
}

/// Warnings of the pods in a namespace that do what a demand forbids.
async fn existing(attributes: &Attributes<'_>, demand: Demand) -> Result<Vec<String>, Status> {
    let namespace = attributes.name;
    let range = Range::all(format!("{}{namespace}/", Storage::prefix_of("", "pods"))).limit(MOST_PODS);
    let page = attributes.core.store().range(range, None).await.map_err(super::unreadable)?;
    // By what is wrong: the first pod, and how many there are.
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for entry in &page.entries {
        let Ok(pod) = splice::decode(&entry.value, entry.revision) else { continue };
        let wrong = violations(demand, Subject { template: &pod });
        if !wrong.is_empty() {
            let first = || (meta::name(&pod).to_string(), 0);
            found.entry(brief(&wrong)).or_insert_with(first).1 += 1;
        }
    }
    let mut warnings = Vec::new();
    if page.remaining > 0 {
        let (seen, all) = (page.entries.len(), page.entries.len() as u64 + page.remaining);
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {seen} of {all} existing pods"
        ));
    }
    if !found.is_empty() {
        let (namespace, demand) = (quote(namespace), quote(&demand.to_string()));
        warnings.push(format!(
            "existing pods in namespace {namespace} violate the new PodSecurity enforce level {demand}"
        ));
    }
    let mut told: Vec<String> = found
        .into_iter()
        .map(|(wrong, (first, count))| match count {
            1 => format!("{first}: {wrong}"),
            2 => format!("{first} (and 1 other pod): {wrong}"),
            more => format!("{first} (and {} other pods): {wrong}", more - 1),
        })
        .collect();
    told.sort_unstable();
    warnings.extend(told);
    Ok(warnings)
}

/// The policy of the namespace written to.
async fn policy_of(attributes: &Attributes<'_>) -> Result<Policy, Status> {
    let namespace = super::get(attributes, "", "namespaces", attributes.namespace).await?;
    let missing = || {
        let why = format!("failed to lookup namespace {}", attributes.namespace);
        Status::failure(500, "InternalError", why)
    };
    Ok(Policy::of(&*namespace.ok_or_else(missing)?))
}

async fn pod(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    if matches!(
        attributes.subresource_name(),
        "exec" | "attach" | "binding" | "eviction" | "log" | "portforward" | "proxy" | "status"
    ) {
        return Ok(());
    }
    let policy = policy_of(attributes).await?;
    let Some(pod) = &attributes.object else { return Ok(()) };
    if attributes.old.as_deref().is_some_and(|old| !is_significant(pod, old)) {
        return Ok(());
    }
    let subject = Subject { template: pod };
    let wrong = violations(policy.enforce, subject);
    if !wrong.is_empty() {
        let demand = quote(&policy.enforce.to_string());
        return Err(attributes.forbidden(format!("violates PodSecurity {demand}: {}", detailed(&wrong))));
    }
    let warning = warning(policy.warn, subject);
    attributes.warnings.extend(warning);
    Ok(())
}

async fn template(attributes: &mut Attributes<'_>, path: &[&str]) -> Result<(), Status> {
    let policy = policy_of(attributes).await?;
    let Some(object) = &attributes.object else { return Ok(()) };
    let template = at(object, path);
    if template.is_object() {
        let warning = warning(policy.warn, Subject { template });
        attributes.warnings.extend(warning);
    }
    Ok(())
}

fn warning(demand: Demand, subject: Subject<'_>) -> Option<String> {
    let wrong = violations(demand, subject);
    let demand = quote(&demand.to_string());
    (!wrong.is_empty()).then(|| format!("would violate PodSecurity {demand}: {}", detailed(&wrong)))
}

/// Whether an update changes what is looked at and may change: images, containers, old seccomp annotations.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let annotation = |key: &str| meta::annotation(pod, key) != meta::annotation(old, key);
    let container = |new: &Value, old: &Value| {
        let name = text(new, &["name"]);
        text(new, &["image"]) != text(old, &["image"])
            || annotation(&format!("container.seccomp.security.alpha.kubernetes.io/{name}"))
    };
    if annotation("seccomp.security.alpha.kubernetes.io/pod") {
        return true;
    }
    for list in ["containers", "initContainers"] {
        let (new, old) = (items(pod, &["spec", list]), items(old, &["spec", list]));
        if new.len() != old.len() || new.iter().zip(old).any(|(new, old)| container(new, old)) {
            return true;
        }
    }
    let before = items(old, &["spec", "ephemeralContainers"]);
    items(pod, &["spec", "ephemeralContainers"]).iter().any(|new| {
        let known = before.iter().find(|old| text(old, &["name"]) == text(new, &["name"]));
        known.is_none_or(|old| container(new, old))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn updates_count_where_they_change_images_or_containers() {
        let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let mut other = pod.clone();
        other["metadata"]["labels"] = json!({});
        assert!(!is_significant(&other, &pod));
        other["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]);
        assert!(is_significant(&other, &pod));
        assert!(!is_significant(&other, &other));
        let mut image = pod.clone();
        image["spec"]["containers"][0]["image"] = json!("j");
        assert!(is_significant(&image, &pod));
    }
}

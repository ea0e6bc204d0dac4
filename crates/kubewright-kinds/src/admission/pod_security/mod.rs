//! `PodSecurity`: pods keep to the level of the Pod Security Standards that their namespace asks for by its labels.
//!
//! Pods are refused, what makes pods is warned about; a namespace that becomes stricter is warned of the pods it has.

mod checks;
mod policy;

use std::collections::BTreeMap;

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use serde_json::Value;

use checks::{details, reasons, violations};
use policy::{Level, Policy, Standard};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct PodSecurity;

/// How many pods of a namespace are looked at when it becomes stricter.
const MAX_PODS: usize = 3000;

impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        match (&*attributes.resource.group, &*attributes.resource.plural, attributes.subresource_name()) {
            ("", "namespaces", "") => Box::pin(namespace(attributes)),
            ("", "pods", "" | "ephemeralcontainers" | "resize") => Box::pin(pod(attributes)),
            ("", "replicationcontrollers" | "podtemplates", "")
            | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets", "")
            | ("batch", "jobs" | "cronjobs", "") => Box::pin(controller(attributes)),
            _ => ready(Ok(())),
        }
    }
}

async fn namespace(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let Some(object) = &attributes.object else { return Ok(()) };
    let (new, errors) = policy::of(meta::labels(object));
    let old = attributes.old.as_deref().map(|old| policy::of(meta::labels(old)));
    let same_errors = old.as_ref().is_some_and(|(_, known)| *known == errors);
    if !errors.is_empty() && !same_errors {
        return Err(Status::invalid("", "Namespace", meta::name(object), &errors));
    }
    let Some((old, _)) = old else { return Ok(()) };
    let (new, old) = (new.enforce, old.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new == old || new.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let warnings = warnings_of_pods(attributes, new).await?;
    attributes.warnings.extend(warnings);
    Ok(())
}

/// Which of the pods that are there a namespace's new level would refuse.
async fn warnings_of_pods(attributes: &Attributes<'_>, standard: Standard) -> Result<Vec<String>, Status> {
    let pods = super::list(attributes, "", "pods", attributes.namespace).await?;
    let mut by_reason: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(MAX_PODS) {
        let found = violations(standard, &pod["metadata"], &pod["spec"]);
        if !found.is_empty() {
            let entry = by_reason.entry(reasons(&found)).or_insert_with(|| (meta::name(pod).to_string(), 0));
            entry.1 += 1;
        }
    }
    let mut lines: Vec<String> = by_reason
        .into_iter()
        .map(|(reason, (pod, count))| match count {
            1 => format!("{pod}: {reason}"),
            2 => format!("{pod} (and 1 other pod): {reason}"),
            more => format!("{pod} (and {} other pods): {reason}", more - 1),
        })
        .collect();
    lines.sort();
    if !lines.is_empty() {
        let name = kubewright_machinery::field::quote(attributes.namespace);
        lines.insert(
            0,
            format!(
                "existing pods in namespace {name} violate the new PodSecurity enforce level \"{standard}\""
            ),
        );
    }
    Ok(lines)
}

/// What the namespace of a write asks for. A namespace that is not there asks for nothing.
async fn policy_of(attributes: &Attributes<'_>) -> Result<Policy, Status> {
    let found = attributes.core.reader().get("", "namespaces", "", attributes.namespace).await;
    let namespace = found.map_err(Status::internal)?;
    Ok(policy::of(namespace.as_deref().and_then(meta::labels)).0)
}

async fn pod(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let unchanged = match (&attributes.object, &attributes.old) {
        (Some(new), Some(old)) => !is_significant(new, old),
        _ => false,
    };
    if unchanged {
        return Ok(());
    }
    let policy = policy_of(attributes).await?;
    let Some(pod) = &attributes.object else { return Ok(()) };
    let found = violations(policy.enforce, &pod["metadata"], &pod["spec"]);
    if !found.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&found));
        return Err(attributes.forbidden(why));
    }
    let warning = warning(policy.warn, &pod["metadata"], &pod["spec"]);
    attributes.warnings.extend(warning);
    Ok(())
}

/// Whether a change touches what the standards look at: the rest of a pod does not change.
fn is_significant(new: &Value, old: &Value) -> bool {
    let spec = |pod: &Value, list: &str| pod["spec"][list].as_array().cloned().unwrap_or_default();
    let looked_at = |pod: &Value| -> Vec<Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|list| spec(pod, list))
            .map(|c| serde_json::json!([c["name"], c["image"], c["securityContext"]]))
            .collect()
    };
    looked_at(new) != looked_at(old) || new["metadata"]["annotations"] != old["metadata"]["annotations"]
}

async fn controller(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let policy = policy_of(attributes).await?;
    let Some(object) = &attributes.object else { return Ok(()) };
    let template = match &*attributes.resource.plural {
        "podtemplates" => &object["template"],
        "cronjobs" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => &object["spec"]["template"],
    };
    let warning = warning(policy.warn, &template["metadata"], &template["spec"]);
    attributes.warnings.extend(warning);
    Ok(())
}

fn warning(standard: Standard, metadata: &Value, spec: &Value) -> Option<String> {
    let found = violations(standard, metadata, spec);
    (!found.is_empty()).then(|| format!("would violate PodSecurity \"{standard}\": {}", details(&found)))
}

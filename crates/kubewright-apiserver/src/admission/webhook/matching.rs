//! Whether a write concerns a webhook: its rules, its selectors, and other versions of what is written.

use std::sync::Arc;

use kubewright_machinery::selector::LabelSelector;
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::versions;
use crate::admission::{Attributes, Operation};
use crate::resources::Resource;

/// As what a webhook is shown a write.
pub(super) enum Match {
    /// As it was sent.
    Exact,
    /// In this other version of the resource.
    Equivalent(Arc<Resource>),
}

/// Whether the webhook is to be asked. `None` where the write does not concern it.
pub(super) async fn decide(attributes: &Attributes<'_>, hook: &Value) -> Result<Option<Match>, Status> {
    // What keeps a webhook from being asked comes before what goes wrong on the way.
    let namespace = namespace_matches(attributes, hook).await;
    if matches!(namespace, Ok(false)) || !object_matches(attributes, hook) {
        return Ok(None);
    }
    let found = match rules_match(attributes, hook, attributes.resource) {
        true => Some(Match::Exact),
        false if hook["matchPolicy"] == "Exact" => None,
        false => versions::equivalents(attributes)
            .into_iter()
            .find(|other| rules_match(attributes, hook, other))
            .map(Match::Equivalent),
    };
    match found {
        Some(found) => namespace.map(|_| Some(found)),
        None => Ok(None),
    }
}

fn rules_match(attributes: &Attributes<'_>, hook: &Value, resource: &Resource) -> bool {
    let has = |rule: &Value, list: &str, wanted: &str| {
        rule[list].as_array().into_iter().flatten().any(|item| item == "*" || item == wanted)
    };
    let subresource = attributes.subresource_name();
    hook["rules"].as_array().into_iter().flatten().any(|rule| {
        has(rule, "operations", attributes.operation.as_str())
            && has(rule, "apiGroups", &resource.group)
            && has(rule, "apiVersions", &resource.version)
            && match rule["scope"].as_str() {
                Some("Cluster") => !resource.namespaced,
                Some("Namespaced") => resource.namespaced,
                _ => true,
            }
            && rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str).any(|pattern| {
                let (plural, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
                (plural == "*" || plural == &*resource.plural) && (sub == "*" || sub == subresource)
            })
    })
}

/// A selector of a webhook; one that cannot be read selects everything: it is no reason to leave a webhook out.
fn selector(hook: &Value, field: &str) -> Option<LabelSelector> {
    let given = hook.get(field).filter(|s| !s.is_null())?;
    LabelSelector::from_value(Some(given)).ok().filter(|selector| !selector.is_empty())
}

/// A namespace that is written is judged by the labels it is to have, anything else by those of the namespace that it
/// is in. What is in none is never exempt.
async fn namespace_matches(attributes: &Attributes<'_>, hook: &Value) -> Result<bool, Status> {
    let resource = attributes.resource;
    let is_namespace = resource.group.is_empty() && &*resource.plural == "namespaces";
    if !is_namespace && !resource.namespaced {
        return Ok(true);
    }
    let Some(selector) = selector(hook, "namespaceSelector") else { return Ok(true) };
    if attributes.is("", "namespaces")
        && matches!(attributes.operation, Operation::Create | Operation::Update)
        && let Some(object) = &attributes.object
    {
        return Ok(selector.matches_object(object));
    }
    let found = attributes.core.reader().get("", "namespaces", "", attributes.namespace).await;
    match found.map_err(Status::internal)? {
        Some(namespace) => Ok(selector.matches_object(&namespace)),
        None => Err(Status::not_found("", "namespaces", attributes.namespace)),
    }
}

/// The object as it would be or as it is has to match.
fn object_matches(attributes: &Attributes<'_>, hook: &Value) -> bool {
    let Some(selector) = selector(hook, "objectSelector") else { return true };
    let mut forms = [attributes.object.as_ref(), attributes.old.as_deref()].into_iter().flatten();
    forms.any(|object| selector.matches_object(object))
}

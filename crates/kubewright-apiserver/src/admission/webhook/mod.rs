//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: asking others about a write.
//!
//! Which webhooks there are is read from their configurations in the store; which of them a write concerns is decided
//! by their rules and selectors. Mutating ones are asked in order, each seeing what those before made of the object;
//! validating ones all at once. A webhook that fails refuses the write unless its failure policy says `Ignore`.
//! Writes of webhook configurations and admission policies are never shown to anybody.

mod client;
mod review;

use std::sync::Arc;
use std::time::Duration;

use kubewright_machinery::field::quote;
use kubewright_machinery::selector::LabelSelector;
use kubewright_machinery::status::{Cause, Details, Status};
use kubewright_machinery::{meta, schema};
use serde_json::Value;

use super::{Admission, Attributes, Operation};
use crate::{BoxFuture, ready};

use review::Verdict;

const GROUP: &str = "admissionregistration.k8s.io";

/// Asks mutating webhooks.
#[derive(Clone, Copy, Debug, Default)]
pub struct MutatingWebhooks;

/// Asks validating webhooks.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValidatingWebhooks;

impl Admission for MutatingWebhooks {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if is_exempt(attributes) { ready(Ok(())) } else { Box::pin(mutate(attributes)) }
    }
}

impl Admission for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if is_exempt(attributes) { ready(Ok(())) } else { Box::pin(validate(attributes)) }
    }
}

/// Nobody may lock the door to his own removal.
fn is_exempt(attributes: &Attributes<'_>) -> bool {
    let plural = &*attributes.resource.plural;
    &*attributes.resource.group == GROUP
        && (plural.ends_with("webhookconfigurations")
            || plural.ends_with("admissionpolicies")
            || plural.ends_with("admissionpolicybindings"))
}

/// One webhook that a write concerns.
struct Hook {
    configuration: Arc<Value>,
    index: usize,
}

impl Hook {
    fn value(&self) -> &Value {
        &self.configuration["webhooks"][self.index]
    }

    fn name(&self) -> &str {
        self.value()["name"].as_str().unwrap_or_default()
    }

    fn ignores_failure(&self) -> bool {
        self.value()["failurePolicy"] == "Ignore"
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.value()["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30))
    }
}

/// The webhooks that a write concerns, in order.
async fn concerned(attributes: &Attributes<'_>, plural: &str) -> Result<Vec<Hook>, Status> {
    let configurations = attributes.core.reader().list(GROUP, plural, "").await.map_err(Status::internal)?;
    let mut hooks = Vec::new();
    for configuration in configurations {
        for index in 0..configuration["webhooks"].as_array().map_or(0, Vec::len) {
            let hook = Hook { configuration: Arc::clone(&configuration), index };
            if rules_match(attributes, hook.value()) && selectors_match(attributes, hook.value()).await? {
                hooks.push(hook);
            }
        }
    }
    Ok(hooks)
}

fn rules_match(attributes: &Attributes<'_>, hook: &Value) -> bool {
    let resource = attributes.resource;
    let has = |rule: &Value, list: &str, wanted: &str| {
        rule[list].as_array().into_iter().flatten().any(|item| item == "*" || item == wanted)
    };
    let namespaced = resource.namespaced;
    hook["rules"].as_array().into_iter().flatten().any(|rule| {
        has(rule, "operations", attributes.operation.as_str())
            && has(rule, "apiGroups", &resource.group)
            && has(rule, "apiVersions", &resource.version)
            && match rule["scope"].as_str() {
                Some("Cluster") => !namespaced,
                Some("Namespaced") => namespaced,
                _ => true,
            }
            && rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str).any(|pattern| {
                let (plural, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
                let asked = attributes.subresource_name();
                (plural == "*" || plural == &*resource.plural)
                    && (sub == asked || (sub == "*" && pattern.contains('/')))
            })
    })
}

async fn selectors_match(attributes: &Attributes<'_>, hook: &Value) -> Result<bool, Status> {
    let selector = |field: &str| LabelSelector::from_value(hook.get(field).filter(|s| !s.is_null()));
    // A selector that cannot be read is no reason to leave a webhook out.
    let by_namespace = selector("namespaceSelector").ok().filter(|_| hook.get("namespaceSelector").is_some());
    if let Some(selector) = by_namespace.filter(|s| !s.is_empty()) {
        if attributes.is("", "namespaces") {
            let object = attributes.object.as_ref().or(attributes.old.as_deref());
            if !object.is_some_and(|o| selector.matches_object(o)) {
                return Ok(false);
            }
        } else if attributes.resource.namespaced {
            let found = attributes.core.reader().get("", "namespaces", "", attributes.namespace).await;
            let namespace = found.map_err(Status::internal)?;
            if !namespace.is_some_and(|n| selector.matches_object(&n)) {
                return Ok(false);
            }
        }
    }
    let by_object = selector("objectSelector").ok().filter(|_| hook.get("objectSelector").is_some());
    Ok(by_object.filter(|s| !s.is_empty()).is_none_or(|selector| {
        [attributes.object.as_ref(), attributes.old.as_deref()]
            .into_iter()
            .flatten()
            .any(|object| selector.matches_object(object))
    }))
}

/// Asks one webhook. `None` when it failed and that does not matter.
async fn ask(attributes: &Attributes<'_>, hook: &Hook, may_patch: bool) -> Result<Option<Verdict>, Status> {
    let value = hook.value();
    if value["matchConditions"].as_array().is_some_and(|conditions| !conditions.is_empty()) {
        return match hook.ignores_failure() {
            true => Ok(None),
            false => Err(attributes.forbidden(format!(
                "webhook {} has match conditions, which this server cannot evaluate",
                quote(hook.name())
            ))),
        };
    }
    if attributes.dry_run && !matches!(value["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")) {
        let why = format!("admission webhook {} does not support dry run", quote(hook.name()));
        return Err(Status::bad_request(why));
    }
    let uid = attributes.core.uid();
    let body = review::question(attributes, &uid).to_string().into_bytes();
    let called = client::call(attributes.core, &value["clientConfig"], hook.timeout(), body).await;
    let verdict = called.and_then(|answer| review::verdict(&answer, &uid, hook.name(), may_patch));
    match verdict {
        Ok(verdict) => Ok(Some(verdict)),
        Err(error) => failed(hook, &error).map(|()| None),
    }
}

/// What the failure of a webhook means for the write.
fn failed(hook: &Hook, error: &str) -> Result<(), Status> {
    if hook.ignores_failure() {
        tracing::warn!(webhook = hook.name(), error, "a webhook failed and is ignored");
        return Ok(());
    }
    let message = format!("failed calling webhook {}: failed to call webhook: {error}", quote(hook.name()));
    let cause = Cause { message: message.clone(), ..Cause::default() };
    let details = Details { causes: vec![cause], ..Details::default() };
    Err(Status::internal(message).with_details(details))
}

async fn mutate(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let hooks = concerned(attributes, "mutatingwebhookconfigurations").await?;
    let mut seen: Vec<Option<Value>> = Vec::with_capacity(hooks.len());
    for hook in &hooks {
        mutate_by(attributes, hook).await?;
        let again = hook.value()["reinvocationPolicy"] == "IfNeeded";
        seen.push(attributes.object.clone().filter(|_| again));
    }
    // Those that asked for it see once more what others made of the object after them.
    for (hook, before) in hooks.iter().zip(seen) {
        if before.is_some()
            && before != attributes.object
            && selectors_match(attributes, hook.value()).await?
        {
            mutate_by(attributes, hook).await?;
        }
    }
    Ok(())
}

async fn mutate_by(attributes: &mut Attributes<'_>, hook: &Hook) -> Result<(), Status> {
    let Some(verdict) = ask(attributes, hook, true).await? else { return Ok(()) };
    attributes.warnings.extend(verdict.warnings);
    if let Some(refusal) = verdict.refusal {
        return Err(refusal);
    }
    let (Some(patch), Some(object)) = (verdict.patch, attributes.object.as_ref()) else { return Ok(()) };
    if patch.is_empty() || attributes.operation == Operation::Delete {
        return Ok(());
    }
    match patch.apply(object.clone()) {
        Ok(mut patched) if patched.is_object() && meta::kind(&patched) == meta::kind(object) => {
            if attributes.subresource.is_none() {
                schema::default::apply(&mut patched, &attributes.resource.schema);
                attributes.resource.strategy.default(&mut patched);
            }
            attributes.object = Some(patched);
            Ok(())
        }
        Ok(_) => failed(hook, "the patch changed the kind of the object"),
        Err(error) => failed(hook, &error.to_string()),
    }
}

async fn validate(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let hooks = concerned(attributes, "validatingwebhookconfigurations").await?;
    let answers = {
        let asked: &Attributes<'_> = attributes;
        futures::future::join_all(hooks.iter().map(|hook| ask(asked, hook, false))).await
    };
    let mut refusal = None;
    for answer in answers {
        match answer {
            Ok(Some(verdict)) => {
                attributes.warnings.extend(verdict.warnings);
                refusal = refusal.or(verdict.refusal);
            }
            Ok(None) => {}
            Err(status) => refusal = refusal.or(Some(status)),
        }
    }
    refusal.map_or(Ok(()), Err)
}

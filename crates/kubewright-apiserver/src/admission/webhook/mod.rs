//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: asking others about a write.
//!
//! Which webhooks there are is read from their configurations in the store; which of them a write concerns, and in
//! which version they want to see it, is decided by their rules and selectors ([`matching`], [`versions`]). Mutating
//! ones are asked in order, each seeing what those before made of the object; validating ones all at once. A webhook
//! that fails refuses the write unless its failure policy says `Ignore`. Writes of webhook configurations and admission
//! policies are never shown to anybody.

mod client;
mod matching;
mod mutating;
mod review;
mod validating;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use kubewright_machinery::field::quote;
use kubewright_machinery::status::{Cause, Details, Status};
use serde_json::Value;

use super::{Admission, Attributes};
use crate::resources::Resource;
use crate::{BoxFuture, ready};

pub(crate) use client::Connections;
pub(super) use mutating::Invoked;
use review::{Shown, Verdict};

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
        if is_exempt(attributes) { ready(Ok(())) } else { Box::pin(mutating::dispatch(attributes)) }
    }
}

impl Admission for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if is_exempt(attributes) { ready(Ok(())) } else { Box::pin(validating::dispatch(attributes)) }
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

/// One webhook of a configuration.
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

    fn configuration_name(&self) -> &str {
        kubewright_machinery::meta::name(&self.configuration)
    }

    /// What tells it from all other webhooks.
    fn id(&self) -> String {
        format!("{}/{}/{}", self.configuration_name(), self.name(), self.index)
    }

    fn ignores_failure(&self) -> bool {
        self.value()["failurePolicy"] == "Ignore"
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.value()["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30))
    }
}

/// All webhooks, in the order of their configurations' names.
async fn hooks(attributes: &Attributes<'_>, plural: &str) -> Result<Vec<Hook>, Status> {
    let configurations = attributes.core.reader().list(GROUP, plural, "").await.map_err(Status::internal)?;
    let of = |configuration: Arc<Value>| {
        let count = configuration["webhooks"].as_array().map_or(0, Vec::len);
        (0..count).map(move |index| Hook { configuration: Arc::clone(&configuration), index })
    };
    Ok(configurations.into_iter().flat_map(of).collect())
}

/// Why a webhook has given no verdict.
enum Unanswered {
    /// It failed: its failure policy judges.
    Failed(String),
    /// The write is refused whatever the policy is.
    Refused(Box<Status>),
}

/// Asks one webhook. `version` is the resource whose version it wants to see, where that is another one.
async fn ask(
    attributes: &Attributes<'_>,
    hook: &Hook,
    version: Option<&Resource>,
    shown: Shown<'_>,
    may_patch: bool,
) -> Result<Verdict, Unanswered> {
    let value = hook.value();
    let refused = |status| Unanswered::Refused(Box::new(status));
    if value["matchConditions"].as_array().is_some_and(|conditions| !conditions.is_empty()) {
        return Err(match hook.ignores_failure() {
            true => Unanswered::Failed("match conditions cannot be evaluated here".into()),
            false => refused(attributes.forbidden(format!(
                "webhook {} has match conditions, which this server cannot evaluate",
                quote(hook.name())
            ))),
        });
    }
    if attributes.dry_run && !matches!(value["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")) {
        let why = format!("admission webhook {} does not support dry run", quote(hook.name()));
        return Err(refused(Status::bad_request(why)));
    }
    let form = review::Form::of(&value["admissionReviewVersions"]).ok_or_else(|| {
        let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        Unanswered::Failed(why.into())
    })?;
    let uid = attributes.core.uid();
    let body = review::question(attributes, version, shown, form, &uid).into();
    let called = client::call(attributes.core, &value["clientConfig"], hook.timeout(), body).await;
    let answer = called.map_err(|error| Unanswered::Failed(format!("failed to call webhook: {error}")))?;
    let verdict = review::verdict(&answer, form, &uid, hook.name(), may_patch)
        .map_err(|error| Unanswered::Failed(error.to_string()))?;
    for (key, text) in &verdict.annotations {
        attributes.annotate(format!("{}/{key}", hook.name()), text);
    }
    Ok(verdict)
}

/// What the failure of a webhook means for the write.
fn failed(hook: &Hook, error: &str) -> Result<(), Status> {
    let message = format!("failed calling webhook {}: {error}", quote(hook.name()));
    if hook.ignores_failure() {
        tracing::warn!(error = message, "a webhook failed and is ignored");
        return Ok(());
    }
    let cause = Cause { message: message.clone(), ..Cause::default() };
    let details = Details { causes: vec![cause], ..Details::default() };
    Err(Status::internal(message).with_details(details))
}

//! Asking mutating webhooks, one after the other, and a second time where they asked for it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kubewright_machinery::field::quote;
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use super::matching::{self, Match};
use super::review::Shown;
use super::{Hook, Unanswered, ask, failed, hooks, versions};
use crate::admission::Attributes;

/// Which webhooks were asked in the first round and may be asked again (`reinvocationPolicy: IfNeeded`).
#[derive(Debug, Default)]
pub(in crate::admission) struct Invoked {
    /// Asked, and nobody has changed the object since.
    before: BTreeSet<String>,
    /// Asked, and somebody has.
    due: BTreeSet<String>,
    /// The object as the webhooks left it.
    left: Option<Value>,
}

impl Invoked {
    /// Somebody changed the object after those that were asked.
    fn changed(&mut self) {
        self.due.append(&mut self.before);
    }
}

/// Asks all that the write concerns.
pub(super) async fn dispatch(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let hooks = hooks(attributes, "mutatingwebhookconfigurations").await?;
    if hooks.is_empty() {
        return Ok(());
    }
    if attributes.rounds.second && attributes.rounds.webhooks.left != attributes.object {
        attributes.rounds.webhooks.changed();
    }
    for (index, hook) in hooks.iter().enumerate() {
        let Some(found) = matching::decide(attributes, hook.value()).await? else { continue };
        // Nobody is asked for the first time in the second round.
        if attributes.rounds.second && !attributes.rounds.webhooks.due.contains(&hook.id()) {
            continue;
        }
        let round = u8::from(attributes.rounds.second);
        let place = format!("round_{round}_index_{index}");
        if one(attributes, hook, &found, &place).await? {
            attributes.rounds.webhooks.changed();
            attributes.rounds.wanted = true;
        }
        if hook.value()["reinvocationPolicy"] == "IfNeeded" {
            attributes.rounds.webhooks.before.insert(hook.id());
        }
    }
    let invoked = &mut attributes.rounds.webhooks;
    if !invoked.before.is_empty() && attributes.rounds.wanted {
        invoked.left = attributes.object.clone();
    }
    Ok(())
}

/// Asks one webhook; tells whether it changed the object.
async fn one(
    attributes: &mut Attributes<'_>,
    hook: &Hook,
    found: &Match,
    place: &str,
) -> Result<bool, Status> {
    let asked = asked(attributes, hook, found, place).await;
    let annotation = |changed: bool| {
        let key = format!("mutation.webhook.admission.k8s.io/{place}");
        let value = json!({
            "configuration": hook.configuration_name(), "webhook": hook.name(), "mutated": changed,
        });
        (key, value.to_string())
    };
    let changed = matches!(asked, Ok(Some(_)));
    let (key, value) = annotation(changed);
    attributes.annotate(key, value);
    match asked {
        Ok(Some(object)) => {
            attributes.object = Some(object);
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(Unanswered::Failed(error)) => {
            failed(hook, &error)?;
            attributes
                .annotate(format!("failed-open.mutation.webhook.admission.k8s.io/{place}"), hook.name());
            Ok(false)
        }
        Err(Unanswered::Refused(status)) => Err(*status),
    }
}

/// The object as the webhook wants it, in the version of the request; `None` where it leaves it as it is.
async fn asked(
    attributes: &mut Attributes<'_>,
    hook: &Hook,
    found: &Match,
    place: &str,
) -> Result<Option<Value>, Unanswered> {
    let refused = |status: Status| Unanswered::Refused(Box::new(status));
    let version = match found {
        Match::Exact => None,
        Match::Equivalent(version) => Some(&**version),
    };
    let mut object = attributes.object.as_ref().map(Cow::Borrowed);
    let mut old = attributes.old.as_deref().map(Cow::Borrowed);
    if let Some(version) = version {
        for form in [&mut object, &mut old].into_iter().flatten() {
            let converted = versions::convert(attributes, form, attributes.resource, version).await;
            *form = Cow::Owned(converted.map_err(refused)?);
        }
    }
    let shown = Shown { object: object.as_deref(), old: old.as_deref() };
    let verdict = ask(attributes, hook, version, shown, true).await?;
    let resource = version.unwrap_or(attributes.resource);
    let outcome = match (verdict.refusal, verdict.patch, &object) {
        (Some(refusal), ..) => Err(refusal),
        (None, None, _) => Ok(None),
        (None, Some(_), None) => Err(Status::internal(format!(
            "admission webhook {} attempted to modify the object, which is not supported for this operation",
            quote(hook.name())
        ))),
        (None, Some(patch), Some(before)) => {
            let patched = patch.apply(before.clone().into_owned()).map_err(Status::internal);
            patched.and_then(|patched| versions::decoded(attributes, resource, patched)).map(|after| {
                attributes.annotate(
                    format!("patch.webhook.admission.k8s.io/{place}"),
                    json!({
                        "configuration": hook.configuration_name(), "webhook": hook.name(),
                        "patch": verdict.patch_text, "patchType": "JSONPatch",
                    })
                    .to_string(),
                );
                (after != **before).then_some(after)
            })
        }
    };
    let after = match (outcome.map_err(refused)?, version) {
        (Some(after), Some(version)) => {
            let back = versions::convert(attributes, &after, version, attributes.resource).await;
            Some(back.map_err(refused)?)
        }
        (after, _) => after,
    };
    attributes.warnings.extend(verdict.warnings);
    Ok(after)
}

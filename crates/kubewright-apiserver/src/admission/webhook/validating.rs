//! Asking validating webhooks, all at once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kubewright_machinery::status::Status;
use serde_json::Value;

use super::matching::{self, Match};
use super::review::{Shown, Verdict};
use super::{Hook, Unanswered, ask, failed, hooks, versions};
use crate::admission::Attributes;

/// Object and old object in a version.
type Forms<'v> = (Option<Cow<'v, Value>>, Option<Cow<'v, Value>>);

/// Asks all that the write concerns. The first refusal, in the order of the webhooks, is the answer.
pub(super) async fn dispatch(attributes: &mut Attributes<'_>) -> Result<(), Status> {
    let mut concerned: Vec<(Hook, Match)> = Vec::new();
    for hook in hooks(attributes, "validatingwebhookconfigurations").await? {
        if let Some(found) = matching::decide(attributes, hook.value()).await? {
            concerned.push((hook, found));
        }
    }
    if concerned.is_empty() {
        return Ok(());
    }
    let answers = {
        let asked: &Attributes<'_> = attributes;
        // Each version is made once, however many webhooks want it.
        let mut forms: BTreeMap<String, Forms<'_>> = BTreeMap::new();
        for (_, found) in &concerned {
            let Match::Equivalent(version) = found else { continue };
            if forms.contains_key(&version.api_version()) {
                continue;
            }
            let mut pair = (None, None);
            for (slot, object) in [(&mut pair.0, asked.object.as_ref()), (&mut pair.1, asked.old.as_deref())]
            {
                if let Some(object) = object {
                    let converted = versions::convert(asked, object, asked.resource, version).await?;
                    *slot = Some(Cow::Owned(converted));
                }
            }
            forms.insert(version.api_version(), pair);
        }
        let calls = concerned.iter().map(|(hook, found)| {
            let (version, shown) = match found {
                Match::Exact => (None, Shown { object: asked.object.as_ref(), old: asked.old.as_deref() }),
                Match::Equivalent(version) => {
                    let (object, old) = &forms[&version.api_version()];
                    (Some(&**version), Shown { object: object.as_deref(), old: old.as_deref() })
                }
            };
            ask(asked, hook, version, shown, false)
        });
        futures::future::join_all(calls).await
    };
    let mut refusal = None;
    for (index, (answer, (hook, _))) in answers.into_iter().zip(&concerned).enumerate() {
        let refused = judge(attributes, hook, index, answer);
        refusal = refusal.or(refused);
    }
    refusal.map_or(Ok(()), Err)
}

/// Takes in an answer; gives the refusal, if it is one.
fn judge(
    attributes: &mut Attributes<'_>,
    hook: &Hook,
    index: usize,
    answer: Result<Verdict, Unanswered>,
) -> Option<Status> {
    match answer {
        Ok(verdict) => {
            attributes.warnings.extend(verdict.warnings);
            verdict.refusal
        }
        Err(Unanswered::Refused(status)) => Some(*status),
        Err(Unanswered::Failed(error)) => match failed(hook, &error) {
            Ok(()) => {
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                attributes.annotate(key, hook.name());
                None
            }
            Err(status) => Some(status),
        },
    }
}

//! Asking somebody else whether a caller may do something: SubjectAccessReviews to a server that a kubeconfig names.
//!
//! Attributes flow out as a review, and its status comes back as a decision. Answers are remembered for a while, yes and
//! no for times of their own; failures to answer are not, and what they mean is a setting.

use std::time::Duration;

use jiff::SignedDuration;
use kubewright_machinery::answers::Answers;
use kubewright_machinery::reviews;
use kubewright_machinery::selector::{FieldSelector, LabelSelector, fields, label};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::{Attributes, Authorizer, Decision, UserRules};
use crate::BoxFuture;
use crate::authn::UserInfo;
use crate::outbound::Peer;
use crate::server::Core;

/// Questions whose answers are remembered.
const REMEMBERED: usize = 8192;
/// Questions longer than this are asked every time: they would fill the memory with what callers make up.
const MAX_QUESTION: usize = 10_000;

/// How an authorization webhook is asked.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a yes holds.
    pub authorized_ttl: Duration,
    /// How long a no holds.
    pub unauthorized_ttl: Duration,
    /// Reviews in `v1beta1`, for older servers.
    pub beta: bool,
    /// Without an answer everybody is refused; otherwise the next authorizer is asked.
    pub deny_on_failure: bool,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            authorized_ttl: Duration::from_secs(300),
            unauthorized_ttl: Duration::from_secs(30),
            beta: false,
            deny_on_failure: false,
        }
    }
}

/// Decides by the reviews of another server.
pub struct Webhook {
    peer: Peer,
    settings: WebhookSettings,
    known: Mutex<Answers<String, Decision>>,
}

impl Webhook {
    /// Asks `peer`.
    pub fn new(peer: Peer, settings: WebhookSettings) -> Self {
        Self { peer, settings, known: Mutex::new(Answers::new(REMEMBERED)) }
    }

    async fn decide(&self, core: &Core, attributes: &Attributes<'_>) -> Decision {
        let spec = spec(attributes);
        let question = spec.to_string();
        if let Some(known) = self.known.lock().get(&question, core.now()) {
            return known;
        }
        let version = if self.settings.beta { "v1beta1" } else { "v1" };
        let review = reviews::access_review(version, &spec);
        let answer = match self.peer.post(&review, self.settings.timeout).await {
            Ok(answer) => answer,
            Err(error) => {
                let source = &error as &dyn std::error::Error;
                tracing::warn!(error = source, "the authorization webhook has not answered");
                return match self.settings.deny_on_failure {
                    true => Decision::Deny(String::new()),
                    false => Decision::NoOpinion(String::new()),
                };
            }
        };
        let decision = Decision::read(&answer["status"]);
        let time = match decision {
            Decision::Allow(_) => self.settings.authorized_ttl,
            _ => self.settings.unauthorized_ttl,
        };
        if question.len() <= MAX_QUESTION {
            let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
            self.known.lock().keep(question, decision.clone(), core.now(), time);
        }
        decision
    }
}

/// The `spec` of a review that asks for this.
fn spec(attributes: &Attributes<'_>) -> Value {
    let mut spec = reviews::subject(attributes.user);
    let mut asked = Map::new();
    let parts = if attributes.resource_request {
        vec![
            ("namespace", &attributes.namespace),
            ("verb", &attributes.verb),
            ("group", &attributes.group),
            ("version", &attributes.version),
            ("resource", &attributes.resource),
            ("subresource", &attributes.subresource),
            ("name", &attributes.name),
        ]
    } else {
        vec![("path", &attributes.path), ("verb", &attributes.verb)]
    };
    for (key, text) in parts {
        if !text.is_empty() {
            asked.insert(key.into(), (&**text).into());
        }
    }
    if attributes.resource_request {
        for (key, requirements) in [
            ("fieldSelector", attributes.field_selector.as_deref().and_then(field_requirements)),
            ("labelSelector", attributes.label_selector.as_deref().and_then(label_requirements)),
        ] {
            if let Some(requirements) = requirements {
                asked.insert(key.into(), json!({ "requirements": requirements }));
            }
        }
    }
    let key = if attributes.resource_request { "resourceAttributes" } else { "nonResourceAttributes" };
    spec.insert(key.into(), Value::Object(asked));
    Value::Object(spec)
}

fn field_requirements(text: &str) -> Option<Vec<Value>> {
    let selector = FieldSelector::parse(text).ok()?;
    let of = |term: &fields::Term| {
        let operator = if term.negated { "NotIn" } else { "In" };
        json!({"key": term.field, "operator": operator, "values": [term.value]})
    };
    Some(selector.terms().iter().map(of).collect::<Vec<_>>()).filter(|all| !all.is_empty())
}

/// Operators that reviews do not have are left out: what is asked for is then more than what is done.
fn label_requirements(text: &str) -> Option<Vec<Value>> {
    let selector = LabelSelector::parse(text).ok()?;
    let of = |requirement: &label::Requirement| {
        use label::Operator;
        let (operator, values) = match requirement.operator() {
            Operator::In | Operator::Equals | Operator::DoubleEquals => ("In", true),
            Operator::NotIn | Operator::NotEquals => ("NotIn", true),
            Operator::Exists => ("Exists", false),
            Operator::DoesNotExist => ("DoesNotExist", false),
            Operator::GreaterThan | Operator::LessThan => return None,
        };
        let mut shown = json!({"key": requirement.key(), "operator": operator});
        if values {
            shown["values"] = json!(requirement.values());
        }
        Some(shown)
    };
    Some(selector.requirements()?.iter().filter_map(of).collect::<Vec<_>>()).filter(|all| !all.is_empty())
}

impl Authorizer for Webhook {
    fn authorize<'a>(&'a self, core: &'a Core, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        Box::pin(self.decide(core, attributes))
    }

    fn rules<'a>(
        &'a self,
        _core: &'a Core,
        _user: &'a UserInfo,
        _namespace: &'a str,
    ) -> BoxFuture<'a, UserRules> {
        crate::ready(UserRules {
            incomplete: true,
            errors: vec!["webhook authorizer does not support user rule resolution".into()],
            ..UserRules::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_what_is_asked_and_leaves_out_what_is_not() {
        let user = UserInfo::new("jane", &["dev"]);
        let attributes = Attributes {
            namespace: "team".into(),
            label_selector: Some("a=b,c,d>3".into()),
            field_selector: Some("spec.nodeName!=n".into()),
            ..Attributes::of_resource(&user, "list", "", "v1", "pods")
        };
        assert_eq!(
            spec(&attributes),
            json!({
                "user": "jane", "groups": ["dev"],
                "resourceAttributes": {
                    "verb": "list", "version": "v1", "resource": "pods", "namespace": "team",
                    "fieldSelector": {"requirements": [
                        {"key": "spec.nodeName", "operator": "NotIn", "values": ["n"]},
                    ]},
                    "labelSelector": {"requirements": [
                        {"key": "a", "operator": "In", "values": ["b"]},
                        {"key": "c", "operator": "Exists"},
                    ]},
                },
            })
        );
        let path =
            Attributes { resource_request: false, path: "/metrics".into(), verb: "get".into(), ..attributes };
        assert_eq!(spec(&path)["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
    }
}

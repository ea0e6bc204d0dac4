//! SubjectAccessReview and its kin: whether somebody may do something.

use std::collections::BTreeMap;

use kubewright_machinery::field::{Error, Path};
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use kubewright_machinery::user::strings;
use serde_json::{Value, json};

use super::attributes::Asked;
use crate::BoxFuture;
use crate::authn::UserInfo;
use crate::authz::{self, Decision};
use crate::resources::{Virtual, WriteContext};

/// Whom a review is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The user and groups in its spec.
    Other,
    /// The same, in the namespace of the review alone.
    Local,
    /// The caller.
    Oneself,
}

/// Answers access reviews.
pub(super) struct Access(pub Subject);

impl Virtual for Access {
    fn create<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        mut review: Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            let errors = validate(self.0, &review);
            if !errors.is_empty() {
                // The real server leaves kind and name out.
                return Err(Status::invalid(&cx.resource.group, "", "", &errors));
            }
            let other = subject(&review["spec"]);
            let user = if self.0 == Subject::Oneself { cx.user } else { &other };
            let decision = {
                let question = Asked::of(&review["spec"]).question(user);
                authz::decide(cx.core, &question).await
            };
            let mut status = json!({"allowed": matches!(decision, Decision::Allow(_))});
            if matches!(decision, Decision::Deny(_)) {
                status["denied"] = true.into();
            }
            let (Decision::Allow(reason) | Decision::Deny(reason) | Decision::NoOpinion(reason)) = decision;
            if !reason.is_empty() {
                status["reason"] = reason.into();
            }
            review["status"] = status;
            Ok(review)
        })
    }
}

/// The user that a spec describes.
fn subject(spec: &Value) -> UserInfo {
    let text = |name: &str| spec[name].as_str().unwrap_or_default().to_string();
    let extra: BTreeMap<String, Vec<String>> =
        spec["extra"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), strings(v))).collect();
    UserInfo { name: text("user"), uid: text("uid"), groups: strings(&spec["groups"]), extra }
}

fn validate(about: Subject, review: &Value) -> Vec<Error> {
    let spec = &review["spec"];
    let path = Path::new("spec");
    let asked = Asked::of(spec);
    let mut errors = asked.validate(&path);
    let nobody = spec["user"].as_str().is_none_or(str::is_empty) && strings(&spec["groups"]).is_empty();
    if about != Subject::Oneself && nobody {
        errors.push(Error::invalid(
            &path.child("user"),
            "",
            "at least one of user or group must be specified",
        ));
    }
    errors.extend(asked.validate_selectors(&path));

    let metadata = review["metadata"].as_object();
    let mut own = metadata.cloned().unwrap_or_default();
    own.retain(|name, value| {
        name != "managedFields" && !value.is_null() && !(about == Subject::Local && name == "namespace")
    });
    if !own.is_empty() {
        let why =
            if about == Subject::Local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(Error::invalid(&Path::new("metadata"), review["metadata"].clone(), why));
    }
    if about == Subject::Local {
        let resource = path.child("resourceAttributes");
        if let Some(namespace) = asked.namespace().filter(|namespace| *namespace != meta::namespace(review)) {
            errors.push(Error::invalid(
                &resource.child("namespace"),
                namespace,
                "must match metadata.namespace",
            ));
        }
        if let Some(shown) = asked.shown_path() {
            let at = path.child("nonResourceAttributes");
            errors.push(Error::invalid(&at, shown, "disallowed on this kind of request"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_question_lacks_an_object_and_a_subject() {
        let messages = |about| -> Vec<String> {
            validate(about, &json!({"metadata": {}})).iter().map(|e| e.field.clone()).collect()
        };
        assert_eq!(messages(Subject::Other), ["spec.resourceAttributes", "spec.user"]);
        assert_eq!(messages(Subject::Oneself), ["spec.resourceAttributes"]);
    }

    #[test]
    fn a_local_question_stays_in_its_namespace() {
        let review = |namespace: &str| {
            json!({
                "metadata": {"namespace": "a"},
                "spec": {"user": "x", "resourceAttributes": {"namespace": namespace, "verb": "get"}},
            })
        };
        assert!(validate(Subject::Local, &review("a")).is_empty());
        assert_eq!(validate(Subject::Local, &review("b"))[0].field, "spec.resourceAttributes.namespace");
        assert_eq!(validate(Subject::Other, &review("a"))[0].field, "metadata");
    }

    #[test]
    fn a_selector_needs_exactly_one_form() {
        let review = |selector: Value| json!({"spec": {"resourceAttributes": {"verb": "list", "fieldSelector": selector}}});
        let faults = |selector: Value| -> Vec<String> {
            validate(Subject::Oneself, &review(selector)).iter().map(|e| e.field.clone()).collect()
        };
        let at = "spec.resourceAttributes.fieldSelector";
        assert_eq!(faults(json!({})), [format!("{at}.requirements")]);
        assert_eq!(
            faults(json!({"requirements": [{"key": "", "operator": "In"}]})),
            [format!("{at}.requirements[0].key"), format!("{at}.requirements[0].values")]
        );
        assert!(faults(json!({"rawSelector": "a=b"})).is_empty());
    }
}

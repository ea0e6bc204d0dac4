//! SelfSubjectRulesReview: all that the caller may do in a namespace.

use kubewright_machinery::status::Status;
use serde_json::{Map, Value, json};

use crate::BoxFuture;
use crate::authz;
use crate::resources::{Virtual, WriteContext};

/// Answers SelfSubjectRulesReviews.
pub(super) struct RulesReview;

impl Virtual for RulesReview {
    fn create<'a>(&'a self, cx: &'a WriteContext<'a>, review: Value) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
            if namespace.is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            let found = authz::rules(cx.core, cx.user, namespace).await;
            let (mut resources, mut paths) = (Vec::new(), Vec::new());
            for rule in &found.rules {
                if !rule.resources.is_empty() {
                    let mut shown = Map::new();
                    shown.insert("verbs".into(), json!(rule.verbs));
                    for (key, list) in [
                        ("apiGroups", &rule.api_groups),
                        ("resources", &rule.resources),
                        ("resourceNames", &rule.resource_names),
                    ] {
                        if !list.is_empty() {
                            shown.insert(key.into(), json!(list));
                        }
                    }
                    resources.push(Value::Object(shown));
                }
                if !rule.non_resource_urls.is_empty() {
                    paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
                }
            }
            let mut status = json!({
                "resourceRules": resources,
                "nonResourceRules": paths,
                "incomplete": found.incomplete,
            });
            if !found.errors.is_empty() {
                status["evaluationError"] = found.errors.join(", ").into();
            }
            Ok(json!({
                "kind": cx.resource.kind,
                "apiVersion": cx.resource.api_version(),
                "metadata": {},
                "spec": {},
                "status": status,
            }))
        })
    }
}

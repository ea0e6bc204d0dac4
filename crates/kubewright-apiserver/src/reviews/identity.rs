//! TokenReview: whom a token stands for. SelfSubjectReview: who is asking.

use kubewright_machinery::status::Status;
use kubewright_machinery::user::strings;
use serde_json::{Map, Value, json};

use crate::BoxFuture;
use crate::authn::{self, common_audiences};
use crate::resources::{Virtual, WriteContext};

/// Answers TokenReviews.
pub(super) struct TokenReview;

impl Virtual for TokenReview {
    fn create<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        mut review: Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            let token = review["spec"]["token"].as_str().unwrap_or_default().to_string();
            if token.is_empty() {
                return Err(Status::bad_request("token is required for TokenReview in authentication"));
            }
            let mut audiences = strings(&review["spec"]["audiences"]);
            if audiences.is_empty() {
                audiences.clone_from(&cx.core.config().api_audiences);
            }
            let mut status = Map::new();
            status.insert("user".into(), json!({}));
            match authn::review(cx.core, &token, &audiences).await {
                Ok(found) => {
                    if !audiences.is_empty() && common_audiences(&audiences, &found.audiences).is_empty() {
                        return Err(Status::internal("error validating audiences"));
                    }
                    status.insert("authenticated".into(), true.into());
                    status.insert("user".into(), found.user.to_value());
                    if !found.audiences.is_empty() {
                        status.insert("audiences".into(), json!(found.audiences));
                    }
                }
                Err(error) => {
                    status.insert("error".into(), error.into());
                }
            }
            review["status"] = Value::Object(status);
            Ok(review)
        })
    }
}

/// Answers SelfSubjectReviews.
pub(super) struct SelfReview;

impl Virtual for SelfReview {
    fn create<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        _review: Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        crate::ready(Ok(json!({
            "kind": cx.resource.kind,
            "apiVersion": cx.resource.api_version(),
            "metadata": {"creationTimestamp": kubewright_machinery::time::format(cx.now)},
            "status": {"userInfo": cx.user.to_value()},
        })))
    }
}

//! The service between a controller and the API server: it refuses undeclared calls, repeats what may
//! be repeated, counts requests, and tells the cache about writes so that reads can wait for them.
//! Bodies of reads and watches stream through untouched.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Either, Full};
use kube::client::Body;
use serde::Deserialize;
use tower::{BoxError, Service};

use super::impersonate;
use super::limit::Limiter;
use super::permits::Permits;
use super::request::{ResourceRequest, Verb, is_watch};
use super::retry::{Attempted, Outcome, next};
use super::warnings::Warnings;
use crate::cache::{Cache, Cached, Expected, Wrote};
use crate::kind::{Key, Kind};
use crate::lease::{Fence, Late, Moment};
use crate::manager::metrics::Calls;

type Answer = Response<Either<Body, Full<Bytes>>>;

/// The guarded service of one controller.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) inner: kube::Client,
    /// What every attempt has to wait for, where the process limits itself.
    pub(crate) limiter: Option<Limiter>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) cache: Cache,
    /// The figures of the cluster that it sends to.
    pub(crate) calls: Calls,
    pub(crate) warnings: Arc<Warnings>,
    /// What writes must pass, where a Lease decides who may write.
    pub(crate) fence: Option<Arc<Fence>>,
}

impl Service<Request<Body>> for Guard {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().answer(request).boxed()
    }
}

impl Guard {
    async fn answer(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let query = request.uri().query();
        let asked = ResourceRequest::read(request.method(), request.uri().path(), query);
        let dry_run = query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("dryRun=")));
        if let Some(asked) = &asked {
            self.permits.check(asked)?;
        }
        for right in impersonate::rights(request.headers()) {
            self.permits.check(&right)?;
        }
        let response = self.send(request, asked.as_ref()).await?;
        match asked {
            Some(asked) if !asked.verb.is_read() && !dry_run && response.status().is_success() => {
                let (parts, body) = response.into_parts();
                let body = body.collect().await?.to_bytes();
                self.note_write(&asked, &body);
                Ok(Response::from_parts(parts, Either::Right(Full::new(body))))
            }
            _ => Ok(response.map(Either::Left)),
        }
    }

    async fn send(
        &self,
        request: Request<Body>,
        asked: Option<&ResourceRequest>,
    ) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let attempted = Attempted {
            method: &parts.method,
            content_type,
            subresource: asked.and_then(|asked| asked.subresource.as_deref()),
        };
        let lasts = is_watch(parts.uri.query());
        let mut body = Some(body);
        let (mut attempt, mut waited) = (1, Duration::ZERO);
        loop {
            let Some(this_body) = body.take() else {
                return Err("a streamed request body can't be sent again".into());
            };
            body = this_body.try_clone();
            if let Some(limiter) = &self.limiter {
                limiter.pass(&parts.method, &parts.uri).await;
            }
            let sent = Instant::now();
            let result = self.attempt(Request::from_parts(parts.clone(), this_body), asked).await?;
            let outcome = match &result {
                Ok(response) => {
                    self.warnings.surface(response.headers(), &parts.method, parts.uri.path());
                    let after = response.headers().get(header::RETRY_AFTER);
                    let after =
                        after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
                    Outcome::Answered(response.status(), after)
                }
                Err(_) => Outcome::Lost,
            };
            let code = result.as_ref().ok().map(|response| response.status().as_u16());
            self.calls.answered(&parts.method, code, (!lasts).then(|| sent.elapsed()));
            match next(attempted, attempt, waited, outcome) {
                Some(wait) if body.is_some() => {
                    tracing::debug!(method = %parts.method, uri = %parts.uri, ?outcome, ?wait, "sending again");
                    tokio::time::sleep(wait).await;
                    self.calls.sent_again(&parts.method, code);
                    attempt += 1;
                    waited += wait;
                }
                _ => return result,
            }
        }
    }

    /// Sends once. The outer error is a refusal by the fence: nothing was sent.
    async fn attempt(
        &self,
        request: Request<Body>,
        asked: Option<&ResourceRequest>,
    ) -> Result<Result<Response<Body>, BoxError>, BoxError> {
        let Some(fence) = self.fence.as_ref().filter(|_| asked.is_some_and(|asked| !asked.verb.is_read()))
        else {
            return Ok(self.inner.send(request).await.map_err(Into::into));
        };
        // Judged for every attempt, at the last moment before it is sent, and whenever it goes on.
        let pass = fence.pass(Moment::now())?;
        match pass.send(self.inner.send(request), Moment::now).await {
            Ok(answer) => Ok(answer.map_err(Into::into)),
            Err(Late::Fenced(fenced)) => Err(fenced.into()),
            Err(late @ Late::Unanswered) => Ok(Err(late.into())),
        }
    }

    /// Works out from the answer to a write what the cache will show once it has caught up.
    fn note_write(&self, asked: &ResourceRequest, body: &[u8]) {
        // Other subresources (binding, eviction, token) answer with something else than the object.
        let answers_object = ["status", "scale", "finalize", "approval", "ephemeralcontainers", "resize"];
        if asked.subresource.as_deref().is_some_and(|subresource| !answers_object.contains(&subresource)) {
            return;
        }
        if let Some(mut wrote) = what_was_written(asked, body) {
            // A Scale has neither the labels nor the fields of the object it is of.
            wrote.object = wrote.object.filter(|_| asked.subresource.as_deref() != Some("scale"));
            self.cache.wrote(&asked.group, &asked.resource, &wrote);
        }
    }
}

#[derive(Deserialize)]
struct DeleteStatus {
    kind: String,
    #[serde(default)]
    details: DeletedDetails,
}

#[derive(Deserialize, Default)]
struct DeletedDetails {
    #[serde(default)]
    uid: String,
}

fn what_was_written(asked: &ResourceRequest, body: &[u8]) -> Option<Wrote> {
    // Only name, namespace, uid and revision are used of what this reads, so the kind's own names do not matter.
    let kind = Kind {
        group: asked.group.clone(),
        version: String::new(),
        kind: String::new(),
        plural: asked.resource.clone(),
        namespaced: asked.namespace.is_some(),
    };
    let namespace = asked.namespace.as_deref().filter(|_| asked.resource != "namespaces").unwrap_or_default();
    if asked.verb == Verb::Delete
        && let Ok(status) = serde_json::from_slice::<DeleteStatus>(body)
        && status.kind == "Status"
    {
        let key = Key::new(namespace, asked.name.as_deref()?);
        return (!status.details.uid.is_empty()).then(|| Wrote {
            key,
            what: Expected::Gone(status.details.uid.into()),
            object: None,
        });
    }
    let object = Cached::read(body, &kind).ok()?;
    let key = Key::new(namespace, asked.name.as_deref().unwrap_or_else(|| object.key().name()));
    let gone = asked.verb == Verb::Delete && !object.is_deleting();
    if gone {
        return Some(Wrote { key, what: Expected::Gone(object.uid().into()), object: None });
    }
    let what = Expected::Version(object.resource_version());
    // Metadata alone does not say what a field selector asks for.
    let whole = object.at(&["kind"]) != Some(br#""PartialObjectMetadata""#);
    Some(Wrote { key, what, object: whole.then(|| Arc::new(object)) })
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn written(method: Method, path: &str, body: &str) -> Option<(String, Expected)> {
        let asked = ResourceRequest::read(&method, path, None).unwrap();
        what_was_written(&asked, body.as_bytes()).map(|wrote| (wrote.key.to_string(), wrote.what))
    }

    #[test]
    fn answers_to_writes_tell_what_to_wait_for() {
        let object = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-x7","namespace":"n","uid":"u","resourceVersion":"42"}}"#;
        let (key, what) = written(Method::POST, "/api/v1/namespaces/n/pods", object).unwrap();
        assert_eq!(key, "n/web-x7");
        assert!(matches!(what, Expected::Version(42)));
        let status = r#"{"kind":"Status","status":"Success","details":{"name":"p","kind":"pods","uid":"u"}}"#;
        let (key, what) = written(Method::DELETE, "/api/v1/namespaces/n/pods/p", status).unwrap();
        assert_eq!(key, "n/p");
        assert!(matches!(what, Expected::Gone(uid) if &*uid == "u"));
        let (key, _) = written(
            Method::PATCH,
            "/api/v1/namespaces/n",
            r#"{"metadata":{"name":"n","resourceVersion":"2"}}"#,
        )
        .unwrap();
        assert_eq!(key, "n");
    }
}

//! The way of a request, as one function that shows the order.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use kubewright_machinery::status::Status;

use super::fairness::{Matched, NoRoom, Seat};
use super::{Core, Response, deadline, documents, health, oidc, respond};
use crate::aggregation;
use crate::audit::{Received, Trail};
use crate::authn::{self, UserInfo, impersonation};
use crate::authz::{self, Decision};
use crate::handlers;
use crate::request::RequestInfo;
use crate::resources::RequestBody;

const AUDIT_ID: http::HeaderName = http::HeaderName::from_static("audit-id");
const NOSNIFF: http::HeaderName = http::HeaderName::from_static("x-content-type-options");
const FLOW_SCHEMA: http::HeaderName = http::HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL: http::HeaderName = http::HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Answers a request. It never fails and never panics.
pub(super) async fn handle(
    core: &Arc<Core>,
    identity: Option<&Arc<UserInfo>>,
    request: http::Request<RequestBody>,
) -> Response {
    let (parts, body) = request.into_parts();
    let audit_id = match parts.headers.get(&AUDIT_ID) {
        Some(given) if given.len() <= 64 => given.clone(),
        _ => HeaderValue::from_str(&core.uid()).unwrap_or(HeaderValue::from_static("0")),
    };
    let info = RequestInfo::new(&parts.method, &parts.uri);
    let head = parts.method == http::Method::HEAD;
    let long_running = info.is_long_running();
    let uri = parts.uri.clone();
    let mut trail = None;
    let mut matched = None;
    let time = match long_running {
        true => Ok(None),
        false => deadline::of(&info.query, core.config().limits.request_timeout).map(Some),
    };
    let answered = match time {
        Err(status) => Ok(respond::failure(&parts.headers, &info.query, &status)),
        Ok(time) => {
            let state = (&mut trail, &mut matched);
            let steps = AssertUnwindSafe(steps(core, identity, info, parts, body, &audit_id, state));
            match time {
                None => steps.catch_unwind().await,
                Some(time) => tokio::time::timeout(time, steps.catch_unwind())
                    .await
                    .unwrap_or_else(|_| Ok(plain_failure(&deadline::exceeded()))),
            }
        }
    };
    let mut response = answered.unwrap_or_else(|_| {
        tracing::error!(path = uri.path(), "a request panicked");
        if let Some(trail) = trail.take() {
            trail.panicked(core.now());
        }
        plain_failure(&Status::internal("the server panicked while handling the request"))
    });
    let out = response.headers_mut();
    out.insert(AUDIT_ID, audit_id);
    out.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    if let Some(Matched { schema, level }) = matched {
        response.headers_mut().insert(FLOW_SCHEMA, schema);
        response.headers_mut().insert(PRIORITY_LEVEL, level);
    }
    if response.status().as_u16() == 403 {
        response.headers_mut().insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    }
    if head {
        *response.body_mut() = super::ServerBody::empty();
    }
    core.count_request();
    match trail {
        Some(trail) => trail.answered(response, long_running, Arc::clone(&core.config().clock)),
        None => response,
    }
}

async fn steps(
    core: &Arc<Core>,
    identity: Option<&Arc<UserInfo>>,
    info: RequestInfo,
    mut parts: Parts,
    body: RequestBody,
    audit_id: &HeaderValue,
    (trail, matched): (&mut Option<Arc<Trail>>, &mut Option<Matched>),
) -> Response {
    // Who calls?
    let user = match identity {
        Some(user) => Arc::clone(user),
        None => match authenticate(core, &mut parts).await {
            Ok(user) => Arc::new(user),
            Err(status) => {
                if let Some(trail) = begin_trail(core, None, &info, &parts, audit_id) {
                    trail.unauthenticated(status.code, &parts.headers, core.now());
                }
                return respond::failure(&parts.headers, &info.query, &status);
            }
        },
    };
    *trail = begin_trail(core, Some(&user), &info, &parts, audit_id);
    if let Some(trail) = trail {
        parts.extensions.insert(Arc::clone(trail));
    }
    authn::forget_credentials(core, &mut parts.headers);
    // On whose behalf?
    let acted = impersonation::impersonate(core, &user, &info, &parts.headers).await;
    impersonation::forget(&mut parts.headers);
    let refuse = |status: &Status| respond::failure(&parts.headers, &info.query, status);
    let user = match acted {
        Ok(None) => user,
        Ok(Some(acted)) => {
            if let Some(trail) = trail.as_ref() {
                trail.impersonated(&acted.user, &acted.constraint);
            }
            acted.user
        }
        Err(status) => return refuse(&status),
    };
    tracing::debug!(user = user.name, verb = info.verb, path = info.path, "request");

    // Is there room?
    let is_watch = info.verb == "watch";
    let seat = match info.is_long_running() && !is_watch {
        true => None,
        false => match core.fairness().enter(core.reader(), &user, &info).await {
            Ok(seat) => Some(seat),
            Err(NoRoom { matched: of }) => {
                *matched = of;
                return no_room();
            }
        },
    };
    *matched = seat.as_ref().and_then(|seat: &Seat| seat.matched.clone());

    // May it?
    if let Err(status) = authorize(core, &user, &info, trail.as_deref()).await {
        return refuse(&status);
    }

    // What serves it? One snapshot for the whole request.
    let table = core.table();
    if let Some(remote) = aggregation::remote_of(&table, &info) {
        let remote = Arc::clone(remote);
        return aggregation::forward(core, &remote, &user, &info, audit_id, (parts, body)).await;
    }
    if !info.is_resource {
        if let Some(answer) = health::serve(core, &table, &info, &parts.method).await {
            return answer.unwrap_or_else(|status| refuse(&status));
        }
        if let Some(answer) = oidc::serve(core, &info, &parts) {
            return answer.unwrap_or_else(|status| refuse(&status));
        }
        return match documents::serve(core, &table, &info, &parts) {
            Some(Ok(response)) => response,
            Some(Err(status)) => refuse(&status),
            None => respond::not_found_text(),
        };
    }
    handlers::dispatch(core, table, user, info, parts, body).await
}

/// A failure of a request that is gone with what it accepts; everybody reads JSON.
fn plain_failure(status: &Status) -> Response {
    respond::failure(&HeaderMap::new(), &crate::request::Query::default(), status)
}

async fn authenticate(core: &Core, parts: &mut Parts) -> Result<UserInfo, Status> {
    authn::take_token(parts).map_err(|_| Status::unauthorized("Unauthorized"))?;
    authn::authenticate(core, parts).await
}

/// Too much is going on: said before anything is known of what the client accepts.
fn no_room() -> Response {
    let mut response = respond::text(429, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response.headers_mut().insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

/// The attributes of a request for authorizers.
pub(crate) fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> authz::Attributes<'a> {
    let selector = |key: &str| {
        let text = info.query.get(key).filter(|_| info.has_selectors());
        text.filter(|t| !t.is_empty()).map(Into::into)
    };
    authz::Attributes {
        user,
        verb: (&*info.verb).into(),
        group: (&*info.group).into(),
        version: (&*info.version).into(),
        resource: (&*info.resource).into(),
        subresource: (&*info.subresource).into(),
        namespace: (&*info.namespace).into(),
        name: (&*info.name).into(),
        path: (&*info.path).into(),
        resource_request: info.is_resource,
        label_selector: selector("labelSelector"),
        field_selector: selector("fieldSelector"),
    }
}

fn begin_trail(
    core: &Core,
    user: Option<&UserInfo>,
    info: &RequestInfo,
    parts: &Parts,
    audit_id: &HeaderValue,
) -> Option<Arc<Trail>> {
    let auditor = core.config().audit.as_ref()?;
    let received = Received { parts, audit_id: audit_id.to_str().unwrap_or_default() };
    auditor.begin(user, info, &received, core.now())
}

async fn authorize(
    core: &Core,
    user: &UserInfo,
    info: &RequestInfo,
    trail: Option<&Trail>,
) -> Result<(), Status> {
    let attributes = attributes(user, info);
    let decided = authz::exercise(core, &attributes).await;
    if let Some(trail) = trail {
        let (decision, reason) = match &decided {
            Decision::Allow(reason) => ("allow", reason),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => ("forbid", reason),
        };
        trail.annotate("authorization.k8s.io/decision", decision);
        trail.annotate("authorization.k8s.io/reason", reason);
    }
    match decided {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(authz::forbidden(&attributes, &reason)),
    }
}

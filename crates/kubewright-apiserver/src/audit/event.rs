//! What is gathered about one request, and the events made of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;
use http::header::USER_AGENT;
use http::request::Parts;
use jiff::Timestamp;
use kubewright_machinery::{meta, time};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::policy::{Decided, Level, Stage};
use super::{Sink, policy};
use crate::authn::UserInfo;
use crate::request::RequestInfo;
use crate::server::{Response, ServerBody};

const MAX_USER_AGENT: usize = 1024;

/// Where a connection comes from; in the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub SocketAddr);

/// The head of a request as it arrived.
pub(crate) struct Received<'a> {
    pub parts: &'a Parts,
    pub audit_id: &'a str,
}

/// What is written down about one request.
pub struct Trail {
    decided: Decided,
    sink: Arc<dyn Sink>,
    /// Filled as the request goes on.
    event: Mutex<Event>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    kind: &'static str,
    api_version: &'static str,
    level: Level,
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_metadata: Option<Value>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

impl Trail {
    pub(super) fn new(
        decided: Decided,
        sink: Arc<dyn Sink>,
        user: Option<&UserInfo>,
        info: &RequestInfo,
        received: &Received<'_>,
        now: Timestamp,
    ) -> Self {
        let now = time::format_micro(now);
        let parts = received.parts;
        let object_ref = info.is_resource.then(|| ObjectReference {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            uid: String::new(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            resource_version: String::new(),
            subresource: info.subresource.clone(),
        });
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: decided.level,
            audit_id: received.audit_id.to_string(),
            stage: Stage::RequestReceived,
            request_uri: parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_string(),
            verb: info.verb.clone(),
            user: user.map_or_else(|| json!({}), described),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(parts),
            user_agent: user_agent(&parts.headers),
            object_ref,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now.clone(),
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        };
        let trail = Self { decided, sink, event: Mutex::new(event) };
        if user.is_some() {
            trail.emit(Stage::RequestReceived, None);
        }
        trail
    }

    /// Adds an annotation to the events to come. The first value of a key stands.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.event.lock().annotations.entry(key.into()).or_insert_with(|| value.into());
    }

    /// The request is made on behalf of somebody; `constraint` is the verb of the mode that allowed it, if it was a
    /// constrained one.
    pub(crate) fn impersonated(&self, user: &UserInfo, constraint: &str) {
        let mut event = self.event.lock();
        event.impersonated_user = Some(described(user));
        if !constraint.is_empty() {
            event.authentication_metadata = Some(json!({ "impersonationConstraint": constraint }));
        }
    }

    /// The object that was sent: as decoded, or a patch.
    pub(crate) fn sent(&self, object: &Value) {
        let mut event = self.event.lock();
        if let Some(reference) = &mut event.object_ref {
            for (field, found) in [
                (&mut reference.namespace, meta::namespace(object)),
                (&mut reference.name, meta::name(object)),
                (&mut reference.uid, meta::uid(object)),
                (&mut reference.resource_version, meta::resource_version(object)),
            ] {
                if field.is_empty() {
                    *field = found.to_string();
                }
            }
        }
        if self.decided.level >= Level::Request {
            let mut object = object.clone();
            self.strip(&mut object);
            event.request_object = Some(object);
        }
    }

    /// Nobody was authenticated.
    pub(crate) fn unauthenticated(&self, code: u16, headers: &HeaderMap, now: Timestamp) {
        let how = match headers.get(http::header::AUTHORIZATION).and_then(|h| h.to_str().ok()) {
            Some(value) => {
                let scheme = value.split_once(' ').map_or("unknown", |(scheme, _)| scheme);
                format!("Authentication failed, attempted: {}", scheme.to_ascii_lowercase())
            }
            None => "Authentication failed, no credentials provided".to_string(),
        };
        self.event.lock().response_status = Some(json!({"metadata": {}, "message": how, "code": code}));
        self.emit(Stage::ResponseStarted, Some(now));
    }

    /// The server panicked.
    pub(crate) fn panicked(&self, now: Timestamp) {
        self.event.lock().response_status = Some(json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": "APIServer panic'd",
        }));
        self.emit(Stage::Panic, Some(now));
    }

    /// The answer is ready. Of a long-running request the end is written down when its body has ended.
    pub(crate) fn answered(
        self: Arc<Self>,
        response: Response,
        long_running: bool,
        clock: Arc<dyn crate::server::Clock>,
    ) -> Response {
        self.take_in(&response);
        if !long_running {
            self.emit(Stage::ResponseComplete, Some(clock.now()));
            return response;
        }
        self.emit(Stage::ResponseStarted, Some(clock.now()));
        let end = End { trail: self, clock };
        response.map(|body| match body {
            ServerBody::Stream(chunks) => ServerBody::stream(chunks.map(move |chunk| {
                // Owned by the stream: dropped with it.
                let _ = &end;
                chunk
            })),
            full => full,
        })
    }

    fn take_in(&self, response: &Response) {
        let code = response.status().as_u16();
        let mut status = json!({"metadata": {}, "code": code});
        let wanted = self.decided.level == Level::RequestResponse;
        let body = match response.body() {
            ServerBody::Full(Some(body)) => Some(body),
            _ => None,
        };
        let is_json = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
        let looks_like_status = |body: &Bytes| code >= 400 || body.starts_with(b"{\"apiVersion\":\"v1\",");
        let parsed: Option<Value> = body
            .filter(|body| is_json && (wanted || looks_like_status(body)))
            .and_then(|body| serde_json::from_slice(body).ok());
        let mut event = self.event.lock();
        let Some(mut object) = parsed else {
            event.response_status = Some(status);
            return;
        };
        if object["kind"] == "Status" {
            for field in ["status", "reason", "message", "details"] {
                if let Some(value) = object.get(field).filter(|v| !v.is_null()) {
                    status[field] = value.clone();
                }
            }
        }
        event.response_status = Some(status);
        if wanted {
            self.strip(&mut object);
            event.response_object = Some(object);
        }
    }

    /// Takes managedFields away where the policy says so.
    fn strip(&self, object: &mut Value) {
        if !self.decided.omit_managed_fields {
            return;
        }
        meta::remove(object, "managedFields");
        for items in ["items", "rows"] {
            for item in object.get_mut(items).and_then(Value::as_array_mut).into_iter().flatten() {
                meta::remove(item, "managedFields");
                if let Some(shown) = item.get_mut("object") {
                    meta::remove(shown, "managedFields");
                }
            }
        }
    }

    fn emit(&self, stage: Stage, now: Option<Timestamp>) {
        if self.decided.omit_stages.contains(&stage) {
            return;
        }
        let mut event = self.event.lock();
        event.stage = stage;
        if let Some(now) = now {
            event.stage_timestamp = time::format_micro(now);
        }
        let bytes = serde_json::to_vec(&*event).expect("an event is always JSON");
        drop(event);
        self.sink.write(bytes.into());
    }
}

/// Writes down that a long-running request has ended.
struct End {
    trail: Arc<Trail>,
    clock: Arc<dyn crate::server::Clock>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.trail.emit(policy::Stage::ResponseComplete, Some(self.clock.now()));
    }
}

fn described(user: &UserInfo) -> Value {
    let mut out = json!({"username": user.name});
    if !user.uid.is_empty() {
        out["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        out["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

/// What proxies say of where the request comes from, then where the connection comes from.
fn source_ips(parts: &Parts) -> Vec<IpAddr> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = header("x-forwarded-for").into_iter().flat_map(|list| list.split(','));
    let mut out: Vec<IpAddr> = forwarded.filter_map(|text| text.trim().parse().ok()).collect();
    let mut add = |ip: Option<IpAddr>| {
        if let Some(ip) = ip.filter(|ip| !out.contains(ip)) {
            out.push(ip);
        }
    };
    add(header("x-real-ip").and_then(|text| text.trim().parse().ok()));
    add(parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip()));
    out
}

fn user_agent(headers: &HeaderMap) -> String {
    let text = headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut text = text.unwrap_or_default();
    if text.len() > MAX_USER_AGENT {
        let end = (0..=MAX_USER_AGENT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...TRUNCATED");
    }
    text
}

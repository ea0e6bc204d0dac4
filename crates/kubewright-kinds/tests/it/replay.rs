//! One scenario against one fresh server: its steps sent in order, what they answered normalised and judged.
//!
//! A step has a method, path, query, headers, a body and its type, a user to act as, values to save for later steps,
//! and what was recorded. A step with `watch` opens a watch, one with `collect` looks at what it saw.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use kubewright_apiserver::server::{InProcess, Response};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;

use crate::judge::{Normaliser, dig, judge};
use crate::server;

/// How a step went.
pub struct Outcome {
    /// Its place in the scenario.
    pub step: usize,
    /// Its name.
    pub name: String,
    /// What differs from the recording; empty when nothing does.
    pub differences: Vec<String>,
}

/// How long is waited for what should happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(20);

/// Replays a scenario on a server of its own.
pub async fn run(scenario: &Value) -> Vec<Outcome> {
    let server = server::start().await;
    let mut player = Player {
        service: server.service(None),
        saved: HashMap::new(),
        watches: HashMap::new(),
        normaliser: Normaliser::default(),
    };
    let mut outcomes = Vec::new();
    for (number, step) in scenario["steps"].as_array().into_iter().flatten().enumerate() {
        let answer = player.step(step).await;
        let Some(expect) = step.get("expect") else { continue };
        let differences = match answer {
            Some(answer) => judge(step, expect, &answer),
            None => vec!["the step has no answer".to_string()],
        };
        let name = step["name"].as_str().unwrap_or_default().to_string();
        outcomes.push(Outcome { step: number, name, differences });
    }
    server.shutdown();
    outcomes
}

struct Player {
    service: InProcess,
    saved: HashMap<String, Value>,
    watches: HashMap<String, Watch>,
    normaliser: Normaliser,
}

struct Watch {
    status: u16,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Player {
    /// Does a step; gives the normalised answer of those that have one.
    async fn step(&mut self, step: &Value) -> Option<Value> {
        let sent = self.fill(step);
        if let Some(id) = sent["watch"].as_str() {
            let watch = self.watch(&sent).await;
            self.watches.insert(id.to_string(), watch);
            return None;
        }
        if let Some(id) = sent["collect"].as_str() {
            let watch = self.watches.get(id)?;
            let wanted = sent["events"].as_u64().unwrap_or(0) as usize;
            let until = Instant::now() + PATIENCE;
            while watch.events.lock().len() < wanted && Instant::now() < until {
                sleep(Duration::from_millis(5)).await;
            }
            // An event too many would come now.
            sleep(Duration::from_millis(50)).await;
            let events = Value::Array(watch.events.lock().clone());
            let status = watch.status;
            let body = self.normaliser.clean(&events);
            return Some(json!({ "status": status, "body": body }));
        }
        let mut answer = self.send(&sent).await;
        if let Some(wait) = sent.get("wait") {
            let until = Instant::now() + PATIENCE;
            let path = wait["path"].as_str().unwrap_or_default();
            while dig(&answer["body"], path) != wait["is"] && Instant::now() < until {
                sleep(Duration::from_millis(10)).await;
                answer = self.send(&sent).await;
            }
        }
        for (name, path) in step["save"].as_object().into_iter().flatten() {
            self.saved.insert(name.clone(), dig(&answer["body"], path.as_str().unwrap_or_default()));
        }
        answer["body"] = self.normaliser.clean(&answer["body"].take());
        let warnings = answer["warnings"].take();
        let cleaned = warnings.as_array().into_iter().flatten().map(|w| self.normaliser.clean(w));
        answer["warnings"] = cleaned.collect();
        Some(answer)
    }

    /// The step with saved values in their places.
    fn fill(&self, step: &Value) -> Value {
        match step {
            Value::String(text) => Value::String(self.fill_text(text)),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(fields) => {
                let filled: Map<String, Value> = fields
                    .iter()
                    .filter(|(key, _)| *key != "expect")
                    .map(|(key, value)| (key.clone(), self.fill(value)))
                    .collect();
                Value::Object(filled)
            }
            other => other.clone(),
        }
    }

    fn fill_text(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            match after.split_once('}').map(|(name, tail)| (self.saved.get(name), name, tail)) {
                Some((Some(value), _, tail)) => {
                    out.push_str(&plain(value));
                    rest = tail;
                }
                Some((None, name, tail)) => {
                    out.push_str("${");
                    out.push_str(name);
                    out.push('}');
                    rest = tail;
                }
                None => {
                    out.push_str("${");
                    rest = after;
                }
            }
        }
        out + rest
    }

    async fn open(&self, step: &Value, watch: bool) -> Response {
        let mut uri = escape(step["path"].as_str().unwrap_or_default(), "/%:?=&,;@!$'()*+~");
        let mut query = String::new();
        let mut pair = |key: &str, value: &Value| {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(&escape(key, ""));
            query.push('=');
            query.push_str(&escape(&plain(value), ""));
        };
        for (key, value) in step["query"].as_object().into_iter().flatten() {
            match value {
                Value::Array(values) => values.iter().for_each(|value| pair(key, value)),
                _ if watch && key == "watch" => {}
                value => pair(key, value),
            }
        }
        if watch {
            pair("watch", &json!("true"));
        }
        if !query.is_empty() {
            uri = format!("{uri}?{query}");
        }
        let mut headers = vec![
            ("Accept".to_string(), "application/json".to_string()),
            ("User-Agent".to_string(), "oracle/1".to_string()),
            ("Authorization".to_string(), format!("Bearer {}", server::TOKEN)),
        ];
        let body = match step.get("body") {
            None | Some(Value::Null) => Bytes::new(),
            Some(body) => {
                let ty = step["type"].as_str().unwrap_or("json");
                headers.push(("Content-Type".to_string(), media_type(ty).to_string()));
                match body {
                    Value::String(text) => Bytes::from(text.clone()),
                    body => Bytes::from(body.to_string()),
                }
            }
        };
        for (key, value) in step["headers"].as_object().into_iter().flatten() {
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(key));
            headers.push((key.clone(), plain(value)));
        }
        let who = &step["as"];
        let user = who.as_str().or_else(|| who["user"].as_str());
        if let Some(user) = user {
            headers.push(("Impersonate-User".to_string(), user.to_string()));
            for group in who["groups"].as_array().into_iter().flatten() {
                headers.push(("Impersonate-Group".to_string(), plain(group)));
            }
        }
        let mut request =
            http::Request::builder().method(step["method"].as_str().unwrap_or("GET")).uri(uri.as_str());
        for (key, value) in headers {
            request = request.header(key, value);
        }
        let request = request.body(Full::new(body)).expect("recorded requests are well-formed");
        self.service.clone().oneshot(request).await.expect("the server runs")
    }

    async fn send(&self, step: &Value) -> Value {
        let answered = timeout(REQUEST, async {
            let response = self.open(step, false).await;
            let (parts, body) = response.into_parts();
            (parts, body.collect().await)
        });
        let Ok((parts, body)) = answered.await else {
            return json!({ "status": 0, "type": "", "warnings": [], "body": "the request took too long" });
        };
        let raw = body.map(|b| b.to_bytes()).unwrap_or_default();
        let header = |name: &str| parts.headers.get(name).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let body = if raw.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&raw).unwrap_or_else(|_| String::from_utf8_lossy(&raw).into())
        };
        let warnings: Vec<_> = parts
            .headers
            .get_all("warning")
            .iter()
            .map(|w| String::from_utf8_lossy(w.as_bytes()).into_owned())
            .collect();
        json!({
            "status": parts.status.as_u16(),
            "type": header("content-type").split(';').next(),
            "warnings": warnings,
            "body": body,
        })
    }

    async fn watch(&self, step: &Value) -> Watch {
        let response = self.open(step, true).await;
        let status = response.status().as_u16();
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let mut body = response.into_body();
        tokio::spawn(async move {
            let mut pending = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                pending.extend_from_slice(&data);
                while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    if let Ok(event) = serde_json::from_slice(&line) {
                        seen.lock().push(event);
                    }
                }
            }
        });
        Watch { status, events }
    }
}

fn media_type(name: &str) -> &str {
    match name {
        "json" => "application/json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "json-patch" => "application/json-patch+json",
        "apply" => "application/apply-patch+yaml",
        "yaml" => "application/yaml",
        "cbor" => "application/cbor",
        other => other,
    }
}

/// A value as text in a URL or a header.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_string(),
        Value::Bool(true) => "True".to_string(),
        Value::Bool(false) => "False".to_string(),
        other => other.to_string(),
    }
}

fn escape(text: &str, safe: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-_.~".contains(c) || safe.contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

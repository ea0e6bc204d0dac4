//! Answers: encoding values and Statuses in the form the client accepts.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use super::{Response, ServerBody};
use crate::request::negotiate::{self, Endpoint};
use crate::request::{Encoding, Output, Query};

/// The type of JSON answers.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body with a type.
pub(crate) fn with(code: u16, content_type: HeaderValue, body: impl Into<ServerBody>) -> Response {
    let mut response = http::Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Plain text.
pub(crate) fn text(code: u16, body: impl Into<String>) -> Response {
    with(code, HeaderValue::from_static("text/plain; charset=utf-8"), body.into())
}

/// What nobody serves.
pub(crate) fn not_found_text() -> Response {
    text(404, "404 page not found\n")
}

/// A value in the negotiated encoding.
pub(crate) fn value(code: u16, output: Output, value: &Value) -> Response {
    match output.encoding {
        Encoding::Yaml => {
            with(code, HeaderValue::from_static("application/yaml"), crate::request::yaml::write(value))
        }
        Encoding::Json => with(code, JSON, json_bytes(value, output.pretty)),
    }
}

fn json_bytes(value: &Value, pretty: bool) -> Bytes {
    let mut out = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) }
        .expect("a value is always JSON");
    out.push(b'\n');
    out.into()
}

/// A Status as an object with kind and apiVersion.
pub(crate) fn status_object(status: &Status) -> Value {
    let mut object = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status.status });
    if !status.message.is_empty() {
        object["message"] = json!(status.message);
    }
    if !status.reason.is_empty() {
        object["reason"] = json!(status.reason);
    }
    if let Some(details) = &status.details {
        object["details"] = serde_json::to_value(details).unwrap_or_default();
    }
    if status.code != 0 {
        object["code"] = json!(status.code);
    }
    object
}

/// A failure, in an encoding the client accepts (JSON if it accepts none).
pub(crate) fn failure(headers: &HeaderMap, query: &Query, status: &Status) -> Response {
    let output = negotiate::output(headers, query, Endpoint::Plain)
        .or_else(|_| negotiate::output(headers, query, Endpoint::Object))
        .unwrap_or_default();
    let mut response = value(status.code, output, &status_object(status));
    if let Some(details) = &status.details
        && details.retry_after_seconds > 0
    {
        response.headers_mut().insert(RETRY_AFTER, details.retry_after_seconds.into());
    }
    response
}

/// A `Warning` header: `299 - "text"`, without what a header cannot hold.
pub(crate) fn warning(text: &str) -> Option<HeaderValue> {
    let mut out = String::with_capacity(text.len() + 10);
    out.push_str("299 - \"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    HeaderValue::from_bytes(out.as_bytes()).ok()
}

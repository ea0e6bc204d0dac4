//! Discovery and OpenAPI over HTTP: which document a path and an Accept header ask for, entity tags and 304.

use bytes::Bytes;
use http::header::{ACCEPT, ETAG, HOST, HeaderValue, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderMap, Method};
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::{Core, Response, ServerBody, respond};
use crate::discovery::{Aggregated, Tagged};
use crate::openapi::Form;
use crate::request::negotiate::{self, Endpoint};
use crate::request::{Encoding, Output, RequestInfo};
use crate::resources::Table;

/// Answers a path of discovery or OpenAPI; `None` for any other.
pub(super) fn serve(
    core: &Core,
    table: &Table,
    info: &RequestInfo,
    parts: &Parts,
) -> Option<Result<Response, Status>> {
    let segments: Vec<&str> = info.path.trim_matches('/').split('/').collect();
    let document = match segments.as_slice() {
        ["openapi", rest @ ..] if !info.path.ends_with('/') => return openapi(core, table, rest, parts),
        ["api" | "apis"] => {
            let core_group = segments[0] == "api";
            match aggregated_form(&parts.headers) {
                Some(form) => {
                    if let Err(status) = only_get(parts) {
                        return Some(Err(status));
                    }
                    let documents = core.discovery(table);
                    let version = if form == Aggregated::V2 { "v2" } else { "v2beta1" };
                    let content_type = format!(
                        "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                    );
                    let mut response =
                        tagged(documents.aggregated(core_group, form), &content_type, &parts.headers);
                    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
                    return Some(Ok(response));
                }
                None if core_group => {
                    let host = parts.headers.get(HOST).and_then(|h| h.to_str().ok());
                    core.discovery(table).core_versions(host.unwrap_or_default())
                }
                None => serde_json::from_slice(&core.discovery(table).group_list()).unwrap_or_default(),
            }
        }
        ["api", version] => match core.discovery(table).resource_list("", version) {
            Some(list) => list,
            None => return Some(Err(Status::path_not_found())),
        },
        ["apis", group] => core.discovery(table).group_named(group)?,
        ["apis", group, version] => match core.discovery(table).resource_list(group, version) {
            Some(list) => list,
            None if table.has_group(group) && !table.is_defined(group) => {
                return Some(Err(Status::path_not_found()));
            }
            None => return None,
        },
        _ => return None,
    };
    // Groups, and the versions of definitions, are told to any method.
    let method = match segments.as_slice() {
        ["apis", _] => Ok(()),
        ["apis", group, _] if table.is_defined(group) => Ok(()),
        _ => only_get(parts),
    };
    Some(method.and_then(|()| {
        let output = negotiate::output(&parts.headers, &info.query, Endpoint::Plain)?;
        Ok(respond::value(200, output, &document))
    }))
}

fn only_get(parts: &Parts) -> Result<(), Status> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        Ok(())
    } else {
        Err(Status::method_not_allowed())
    }
}

/// The aggregated form that the client prefers over the old documents, if any.
fn aggregated_form(headers: &HeaderMap) -> Option<Aggregated> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    for clause in negotiate::clauses(accept) {
        let [kind, group, version] = ["as", "g", "v"].map(|key| clause.param(key));
        match (kind, group, version) {
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some(version))
                if clause.encodings(false).contains(&Encoding::Json) =>
            {
                match version {
                    "v2" => return Some(Aggregated::V2),
                    "v2beta1" => return Some(Aggregated::V2Beta1),
                    _ => {}
                }
            }
            (None, None, None) if !clause.encodings(false).is_empty() => return None,
            _ => {}
        }
    }
    None
}

fn tagged(document: &Tagged, content_type: &str, headers: &HeaderMap) -> Response {
    let unchanged = headers.get_all(IF_NONE_MATCH).iter().any(|h| h.as_bytes() == document.etag.as_bytes());
    let content_type = HeaderValue::from_str(content_type).unwrap_or(respond::JSON);
    let mut response = if unchanged {
        respond::with(304, content_type, ServerBody::empty())
    } else {
        respond::with(200, content_type, document.body.clone())
    };
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

fn openapi(core: &Core, table: &Table, rest: &[&str], parts: &Parts) -> Option<Result<Response, Status>> {
    let version = &core.config().version.git_version;
    let accept = parts.headers.get(ACCEPT).and_then(|h| h.to_str().ok()).unwrap_or("*/*");
    Some(match rest {
        ["v2"] => {
            let protobuf = negotiate::clauses(accept)
                .first()
                .is_some_and(|c| c.main == "application" && c.sub.starts_with("com.github.proto-openapi"));
            let (form, content_type) = if protobuf {
                (Form::Protobuf, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
            } else {
                (Form::Json, "application/json")
            };
            Ok(tagged(&core.openapi().v2(table, form, version), content_type, &parts.headers))
        }
        ["v3"] => {
            let index: Value = core.openapi().index(table, version);
            Ok(respond::value(200, Output::default(), &index))
        }
        ["v3", path @ ..] => {
            let document = core.openapi().document(table, &path.join("/"), version)?;
            let mut response = tagged(&document, "application/json", &parts.headers);
            // With the right hash in the URL the document never changes.
            let hash = format!("hash={}", document.etag.trim_matches('"'));
            if parts.uri.query().is_some_and(|q| q.split('&').any(|p| p == hash)) {
                let for_ever = HeaderValue::from_static("public, immutable");
                response.headers_mut().insert(http::header::CACHE_CONTROL, for_ever);
            }
            if !is_json_accepted(accept) {
                *response.body_mut() = ServerBody::from(Bytes::new());
                *response.status_mut() = http::StatusCode::NOT_ACCEPTABLE;
            }
            Ok(response)
        }
        _ => return None,
    })
}

fn is_json_accepted(accept: &str) -> bool {
    negotiate::clauses(accept).iter().any(|c| c.encodings(false).contains(&Encoding::Json))
}

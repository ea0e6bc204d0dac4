//! Asking the server behind an APIService whether it answers, and what it serves.
//!
//! The same question that decides the condition Available also brings the resources of the group version; after it
//! come the documents that discovery and OpenAPI are merged from, which are fetched again only when they changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use http::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use http_body_util::{BodyExt, Empty, Limited};
use serde_json::Value;

use super::remote::{Document, Facts};
use super::upstream::Upstream;
use super::{Remote, discovery, headers};
use crate::authn::{AUTHENTICATED, MASTERS, UserInfo};
use crate::outbound::{self, Address};
use crate::server::Core;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a large document may take.
const PATIENCE_WITH_DOCUMENTS: Duration = Duration::from_secs(60);
/// Endpoints that are asked, all at once.
const MAX_ATTEMPTS: usize = 5;
/// Longer answers are a failure.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
     application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
const JSON: &str = "application/json";

/// An answer.
struct Answer {
    code: u16,
    etag: Box<str>,
    body: Bytes,
}

/// Asks. The error is what the condition says.
pub(super) async fn ask(
    core: &Core,
    remote: &Remote,
    last: Option<Arc<Facts>>,
) -> Result<Arc<Facts>, String> {
    let backend = &remote.backend;
    let upstream = core.upstreams().of(backend)?;
    let found = outbound::addresses(core, &backend.namespace, &backend.name, backend.port).await;
    let addresses = found.map_err(|error| error.to_string())?;
    let mut attempts: FuturesUnordered<_> =
        addresses.iter().take(MAX_ATTEMPTS).map(|address| attempt(&upstream, address, remote)).collect();
    let mut outcome = Err("no endpoint was asked".to_string());
    while let Some(one) = attempts.next().await {
        outcome = one;
        if outcome.is_ok() {
            break;
        }
    }
    drop(attempts);
    let (address, resources) = outcome?;
    let facts = facts(&Source { upstream: &upstream, address: &address }, remote, &resources, last).await;
    Ok(Arc::new(facts))
}

/// One endpoint, asked for the list of resources.
async fn attempt(
    upstream: &Upstream,
    address: &Address,
    remote: &Remote,
) -> Result<(Address, Bytes), String> {
    let source = Source { upstream, address };
    let url = source.url(&remote.path());
    match source.get(&remote.path(), JSON, "", PATIENCE).await {
        Ok(answer) if (200..300).contains(&answer.code) => Ok((address.clone(), answer.body)),
        Ok(answer) => {
            let code = answer.code;
            Err(format!("failing or missing response from {url}: bad status from {url}: {code}"))
        }
        Err(error) => Err(format!("failing or missing response from {url}: Get {url:?}: {error}")),
    }
}

/// What the server says of the group version: as new as can be had. A document that cannot be fetched now stays as it
/// was.
async fn facts(source: &Source<'_>, remote: &Remote, resources: &Bytes, last: Option<Arc<Facts>>) -> Facts {
    let last = last.map(|facts| Facts::clone(&facts)).unwrap_or_default();
    let legacy =
        || Document { etag: Box::default(), content: discovery::of_resource_list(remote, resources) };
    let discovery = match source.get("/apis", AGGREGATED, &last.discovery.etag, PATIENCE).await {
        Ok(answer) if answer.code == 304 => last.discovery,
        Ok(answer) if answer.code == 200 => match discovery::of_aggregated(remote, &answer.body) {
            Some(content) => Document { etag: answer.etag, content },
            None => legacy(),
        },
        _ => legacy(),
    };
    let openapi = match source.get("/openapi/v3", JSON, "", PATIENCE).await {
        Ok(answer) if answer.code == 200 => documents_of(remote, &answer.body),
        Ok(_) => BTreeMap::new(),
        Err(_) => last.openapi,
    };
    let swagger = match source.get("/openapi/v2", JSON, &last.swagger.etag, PATIENCE_WITH_DOCUMENTS).await {
        Ok(answer) if answer.code == 200 => Document { etag: answer.etag, content: answer.body },
        Ok(answer) if answer.code == 304 => last.swagger,
        Ok(_) => Document::default(),
        Err(_) => last.swagger,
    };
    Facts { discovery, openapi, swagger }
}

/// The documents of OpenAPI v3 that are about the group of this remote.
fn documents_of(remote: &Remote, index: &[u8]) -> BTreeMap<Box<str>, Box<str>> {
    let index: Value = serde_json::from_slice(index).unwrap_or_default();
    let own = remote.path();
    let wanted = [own.trim_start_matches('/'), &format!("apis/{}", remote.group)].map(str::to_string);
    let found = wanted.iter().filter_map(|path| {
        let url = index["paths"][path]["serverRelativeURL"].as_str()?;
        // A document of another place is not this server's to give.
        url.starts_with(&format!("/openapi/v3/{path}")).then(|| (path.as_str().into(), url.into()))
    });
    found.collect()
}

/// One endpoint.
struct Source<'a> {
    upstream: &'a Upstream,
    address: &'a Address,
}

impl Source<'_> {
    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", outbound::authority(self.address))
    }

    async fn get(
        &self,
        path: &str,
        accept: &'static str,
        etag: &str,
        patience: Duration,
    ) -> Result<Answer, String> {
        match tokio::time::timeout(patience, self.exchange(path, accept, etag)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into())
            }
        }
    }

    async fn exchange(&self, path: &str, accept: &'static str, etag: &str) -> Result<Answer, String> {
        let user = UserInfo::new("system:kube-aggregator", &[MASTERS, AUTHENTICATED]);
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = http::Request::new(body);
        *request.uri_mut() = self.url(path).parse().map_err(|_| "the URL is malformed".to_string())?;
        *request.headers_mut() = headers::of_question(&user, accept);
        if let Ok(etag) = HeaderValue::from_str(etag)
            && !etag.is_empty()
        {
            request.headers_mut().insert(IF_NONE_MATCH, etag);
        }
        let answer = self.upstream.send(request, false).await?;
        let code = answer.status().as_u16();
        let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default().into();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { code, etag, body })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_of_other_groups_and_other_places_are_left_out() {
        let spec = json!({"spec": {"group": "a.io", "version": "v1", "service": {"name": "s"}}});
        let url = |url: &str| json!({"serverRelativeURL": url});
        let index = json!({"paths": {
            "apis/a.io": url("/openapi/v3/apis/a.io?hash=1"), "apis/a.io/v1": url("https://evil.example/x"),
            "apis/b.io/v1": url("/openapi/v3/apis/b.io/v1?hash=2"), "api/v1": url("/openapi/v3/api/v1?hash=3"),
        }});
        let found = documents_of(&Remote::of(&spec, true, None), index.to_string().as_bytes());
        assert_eq!(found.keys().map(|k| &**k).collect::<Vec<_>>(), ["apis/a.io"]);
    }
}

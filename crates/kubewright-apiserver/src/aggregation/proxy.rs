//! Passing a request on to the server behind an APIService, and its answer back.
//!
//! Heads are made anew and bodies are streamed, both ways: what is sent is never what was received, byte for byte, so
//! that there is nothing to smuggle. The path is the one that was authorized. A redirect is not followed and not
//! passed on. A connection that breaks in the middle of an answer breaks the client's.

use std::sync::Arc;

use futures::StreamExt;
use http::header::{CONNECTION, HeaderName, HeaderValue, LOCATION, UPGRADE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Remote, headers};
use crate::audit::PeerAddress;
use crate::authn::UserInfo;
use crate::outbound;
use crate::request::RequestInfo;
use crate::resources::RequestBody;
use crate::server::{Core, Response, ServerBody, respond};

/// What a path keeps as it is; everything else is percent-encoded.
const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const REDIRECTED: &str = "the backend attempted to redirect this request, which is not permitted";
/// How long the other direction of a tunnel may go on after one has ended.
const HALF_CLOSED: std::time::Duration = std::time::Duration::from_secs(10);

/// Passes a request on and gives the answer.
pub(crate) async fn forward(
    core: &Arc<Core>,
    remote: &Remote,
    user: &UserInfo,
    info: &RequestInfo,
    audit_id: &HeaderValue,
    request: (Parts, RequestBody),
) -> Response {
    if !remote.available {
        return plain(503, "service unavailable");
    }
    let upstream = match core.upstreams().of(&remote.backend) {
        Ok(upstream) => upstream,
        Err(error) => return plain(500, &error),
    };
    let backend = &remote.backend;
    let found = outbound::addresses(core, &backend.namespace, &backend.name, backend.port).await;
    let addresses = match found {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::warn!(%error, namespace = &*backend.namespace, "a service leads nowhere");
            return plain(503, "service unavailable");
        }
    };
    // Any endpoint is as good as another: take turns.
    let at = usize::from(core.random::<1>()[0]) % addresses.len().max(1);
    let (mut parts, body) = request;
    let upgrade = headers::upgrade(&parts.method, &parts.headers);
    let client = parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip());
    let mut sent = match headers::of_request(&parts.headers, user, client) {
        Ok(headers) => headers,
        Err(error) => return unreachable(&error),
    };
    sent.insert(AUDIT_ID, audit_id.clone());
    if let Some(protocol) = &upgrade {
        sent.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        sent.insert(UPGRADE, protocol.clone());
    }
    let Some(uri) =
        addresses.get(at).and_then(|address| uri(&outbound::authority(address), info, &parts.uri))
    else {
        return plain(503, "service unavailable");
    };
    let mut outgoing = http::Request::new(body);
    *outgoing.method_mut() = parts.method.clone();
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = sent;

    // How long the head of an answer may take is the matter of the chain, as for every request.
    let answered = upstream.send(outgoing, upgrade.is_some()).await;
    match answered {
        Err(error) => {
            tracing::debug!(error, group = &*remote.group, version = &*remote.version, "no answer");
            core.upstreams().doubt(remote);
            unreachable(&error)
        }
        Ok(answer) => match upgrade {
            Some(_) => upgraded(core, &mut parts, answer),
            None => passed(core, info, answer),
        },
    }
}

/// The URI at the other server.
fn uri(authority: &str, info: &RequestInfo, asked: &Uri) -> Option<Uri> {
    let mut path = percent_encoding::utf8_percent_encode(&info.path, &PATH).to_string();
    if let Some(query) = asked.query() {
        path.push('?');
        path.push_str(query);
    }
    Uri::builder().scheme("https").authority(authority).path_and_query(path).build().ok()
}

/// Text as Go's http.Error writes it.
fn plain(code: u16, text: &str) -> Response {
    let mut response = respond::text(code, format!("{text}\n"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn unreachable(error: &str) -> Response {
    plain(503, &format!("error trying to reach service: {error}"))
}

/// An answer on its way back.
fn passed(core: &Arc<Core>, info: &RequestInfo, answer: http::Response<Incoming>) -> Response {
    let (parts, body) = answer.into_parts();
    if parts.status.is_redirection() && parts.headers.contains_key(LOCATION) {
        return respond::text(502, REDIRECTED);
    }
    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(std::io::Error::other));
    let body = if info.is_long_running() {
        // A watch ends with this server, as its own do.
        let core = Arc::clone(core);
        ServerBody::stream(chunks.take_until(Box::pin(async move { core.stopped().await })))
    } else {
        ServerBody::stream(chunks)
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers::of_answer(&parts.headers);
    response
}

/// An answer to a request that wanted to go on in another protocol.
fn upgraded(core: &Arc<Core>, request: &mut Parts, mut answer: http::Response<Incoming>) -> Response {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return match answer.status().as_u16() {
            code @ ..400 => {
                let error = format!("invalid upgrade response: status code {code}");
                plain(503, &error)
            }
            _ => passed(core, &RequestInfo::default(), answer),
        };
    }
    let Some(near) = request.extensions.remove::<hyper::upgrade::OnUpgrade>() else {
        return plain(503, "request connection cannot be hijacked");
    };
    let far = hyper::upgrade::on(&mut answer);
    let serving = Arc::clone(core);
    tokio::spawn(async move {
        let (near, far) = match tokio::try_join!(near, far) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade came to nothing"),
        };
        tokio::select! {
            () = tunnel(near, far) => {}
            () = serving.stopped() => {}
        }
    });
    let mut response = http::Response::new(ServerBody::empty());
    *response.status_mut() = answer.status();
    let protocol = answer.headers().get(UPGRADE).cloned();
    *response.headers_mut() = headers::of_answer(answer.headers());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(protocol) = protocol {
        response.headers_mut().insert(UPGRADE, protocol);
    }
    response
}

/// Copies bytes both ways until one side has ended, and a little longer for the other.
async fn tunnel(near: Upgraded, far: Upgraded) {
    let (near_in, near_out) = tokio::io::split(TokioIo::new(near));
    let (far_in, far_out) = tokio::io::split(TokioIo::new(far));
    let (there, back) = (copy(near_in, far_out), copy(far_in, near_out));
    tokio::pin!(there, back);
    tokio::select! {
        () = &mut there => drop(tokio::time::timeout(HALF_CLOSED, back).await),
        () = &mut back => drop(tokio::time::timeout(HALF_CLOSED, there).await),
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // A side that breaks ends the tunnel, as one that closes does.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(uri: &str) -> String {
        let asked: Uri = uri.parse().unwrap();
        let info = RequestInfo::new(&http::Method::GET, &asked);
        super::uri("[::1]:443", &info, &asked).unwrap().to_string()
    }

    #[test]
    fn the_path_that_was_authorized_is_the_path_that_is_sent() {
        assert_eq!(sent("/apis/a/v1/x?b=%2F&a=1"), "https://[::1]:443/apis/a/v1/x?b=%2F&a=1");
        // An encoded slash was read as one, and is sent as one.
        assert_eq!(sent("/apis/a/v1/namespaces/n%2Fx/y"), "https://[::1]:443/apis/a/v1/namespaces/n/x/y");
        assert_eq!(sent("/apis/a/v1/x%20y%25%3F%23"), "https://[::1]:443/apis/a/v1/x%20y%25%3F%23");
    }
}

//! Calling a webhook: one POST over TLS to a URL or to a service, within a time, with a bounded answer.
//!
//! A request's bytes flow out and an answer's bytes come in. Connections are kept for the next call to the same place
//! with the same authorities. Redirects are not followed, nothing that a webhook may have seen is sent twice, and a
//! server that nobody vouches for is not talked to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use kubewright_machinery::field::quote;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::outbound;
use crate::outbound::dial::{self, Trust};
use crate::server::Core;

/// Longer answers are a failure.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How much of the text of a failure is told.
const MAX_TOLD: usize = 2048;
/// Connections that are kept open to one place.
const MAX_IDLE: usize = 8;
/// How long one is kept without use.
const IDLE: Duration = Duration::from_secs(60);
/// Places that are remembered.
const MAX_PLACES: usize = 256;

/// Where a webhook is called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// The URL as messages show it, with the timeout.
    url: Uri,
    /// Host and port to connect to.
    host: String,
    port: u16,
    /// The name that the certificate has to be for.
    server_name: String,
}

/// What tells one place from another: a connection is for all calls with the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    host: String,
    port: u16,
    server_name: String,
    authorities: String,
}

/// A place's set-up of TLS and its open connections.
struct Upstream {
    tls: TlsConnector,
    idle: Mutex<Vec<(SendRequest<Full<Bytes>>, Instant)>>,
}

/// The connections to webhooks that a server keeps.
#[derive(Default)]
pub(crate) struct Connections {
    places: Mutex<HashMap<Place, Arc<Upstream>>>,
}

impl Connections {
    fn upstream(&self, place: &Place) -> Result<Arc<Upstream>, String> {
        if let Some(upstream) = self.places.lock().get(place) {
            return Ok(Arc::clone(upstream));
        }
        let tls = dial::tls(Trust::Bundle(&place.authorities), None, &[b"http/1.1"])?;
        let upstream = Arc::new(Upstream { tls, idle: Mutex::default() });
        let mut places = self.places.lock();
        if places.len() >= MAX_PLACES {
            places.clear();
        }
        places.insert(place.clone(), Arc::clone(&upstream));
        Ok(upstream)
    }
}

impl Upstream {
    /// A connection that was left open, if there is one.
    fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE);
        let at = idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(idle.swap_remove(at).0)
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }

    async fn connect(&self, place: &Place) -> Result<SendRequest<Full<Bytes>>, String> {
        let address = (place.host.clone(), place.port);
        let stream = dial::connect(&self.tls, &address, &place.server_name).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Ends when the sender is dropped or the other side closes.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Calls a webhook by its `clientConfig`. The error is in the words of a real server as far as it is ours to word.
pub(super) async fn call(
    core: &Core,
    config: &Value,
    timeout: Duration,
    body: Bytes,
) -> Result<Bytes, String> {
    let target = target(core, config, timeout).await?;
    let shown = format!("Post {}", quote(&target.url.to_string()));
    match tokio::time::timeout(timeout, exchange(core, &target, config, body)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Failure::Connection(error))) => Err(format!("{shown}: {error}")),
        Ok(Err(Failure::Answer(error))) => Err(error),
        Err(_) => Err(format!("{shown}: context deadline exceeded")),
    }
}

/// Why an exchange failed.
enum Failure {
    /// On the way there or back.
    Connection(String),
    /// The answer says so.
    Answer(String),
}

async fn target(core: &Core, config: &Value, timeout: Duration) -> Result<Target, String> {
    let seconds = timeout.as_secs();
    if let Some(url) = config["url"].as_str() {
        let joined = format!("{url}{}timeout={seconds}s", if url.contains('?') { '&' } else { '?' });
        let url: Uri = joined.parse().map_err(|_| format!("the URL {} is malformed", quote(url)))?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
        if host.is_empty() || url.scheme_str() != Some("https") {
            return Err(format!("the URL {} is not https", quote(&url.to_string())));
        }
        let port = url.port_u16().unwrap_or(443);
        return Ok(Target { server_name: host.clone(), host, port, url });
    }
    let service = &config["service"];
    let text = |field: &str| service[field].as_str().unwrap_or_default();
    let (namespace, name, path) = (text("namespace"), text("name"), text("path"));
    let port = service["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(443);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let server_name = format!("{name}.{namespace}.svc");
    let url = format!("https://{server_name}:{port}{slash}{path}?timeout={seconds}s");
    let shown = format!("Post {}", quote(&url));
    let (host, to) =
        outbound::resolve(core, namespace, name, port).await.map_err(|error| format!("{shown}: {error}"))?;
    let url = url.parse().map_err(|_| format!("{shown}: the path is malformed"))?;
    Ok(Target { url, host, port: to, server_name })
}

async fn exchange(core: &Core, target: &Target, config: &Value, body: Bytes) -> Result<Bytes, Failure> {
    let place = Place {
        host: target.host.clone(),
        port: target.port,
        server_name: target.server_name.clone(),
        authorities: config["caBundle"].as_str().unwrap_or_default().to_string(),
    };
    let upstream = core.webhook_connections().upstream(&place).map_err(Failure::Connection)?;
    loop {
        let (mut sender, reused) = match upstream.take() {
            Some(sender) => (sender, true),
            None => (upstream.connect(&place).await.map_err(Failure::Connection)?, false),
        };
        let path = target.url.path_and_query().map_or("/", |p| p.as_str());
        let host = target.url.authority().map_or("", |a| a.as_str());
        let request = Request::post(path)
            .header(http::header::HOST, host)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json, */*")
            .header(http::header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body.clone()))
            .map_err(|error| Failure::Connection(error.to_string()))?;
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            // It was closed while nobody used it, and the webhook has seen nothing of this request.
            Err(error) if reused && error.is_canceled() => continue,
            Err(error) => return Err(Failure::Connection(plain(&error))),
        };
        let code = response.status().as_u16();
        let text = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let text = text.map_err(|error| {
            Failure::Connection(match error.downcast_ref::<LengthLimitError>() {
                Some(_) => format!("the answer is longer than {MAX_ANSWER} bytes"),
                None => error.to_string(),
            })
        })?;
        upstream.keep(sender);
        let text = text.to_bytes();
        return if (200..300).contains(&code) {
            Ok(text)
        } else {
            Err(Failure::Answer(refused(code, &text)))
        };
    }
}

/// What a client of the API says of an answer that is a failure.
fn refused(code: u16, body: &[u8]) -> String {
    let told = String::from_utf8_lossy(&body[..body.len().min(MAX_TOLD)]).trim().to_string();
    let or = |text: &str| if told.is_empty() { text.to_string() } else { told.clone() };
    match code {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 => or("unknown"),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        406 => or("the server was unable to respond with a content type that the client supports"),
        409 => "the server reported a conflict".into(),
        415 => or("the body of the request was in an unknown format"),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => or("the server is currently unable to handle the request"),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the \
                request"
            .into(),
        500.. => {
            format!("an error on the server ({}) has prevented the request from succeeding", quote(&or("unknown")))
        }
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

fn plain(error: &hyper::Error) -> String {
    if error.is_incomplete_message() { "EOF".into() } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_as_clients_of_the_api_tell_them() {
        assert_eq!(refused(404, b"x"), "the server could not find the requested resource");
        assert_eq!(
            refused(500, b"oh\n"),
            "an error on the server (\"oh\") has prevented the request from succeeding"
        );
        assert_eq!(
            refused(302, b""),
            "the server responded with the status code 302 but did not return more information"
        );
    }
}

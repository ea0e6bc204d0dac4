//! Calling a webhook: one POST over TLS to a URL or to a service, within a time, with a bounded answer.
//!
//! A request's bytes flow out and an answer's bytes come in. Redirects are not followed, nothing is tried twice, and a
//! server that nobody vouches for is not talked to.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use kubewright_machinery::field::quote;
use kubewright_pki::Bundle;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::server::Core;

/// Longer answers are a failure.
const MAX_ANSWER: usize = 3 * 1024 * 1024;

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

/// Calls a webhook by its `clientConfig`. The error is in the words of a real server as far as it is ours to word.
pub(super) async fn call(
    core: &Core,
    config: &Value,
    timeout: Duration,
    body: Vec<u8>,
) -> Result<Bytes, String> {
    let target = target(core, config, timeout).await?;
    let shown = format!("Post {}", quote(&target.url.to_string()));
    let answer = tokio::time::timeout(timeout, exchange(&target, config, body)).await;
    match answer {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(format!("{shown}: {error}")),
        Err(_) => Err(format!("{shown}: context deadline exceeded")),
    }
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
        resolve(core, namespace, name, port).await.map_err(|error| format!("{shown}: {error}"))?;
    let url = url.parse().map_err(|_| format!("{shown}: the path is malformed"))?;
    Ok(Target { url, host, port: to, server_name })
}

/// Where a service's port leads: to one of its ready endpoints, else to its cluster address.
async fn resolve(core: &Core, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String> {
    let get = |plural: &'static str| core.reader().get("", plural, namespace, name);
    let service = get("services").await.map_err(|error| error.to_string())?;
    let service = service.ok_or_else(|| format!("service {} not found", quote(name)))?;
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return Ok((spec["externalName"].as_str().unwrap_or_default().to_string(), port));
    }
    let mut ports = spec["ports"].as_array().into_iter().flatten();
    let found = ports.find(|p| p["port"] == u64::from(port));
    let found = found.ok_or_else(|| format!("no service port {port} found for service {}", quote(name)))?;
    let endpoints = get("endpoints").await.map_err(|error| error.to_string())?;
    for subset in endpoints.iter().flat_map(|e| e["subsets"].as_array().into_iter().flatten()) {
        let address = subset["addresses"][0]["ip"].as_str();
        let named =
            |p: &&Value| p["name"].as_str().unwrap_or_default() == found["name"].as_str().unwrap_or_default();
        let port =
            subset["ports"].as_array().into_iter().flatten().find(named).and_then(|p| p["port"].as_u64());
        if let (Some(address), Some(port)) = (address, port.and_then(|p| u16::try_from(p).ok())) {
            return Ok((address.to_string(), port));
        }
    }
    match spec["clusterIP"].as_str() {
        Some(address) if !matches!(address, "" | "None") => Ok((address.to_string(), port)),
        _ => Err(format!("no endpoints available for service {}", quote(name))),
    }
}

async fn exchange(target: &Target, config: &Value, body: Vec<u8>) -> Result<Bytes, String> {
    let tls = tls(config)?;
    let name = ServerName::try_from(target.server_name.clone()).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|error| format!("dial tcp {}:{}: {}", target.host, target.port, plain(&error)))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let path = target.url.path_and_query().map_or("/", |p| p.as_str());
    let host = target.url.authority().map_or("", |a| a.as_str());
    let request = Request::post(path)
        .header(http::header::HOST, host)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json, */*")
        .header(http::header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string());
    let answer = match response {
        Ok(response) if response.status() == http::StatusCode::OK => {
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
        }
        Ok(response) => Err(format!("the webhook answered {}", response.status())),
        Err(error) => Err(error),
    };
    driver.abort();
    answer
}

fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        _ => error.to_string(),
    }
}

/// Trusts the bundle of the configuration and nobody else.
fn tls(config: &Value) -> Result<rustls::ClientConfig, String> {
    const UNKNOWN: &str = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let text = config["caBundle"].as_str().filter(|b| !b.is_empty()).ok_or(UNKNOWN)?;
    let pem = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| UNKNOWN)?;
    let bundle = Bundle::from_pem(&String::from_utf8_lossy(&pem)).map_err(|error| error.to_string())?;
    let mut tls = kubewright_pki::client_config(&bundle, None).map_err(|error| error.to_string())?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

//! The caller over sockets: TCP, TLS, one HTTP/1.1 request a connection.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kubewright_pki::Bundle;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{Call, CallError, Endpoint, Outbound};
use crate::BoxFuture;
use crate::resources::Reader;

/// Calls over HTTPS. Without a CA bundle nobody is trusted: there are no system authorities here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Https;

/// Where to connect, and as whom the other side must show itself.
struct Target {
    address: String,
    server_name: String,
    path: String,
}

impl Outbound for Https {
    fn post<'a>(&'a self, reader: &'a Reader, call: Call) -> BoxFuture<'a, Result<Bytes, CallError>> {
        Box::pin(async move {
            let separator = if call.endpoint.url().contains('?') { '&' } else { '?' };
            let url = format!("{}{separator}timeout={}s", call.endpoint.url(), call.timeout.as_secs());
            match tokio::time::timeout(call.timeout, exchange(reader, &call, &url)).await {
                Ok(answer) => answer,
                Err(_) => Err(CallError::Timeout { url }),
            }
        })
    }
}

async fn exchange(reader: &Reader, call: &Call, url: &str) -> Result<Bytes, CallError> {
    let target = target(reader, &call.endpoint, url).await?;
    let roots = match call.ca_bundle.trim() {
        "" => Bundle::default(),
        pem => Bundle::from_pem(pem).map_err(|source| CallError::Authorities { source })?,
    };
    let config =
        kubewright_pki::client_config(&roots, None).map_err(|source| CallError::Authorities { source })?;
    let connected = TcpStream::connect(&*target.address).await;
    let stream = connected.map_err(|source| CallError::Connect {
        url: url.into(),
        address: target.address.clone(),
        source,
    })?;
    let name =
        ServerName::try_from(target.server_name.clone()).map_err(|_| CallError::Url { url: url.into() })?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|source| CallError::Tls { url: url.into(), source })?;
    let broken = |source| CallError::Broken { url: url.into(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = http::Request::post(&*target.path)
        .header(HOST, &*target.server_name)
        .header(CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json")
        .body(Full::new(call.body.clone()))
        .map_err(|_| CallError::Url { url: url.into() })?;
    // The connection lives as long as this exchange: nothing is left running.
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let code = response.status().as_u16();
        if !response.status().is_success() {
            return Err(CallError::Refused { code });
        }
        Ok(response.into_body().collect().await.map_err(broken)?.to_bytes())
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        // The other side closed, perhaps after its answer.
        _ = &mut connection => exchange.await,
    }
}

async fn target(reader: &Reader, endpoint: &Endpoint, url: &str) -> Result<Target, CallError> {
    match endpoint {
        Endpoint::Url(_) => {
            let wrong = || CallError::Url { url: url.into() };
            let uri: http::Uri = url.parse().map_err(|_| wrong())?;
            if uri.scheme_str() != Some("https") {
                return Err(wrong());
            }
            let host = uri.host().ok_or_else(wrong)?;
            let address = format!("{host}:{}", uri.port_u16().unwrap_or(443));
            let server_name = host.trim_matches(['[', ']']).to_string();
            let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_string();
            Ok(Target { address, server_name, path })
        }
        Endpoint::Service { namespace, name, port, path: _ } => {
            let address = service_address(reader, namespace, name, *port, url).await?;
            let at = url.find(".svc:").and_then(|at| url[at..].find('/').map(|slash| at + slash));
            let path = at.map_or("/", |at| &url[at..]).to_string();
            Ok(Target { address, server_name: format!("{name}.{namespace}.svc"), path })
        }
    }
}

/// An endpoint of a service that is ready; there is no network that would route its cluster address.
async fn service_address(
    reader: &Reader,
    namespace: &str,
    name: &str,
    port: u16,
    url: &str,
) -> Result<String, CallError> {
    let no_service = || CallError::NoService { url: url.into(), name: name.into() };
    let service = reader.get("", "services", namespace, name).await.ok().flatten().ok_or_else(no_service)?;
    let no_endpoint = || CallError::NoEndpoint { url: url.into(), name: name.into() };
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let port = ports
        .into_iter()
        .flatten()
        .find(|p| p["port"].as_u64() == Some(u64::from(port)))
        .ok_or_else(no_endpoint)?;
    let port_name = port["name"].as_str().unwrap_or_default();
    if service.pointer("/spec/type").and_then(Value::as_str) == Some("ExternalName") {
        let host = service.pointer("/spec/externalName").and_then(Value::as_str).ok_or_else(no_endpoint)?;
        return Ok(format!("{host}:{}", port["port"]));
    }
    let slices = reader.list("discovery.k8s.io", "endpointslices", namespace).await.unwrap_or_default();
    let of_service = slices.iter().filter(|slice| {
        slice.pointer("/metadata/labels/kubernetes.io~1service-name").and_then(Value::as_str) == Some(name)
    });
    for slice in of_service {
        let found = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let Some(number) = found.and_then(|p| p["port"].as_u64()) else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
            if let Some(address) = endpoint["addresses"][0].as_str().filter(|_| ready) {
                return Ok(if address.contains(':') {
                    format!("[{address}]:{number}")
                } else {
                    format!("{address}:{number}")
                });
            }
        }
    }
    Err(no_endpoint())
}

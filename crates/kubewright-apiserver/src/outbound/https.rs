//! The caller over sockets: TCP, TLS, one HTTP/1.1 request a connection.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kubewright_pki::Bundle;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use super::{Call, CallError, Endpoint, Outbound, resolve};
use crate::BoxFuture;
use crate::server::Core;

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
    fn post<'a>(&'a self, core: &'a Core, call: Call) -> BoxFuture<'a, Result<Bytes, CallError>> {
        Box::pin(async move {
            let separator = if call.endpoint.url().contains('?') { '&' } else { '?' };
            let url = format!("{}{separator}timeout={}s", call.endpoint.url(), call.timeout.as_secs());
            match tokio::time::timeout(call.timeout, exchange(core, &call, &url)).await {
                Ok(answer) => answer,
                Err(_) => Err(CallError::Timeout { url }),
            }
        })
    }
}

async fn exchange(core: &Core, call: &Call, url: &str) -> Result<Bytes, CallError> {
    let target = target(core, &call.endpoint, url).await?;
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

async fn target(core: &Core, endpoint: &Endpoint, url: &str) -> Result<Target, CallError> {
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
            let unresolved = |source| CallError::Service { url: url.into(), source };
            let (host, port) = resolve(core, namespace, name, *port).await.map_err(unresolved)?;
            let address =
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            let at = url.find(".svc:").and_then(|at| url[at..].find('/').map(|slash| at + slash));
            let path = at.map_or("/", |at| &url[at..]).to_string();
            Ok(Target { address, server_name: format!("{name}.{namespace}.svc"), path })
        }
    }
}

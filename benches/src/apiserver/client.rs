//! A client that costs as little as can be: HTTP/1.1 over TLS, one connection each, bodies counted and dropped.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects and shakes hands.
    pub async fn connect(address: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The request in flight says so.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Connects several.
    pub async fn several(
        count: usize,
        address: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(Self::connect(address, tls).await?);
        }
        Ok(out)
    }

    /// Sends a request; the answer must have that status.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        expect: StatusCode,
    ) -> anyhow::Result<Incoming> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().context("a path")?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, header::HeaderValue::from_static("benches/0.1"));
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let found = response.status();
        if found != expect {
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::bail!("{path}: {found}: {}", String::from_utf8_lossy(&body[..body.len().min(500)]));
        }
        Ok(response.into_body())
    }

    /// GET; returns the length of the body.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<usize> {
        count(self.send(Method::GET, path, Bytes::new(), StatusCode::OK).await?).await
    }

    /// GET; returns the body.
    pub async fn read(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let body = self.send(Method::GET, path, Bytes::new(), StatusCode::OK).await?;
        Ok(body.collect().await?.to_bytes())
    }

    /// POST; returns the length of the answer.
    pub async fn post(&mut self, path: &str, body: Bytes) -> anyhow::Result<usize> {
        count(self.send(Method::POST, path, body, StatusCode::CREATED).await?).await
    }
}

async fn count(mut body: Incoming) -> anyhow::Result<usize> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    ensure!(length > 0, "an empty answer");
    Ok(length)
}

//! A client that costs as little as can be: HTTP over TLS, bodies counted and dropped.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One connection of HTTP/1.1, or one of those who share a connection of HTTP/2.
pub struct Client {
    sender: Sender,
}

enum Sender {
    Alone(http1::SendRequest<Full<Bytes>>),
    Shared(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// Connects and shakes hands.
    pub async fn connect(address: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(open(address, tls, b"http/1.1").await?)).await?;
        tokio::spawn(async move {
            // The request in flight says so.
            let _ = connection.await;
        });
        Ok(Self { sender: Sender::Alone(sender) })
    }

    /// Connects several that share one connection.
    pub async fn sharing(
        count: usize,
        address: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
    ) -> anyhow::Result<Vec<Self>> {
        let io = TokioIo::new(open(address, tls, b"h2").await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok((0..count).map(|_| Self { sender: Sender::Shared(sender.clone()) }).collect())
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
        let uri = match &self.sender {
            Sender::Alone(_) => path.parse(),
            Sender::Shared(_) => format!("https://localhost{path}").parse(),
        };
        *request.uri_mut() = uri.context("a path")?;
        let headers = request.headers_mut();
        if let Sender::Alone(_) = &self.sender {
            headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
        }
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, header::HeaderValue::from_static("benches/0.1"));
        let response = match &mut self.sender {
            Sender::Alone(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Shared(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
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

async fn open(
    address: SocketAddr,
    tls: &Arc<rustls::ClientConfig>,
    protocol: &[u8],
) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut tls = rustls::ClientConfig::clone(tls);
    tls.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(tls)).connect(ServerName::from(address.ip()), stream).await?)
}

async fn count(mut body: Incoming) -> anyhow::Result<usize> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    ensure!(length > 0, "an empty answer");
    Ok(length)
}

//! Connections over TLS for pooled clients: whom to connect to is the URI's matter, whom to expect there the
//! connector's.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{authority, dial};
use crate::BoxFuture;

/// How long a connection may take to be made.
const DIAL: Duration = Duration::from_secs(30);

/// Makes connections to the host and port of a URI.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: TlsConnector,
    /// The name that certificates have to be for, if it is not the host.
    server_name: Option<Arc<str>>,
}

impl Connector {
    /// Certificates have to be for the host.
    pub(crate) fn new(tls: TlsConnector) -> Self {
        Self { tls, server_name: None }
    }

    /// Certificates have to be for this name, whatever the host.
    pub(crate) fn named(tls: TlsConnector, server_name: &str) -> Self {
        Self { tls, server_name: Some(server_name.into()) }
    }
}

/// Why there is no connection, in words.
#[derive(Debug)]
pub(crate) struct DialError(String);

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for DialError {}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Stream, DialError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
            let address = (host, uri.port_u16().unwrap_or(443));
            let name = this.server_name.as_deref().unwrap_or(&address.0);
            let connected = dial::connect(&this.tls, &address, name);
            match tokio::time::timeout(DIAL, connected).await {
                Ok(Ok(stream)) => Ok(Stream(TokioIo::new(stream))),
                Ok(Err(error)) => Err(DialError(error)),
                Err(_) => {
                    let address = authority(&address);
                    Err(DialError(format!("dial tcp {address}: i/o timeout")))
                }
            }
        })
    }
}

/// A connection that knows which protocol was agreed on.
pub(crate) struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self.0.inner().get_ref().1.alpn_protocol() {
            Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! The way in without a socket: a tower service that runs the chain directly.
//!
//! Requests that upgrade their connection (exec, port-forward) go through a real HTTP/1.1 connection over an in-memory
//! duplex stream, so that both sides upgrade as on a socket. All others are function calls.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http::header::UPGRADE;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use super::{Core, Response, ServerBody, chain};
use crate::authn::UserInfo;
use crate::resources::RequestBody;

/// A client's way into a server in the same process. Cheap to clone.
#[derive(Clone)]
pub struct InProcess {
    core: Arc<Core>,
    identity: Option<Arc<UserInfo>>,
    stop: watch::Receiver<bool>,
}

/// Why an in-process request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum InProcessError {
    /// The server has been shut down.
    #[error("the server has been shut down")]
    Stopped,
    /// The duplex connection of an upgrade broke.
    #[error("the in-process connection broke")]
    Connection(#[source] hyper::Error),
}

impl InProcess {
    pub(super) fn new(core: Arc<Core>, identity: Option<Arc<UserInfo>>, stop: watch::Receiver<bool>) -> Self {
        Self { core, identity, stop }
    }

    async fn answer(self, request: http::Request<RequestBody>) -> Result<Response, InProcessError> {
        if *self.stop.borrow() {
            return Err(InProcessError::Stopped);
        }
        if request.headers().contains_key(UPGRADE) {
            return self.upgrade(request).await.map_err(InProcessError::Connection);
        }
        Ok(chain::handle(&self.core, self.identity.as_ref(), request).await)
    }

    async fn upgrade(self, request: http::Request<RequestBody>) -> Result<Response, hyper::Error> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let this = self.clone();
            async move {
                let request = request.map(boxed);
                Ok::<_, Infallible>(chain::handle(&this.core, this.identity.as_ref(), request).await)
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades(),
        );
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await?;
        Ok(response.map(|body| {
            ServerBody::stream(body.into_data_stream().map(|chunk| chunk.map_err(std::io::Error::other)))
        }))
    }
}

/// Any body as the one that handlers read.
pub(super) fn boxed<B>(body: B) -> RequestBody
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    body.map_err(Into::into).boxed_unsync()
}

impl<B> tower::Service<http::Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response;
    type Error = InProcessError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, InProcessError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), InProcessError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(self.clone().answer(request.map(boxed)))
    }
}

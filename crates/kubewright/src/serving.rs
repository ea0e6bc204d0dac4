//! HTTP servers of an operator: connections within limits, with TLS where there is a certificate, and an end that lets
//! answers under way finish. What is answered is a value that implements [`Answer`].

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use kubewright_pki::ClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{Error, Result};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longer than the 90 s after which clients written in Go let go of an idle connection: if the server did so first, it
/// could close one that a request is just being sent on.
const HEAD: Duration = Duration::from_secs(100);
const MAX_HEADERS: usize = 64 * 1024;
/// Connections at a time; further ones wait. Few clients call: API servers, probes, a scraper.
const MAX_CONNECTIONS: usize = 512;
const MAX_STREAMS: u32 = 250;
/// How long answers that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(15);

/// Answers requests. It never fails: what goes wrong is an answer too.
pub(crate) trait Answer: Send + Sync + 'static {
    /// The answer to a request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// How connections are secured: by the newest certificate. Before there is one, callers wait.
pub(crate) struct Secured {
    /// What callers are shown.
    pub(crate) shown: watch::Receiver<Option<TlsAcceptor>>,
    /// Whom callers have to be vouched for by, with a certificate of their own; anybody may call otherwise.
    pub(crate) callers: Option<ClientVerifier>,
}

/// A listener on `HOST:PORT` or `:PORT`.
pub(crate) async fn listen(address: &str) -> Result<TcpListener> {
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    TcpListener::bind(&full).await.map_err(|source| Error::Listen { address: address.to_owned(), source })
}

/// Serves until told to stop; then answers what is under way. Dropping this ends every connection.
pub(crate) async fn serve<A: Answer>(
    listener: TcpListener,
    secured: Option<Secured>,
    what: &str,
    answers: Arc<A>,
    mut stop: watch::Receiver<bool>,
) {
    // Until then connections wait in the listener's queue, and callers within their timeouts.
    let tls = match secured {
        None => None,
        Some(Secured { mut shown, callers }) => tokio::select! {
            loaded = shown.wait_for(Option::is_some) => match loaded.ok().and_then(|loaded| loaded.clone()) {
                Some(acceptor) => Some((acceptor, callers)),
                None => return,
            },
            _ = stop.wait_for(|stopped| *stopped) => return,
        },
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, tls = tls.is_some(), "serving {what}");
    }
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = stop.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, place)) => {
                let connection = connect(stream, tls.clone(), Arc::clone(&answers), graceful.watcher());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open when serving {what} ended");
    }
}

/// The next connection, when there is room for one.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connect<A: Answer>(
    stream: TcpStream,
    tls: Option<(TlsAcceptor, Option<ClientVerifier>)>,
    answers: Arc<A>,
    watcher: Watcher,
) {
    let _ = stream.set_nodelay(true);
    let Some((tls, callers)) = tls else { return answer(stream, answers, watcher).await };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            match callers.map(|callers| callers.identify(shown, SystemTime::now())) {
                None | Some(Ok(_)) => answer(stream, answers, watcher).await,
                Some(Err(error)) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a caller whom nobody vouches for is not answered"
                ),
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn answer<A: Answer>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answers: Arc<A>,
    watcher: Watcher,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS as u32)
        .keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_taken_is_an_error_that_names_it() {
        let taken = listen("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = listen(&address).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    }
}

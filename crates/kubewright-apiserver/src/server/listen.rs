//! Sockets: TLS by rustls, HTTP/1.1 and HTTP/2 by ALPN, limits on what a connection may cost, graceful shutdown.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::cork::cork;
use super::idle::Activity;
use super::inprocess::boxed;
use super::standing::{self, Standing};
use super::{Core, chain};
use crate::audit::PeerAddress;
use crate::authn::PeerCertificates;

/// The smallest buffer for the head of a request that can be had.
const MIN_BUFFER: usize = 8192;
/// How many turns the streams of a connection have before other connections have theirs.
const TURNS: usize = 8;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// An open socket.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) async fn start(
        core: Arc<Core>,
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, ListenError> {
        let bind = |source| ListenError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let local = listener.local_addr().map_err(bind)?;
        let task = tokio::spawn(accept(core, listener, tls.map(TlsAcceptor::from), stop));
        Ok(Self { address: local, task })
    }

    /// The address, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the server was shut down and the connections have ended.
    pub async fn closed(self) {
        // The task neither panics nor is it cancelled; either would mean that it has ended.
        let _ = self.task.await;
    }
}

async fn accept(
    core: Arc<Core>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    let drain = core.config().limits.drain_timeout;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, from)) => {
                let _ = stream.set_nodelay(true);
                let from = PeerAddress(from);
                tokio::spawn(connection(Arc::clone(&core), stream, from, tls.clone(), graceful.watcher()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: waiting is all that helps.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let Ok(graceful) = Arc::try_unwrap(graceful) else { return };
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open when the server stopped");
    }
}

async fn connection(
    core: Arc<Core>,
    stream: TcpStream,
    from: PeerAddress,
    tls: Option<TlsAcceptor>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let head_timeout = core.config().limits.head_timeout;
    match tls {
        // A connection counts from its first byte: until then it waits for no more than a head may take.
        None => match tokio::time::timeout(head_timeout, stream.readable()).await {
            Ok(Ok(())) => {
                serve(core, TokioIo::new(stream), from, (None, None), watcher, nothing_held).await;
            }
            _ => tracing::debug!("nothing came on a connection"),
        },
        Some(acceptor) => match tokio::time::timeout(head_timeout, acceptor.accept(stream)).await {
            Ok(Ok(mut stream)) => {
                match tokio::time::timeout(head_timeout, stream.fill_buf()).await {
                    Ok(Ok(first)) if !first.is_empty() => {}
                    _ => return tracing::debug!("nothing came on a connection"),
                }
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let peer = stream.get_ref().1.peer_certificates().map(|certificates| {
                    let chain: Vec<_> = certificates.iter().map(|c| c.clone().into_owned()).collect();
                    PeerCertificates::from(chain)
                });
                let known = (peer, Some(http2));
                if http2 {
                    let (stream, cork) = cork(stream);
                    let release = |cx: &mut Context<'_>| cork.poll_release(cx);
                    serve(core, TokioIo::new(stream), from, known, watcher, release).await;
                } else {
                    serve(core, TokioIo::new(stream), from, known, watcher, nothing_held).await;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
    }
}

/// A stream that writes at once.
fn nothing_held(_: &mut Context<'_>) -> Poll<io::Result<()>> {
    Poll::Ready(Ok(()))
}

/// Serves a connection until it ends. `release` writes out what `io` has held back.
async fn serve<I>(
    core: Arc<Core>,
    io: I,
    from: PeerAddress,
    (peer, http2): (Option<PeerCertificates>, Option<bool>),
    watcher: hyper_util::server::graceful::Watcher,
    mut release: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
) where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let limits = core.config().limits.clone();
    let activity = Activity::new();
    let requests = activity.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let core = Arc::clone(&core);
        let busy = requests.begin();
        request.extensions_mut().insert(from);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        async move {
            let response = chain::handle(&core, None, request.map(boxed)).await;
            if response.extensions().get::<Standing>().is_some() {
                standing::settle();
            }
            Ok::<_, Infallible>(response.map(|body| busy.until_the_end_of(body)))
        }
    });
    let (streams, mut gathered) = standing::gather();
    let mut builder = auto::Builder::new(streams);
    // Both sides have agreed on a protocol: there is nothing to find out from the first bytes, which may never come.
    match http2 {
        Some(true) => builder = builder.http2_only(),
        Some(false) => builder = builder.http1_only(),
        None => {}
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.max_header_bytes.max(MIN_BUFFER));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection_with_upgrades(io, service);
    let mut connection = pin!(watcher.watch(connection.into_owned()));
    let ended = poll_fn(|cx| {
        for _ in 0..TURNS {
            // In this order: what streams say is written by the connection, and what that holds back is released.
            let more = gathered.poll_turn(cx);
            let ended = connection.as_mut().poll(cx);
            if let Poll::Ready(Err(error)) = release(cx) {
                return Poll::Ready(Err(error.into()));
            }
            if ended.is_ready() || !more {
                return ended;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    tokio::select! {
        ended = ended => {
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
        }
        () = activity.idle(limits.idle_timeout) => tracing::debug!("connection closed: nothing goes on on it"),
    }
}

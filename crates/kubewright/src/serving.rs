//! HTTP servers of an operator: connections within limits, with TLS where there is a certificate, and an end that lets
//! answers under way finish. What is answered is a value that implements [`Answer`].

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kubewright_pki::ClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{Error, Result};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be without a request, and the head of one may take. Longer than the 90 s after which clients
/// written in Go let go of an idle connection: if the server did so first, it could close one that a request is just being
/// sent on.
const IDLE: Duration = Duration::from_secs(100);
const MAX_HEADERS: usize = 64 * 1024;
/// Connections at a time; further ones wait. Few clients call: API servers, probes, a scraper.
const MAX_CONNECTIONS: usize = 512;
const MAX_STREAMS: u32 = 250;
/// How long answers that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(15);

/// What connections are held to.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// So many at a time.
    connections: usize,
    /// How long one may be without a request.
    idle: Duration,
}

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
    stop: watch::Receiver<bool>,
) {
    let limits = Limits { connections: MAX_CONNECTIONS, idle: IDLE };
    serve_within(limits, listener, secured, what, answers, stop).await;
}

async fn serve_within<A: Answer>(
    limits: Limits,
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
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = stop.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, place)) => {
                let connection =
                    connect(stream, tls.clone(), Arc::clone(&answers), limits.idle, stop.clone());
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
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
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
    idle: Duration,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let Some((tls, callers)) = tls else { return answer(stream, answers, idle, stop).await };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            match callers.map(|callers| callers.identify(shown, SystemTime::now())) {
                None | Some(Ok(_)) => answer(stream, answers, idle, stop).await,
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
    idle: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let under_way = Arc::new(watch::Sender::new(0));
    let requests = Arc::clone(&under_way);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (answers, request_under_way) = (Arc::clone(&answers), UnderWay::begin(&requests));
        async move {
            let answered = answers.answer(request).await;
            drop(request_under_way);
            Ok::<_, Infallible>(answered)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS as u32)
        .keep_alive_interval(Duration::from_secs(30));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).into_owned());
    let ended = tokio::select! {
        biased;
        ended = &mut connection => Ok(ended),
        () = ends(&mut stop, &under_way, idle) => {
            connection.as_mut().graceful_shutdown();
            // Whoever does not read its answer has no longer than that either.
            tokio::time::timeout(DRAIN, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended"),
        Err(_) => tracing::debug!("a connection did not come to an end and is cut"),
    }
}

/// Resolves when a connection is to end: the server stops, or nothing has been under way for too long.
async fn ends(stop: &mut watch::Receiver<bool>, under_way: &watch::Sender<usize>, idle: Duration) {
    let mut requests = under_way.subscribe();
    let idles = async {
        // The sender is there for as long as this.
        while requests.wait_for(|requests| *requests == 0).await.is_ok() {
            if tokio::time::timeout(idle, requests.changed()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stopped| *stopped) => {}
        () = idles => tracing::debug!("a connection has had no request for too long"),
    }
}

/// A request of a connection, until dropped.
struct UnderWay(Arc<watch::Sender<usize>>);

impl UnderWay {
    fn begin(requests: &Arc<watch::Sender<usize>>) -> UnderWay {
        requests.send_modify(|requests| *requests += 1);
        UnderWay(Arc::clone(requests))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests -= 1);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, mpsc};

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    /// Tells of each request, and answers it when it may.
    struct Waits {
        told: mpsc::UnboundedSender<()>,
        may: Notify,
    }

    impl Answer for Waits {
        async fn answer(&self, _: Request<Incoming>) -> Response<Full<Bytes>> {
            // The test may be over.
            let _ = self.told.send(());
            self.may.notified().await;
            Response::new(Full::new(Bytes::from("here")))
        }
    }

    /// A server of so many connections that may be idle for a moment only, and where it is.
    async fn start(connections: usize) -> (std::net::SocketAddr, Arc<Waits>, mpsc::UnboundedReceiver<()>) {
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, heard) = mpsc::unbounded_channel();
        let waits = Arc::new(Waits { told, may: Notify::new() });
        let answers = Arc::clone(&waits);
        tokio::spawn(async move {
            let (_stop, stopped) = watch::channel(false);
            let limits = Limits { connections, idle: SOON };
            serve_within(limits, listener, None, "a test", answers, stopped).await;
        });
        (address, waits, heard)
    }

    #[tokio::test]
    async fn a_connection_that_sends_nothing_gives_its_place_to_the_next() {
        let (address, waits, _heard) = start(1).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        waits.may.notify_one();
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("here"), "{answer}");
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_connection_of_http2_ends_when_it_is_idle_and_not_while_a_request_is_under_way() {
        let (address, waits, mut heard) = start(2).await;
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
        let answer = tokio::spawn(async move { (sender.send_request(request).await, sender) });
        heard.recv().await.unwrap();
        // One that is opened later has been idle for too long.
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        waits.may.notify_one();
        let (answer, _sender) = answer.await.unwrap();
        assert_eq!(answer.unwrap().status(), 200);
        connection.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_an_error_that_names_it() {
        let taken = listen("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = listen(&address).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    }
}

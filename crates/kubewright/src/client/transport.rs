//! The connections of a process to the API server. Requests share few of them: HTTP/2 where the server speaks it, so
//! that a hundred watches do not take a hundred sockets and handshakes; HTTP/1.1 for what is upgraded to another
//! protocol, and for servers that know nothing else. A connection that died without a word is noticed by pings.
//!
//! What never happens here: repeating a request, or judging it. Authentication and TLS are `kube`'s.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tower::{BoxError, Layer, Service};

use super::request::is_watch;

/// Watches on one connection. Servers allow 100 streams and up; what waits for a stream would wait for a watch to end.
const WATCHES: usize = 64;
/// How it is noticed that a connection died without a word.
#[derive(Clone, Copy)]
struct KeepAlive {
    /// How often an idle connection is tried.
    ping: Duration,
    /// How long the answer may take.
    pong: Duration,
}

/// A dead connection is noticed within 45 s.
const KEEP_ALIVE: KeepAlive = KeepAlive { ping: Duration::from_secs(15), pong: Duration::from_secs(30) };
/// Bytes that may be under way on one stream, and on a connection: a list of 10 MB takes few round trips.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

type Pool = legacy::Client<HttpsConnector<HttpConnector>, Body>;

/// A client whose requests share connections.
///
/// # Errors
/// When the certificates, keys or names of the configuration can't be used.
pub(super) fn client(config: kube::Config) -> Result<kube::Client, kube::Error> {
    kept_alive(config, KEEP_ALIVE)
}

fn kept_alive(config: kube::Config, alive: KeepAlive) -> Result<kube::Client, kube::Error> {
    if config.proxy_url.is_some() {
        // kube knows the ways of proxies.
        return kube::Client::try_from(config);
    }
    let transport = Transport::new(&config, alive)?;
    let service = config.extra_headers_layer()?.layer(transport);
    let service = tower::util::option_layer(config.auth_layer()?).layer(service);
    let service = config.base_uri_layer().layer(service);
    Ok(kube::Client::new(service, config.default_namespace))
}

#[derive(Clone)]
struct Transport {
    /// For everything that ends soon.
    calls: Pool,
    /// For what is upgraded.
    upgrades: Pool,
    watches: Arc<Watches>,
}

/// Connections that hold watches, each with how many there are.
struct Watches {
    make: Box<dyn Fn() -> Pool + Send + Sync>,
    pools: Mutex<Vec<(Pool, Weak<AtomicUsize>)>>,
}

/// A watch's place on a connection, as long as it lasts.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watches {
    /// A connection with room for another watch. Those without any are let go.
    fn place(&self) -> (Pool, Place) {
        let mut pools = self.pools.lock();
        pools.retain(|(_, watches)| watches.strong_count() > 0);
        for (pool, watches) in pools.iter() {
            let Some(watches) = watches.upgrade() else { continue };
            if watches.load(Ordering::Relaxed) < WATCHES {
                watches.fetch_add(1, Ordering::Relaxed);
                return (pool.clone(), Place(watches));
            }
        }
        let (pool, watches) = ((self.make)(), Arc::new(AtomicUsize::new(1)));
        pools.push((pool.clone(), Arc::downgrade(&watches)));
        (pool, Place(watches))
    }
}

impl Transport {
    fn new(config: &kube::Config, alive: KeepAlive) -> Result<Transport, kube::Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(config.connect_timeout);
        tcp.set_keepalive(Some(alive.ping));
        tcp.set_keepalive_interval(Some(alive.ping));
        tcp.set_keepalive_retries(Some(2));
        let mut tls =
            HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
        if let Some(name) = &config.tls_server_name {
            let name = ServerName::try_from(name.clone()).map_err(|error| {
                kube::Error::Service(format!("the server name {name} of the kubeconfig: {error}").into())
            })?;
            tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let upgrades = legacy::Client::builder(TokioExecutor::new())
            .build(config.rustls_https_connector_with_connector(tcp.clone())?);
        let connector = tls.enable_all_versions().wrap_connector(tcp);
        let make = move || {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .http2_keep_alive_interval(alive.ping)
                .http2_keep_alive_timeout(alive.pong)
                .http2_keep_alive_while_idle(true)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .build(connector.clone())
        };
        let calls = make();
        Ok(Transport {
            calls,
            upgrades,
            watches: Arc::new(Watches { make: Box::new(make), pools: Mutex::default() }),
        })
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Answer>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (pool, place) = if request.headers().contains_key(header::UPGRADE) {
            (self.upgrades.clone(), None)
        } else if is_watch(request.uri().query()) {
            let (pool, place) = self.watches.place();
            (pool, Some(place))
        } else {
            (self.calls.clone(), None)
        };
        let response = pool.request(request);
        Box::pin(async move { Ok(response.await?.map(|body| Answer { body, _place: place })) })
    }
}

/// The body of an answer, which holds a watch's place until it is dropped.
struct Answer {
    body: Incoming,
    _place: Option<Place>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;
    use std::net::IpAddr;
    use std::sync::atomic::AtomicBool;
    use std::time::SystemTime;

    use futures::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use hyper_util::rt::TokioIo;
    use hyper_util::server::conn::auto;
    use kubewright_pki::{Authority, ServingCertificate, server_config};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A connection whose other end vanishes: nothing arrives any more, and what is sent goes nowhere.
    struct Vanishes(TcpStream, Arc<AtomicBool>);

    impl AsyncRead for Vanishes {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let before = buffer.filled().len();
            match Pin::new(&mut self.0).poll_read(cx, buffer) {
                Poll::Ready(Ok(())) if self.1.load(Ordering::SeqCst) => {
                    buffer.set_filled(before);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                result => result,
            }
        }
    }

    impl AsyncWrite for Vanishes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.1.load(Ordering::SeqCst) {
                return Poll::Ready(Ok(bytes.len()));
            }
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_dead_connection_is_noticed_within_45_seconds() {
        assert!(KEEP_ALIVE.ping + KEEP_ALIVE.pong <= Duration::from_secs(45));
    }

    #[tokio::test]
    async fn a_connection_that_died_without_a_word_breaks_its_watch() {
        let authority = Authority::new("test", SystemTime::now()).unwrap();
        let address: IpAddr = [127, 0, 0, 1].into();
        let identity = authority.server(&["localhost"], &[address], SystemTime::now()).unwrap();
        let mut tls = server_config(Arc::new(ServingCertificate::new(&identity).unwrap())).unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let dead = Arc::new(AtomicBool::new(false));
        let vanishes = Arc::clone(&dead);
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(Vanishes(socket, vanishes)).await.unwrap();
            let answer = |_| async {
                let line = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"line")))]);
                Ok::<_, Infallible>(Response::new(StreamBody::new(line.chain(stream::pending()))))
            };
            let connection = auto::Builder::new(TokioExecutor::new());
            let _ =
                connection.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)).await;
        });
        let mut config = kube::Config::new(url.parse().unwrap());
        config.root_cert = Some(vec![authority.certificate().to_vec()]);
        let alive = KeepAlive { ping: Duration::from_millis(20), pong: Duration::from_millis(100) };
        let client = kept_alive(config, alive).unwrap();
        let request = Request::get("/api/v1/pods?watch=true").body(Body::empty()).unwrap();
        let mut watch = client.send(request).await.unwrap().into_body();
        assert_eq!(watch.frame().await.unwrap().unwrap().into_data().unwrap(), "line");
        dead.store(true, Ordering::SeqCst);
        let end = watch.frame().await.unwrap();
        assert!(end.is_err(), "a watch of a dead connection is no watch that ended");
    }
}

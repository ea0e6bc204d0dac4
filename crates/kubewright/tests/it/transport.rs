//! The connections of a client, against a server that counts them.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http::{Request, Response, Version};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::client::Body;
use kubewright::client::Connect;
use kubewright_pki::{Authority, ServingCertificate, server_config};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server over TLS that answers a watch with one line and silence, and everything else with the protocol it was
/// asked by.
struct Server {
    config: kube::Config,
    connections: Arc<AtomicUsize>,
}

async fn server(protocols: &[&[u8]]) -> Server {
    let authority = Authority::new("test", SystemTime::now()).unwrap();
    let address: IpAddr = [127, 0, 0, 1].into();
    let identity = authority.server(&["localhost"], &[address], SystemTime::now()).unwrap();
    let mut tls = server_config(Arc::new(ServingCertificate::new(&identity).unwrap())).unwrap();
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut config = kube::Config::new(url.parse().unwrap());
    config.root_cert = Some(vec![authority.certificate().to_vec()]);
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(socket) = acceptor.accept(socket).await else { return };
                let connection = auto::Builder::new(TokioExecutor::new());
                let _ = connection.serve_connection(TokioIo::new(socket), service_fn(answer)).await;
            });
        }
    });
    Server { config, connections }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>, Infallible> {
    let version = match request.version() {
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    let line = stream::iter([Ok(Frame::data(Bytes::from(version)))]);
    let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let body = if watch { line.chain(stream::pending()).boxed() } else { line.boxed() };
    Ok(Response::new(StreamBody::new(body)))
}

async fn get(client: &kube::Client, path: &str, upgrade: bool) -> Response<Body> {
    let mut request = Request::get(path);
    if upgrade {
        request = request.header("connection", "upgrade").header("upgrade", "websocket");
    }
    client.send(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn protocol(response: Response<Body>) -> String {
    use http_body_util::BodyExt;
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_hundred_watches_share_two_connections_beside_that_of_calls() {
    let server = server(&[b"h2", b"http/1.1"]).await;
    let client = Connect::client_of(server.config).unwrap();
    let mut watches = Vec::new();
    for number in 0..100 {
        watches.push(get(&client, &format!("/api/v1/things{number}?watch=true"), false).await);
        assert_eq!(protocol(get(&client, "/version", false).await).await, "2");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
    // Places that became free are taken again.
    watches.truncate(10);
    for number in 0..50 {
        watches.push(get(&client, &format!("/api/v1/others{number}?watch=true"), false).await);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_is_upgraded_goes_over_a_connection_of_its_own_in_http_1() {
    let server = server(&[b"h2", b"http/1.1"]).await;
    let client = Connect::client_of(server.config).unwrap();
    assert_eq!(protocol(get(&client, "/version", false).await).await, "2");
    assert_eq!(protocol(get(&client, "/exec", true).await).await, "1.1");
}

#[tokio::test]
async fn a_server_that_knows_only_http_1_is_spoken_to_in_it() {
    let server = server(&[b"http/1.1"]).await;
    let client = Connect::client_of(server.config).unwrap();
    let watch = get(&client, "/api/v1/things?watch=true", false).await;
    assert_eq!(protocol(get(&client, "/version", false).await).await, "1.1");
    assert_eq!(watch.version(), Version::HTTP_11);
}

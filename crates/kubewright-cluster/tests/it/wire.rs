//! A cluster that listens, and two ways to talk to it: requests as a client makes them, and bytes as nobody should send
//! them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kubewright_cluster::{Cluster, ClusterConfig};
use kubewright_pki::Identity;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A cluster without controllers, on a port of its own.
pub async fn cluster(change: impl FnOnce(&mut ClusterConfig)) -> Cluster {
    let mut config = ClusterConfig {
        bind: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        controllers: false,
        ..ClusterConfig::default()
    };
    change(&mut config);
    Cluster::start(config).await.expect("the cluster starts")
}

/// A folder that goes with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kubewright-wire-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }

    /// Writes a file.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

/// How somebody talks to a cluster: with a certificate or without, and with headers of their own.
#[derive(Clone)]
pub struct Caller {
    tls: TlsConnector,
    address: SocketAddr,
    headers: Vec<(String, String)>,
}

impl Caller {
    /// Without credentials.
    pub fn nobody(cluster: &Cluster) -> Self {
        Self::with(cluster, None)
    }

    /// With a certificate of the cluster's authority.
    pub fn user(cluster: &Cluster, name: &str, groups: &[&str]) -> Self {
        let identity = cluster.authority().client(name, groups, SystemTime::now()).expect("a certificate");
        Self::with(cluster, Some(&identity))
    }

    /// With all rights.
    pub fn admin(cluster: &Cluster) -> Self {
        Self::user(cluster, "admin", &["system:masters"])
    }

    /// With any certificate.
    pub fn with(cluster: &Cluster, identity: Option<&Identity>) -> Self {
        let tls =
            kubewright_pki::client_config(&cluster.authority().bundle(), identity).expect("a configuration");
        let address = cluster.address().expect("the cluster listens");
        Self { tls: TlsConnector::from(Arc::new(tls)), address, headers: Vec::new() }
    }

    /// With a header on every request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a bearer token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Over HTTP/2.
    #[must_use]
    pub fn http2(mut self) -> Self {
        let mut tls = rustls::ClientConfig::clone(self.tls.config());
        tls.alpn_protocols = vec![b"h2".to_vec()];
        self.tls = TlsConnector::from(Arc::new(tls));
        self
    }

    /// A connection to write bytes on.
    pub async fn connect(&self) -> Wire {
        let stream = TcpStream::connect(self.address).await.expect("the cluster listens");
        let name = ServerName::try_from("localhost").expect("it is a name");
        Wire(self.tls.connect(name, stream).await.expect("TLS succeeds"))
    }

    /// Sends bytes as a body of a type.
    pub async fn raw(&self, method: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let stream = TokioIo::new(self.connect().await.0);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.expect("HTTP is spoken");
        let connection = tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(path).header("host", "localhost");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).expect("the request is well-formed");
        let response = sender.send_request(request).await.expect("there is an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the answer ends").to_bytes();
        connection.abort();
        let body = serde_json::from_slice(&bytes);
        let body = body.unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        Answer { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, "", Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.raw("POST", path, "application/json", body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.raw("DELETE", path, "", Bytes::new()).await
    }

    /// Who the server takes the caller for: user name and groups. `None` where it is refused.
    pub async fn who(&self) -> Option<(String, Vec<String>)> {
        let review =
            serde_json::json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
        let answer = self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review).await;
        let user = &answer.body["status"]["userInfo"];
        let groups = user["groups"].as_array().into_iter().flatten();
        let groups = groups.filter_map(|group| group.as_str().map(str::to_string)).collect();
        (answer.code == 201).then(|| (user["username"].as_str().unwrap_or_default().to_string(), groups))
    }
}

/// A connection.
pub struct Wire(TlsStream<TcpStream>);

impl Wire {
    /// The stream below, for others to speak on.
    pub fn into_stream(self) -> TlsStream<TcpStream> {
        self.0
    }

    /// Writes bytes. The other side may have closed: what it said before is what counts.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    /// All that comes until the other side closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        // A connection that is reset has said what it had to say.
        let _ = self.0.read_to_end(&mut all).await;
        all
    }

    /// The same as text.
    pub async fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.rest().await).into_owned()
    }

    /// Some bytes that have come; none where the other side has closed.
    pub async fn some(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 16 * 1024];
        let count = self.0.read(&mut buffer).await.unwrap_or(0);
        buffer.truncate(count);
        buffer
    }
}

/// The status codes of the HTTP/1.1 answers in a text, in order.
pub fn codes(text: &str) -> Vec<u16> {
    let starts = text.match_indices("HTTP/1.1 ");
    starts.filter_map(|(at, start)| text[at + start.len()..].get(..3)?.parse().ok()).collect()
}

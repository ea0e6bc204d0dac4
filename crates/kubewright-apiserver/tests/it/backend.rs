//! A server behind an APIService that does what a test wants, and an API server in front of it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::aggregation;
use kubewright_apiserver::resources::Resource;
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_machinery::schema::SchemaRef;
use kubewright_pki::{Authority, ServingCertificate};
use kubewright_storage::MemoryStore;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::client::Client;

pub type Request = http::Request<Incoming>;
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub type Response = http::Response<Body>;

/// A body that is there at once.
pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer with JSON.
pub fn json_of(value: &Value) -> Response {
    http::Response::builder()
        .header("content-type", "application/json")
        .body(full(value.to_string()))
        .expect("tests answer well-formed")
}

/// What the discovery of a backend says where a test cares for nothing else.
pub fn resources() -> Value {
    let things = json!({"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
        "verbs": ["get", "list", "watch"]});
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "far.io/v1", "resources": [things]})
}

/// A server on a port of its own. It answers `/apis/far.io/v1` and leaves the rest to the test; dropping it ends it and
/// all its connections.
pub struct Backend {
    pub address: SocketAddr,
    /// Who vouches for it (PEM).
    pub authority: String,
    /// Whom the clients of its connections said they are (common names of certificates).
    pub peers: Arc<Mutex<Vec<String>>>,
    tasks: Arc<Mutex<tokio::task::JoinSet<()>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Backend {
    pub async fn start<F>(answer: F) -> Self
    where
        F: Fn(Request) -> BoxFuture<'static, Response> + Send + Sync + 'static,
    {
        let authority = Authority::new("backends", SystemTime::now()).expect("an authority");
        let identity = authority
            .server(&["far.default.svc"], &[Ipv4Addr::LOCALHOST.into()], SystemTime::now())
            .expect("an identity");
        let serving = ServingCertificate::new(&identity).expect("a certificate");
        let tls = kubewright_pki::server_config(Arc::new(serving)).expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (answer, peers) = (Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
        let tasks = Arc::new(Mutex::new(tokio::task::JoinSet::new()));
        let (heard, connections) = (Arc::clone(&peers), Arc::clone(&tasks));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who does not trust the certificate goes away again.
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                if let Some([leaf, ..]) = stream.get_ref().1.peer_certificates() {
                    let subject = kubewright_pki::Subject::of(leaf).expect("clients have names");
                    heard.lock().unwrap().push(subject.user);
                }
                let answer = Arc::clone(&answer);
                let service = hyper::service::service_fn(move |request: Request| {
                    let answer = Arc::clone(&answer);
                    async move {
                        let discovery = request.uri().path() == "/apis/far.io/v1";
                        Ok::<_, Infallible>(match discovery {
                            true => json_of(&resources()),
                            false => answer(request).await,
                        })
                    }
                });
                connections.lock().unwrap().spawn(async move {
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // The client may leave as soon as it has its answer.
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, authority: authority.bundle().to_pem(), peers, tasks, accepting }
    }

    /// Breaks all connections and takes no more.
    pub fn stop(&self) {
        self.accepting.abort();
        self.tasks.lock().unwrap().abort_all();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An API server that knows of far.io/v1.
pub struct Front {
    pub server: Server,
    pub client: Client,
}

impl Front {
    /// In front of a backend that it trusts, once that is available.
    pub async fn of(backend: &Backend) -> Self {
        let front = Self::trusting(backend, &backend.authority, Duration::from_secs(60)).await;
        front.until(|remote| remote.available).await;
        front
    }

    /// With an authority and a patience of its own.
    pub async fn trusting(backend: &Backend, authority: &str, patience: Duration) -> Self {
        let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
        for (group, kind, plural) in [
            ("", "Namespace", "namespaces"),
            ("", "Service", "services"),
            ("discovery.k8s.io", "EndpointSlice", "endpointslices"),
        ] {
            let namespaced = kind != "Namespace";
            config.resources.push(Arc::new(Resource::stored(group, "v1", kind, plural, namespaced)));
        }
        config.resources.push(Arc::new(aggregation::resource(SchemaRef::default())));
        let proxies = Authority::new("proxies", SystemTime::now()).expect("an authority");
        let identity = proxies.client("front-proxy", &[""; 0], SystemTime::now()).expect("an identity");
        config.proxy_identity = Some(Arc::new(identity));
        config.limits.request_timeout = patience;
        let server = Server::new(config).await.expect("the store is in memory");
        let client = Client::of(&server);
        let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}});
        assert_eq!(client.post("/api/v1/namespaces", namespace).await.0, 201);
        let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "far"},
            "spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443}]}});
        assert_eq!(client.post("/api/v1/namespaces/default/services", service).await.0, 201);
        let slice = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "far-1", "labels": {"kubernetes.io/service-name": "far"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}],
            "ports": [{"name": "https", "port": backend.address.port()}]});
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        assert_eq!(client.post(slices, slice).await.0, 201);
        let service = json!({"kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
            "metadata": {"name": "v1.far.io"},
            "spec": {"group": "far.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
                "caBundle": STANDARD.encode(authority), "service": {"namespace": "default", "name": "far", "port": 443}}});
        let (code, said) = client.post("/apis/apiregistration.k8s.io/v1/apiservices", service).await;
        assert_eq!(code, 201, "{said}");
        Self { server, client }
    }

    /// Waits until the remote group version is as wanted.
    pub async fn until(&self, wanted: impl Fn(&aggregation::Remote) -> bool) {
        let mut published = self.server.core().publications();
        while !self.server.core().table().remotes().iter().any(|remote| wanted(remote)) {
            published.changed().await.expect("the server runs");
        }
    }

    /// The condition Available, once it is there with this status.
    pub async fn condition(&self, status: &str) -> Value {
        let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1.far.io";
        let revision = self.server.core().store().revision().await.unwrap();
        let prefix = "/registry/apiregistration.k8s.io/apiservices/";
        let mut watch = self.server.core().store().watch(prefix, revision).unwrap();
        loop {
            let (_, object) = self.client.get(path).await;
            let condition = &object["status"]["conditions"][0];
            if condition["status"] == status {
                return condition.clone();
            }
            watch.next().await.expect("the store is open").expect("nothing is compacted");
        }
    }
}

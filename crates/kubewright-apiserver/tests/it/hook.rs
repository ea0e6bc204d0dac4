//! An admission webhook on a port of its own that says what a test wants it to say, and a server that asks it.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kubewright_apiserver::admission::{MutatingWebhooks, ValidatingWebhooks};
use kubewright_apiserver::crds;
use kubewright_apiserver::resources::Resource;
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_machinery::schema::SchemaRef;
use kubewright_pki::{Authority, ServingCertificate};
use kubewright_storage::MemoryStore;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::client::Client;

/// What a webhook does with a request.
pub enum Reply {
    /// The response of a review; the uid is filled in where there is none.
    Review(Value),
    /// An answer as it is: status, a header, body.
    Raw(u16, &'static str, &'static str, Bytes),
    /// No answer at all.
    Hang,
}

/// A running webhook.
pub struct Hook {
    pub port: u16,
    /// Who vouches for it (PEM).
    pub authority: String,
    /// How many connections were made to it.
    pub connections: Arc<AtomicUsize>,
    /// The requests of the reviews it got, in order.
    pub asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    /// A webhook that answers reviews as a function of the review's request says.
    pub async fn reviewing(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::replying(move |request| Reply::Review(answer(request))).await
    }

    /// A webhook that does anything.
    pub async fn replying(reply: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        let authority = Authority::new("hooks", SystemTime::now()).expect("an authority");
        let identity = authority
            .server(&["localhost", "hook.default.svc"], &[Ipv4Addr::LOCALHOST.into()], SystemTime::now())
            .expect("an identity");
        let serving = ServingCertificate::new(&identity).expect("a certificate");
        let tls = kubewright_pki::server_config(Arc::new(serving)).expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let hook = Self {
            port,
            authority: authority.bundle().to_pem(),
            connections: Arc::clone(&connections),
            asked: Arc::clone(&asked),
        };
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who does not trust the certificate goes away again.
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                connections.fetch_add(1, Ordering::SeqCst);
                let (reply, asked) = (Arc::clone(&reply), Arc::clone(&asked));
                let service =
                    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (reply, asked) = (Arc::clone(&reply), Arc::clone(&asked));
                        async move { Ok::<_, Infallible>(answer(request, &*reply, &asked).await) }
                    });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(async move {
                    // The client may leave as soon as it has its answer.
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        hook
    }

    /// Registers it for config maps, with the fields of `more` in place of the usual ones. `kind` is `Mutating` or
    /// `Validating`.
    pub async fn register(&self, client: &Client, kind: &str, name: &str, more: Value) {
        let plural = format!("{}webhookconfigurations", kind.to_lowercase());
        let mut webhook = json!({
            "name": format!("{name}.example.com"),
            "clientConfig": {
                "url": format!("https://127.0.0.1:{}/", self.port), "caBundle": STANDARD.encode(&self.authority),
            },
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            webhook[field] = value.clone();
        }
        let configuration = json!({
            "kind": format!("{kind}WebhookConfiguration"), "apiVersion": "admissionregistration.k8s.io/v1",
            "metadata": {"name": name}, "webhooks": [webhook],
        });
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        let (code, said) = client.post(&path, configuration).await;
        assert_eq!(code, 201, "{said}");
    }

    /// The requests it got.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    reply: &(dyn Fn(&Value) -> Reply + Send + Sync),
    asked: &Mutex<Vec<Value>>,
) -> http::Response<Full<Bytes>> {
    let body = request.into_body().collect().await.expect("the review is sent whole").to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("the review is JSON");
    asked.lock().expect("no test panics with it").push(review["request"].clone());
    match reply(&review["request"]) {
        Reply::Review(mut response) => {
            if response.get("uid").is_none() {
                response["uid"] = review["request"]["uid"].clone();
            }
            let review = json!({
                "kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response,
            });
            http::Response::new(Full::new(Bytes::from(review.to_string())))
        }
        Reply::Raw(code, header, value, body) => http::Response::builder()
            .status(code)
            .header(header, value)
            .body(Full::new(body))
            .expect("tests answer well-formed"),
        Reply::Hang => std::future::pending().await,
    }
}

/// A response with a JSON patch.
pub fn patching(patch: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
}

/// What a server needs to ask webhooks about config maps, namespaces and custom resources.
pub fn config() -> ServerConfig {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    let group = "admissionregistration.k8s.io";
    for (group, kind, plural, namespaced) in [
        ("", "ConfigMap", "configmaps", true),
        ("", "Namespace", "namespaces", false),
        ("", "Service", "services", true),
        ("", "Endpoints", "endpoints", true),
        (group, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false),
        (group, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false),
    ] {
        config.resources.push(Arc::new(Resource::stored(group, "v1", kind, plural, namespaced)));
    }
    config.resources.push(Arc::new(crds::resource(SchemaRef::default())));
    config.admission = vec![Arc::new(MutatingWebhooks), Arc::new(ValidatingWebhooks)];
    config
}

/// A server that asks webhooks, with the namespace `default`.
pub async fn server() -> Client {
    let client = Client::of(&Server::new(config()).await.expect("the store is in memory"));
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}});
    assert_eq!(client.post("/api/v1/namespaces", namespace).await.0, 201);
    client
}

/// Creates a config map with data `a: b`.
pub async fn create(client: &Client, name: &str) -> (u16, Value) {
    let object =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"a": "b"}});
    client.post("/api/v1/namespaces/default/configmaps", object).await
}

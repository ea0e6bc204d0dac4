//! Tokens of an OpenID Connect issuer on a port of its own, whose keys change.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use kubewright_apiserver::authn::oidc::{Mapping, Oidc, OidcError, Settings};
use kubewright_apiserver::authn::{Authenticator, SigningKey};
use kubewright_apiserver::server::{Clock, ISSUER, Server, ServerConfig};
use kubewright_pki::{Authority, ServingCertificate};
use kubewright_storage::MemoryStore;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const NOW: i64 = 1_800_000_000;

/// A clock that stands still unless it is put forward.
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("it is a time")
    }
}

/// An issuer: documents by path, and how often one was asked for.
struct Provider {
    url: String,
    authority: String,
    documents: Arc<Mutex<HashMap<String, Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    async fn start() -> Self {
        let authority = Authority::new("issuer", SystemTime::now()).expect("an authority");
        let identity = authority
            .server(&["localhost"], &[Ipv4Addr::LOCALHOST.into()], SystemTime::now())
            .expect("an identity");
        let serving = ServingCertificate::new(&identity).expect("a certificate");
        let tls = kubewright_pki::server_config(Arc::new(serving)).expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let url = format!("https://127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let documents: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let provider = Self {
            url,
            authority: authority.bundle().to_pem(),
            documents: Arc::clone(&documents),
            asked: Arc::clone(&asked),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let (documents, asked) = (Arc::clone(&documents), Arc::clone(&asked));
                let service =
                    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        asked.fetch_add(1, Ordering::SeqCst);
                        let found = documents
                            .lock()
                            .expect("no test panics with it")
                            .get(request.uri().path())
                            .cloned();
                        let code = if found.is_some() { 200 } else { 404 };
                        let body = Full::new(Bytes::from(found.unwrap_or_default().to_string()));
                        let response = http::Response::builder().status(code).body(body);
                        async move { Ok::<_, Infallible>(response.expect("it is well-formed")) }
                    });
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        provider
    }

    /// Publishes these keys alone.
    fn publish(&self, keys: &[&SigningKey]) {
        let mut documents = self.documents.lock().expect("no test panics with it");
        let configuration = json!({"issuer": self.url, "jwks_uri": format!("{}/keys", self.url)});
        documents.insert("/.well-known/openid-configuration".into(), configuration);
        let keys: Vec<Value> = keys.iter().map(|key| key.public().to_jwk()).collect();
        documents.insert("/keys".into(), json!({ "keys": keys }));
    }

    fn token(&self, key: &SigningKey, more: Value) -> String {
        let mut claims = json!({"iss": self.url, "aud": "me", "sub": "jane", "exp": NOW + 1000});
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        key.sign(&claims).expect("a token")
    }

    fn settings(&self) -> Settings {
        Settings {
            authorities: Some(self.authority.clone()),
            groups: Some(Mapping { claim: "groups".into(), prefix: "oidc:".into() }),
            ..Settings::new(&self.url, "me")
        }
    }
}

async fn server(clock: &Arc<Hands>) -> Server {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    config.clock = Arc::clone(clock) as _;
    Server::new(config).await.expect("the store is in memory")
}

#[tokio::test]
async fn a_token_is_checked_with_the_keys_that_its_issuer_publishes_now() {
    let (provider, clock) = (Provider::start().await, Arc::new(Hands(AtomicI64::new(NOW))));
    let server = server(&clock).await;
    let (old, new) = (SigningKey::generate().expect("a key"), SigningKey::generate().expect("a key"));
    provider.publish(&[&old]);
    let oidc = Oidc::new(provider.settings()).expect("it is well set up");
    let audiences = [ISSUER.to_string()];
    let who = async |token: &str| {
        let found = oidc.authenticate_token(server.core(), token, &audiences).await;
        found.ok().flatten().map(|found| found.user)
    };
    let jane = who(&provider.token(&old, json!({"groups": ["dev"]}))).await.expect("she is known");
    assert_eq!(jane.name, format!("{}#jane", provider.url));
    assert_eq!(jane.groups, ["oidc:dev"]);
    assert_eq!(provider.asked.load(Ordering::SeqCst), 2, "configuration and keys");
    assert!(who(&provider.token(&old, json!({}))).await.is_some());
    assert_eq!(provider.asked.load(Ordering::SeqCst), 2, "the keys are known");

    // The issuer changes its key: the new one is fetched when it is first seen, but not at every nonsense.
    provider.publish(&[&new]);
    assert!(who(&provider.token(&new, json!({}))).await.is_none(), "the keys were fetched just now");
    clock.0.fetch_add(11, Ordering::SeqCst);
    assert!(who(&provider.token(&new, json!({}))).await.is_some());
    assert_eq!(provider.asked.load(Ordering::SeqCst), 4);
    let stranger = SigningKey::generate().expect("a key");
    for _ in 0..5 {
        assert!(who(&provider.token(&stranger, json!({}))).await.is_none());
    }
    assert_eq!(provider.asked.load(Ordering::SeqCst), 4, "strangers do not keep the issuer busy");
    assert!(who(&provider.token(&old, json!({}))).await.is_none(), "the old key is no key any more");

    for bad in [json!({"aud": "you"}), json!({"exp": NOW}), json!({"iss": "https://other"})] {
        assert!(who(&provider.token(&new, bad)).await.is_none());
    }
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_or_calls_itself_otherwise_lets_nobody_in() {
    let (provider, clock) = (Provider::start().await, Arc::new(Hands(AtomicI64::new(NOW))));
    let server = server(&clock).await;
    let key = SigningKey::generate().expect("a key");
    let audiences = [ISSUER.to_string()];
    let oidc = Oidc::new(provider.settings()).expect("it is well set up");
    let token = provider.token(&key, json!({}));
    let refused = oidc.authenticate_token(server.core(), &token, &audiences).await.expect_err("no keys");
    assert!(refused.reason.contains("404"), "{}", refused.reason);
    provider.publish(&[&key]);
    let mut documents = provider.documents.lock().expect("no test panics with it").clone();
    documents
        .entry("/.well-known/openid-configuration".into())
        .and_modify(|d| d["issuer"] = "https://evil".into());
    *provider.documents.lock().expect("no test panics with it") = documents;
    clock.0.fetch_add(11, Ordering::SeqCst);
    let refused = oidc.authenticate_token(server.core(), &token, &audiences).await.expect_err("no keys");
    assert!(refused.reason.contains("calls itself"), "{}", refused.reason);
    provider.publish(&[&key]);
    clock.0.fetch_add(11, Ordering::SeqCst);
    assert!(oidc.authenticate_token(server.core(), &token, &audiences).await.expect("it is up").is_some());
    // A server that nobody vouches for is not believed.
    let stranger = Settings {
        authorities: Some(Authority::new("x", SystemTime::now()).expect("an authority").certificate_pem()),
        ..provider.settings()
    };
    let oidc = Oidc::new(stranger).expect("it is well set up");
    assert!(oidc.authenticate_token(server.core(), &token, &audiences).await.is_err());
}

#[test]
fn settings_that_would_let_in_too_many_are_refused() {
    let no_audience = Oidc::new(Settings::new("https://issuer", "")).err();
    assert!(matches!(no_audience, Some(OidcError::NoAudience { .. })));
    assert!(matches!(Oidc::new(Settings::new("http://issuer", "me")).err(), Some(OidcError::Url(_))));
    let none = Settings { algorithms: vec!["none".into()], ..Settings::new("https://issuer", "me") };
    assert!(matches!(Oidc::new(none).err(), Some(OidcError::Algorithm { .. })));
}

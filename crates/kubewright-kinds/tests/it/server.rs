//! The server that scenarios are replayed on: an empty store, the built-in kinds, a token of an administrator.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use kubewright_apiserver::authn::{Issuer, SigningKey, StaticTokens, TokenRequests, UserInfo};
use kubewright_apiserver::authz::rbac::{Masters, Rbac};
use kubewright_apiserver::server::{Clock, ISSUER, Server, ServerConfig, SystemClock};
use kubewright_kinds::protobuf::Protobuf;
use kubewright_kinds::{Options, admission, bootstrap, initial};
use kubewright_storage::MemoryStore;
use serde_json::Value;
use tower::ServiceExt as _;

/// The administrator's bearer token.
pub const TOKEN: &str = "golden";

/// A server of its own for one scenario.
pub async fn start() -> Server {
    start_at(Arc::new(SystemClock)).await
}

/// A server that goes by this clock.
pub async fn start_at(clock: Arc<dyn Clock>) -> Server {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    let range = "10.0.0.0/24".parse().expect("it is a range");
    // The recorded server signed by RSA. This key signs tokens of these tests and nothing else.
    let key = SigningKey::from_pem(include_str!("tokens-of-replays.pem")).expect("it is a key");
    let issuer = Arc::new(Issuer::new(ISSUER, key));
    let options =
        Options { token: Some(Arc::new(TokenRequests(Arc::clone(&issuer)))), ..Options::new(range) };
    config.authenticators.push(Arc::clone(&issuer) as _);
    config.issuer = Some(issuer);
    config.resources = kubewright_kinds::resources(&options).into_iter().map(Arc::new).collect();
    // The recordings were made without the plugin ServiceAccount.
    let disabled = ["ServiceAccount".to_string()];
    config.admission = admission::plugins(Vec::new(), &[], &disabled).expect("it is a plugin");
    config.clock = clock;
    config.body_decoders.push(Arc::new(Protobuf));
    let admin = UserInfo::new("admin", &["system:masters"]);
    config.authenticators.push(Arc::new(StaticTokens::new().with(TOKEN, admin)));
    config.authorizers = vec![Arc::new(Masters), Arc::new(Rbac::default())];
    let server = Server::new(config).await.expect("the store is in memory");
    let initial = initial::objects(&range, [10, 0, 0, 1].into(), ([127, 0, 0, 1], 6443).into());
    bootstrap::install(server.core(), initial).await.expect("the store is in memory");
    server
}

/// Sends a request as an administrator; null is no body.
pub async fn send_as(
    server: &Server,
    method: &str,
    uri: &str,
    content_type: &str,
    body: &Value,
) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", content_type)
        .body(Full::new(bytes::Bytes::from(body)))
        .expect("the request is well-formed");
    let response = server.service(Some(UserInfo::server())).oneshot(request).await.expect("the server runs");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("the body arrives").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

//! The server that scenarios are replayed on: an empty store, the built-in kinds, a token of an administrator.

use std::sync::Arc;

use http_body_util::Full;
use kubewright_apiserver::authn::{StaticTokens, UserInfo};
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_kinds::{Options, admission};
use kubewright_storage::MemoryStore;
use tower::ServiceExt as _;

/// The administrator's bearer token.
pub const TOKEN: &str = "golden";

/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// A server of its own for one scenario.
pub async fn start() -> Server {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    let options = Options::new("10.0.0.0/24".parse().expect("it is a range"));
    config.resources = kubewright_kinds::resources(&options).into_iter().map(Arc::new).collect();
    // The recordings were made without the plugin ServiceAccount.
    config.admission = admission::plugins().into_iter().filter(|p| p.name() != "ServiceAccount").collect();
    config.admission.push(Arc::new(admission::ResourceQuota));
    let admin = UserInfo::new("admin", &["system:masters"]);
    config.authenticators.push(Arc::new(StaticTokens::new().with(TOKEN, admin)));
    let server = Server::new(config).await.expect("the store is in memory");
    for name in NAMESPACES {
        let body = format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}");
        let request = http::Request::post("/api/v1/namespaces").body(Full::new(bytes::Bytes::from(body)));
        let request = request.expect("the request is well-formed");
        let response = server.service(Some(UserInfo::server())).oneshot(request).await;
        assert_eq!(response.expect("the server runs").status().as_u16(), 201, "namespace {name}");
    }
    server
}

//! The server that scenarios are replayed on: an empty store, the built-in kinds, a token of an administrator.

use std::sync::Arc;

use kubewright_apiserver::authn::{Issuer, SigningKey, StaticTokens, TokenRequests, UserInfo};
use kubewright_apiserver::authz::rbac::{Masters, Rbac};
use kubewright_apiserver::server::{ISSUER, Server, ServerConfig};
use kubewright_kinds::protobuf::Protobuf;
use kubewright_kinds::{Options, admission, bootstrap, initial};
use kubewright_storage::MemoryStore;

/// The administrator's bearer token.
pub const TOKEN: &str = "golden";

/// A server of its own for one scenario.
pub async fn start() -> Server {
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
    config.body_decoders.push(Arc::new(Protobuf));
    let admin = UserInfo::new("admin", &["system:masters"]);
    config.authenticators.push(Arc::new(StaticTokens::new().with(TOKEN, admin)));
    config.authorizers = vec![Arc::new(Masters), Arc::new(Rbac::default())];
    let server = Server::new(config).await.expect("the store is in memory");
    let initial = initial::objects(&range, [10, 0, 0, 1].into(), ([127, 0, 0, 1], 6443).into());
    bootstrap::install(server.core(), initial).await.expect("the store is in memory");
    server
}

//! The server that scenarios are replayed on: an empty store, the built-in kinds, a token of an administrator.

use std::sync::Arc;

use kubewright_apiserver::authn::{StaticTokens, UserInfo};
use kubewright_apiserver::resources::{Backing, Resource, Storage, Verbs};
use kubewright_apiserver::server::{Server, ServerConfig};
use kubewright_kinds::catalogue::Catalogue;
use kubewright_storage::MemoryStore;

/// The administrator's bearer token.
pub const TOKEN: &str = "golden";

/// A server of its own for one scenario.
pub async fn start() -> Server {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    config.resources = resources();
    let admin = UserInfo::new("admin", &["system:masters"]);
    config.authenticators.push(Arc::new(StaticTokens::new().with(TOKEN, admin)));
    Server::new(config).await.expect("the store is in memory")
}

fn resources() -> Vec<Arc<Resource>> {
    let facts = Catalogue::builtin().resources().iter();
    facts
        .map(|facts| {
            Arc::new(Resource {
                singular: facts.singular.into(),
                verbs: Verbs::named(facts.verbs.iter().copied()),
                schema: facts.schema.clone(),
                backing: Backing::Stored(Storage::same(facts.group, facts.version, facts.plural)),
                ..Resource::stored(facts.group, facts.version, facts.kind, facts.plural, facts.namespaced)
            })
        })
        .collect()
}

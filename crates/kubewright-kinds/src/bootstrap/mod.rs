//! What a cluster starts with: the objects of [`initial`](crate::initial), the roles and bindings of RBAC ([`rbac`])
//! and the flow schemas of API Priority and Fairness ([`flowcontrol`]), all of them data; [`install`] hands them to
//! the server to write.

pub mod flowcontrol;
pub mod rbac;

use kubewright_apiserver::bootstrap::{self, BootstrapError};
use kubewright_apiserver::server::Core;
use kubewright_machinery::meta;
use serde_json::Value;

/// Writes what a cluster starts with, `initial` (see [`initial::objects`](crate::initial::objects)) first, and brings
/// roles and bindings of an older server up to date. Kinds that the server does not serve are left out. Costs a few
/// milliseconds on an empty store and one read an object on a full one.
///
/// # Errors
/// When the store fails.
pub async fn install(core: &Core, initial: Vec<Value>) -> Result<(), BootstrapError> {
    let mut objects = initial;
    objects.extend(rbac::objects());
    objects.extend(flowcontrol::objects());
    bootstrap::install(core, &objects, |stored, expected| match meta::kind(expected) {
        // Whom aggregated servers are to believe: that of the last start is not that of this one.
        "ConfigMap" if stored.get("data") != expected.get("data") => {
            let mut next = stored.clone();
            next["data"] = expected["data"].clone();
            Some(next)
        }
        _ if meta::api_version(expected).starts_with("rbac.") => rbac::reconcile(stored, expected),
        _ => None,
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubewright_apiserver::resources::splice;
    use kubewright_apiserver::server::{Server, ServerConfig};
    use kubewright_storage::{Expect, MemoryStore, Store as _};

    use serde_json::json;

    use super::*;
    use crate::{Options, initial, resources};

    fn objects() -> Vec<Value> {
        let range = "10.0.0.0/24".parse().expect("a range");
        initial::objects(&range, [10, 0, 0, 1].into(), ([127, 0, 0, 1], 6443).into())
    }

    async fn server(store: &Arc<MemoryStore>) -> Server {
        let mut config = ServerConfig::new(Arc::clone(store) as _);
        let options = Options::new("10.0.0.0/24".parse().expect("a range"));
        config.resources = resources(&options).into_iter().map(Arc::new).collect();
        Server::new(config).await.expect("the store is in memory")
    }

    #[tokio::test]
    async fn a_second_start_changes_nothing_and_adds_what_was_taken_away() {
        let store = Arc::new(MemoryStore::default());
        let first = server(&store).await;
        install(first.core(), objects()).await.unwrap();
        let revision = store.revision().await.unwrap();
        install(server(&store).await.core(), objects()).await.unwrap();
        assert_eq!(store.revision().await.unwrap(), revision);

        let reader = first.core().reader();
        let group = "rbac.authorization.k8s.io";
        let role =
            reader.get(group, "clusterroles", "", "system:basic-user").await.unwrap().expect("is there");
        let mut less = Value::clone(&role);
        less["rules"] = json!([]);
        meta::remove(&mut less, "resourceVersion");
        let key = "/registry/rbac.authorization.k8s.io/clusterroles/system:basic-user";
        store.put(key, splice::at_rest(&less), Expect::Any).await.unwrap();
        install(first.core(), objects()).await.unwrap();
        let again =
            reader.get(group, "clusterroles", "", "system:basic-user").await.unwrap().expect("is there");
        assert_eq!(again["rules"], role["rules"]);
    }
}

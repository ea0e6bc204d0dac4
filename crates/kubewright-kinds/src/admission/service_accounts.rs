//! `ServiceAccount`: pods run as a service account that exists, and have its token mounted.

use std::sync::Arc;
use std::time::Duration;

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::resources::Storage;
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::status::Status;
use kubewright_storage::StoreError;
use serde_json::{Map, Value, json};

use super::object;
use crate::fields::{at, items_mut, member_made, text};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct ServiceAccount;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The volume with token, certificate authority and namespace.
fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}})
}

/// Mounts the token into every container that has nothing at its path.
fn mount(spec: &mut Map<String, Value>, suffix: &str) {
    let at_path = |m: &Value| text(m, &["mountPath"]) == MOUNT_PATH;
    let volumes = spec.get("volumes").and_then(Value::as_array);
    let known =
        volumes.into_iter().flatten().map(|v| text(v, &["name"])).find(|n| n.starts_with("kube-api-access-"));
    let (name, new) = match known {
        Some(name) => (name.to_string(), false),
        None => (format!("kube-api-access-{suffix}"), true),
    };
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            if let Some(mounts) = mounts.as_array_mut()
                && !mounts.iter().any(at_path)
            {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                needed = true;
            }
        }
    }
    if needed
        && new
        && let Some(volumes) = spec.entry("volumes").or_insert_with(|| json!([])).as_array_mut()
    {
        volumes.push(token_volume(&name));
    }
}

/// How long is waited for the account that every namespace gets.
const PATIENCE: Duration = Duration::from_millis(1500);

/// An account of the namespace. The default one of a new namespace is about to be made by its controller: who creates
/// a namespace and a pod right after it finds it there.
async fn account(attributes: &Attributes<'_>, name: &str) -> Result<Option<Arc<Value>>, StoreError> {
    let get = || attributes.core.reader().get("", "serviceaccounts", attributes.namespace, name);
    if let Some(account) = get().await? {
        return Ok(Some(account));
    }
    if name != "default" {
        return Ok(None);
    }
    let store = attributes.core.store();
    let key = format!("{}{}/{name}", Storage::prefix_of("", "serviceaccounts"), attributes.namespace);
    let mut watch = store.watch(&key, store.revision().await?)?;
    let made = async {
        loop {
            // It may have been made before the watch began.
            if let Some(account) = get().await? {
                return Ok(Some(account));
            }
            if watch.next().await.is_none() {
                return Ok(None);
            }
        }
    };
    tokio::time::timeout(PATIENCE, made).await.unwrap_or(Ok(None))
}

impl ServiceAccount {
    async fn complete(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let namespace = attributes.namespace;
        let Some(pod) = attributes.object.as_ref() else { return Ok(()) };
        // Mirrors of static pods run as nobody.
        if !at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_null() {
            return Ok(());
        }
        let name = match text(pod, &["spec", "serviceAccountName"]) {
            "" => "default".to_string(),
            name => name.to_string(),
        };
        let Some(account) = account(attributes, &name).await.map_err(super::unreadable)? else {
            return Err(attributes.forbidden(format!(
                "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
            )));
        };
        let pod_says = at(pod, &["spec", "automountServiceAccountToken"]).as_bool();
        let account_says = at(&account, &["automountServiceAccountToken"]).as_bool();
        let suffix = {
            const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
            let random = attributes.core.random::<5>();
            random.map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()])).iter().collect::<String>()
        };
        let secrets = at(&account, &["imagePullSecrets"]).clone();
        let Some(spec) = object(attributes).and_then(|pod| member_made(pod, "spec")) else { return Ok(()) };
        spec.insert("serviceAccountName".into(), name.as_str().into());
        spec.insert("serviceAccount".into(), name.into());
        if pod_says.or(account_says).unwrap_or(true) {
            mount(spec, &suffix);
        }
        let none = spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if none && secrets.as_array().is_some_and(|s| !s.is_empty()) {
            spec.insert("imagePullSecrets".into(), secrets);
        }
        Ok(())
    }
}

impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if attributes.is("", "pods") { Box::pin(self.complete(attributes)) } else { ready(Ok(())) }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use kubewright_apiserver::authn::UserInfo;
    use kubewright_apiserver::server::{Server, ServerConfig};
    use kubewright_storage::MemoryStore;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{Options, resources};

    #[test]
    fn every_container_gets_the_token_once() {
        let mut pod = json!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"mountPath": MOUNT_PATH}]}]});
        if let Some(spec) = pod.as_object_mut() {
            mount(spec, "abcde");
        }
        assert_eq!(pod["volumes"][0]["name"], "kube-api-access-abcde");
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-abcde");
        assert_eq!(pod["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
    }

    async fn post(server: &Server, path: &str, body: Value) -> u16 {
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(Full::new(bytes::Bytes::from(body.to_string()))).expect("a request");
        let answer =
            server.service(Some(UserInfo::server())).oneshot(request).await.expect("the server runs");
        answer.status().as_u16()
    }

    #[tokio::test]
    async fn a_pod_waits_for_the_default_account_of_its_namespace() {
        let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
        let options = Options::new("10.0.0.0/24".parse().expect("a range"));
        config.resources = resources(&options).into_iter().map(Arc::new).collect();
        config.admission = vec![Arc::new(ServiceAccount)];
        let server = Server::new(config).await.expect("the store is in memory");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let other = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default-2"}});
        let (admitted, ()) = tokio::join!(
            biased;
            post(&server, "/api/v1/namespaces/a/pods", pod),
            async {
                assert_eq!(post(&server, "/api/v1/namespaces/a/serviceaccounts", other).await, 201);
                assert_eq!(post(&server, "/api/v1/namespaces/a/serviceaccounts", account).await, 201);
            }
        );
        assert_eq!(admitted, 201);
    }
}

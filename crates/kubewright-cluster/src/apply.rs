//! Manifests brought into a cluster: server-side apply of a handful of objects whose kinds are found by discovery, in the
//! order given, as whoever develops or tests an operator needs it. It uses what every client may use, and nothing else.

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use serde_json::Value;
use thiserror::Error;

/// The field manager of what is applied.
const MANAGER: &str = "kubewright-dev";

/// An object that was applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, where it has one.
    pub namespace: Option<String>,
    /// The object as it was sent.
    pub object: Value,
}

/// Why manifests were not applied.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// An object lacks its kind, apiVersion or name.
    #[error("cannot apply {what}: {field} is missing")]
    Incomplete {
        /// The object, as far as it is known.
        what: String,
        /// What it lacks.
        field: &'static str,
    },
    /// The cluster serves no such kind.
    #[error("cannot apply {what}: the cluster does not know {kind} of {api_version}")]
    UnknownKind {
        /// The object.
        what: String,
        /// Its kind.
        kind: String,
        /// Its group and version.
        api_version: String,
        /// What discovery said.
        source: Box<kube::Error>,
    },
    /// The cluster refused it.
    #[error("cannot apply {what}")]
    Refused {
        /// The object.
        what: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A definition can't be read back.
    #[error("cannot read the definition {name}")]
    Definition {
        /// Its name.
        name: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A definition is not served.
    #[error("{name} is not established: {conditions}")]
    NotEstablished {
        /// Its name.
        name: String,
        /// Its conditions, as JSON.
        conditions: Value,
    },
}

/// Applies objects one after the other; those without a namespace go to `namespace` where their kind needs one.
///
/// # Errors
/// At the first object that can't be applied; those before it stay.
pub async fn apply(
    client: &kube::Client,
    objects: &[Value],
    namespace: &str,
) -> Result<Vec<Applied>, ApplyError> {
    let mut applied = Vec::with_capacity(objects.len());
    for object in objects {
        applied.push(apply_one(client, object, namespace).await?);
    }
    Ok(applied)
}

async fn apply_one(
    client: &kube::Client,
    object: &Value,
    default_namespace: &str,
) -> Result<Applied, ApplyError> {
    let text = |value: &Value, field: &'static str| {
        let incomplete = || ApplyError::Incomplete { what: describe(object), field };
        value.as_str().map(str::to_owned).ok_or_else(incomplete)
    };
    let (api_version, kind) = (text(&object["apiVersion"], "apiVersion")?, text(&object["kind"], "kind")?);
    let name = text(&object["metadata"]["name"], "metadata.name")?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let (resource, capabilities) = pinned_kind(client, &gvk).await.map_err(|source| {
        let (kind, api_version) = (kind.clone(), api_version.clone());
        ApplyError::UnknownKind { what: describe(object), kind, api_version, source: Box::new(source) }
    })?;
    let namespace = (capabilities.scope == Scope::Namespaced)
        .then(|| object["metadata"]["namespace"].as_str().unwrap_or(default_namespace).to_owned());
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply(MANAGER).force();
    let refused = |source| ApplyError::Refused { what: describe(object), source: Box::new(source) };
    api.patch(&name, &params, &Patch::Apply(object)).await.map_err(refused)?;
    Ok(Applied { kind, name, namespace, object: object.clone() })
}

/// Waits until the definitions among the applied objects can be used.
///
/// # Errors
/// When one can't be read, or is not established after five seconds.
pub async fn established(client: &kube::Client, applied: &[Applied]) -> Result<(), ApplyError> {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
    for Applied { name, .. } in applied.iter().filter(|a| a.kind == gvk.kind) {
        let mut patience = 100;
        loop {
            let unreadable = |source| ApplyError::Definition { name: name.clone(), source: Box::new(source) };
            let current = api.get(name).await.map_err(unreadable)?;
            let conditions = &current.data["status"]["conditions"];
            let mut known = conditions.as_array().into_iter().flatten();
            if known.any(|c| c["type"] == "Established" && c["status"] == "True") {
                break;
            }
            patience -= 1;
            if patience == 0 {
                let conditions = conditions.clone();
                return Err(ApplyError::NotEstablished { name: name.clone(), conditions });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// What was applied, in a few words.
pub fn summary(applied: &[Applied]) -> String {
    let words: Vec<String> = applied.iter().map(|a| format!("{}/{}", a.kind, a.name)).collect();
    words.join(", ")
}

/// The ports of Services among objects that lead to webhooks, which is what operators call these ports: namespace, name,
/// port.
pub fn webhook_services(objects: &[Value]) -> Vec<(String, String, u16)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let services =
        objects.iter().filter(|object| object["kind"] == "Service" && object["apiVersion"] == "v1");
    services
        .flat_map(|service| {
            let metadata = &service["metadata"];
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            ports.filter(|port| port["name"] == "webhook").filter_map(move |port| {
                let number = u16::try_from(port["port"].as_u64()?).ok()?;
                Some((text(&metadata["namespace"]), text(&metadata["name"]), number))
            })
        })
        .collect()
}

fn describe(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("an object without a kind");
    let name = object["metadata"]["name"].as_str().unwrap_or("without a name");
    format!("{kind} {name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_of_webhooks_are_known_by_the_name_of_their_port() {
        let service = |name: &str, port: &str| {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n"},
                "spec": {"ports": [{"name": port, "port": 443}, {"name": "metrics", "port": 8080}]}})
        };
        let objects = [service("a", "webhook"), service("b", "https"), json!({"kind": "Secret"})];
        assert_eq!(webhook_services(&objects), [("n".into(), "a".into(), 443)]);
    }
}

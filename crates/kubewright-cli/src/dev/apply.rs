//! Server-side apply of a handful of objects whose kinds are found by discovery, in the order given.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client};
use serde_json::Value;

/// The field manager of what `dev` applies.
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

/// Applies objects one after the other; those without a namespace go to `namespace` where their kind needs one.
pub async fn apply(client: &Client, objects: &[Value], namespace: &str) -> anyhow::Result<Vec<Applied>> {
    let mut applied = Vec::with_capacity(objects.len());
    for object in objects {
        let what = describe(object);
        applied.push(
            apply_one(client, object, namespace).await.with_context(|| format!("cannot apply {what}"))?,
        );
    }
    Ok(applied)
}

async fn apply_one(client: &Client, object: &Value, default_namespace: &str) -> anyhow::Result<Applied> {
    let (Some(api_version), Some(kind)) = (object["apiVersion"].as_str(), object["kind"].as_str()) else {
        bail!("apiVersion or kind is missing");
    };
    let Some(name) = object["metadata"]["name"].as_str() else { bail!("metadata.name is missing") };
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let (resource, scope) = resolve(client, &gvk).await?;
    let namespace = (scope == Scope::Namespaced)
        .then(|| object["metadata"]["namespace"].as_str().unwrap_or(default_namespace).to_owned());
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply(MANAGER).force();
    api.patch(name, &params, &Patch::Apply(object)).await?;
    Ok(Applied { kind: kind.into(), name: name.into(), namespace, object: object.clone() })
}

async fn resolve(client: &Client, gvk: &GroupVersionKind) -> anyhow::Result<(ApiResource, Scope)> {
    let (resource, capabilities) = pinned_kind(client, gvk)
        .await
        .with_context(|| format!("the cluster does not know {} of {}", gvk.kind, gvk.api_version()))?;
    Ok((resource, capabilities.scope))
}

/// Waits until the definitions among the applied objects can be used.
pub async fn established(client: &Client, applied: &[Applied]) -> anyhow::Result<()> {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
    for definition in applied.iter().filter(|a| a.kind == gvk.kind) {
        let mut patience = 100;
        loop {
            let current = api.get(&definition.name).await?;
            let conditions = current.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True") {
                break;
            }
            patience -= 1;
            if patience == 0 {
                bail!("{} is not established: {}", definition.name, Value::from(conditions));
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

fn describe(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("an object without a kind");
    let name = object["metadata"]["name"].as_str().unwrap_or("without a name");
    format!("{kind} {name}")
}

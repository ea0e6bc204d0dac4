//! Deletion of namespaces: everything in them goes, pods first, then the namespace's own finalizer.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::discovery::{Discovery, Scope, verbs};
use kubewright::{Action, Context, Controller, Permit, Reconciler, Result, Verb};

use super::{status, time};

/// The finalizer in `spec.finalizers` that stands for what is in the namespace.
const FINALIZER: &str = "kubernetes";
/// The condition that says what a namespace still waits for.
const REMAINING: &str = "NamespaceContentRemaining";
/// When to look again at a namespace that is not empty yet.
const AGAIN: Duration = Duration::from_millis(200);

/// Empties namespaces that are deleted.
pub struct Namespaces;

impl Namespaces {
    /// The controller of all namespaces.
    pub fn controller() -> Controller {
        Controller::new(Namespaces)
            .permits(Permit::on_resource(
                "*",
                "*",
                [Verb::List, Verb::Get, Verb::Delete, Verb::DeleteCollection],
            ))
            .permits(Permit::on_sub::<Namespace>("finalize", [Verb::Update]))
    }
}

impl Reconciler for Namespaces {
    type Object = Namespace;

    async fn reconcile(&self, namespace: Arc<Namespace>, cx: &Context) -> Result<Action> {
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(Action::never());
        }
        let mut left = Vec::new();
        for resource in deletable(cx.client()).await? {
            let remaining = empty(cx.client(), cx.key().name(), &resource).await?;
            if remaining > 0 {
                left.push((resource, remaining));
            }
        }
        if left.is_empty() {
            finalize(&namespace, finalizers, cx).await?;
            return Ok(Action::done());
        }
        let status = status_of(&namespace, &left);
        if namespace.status.as_ref() != Some(&status) {
            let next = Namespace { status: Some(status), ..Namespace::clone(&namespace) };
            status::update(&Api::all(cx.client()), &next, cx).await?;
        }
        Ok(Action::after(AGAIN))
    }
}

/// What can be in a namespace and be deleted there; pods first, as others may wait for them.
async fn deletable(client: kube::Client) -> Result<Vec<ApiResource>> {
    let discovery = Discovery::new(client).run_aggregated().await?;
    let mut found: Vec<ApiResource> = discovery
        .groups()
        .flat_map(kube::discovery::ApiGroup::recommended_resources)
        .filter(|(_, capabilities)| capabilities.scope == Scope::Namespaced)
        .filter(|(_, capabilities)| {
            capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE)
        })
        // Events have two names and are one store.
        .filter(|(resource, _)| resource.group != "events.k8s.io")
        .map(|(resource, _)| resource)
        .collect();
    found.sort_by_key(|resource| {
        (resource.plural != "pods" || !resource.group.is_empty(), resource.group.clone())
    });
    Ok(found)
}

/// Deletes what is there and says how much is left.
async fn empty(client: kube::Client, namespace: &str, resource: &ApiResource) -> Result<usize> {
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, resource);
    let all = ListParams::default();
    let gone = |status: &kube::core::Status| matches!(status.code, 404 | 405);
    match api.list_metadata(&all).await {
        Ok(list) if list.items.is_empty() => return Ok(0),
        Ok(_) => {}
        // A definition that went since discovery.
        Err(kube::Error::Api(status)) if gone(&status) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    let params = DeleteParams::background();
    match api.delete_collection(&params, &all).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if gone(&status) => {
            for object in api.list_metadata(&all).await?.items {
                let name = object.metadata.name.unwrap_or_default();
                match api.delete(&name, &params).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(api.list_metadata(&all).await?.items.len())
}

async fn finalize(namespace: &Namespace, finalizers: Vec<String>, cx: &Context) -> Result {
    let mut done = namespace.clone();
    let left: Vec<String> = finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect();
    done.spec.get_or_insert_default().finalizers = Some(left);
    let api: Api<Namespace> = Api::all(cx.client());
    let answer: kube::Result<Namespace> =
        api.replace_subresource("finalize", cx.key().name(), &PostParams::default(), &done).await;
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn status_of(namespace: &Namespace, left: &[(ApiResource, usize)]) -> NamespaceStatus {
    let words: Vec<String> = left
        .iter()
        .map(|(resource, count)| {
            let group =
                if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
            format!("{}{group} has {count} resource instances", resource.plural)
        })
        .collect();
    let message = format!("Some resources are remaining: {}", words.join(", "));
    let mut status = namespace.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().position(|condition| condition.type_ == REMAINING);
    let before = before.map(|index| conditions.remove(index)).filter(|condition| condition.status == "True");
    conditions.push(NamespaceCondition {
        type_: REMAINING.into(),
        status: "True".into(),
        reason: Some("SomeResourcesRemain".into()),
        message: Some(message),
        last_transition_time: before
            .and_then(|condition| condition.last_transition_time)
            .or_else(|| Some(time::now())),
    });
    status
}

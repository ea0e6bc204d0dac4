//! The garbage collector: follows the metadata of every kind there is and deletes what nobody owns any more.
//!
//! Kinds come and go with definitions: discovery is read again whenever one changes. What is to be done is decided by
//! [`graph`]; this driver watches metadata, asks and writes, beside the controllers and with a role like theirs.

mod graph;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, Preconditions,
    PropagationPolicy, WatchEvent, WatchParams,
};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Client, ResourceExt as _};
use kubewright::{Permit, Runnable, Uses, Verb};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::identity::Identity;
use graph::{FOREGROUND, Graph, ORPHAN, OwnerRef, Place, Seen, Task};

/// Kinds whose objects own nothing and come in large numbers.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// When to try again after something has failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long changes are gathered before they are looked at: a burst of deletions is one piece of work.
const GATHER: Duration = Duration::from_millis(10);

/// What the watchers and workers tell.
enum News {
    Seen(Seen),
    Gone(String),
    /// The list of a kind is complete; what it does not name is gone.
    Listed {
        api_version: String,
        kind: String,
        uids: HashSet<String>,
    },
    /// A lookup was answered.
    Confirmed {
        uid: Arc<str>,
        exists: bool,
    },
    /// A task has failed.
    Failed(Arc<str>),
    /// A definition has changed.
    KindsChanged,
}

/// Who the collector is.
pub(crate) const IDENTITY: Identity = Identity::Account("generic-garbage-collector");

/// The collector, to be run until the cluster stops.
pub(crate) fn collector() -> Runnable {
    let everything =
        Permit::on_resource("*", "*", [Verb::Get, Verb::List, Verb::Watch, Verb::Patch, Verb::Delete]);
    Runnable::new("garbage-collector", |running| async move {
        tokio::select! {
            () = run(running.access().client()) => {}
            () = running.stopped() => {}
        }
        Ok(())
    })
    .uses(Uses::new().permits(everything))
}

/// Runs the collector until it is dropped.
async fn run(client: Client) {
    let (send, mut news) = mpsc::unbounded_channel();
    let mut collector = Collector {
        client: client.clone(),
        graph: Graph::default(),
        kinds: HashMap::new(),
        listed: HashSet::new(),
        send: send.clone(),
        tasks: JoinSet::new(),
    };
    collector.tasks.spawn(follow_definitions(client, send));
    while let Some(first) = news.recv().await {
        collector.take(first).await;
        tokio::time::sleep(GATHER).await;
        while let Ok(next) = news.try_recv() {
            collector.take(next).await;
        }
        while collector.tasks.try_join_next().is_some() {}
        collector.work();
    }
}

/// A kind that is followed.
struct Followed {
    resource: ApiResource,
    namespaced: bool,
    watcher: AbortHandle,
}

struct Collector {
    client: Client,
    graph: Graph,
    kinds: HashMap<(String, String), Followed>,
    /// Kinds whose first list is complete.
    listed: HashSet<(String, String)>,
    send: mpsc::UnboundedSender<News>,
    tasks: JoinSet<()>,
}

impl Collector {
    async fn take(&mut self, news: News) {
        match news {
            News::Seen(seen) => self.graph.observe(seen),
            News::Gone(uid) => self.graph.gone(&uid),
            News::Listed { api_version, kind, uids } => {
                for uid in self.graph.of_kind(&api_version, &kind) {
                    if !uids.contains(&*uid) {
                        self.graph.gone(&uid);
                    }
                }
                self.listed.insert((api_version, kind));
            }
            News::Confirmed { uid, exists } => self.graph.confirm(&uid, exists),
            News::Failed(uid) => self.graph.again(&uid),
            News::KindsChanged => self.discover().await,
        }
    }

    /// Follows what is new and lets go of what is not served any more.
    async fn discover(&mut self) {
        let discovery = match Discovery::new(self.client.clone()).run_aggregated().await {
            Ok(discovery) => discovery,
            Err(error) => {
                tracing::warn!(%error, "garbage collection can't discover the kinds there are");
                let send = self.send.clone();
                self.tasks.spawn(async move {
                    tokio::time::sleep(RETRY).await;
                    // The collector is gone: then nobody needs to know.
                    let _ = send.send(News::KindsChanged);
                });
                return;
            }
        };
        let mut served = HashSet::new();
        for (resource, capabilities) in
            discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources)
        {
            let collectable = [verbs::LIST, verbs::WATCH, verbs::DELETE, verbs::GET]
                .iter()
                .all(|verb| capabilities.supports_operation(verb));
            if !collectable || IGNORED.contains(&(resource.group.as_str(), resource.plural.as_str())) {
                continue;
            }
            let key = (resource.api_version.clone(), resource.kind.clone());
            served.insert(key.clone());
            if !self.kinds.contains_key(&key) {
                let watcher =
                    self.tasks.spawn(follow(self.client.clone(), resource.clone(), self.send.clone()));
                let namespaced = capabilities.scope == Scope::Namespaced;
                self.kinds.insert(key, Followed { resource, namespaced, watcher });
            }
        }
        let removed: Vec<(String, String)> =
            self.kinds.keys().filter(|key| !served.contains(*key)).cloned().collect();
        for key in removed {
            if let Some(followed) = self.kinds.remove(&key) {
                followed.watcher.abort();
            }
            self.listed.remove(&key);
            for uid in self.graph.of_kind(&key.0, &key.1) {
                self.graph.gone(&uid);
            }
        }
    }

    /// Does what is due, once every kind has been listed: before that, owners only seem to be absent.
    fn work(&mut self) {
        if self.kinds.is_empty() || !self.kinds.keys().all(|key| self.listed.contains(key)) {
            return;
        }
        for task in self.graph.work() {
            let send = self.send.clone();
            let (Task::Delete { place, uid, .. }
            | Task::LookUp { place, uid }
            | Task::Release { place, uid, .. }
            | Task::Finalize { place, uid, .. }) = &task;
            let uid = Arc::clone(uid);
            let Some(api) = self.api(place) else {
                if matches!(task, Task::LookUp { .. }) {
                    // An owner of a kind that can't be resolved is not known to be absent: its dependents stay, and
                    // the kind may be one that discovery has yet to show.
                    self.tasks.spawn(async move {
                        tokio::time::sleep(RETRY).await;
                        // The collector is gone: then nobody needs to know.
                        let _ = send.send(News::Failed(uid));
                    });
                }
                continue;
            };
            self.tasks.spawn(async move {
                let answer = match perform(&api, &task).await {
                    Ok(Answer::Exists(exists)) => News::Confirmed { uid, exists },
                    Ok(Answer::Done) => return,
                    // The event of that change may have come before this answer, and no other need follow.
                    Ok(Answer::Changed) => {
                        tokio::time::sleep(RETRY).await;
                        News::Failed(uid)
                    }
                    Err(error) => {
                        tracing::warn!(%error, ?task, "garbage collection has failed, and tries again");
                        tokio::time::sleep(RETRY).await;
                        News::Failed(uid)
                    }
                };
                // The collector is gone: then nobody needs to know.
                let _ = send.send(answer);
            });
        }
    }

    /// The API of a place; of whichever version of the kind is followed.
    fn api(&self, place: &Place) -> Option<Api<DynamicObject>> {
        let group =
            |api_version: &str| api_version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        let followed =
            self.kinds.get(&(place.api_version.to_string(), place.kind.to_string())).or_else(|| {
                let wanted = group(&place.api_version);
                self.kinds.values().find(|f| f.resource.group == wanted && *f.resource.kind == *place.kind)
            })?;
        Some(if followed.namespaced {
            Api::namespaced_with(self.client.clone(), &place.namespace, &followed.resource)
        } else {
            Api::all_with(self.client.clone(), &followed.resource)
        })
    }
}

/// What became of a task.
enum Answer {
    /// Whether the object that was looked up is there.
    Exists(bool),
    /// There is nothing more to do.
    Done,
    /// Somebody else changed the object meanwhile.
    Changed,
}

/// Does one task.
async fn perform(api: &Api<DynamicObject>, task: &Task) -> kube::Result<Answer> {
    let result = match task {
        Task::LookUp { place, uid } => {
            let found = api.get_metadata_opt(&place.name).await?;
            let there = found.is_some_and(|object| object.metadata.uid.as_deref() == Some(&**uid));
            return Ok(Answer::Exists(there));
        }
        Task::Delete { place, uid, foreground } => {
            let params = DeleteParams {
                propagation_policy: Some(if *foreground {
                    PropagationPolicy::Foreground
                } else {
                    PropagationPolicy::Background
                }),
                preconditions: Some(Preconditions { uid: Some(uid.to_string()), resource_version: None }),
                ..DeleteParams::default()
            };
            api.delete(&place.name, &params).await.map(|_| ())
        }
        Task::Release { place, uid, owners } => {
            change(api, place, uid, |meta| {
                let references = meta.owner_references.get_or_insert_default();
                references.retain(|reference| !owners.iter().any(|owner| **owner == *reference.uid));
                json!({"ownerReferences": references})
            })
            .await
        }
        Task::Finalize { place, uid, finalizer } => {
            change(api, place, uid, |meta| {
                let finalizers = meta.finalizers.get_or_insert_default();
                finalizers.retain(|held| held != finalizer);
                json!({"finalizers": finalizers})
            })
            .await
        }
    };
    match result {
        Ok(()) => Ok(Answer::Done),
        // Gone: its event tells.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Answer::Done),
        // Changed, or another object by now.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Answer::Changed),
        Err(error) => Err(error),
    }
}

/// Changes metadata of exactly the object that was meant, as it is now.
async fn change(
    api: &Api<DynamicObject>,
    place: &Place,
    uid: &str,
    edit: impl FnOnce(&mut ObjectMeta) -> serde_json::Value,
) -> kube::Result<()> {
    let Some(object) = api.get_metadata_opt(&place.name).await? else { return Ok(()) };
    let mut meta = object.metadata;
    if meta.uid.as_deref() != Some(uid) {
        return Ok(());
    }
    let mut patch = json!({"metadata": edit(&mut meta)});
    patch["metadata"]["uid"] = json!(uid);
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    api.patch_metadata(&place.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
}

/// Tells whenever a definition changes, and once at the start.
async fn follow_definitions(client: Client, send: mpsc::UnboundedSender<News>) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    loop {
        if send.send(News::KindsChanged).is_err() {
            return;
        }
        let version = match api.list_metadata(&ListParams::default()).await {
            Ok(list) => list.metadata.resource_version.unwrap_or_default(),
            Err(_) => {
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        if let Ok(events) = api.watch_metadata(&WatchParams::default(), &version).await {
            pin_mut!(events);
            while let Some(Ok(event)) = events.next().await {
                if !matches!(event, WatchEvent::Bookmark(_)) && send.send(News::KindsChanged).is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Follows the metadata of one kind for ever.
async fn follow(client: Client, resource: ApiResource, send: mpsc::UnboundedSender<News>) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    loop {
        if let Err(error) = follow_once(&api, &resource, &send).await {
            tracing::debug!(%error, kind = resource.kind, "the watch of a kind has ended");
            tokio::time::sleep(RETRY).await;
        }
        if send.is_closed() {
            return;
        }
    }
}

/// Lists, then watches until the watch ends.
async fn follow_once(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
    send: &mpsc::UnboundedSender<News>,
) -> kube::Result<()> {
    let list = api.list_metadata(&ListParams::default()).await?;
    let mut version = list.metadata.resource_version.unwrap_or_default();
    let mut uids = HashSet::new();
    for object in list.items {
        uids.extend(object.metadata.uid.clone());
        // The collector is gone: the caller finds out.
        let _ = send.send(News::Seen(seen(resource, &object.metadata)));
    }
    let _ = send.send(News::Listed {
        api_version: resource.api_version.clone(),
        kind: resource.kind.clone(),
        uids,
    });
    loop {
        let events = api.watch_metadata(&WatchParams::default(), &version).await?;
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version = object.resource_version().unwrap_or(version);
                    let _ = send.send(News::Seen(seen(resource, &object.metadata)));
                }
                WatchEvent::Deleted(object) => {
                    version = object.resource_version().unwrap_or(version);
                    let _ = send.send(News::Gone(object.uid().unwrap_or_default()));
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
    }
}

fn seen(resource: &ApiResource, meta: &ObjectMeta) -> Seen {
    let namespace: Arc<str> = meta.namespace.as_deref().unwrap_or_default().into();
    let finalizer = |name: &str| meta.finalizers.iter().flatten().any(|held| held == name);
    Seen {
        place: Place {
            api_version: resource.api_version.as_str().into(),
            kind: resource.kind.as_str().into(),
            namespace: Arc::clone(&namespace),
            name: meta.name.as_deref().unwrap_or_default().into(),
        },
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        owners: meta
            .owner_references
            .iter()
            .flatten()
            .map(|owner| OwnerRef {
                place: Place {
                    api_version: owner.api_version.as_str().into(),
                    kind: owner.kind.as_str().into(),
                    namespace: Arc::clone(&namespace),
                    name: owner.name.as_str().into(),
                },
                uid: owner.uid.as_str().into(),
                blocks: owner.block_owner_deletion == Some(true),
            })
            .collect(),
        deleting: meta.deletion_timestamp.is_some(),
        foreground: finalizer(FOREGROUND),
        orphan: finalizer(ORPHAN),
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;

    use super::*;

    /// What becomes of taking a finalizer off, when the object is there and the write of it is answered with this.
    async fn finalized(code: StatusCode) -> kube::Result<Answer> {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let read = request.method() == Method::GET;
            let body = if read {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata":
                    {"name": "web", "uid": "u", "resourceVersion": "7", "finalizers": [FOREGROUND]}})
            } else {
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
                    "metadata": {}, "message": "no", "reason": "Conflict"})
            };
            let code = if read { StatusCode::OK } else { code };
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            response.map_err(std::io::Error::other)
        });
        let resource = ApiResource::erase::<CustomResourceDefinition>(&());
        let api = Api::all_with(Client::new(service, "default"), &resource);
        let place = Place {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            namespace: "".into(),
            name: "web".into(),
        };
        perform(&api, &Task::Finalize { place, uid: "u".into(), finalizer: FOREGROUND }).await
    }

    #[tokio::test]
    async fn a_step_that_met_another_change_is_not_done_with() {
        assert!(matches!(finalized(StatusCode::CONFLICT).await, Ok(Answer::Changed)));
        assert!(matches!(finalized(StatusCode::NOT_FOUND).await, Ok(Answer::Done)));
        assert!(finalized(StatusCode::INTERNAL_SERVER_ERROR).await.is_err());
    }
}

//! What is related to a node: the pods on it, what they refer to, and the volumes behind their claims.
//!
//! Objects are followed in the store from the first question on; of each no more is kept than its names. A question is
//! answered by looking at the pods of the node that asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kubewright_apiserver::resources::{Storage, splice};
use kubewright_machinery::meta;
use kubewright_storage::{EventKind, Range, Store, StoreError, Watch};
use serde_json::Value;

use super::references::{self, References};
use crate::fields::{at, text};

/// What a node may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Related {
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ResourceClaim,
    Attachment,
    Account,
    Slice,
    Pod,
}

/// All relations.
#[derive(Default)]
pub(super) struct Graph {
    pods: Followed<Pods>,
    volumes: Followed<Volumes>,
    attachments: Followed<OfNodes>,
    slices: Followed<OfNodes>,
}

impl Graph {
    /// Takes in what has been written since, as far as it matters for this.
    pub async fn catch_up(&mut self, store: &dyn Store, about: Related) -> Result<(), StoreError> {
        match about {
            Related::Attachment => {
                self.attachments.catch_up(store, "storage.k8s.io", "volumeattachments").await
            }
            Related::Slice => self.slices.catch_up(store, "resource.k8s.io", "resourceslices").await,
            Related::Secret | Related::Volume => {
                self.volumes.catch_up(store, "", "persistentvolumes").await?;
                self.pods.catch_up(store, "", "pods").await
            }
            _ => self.pods.catch_up(store, "", "pods").await,
        }
    }

    /// Whether an object is related to the node. Costs a look at each pod of the node in the namespace.
    pub fn relates(&self, node: &str, about: Related, namespace: &str, name: &str) -> bool {
        let pods = || self.pods.index.on(node);
        let here = || pods().filter(|pod| *pod.namespace == *namespace);
        let has = |list: &[Box<str>]| list.iter().any(|item| **item == *name);
        match about {
            Related::Pod => here().any(|pod| *pod.name == *name),
            Related::ConfigMap => here().any(|pod| has(&pod.refers.config_maps)),
            Related::Claim => here().any(|pod| has(&pod.refers.claims)),
            Related::ResourceClaim => here().any(|pod| has(&pod.refers.resource_claims)),
            Related::Account => here().any(|pod| *pod.account == *name),
            Related::Volume => self.volumes_of(pods()).any(|volume| *volume.name == *name),
            Related::Secret => {
                here().any(|pod| has(&pod.refers.secrets))
                    || self.volumes_of(pods()).any(|volume| {
                        volume.secrets.iter().any(|(of, secret)| **of == *namespace && **secret == *name)
                    })
            }
            Related::Attachment => self.attachments.index.is(name, node),
            Related::Slice => self.slices.index.is(name, node),
        }
    }

    /// The volumes that are bound to the claims of pods.
    fn volumes_of<'g>(&'g self, pods: impl Iterator<Item = &'g Pod>) -> impl Iterator<Item = &'g Volume> {
        let claims =
            pods.flat_map(|pod| pod.refers.claims.iter().map(|claim| format!("{}/{claim}", pod.namespace)));
        claims.flat_map(|claim| self.volumes.index.of_claim(&claim))
    }
}

/// What is kept of the objects of a kind.
trait Index: Default {
    fn put(&mut self, key: &str, object: &Value);
    fn remove(&mut self, key: &str);
}

/// An index that follows the store.
#[derive(Default)]
struct Followed<I> {
    watch: Option<Watch>,
    index: I,
}

impl<I: Index> Followed<I> {
    async fn catch_up(&mut self, store: &dyn Store, group: &str, plural: &str) -> Result<(), StoreError> {
        let prefix = Storage::prefix_of(group, plural);
        if self.follow(&prefix) {
            return Ok(());
        }
        let page = store.range(Range::all(prefix.as_str()), None).await?;
        self.index = I::default();
        for entry in &page.entries {
            if let (Some(key), Ok(object)) =
                (entry.key.strip_prefix(prefix.as_str()), splice::decode(&entry.value, entry.revision))
            {
                self.index.put(key, &object);
            }
        }
        self.watch = Some(store.watch(&prefix, page.revision)?);
        Ok(())
    }

    /// False where everything has to be read anew.
    fn follow(&mut self, prefix: &str) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        while let Some(next) = watch.try_next() {
            let Ok(event) = next else {
                self.watch = None;
                return false;
            };
            let Some(key) = event.key.strip_prefix(prefix) else { continue };
            match (event.kind, splice::decode(&event.value, event.revision)) {
                (EventKind::Put { .. }, Ok(object)) => self.index.put(key, &object),
                _ => self.index.remove(key),
            }
        }
        true
    }
}

struct Pod {
    node: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
    account: Box<str>,
    refers: References,
}

#[derive(Default)]
struct Pods {
    pods: HashMap<Box<str>, Pod>,
    by_node: HashMap<Box<str>, BTreeSet<Box<str>>>,
}

impl Pods {
    fn on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.by_node.get(node).into_iter().flatten().filter_map(|key| self.pods.get(key))
    }
}

impl Index for Pods {
    fn put(&mut self, key: &str, pod: &Value) {
        self.remove(key);
        let node = text(pod, &["spec", "nodeName"]);
        if node.is_empty() {
            return;
        }
        // What a node makes itself gives it no rights.
        let mirror = !at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_null();
        let kept = Pod {
            node: node.into(),
            namespace: meta::namespace(pod).into(),
            name: meta::name(pod).into(),
            account: if mirror { "" } else { text(pod, &["spec", "serviceAccountName"]) }.into(),
            refers: if mirror { References::default() } else { references::of_pod(pod) },
        };
        self.by_node.entry(node.into()).or_default().insert(key.into());
        self.pods.insert(key.into(), kept);
    }

    fn remove(&mut self, key: &str) {
        let Some(pod) = self.pods.remove(key) else { return };
        if let Some(keys) = self.by_node.get_mut(&pod.node) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_node.remove(&pod.node);
            }
        }
    }
}

struct Volume {
    name: Box<str>,
    claim: Box<str>,
    secrets: Vec<(Box<str>, Box<str>)>,
}

#[derive(Default)]
struct Volumes {
    volumes: HashMap<Box<str>, Volume>,
    by_claim: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
}

impl Volumes {
    fn of_claim(&self, claim: &str) -> impl Iterator<Item = &Volume> + use<'_> {
        self.by_claim.get(claim).into_iter().flatten().filter_map(|key| self.volumes.get(key))
    }
}

impl Index for Volumes {
    fn put(&mut self, key: &str, volume: &Value) {
        self.remove(key);
        let claim = &volume["spec"]["claimRef"];
        if claim.is_null() {
            return;
        }
        let claim: Box<str> = format!("{}/{}", text(claim, &["namespace"]), text(claim, &["name"])).into();
        self.by_claim.entry(claim.clone()).or_default().insert(key.into());
        let secrets = references::secrets_of_volume(volume);
        self.volumes.insert(key.into(), Volume { name: meta::name(volume).into(), claim, secrets });
    }

    fn remove(&mut self, key: &str) {
        let Some(volume) = self.volumes.remove(key) else { return };
        if let Some(keys) = self.by_claim.get_mut(&volume.claim) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_claim.remove(&volume.claim);
            }
        }
    }
}

/// Objects that are a node's by their `spec.nodeName`.
#[derive(Default)]
struct OfNodes(HashMap<Box<str>, Box<str>>);

impl OfNodes {
    fn is(&self, name: &str, node: &str) -> bool {
        self.0.get(name).is_some_and(|of| **of == *node)
    }
}

impl Index for OfNodes {
    fn put(&mut self, key: &str, object: &Value) {
        self.0.insert(key.into(), text(object, &["spec", "nodeName"]).into());
    }

    fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }
}

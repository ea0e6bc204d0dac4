//! Applying the children an owner is to have: each by server-side apply with an owner reference, the
//! rest of the owner's children of those kinds deleted. Names come from the caller and decide what is
//! the same child, so an operator that is killed at any moment finds its children again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use http::Request;
use serde_json::{Value, json};

use super::drift::{Target, covers};
use super::ready::is_ready;
use super::{Context, wait};
use crate::cache::Cached;
use crate::composite::{Rollout, Seen, Step};
use crate::kind::{Key, Kind, Object};
use crate::{Error, Result};

/// Requests of one call that are under way at once.
const AT_ONCE: usize = 16;
/// The annotation that tells a decorator's attachments from other children of their owner.
const DECORATOR: &str = "kubewright.io/decorator";

/// Children of several kinds. What is not among them goes, in every kind the controller owns.
#[derive(Debug, Default)]
pub struct Children {
    children: Vec<(Kind, Result<Value, serde_json::Error>)>,
    kinds: Option<Vec<Kind>>,
    rollout: Rollout,
    rollouts: Vec<(Kind, Rollout)>,
    /// The decorator whose attachments they are; none for children of the owner's own controller.
    decorator: Option<String>,
}

impl Children {
    /// No children yet.
    pub fn new() -> Children {
        Children::default()
    }

    /// Adds a child.
    #[must_use]
    pub fn with<K: Object>(mut self, child: K) -> Children {
        self.push(child);
        self
    }

    /// How changes of children that exist reach them; all at once by default.
    #[must_use]
    pub fn rollout(mut self, rollout: Rollout) -> Children {
        self.rollout = rollout;
        self
    }

    /// The same for children of one kind.
    #[must_use]
    pub fn rollout_of<K: Object>(mut self, rollout: Rollout) -> Children {
        self.rollouts.push((Kind::of::<K>(), rollout));
        self
    }

    /// Each kind's own.
    pub(crate) fn rollouts(mut self, of: impl Fn(&Kind) -> Rollout) -> Children {
        let mut kinds: Vec<&Kind> = self.children.iter().map(|(kind, _)| kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        self.rollouts = kinds.into_iter().map(|kind| (kind.clone(), of(kind))).collect();
        self
    }

    /// Attachments of a decorator.
    pub(crate) fn attached_by(mut self, decorator: &str) -> Children {
        self.decorator = Some(decorator.into());
        self
    }

    fn rollout_for(&self, kind: &Kind) -> Rollout {
        let own = self.rollouts.iter().rev().find(|(known, _)| known == kind);
        own.map_or(self.rollout, |(_, rollout)| *rollout)
    }

    /// Adds a child.
    pub fn push<K: Object>(&mut self, child: K) {
        self.children.push((Kind::of::<K>(), serde_json::to_value(child)));
    }
}

/// What children can be given as: anything that yields objects of one kind, or [`Children`].
pub trait IntoChildren {
    /// The children and the kinds to prune.
    fn into_children(self) -> Children;
}

impl IntoChildren for Children {
    fn into_children(self) -> Children {
        self
    }
}

impl<I> IntoChildren for I
where
    I: IntoIterator,
    I::Item: Object,
{
    fn into_children(self) -> Children {
        let mut children = Children { kinds: Some(vec![Kind::of::<I::Item>()]), ..Children::default() };
        self.into_iter().for_each(|child| children.push(child));
        children
    }
}

/// What became of an owner's children.
#[derive(Debug, Default)]
pub struct ChildrenReport {
    children: Vec<Arc<Cached>>,
    written: usize,
    pruned: usize,
    recreated: usize,
}

impl ChildrenReport {
    /// How many of the wished-for children are ready; see each kind's conditions and replica counts.
    pub fn ready(&self) -> i32 {
        i32::try_from(self.children.iter().filter(|child| is_ready(child)).count()).unwrap_or(i32::MAX)
    }

    /// How many children are wished for and exist.
    pub fn total(&self) -> i32 {
        i32::try_from(self.children.len()).unwrap_or(i32::MAX)
    }

    /// How many had to be written.
    pub fn written(&self) -> usize {
        self.written
    }

    /// How many were deleted because nobody wishes for them.
    pub fn pruned(&self) -> usize {
        self.pruned
    }

    /// How many were deleted to be made anew, as a [`Rollout`] wants it.
    pub fn recreated(&self) -> usize {
        self.recreated
    }

    /// The children as they are now.
    pub fn objects(&self) -> &[Arc<Cached>] {
        &self.children
    }
}

/// The owner, as its children refer to it.
struct OwnerOf {
    kind: Kind,
    key: Key,
    uid: String,
    /// The decorator that attaches, if it is not the owner's own controller.
    decorator: Option<String>,
}

impl Context {
    /// Gives an owner exactly these children: `cx.apply_children(&set, pods).await?`.
    ///
    /// Each is applied (server-side, with the operator's field manager and force) with a controlling owner
    /// reference and, where it names none, the owner's namespace. A child that the cache shows to be as wished
    /// costs no request. Objects that this owner controls and that are not among them are deleted: of the given
    /// kind, or of every owned kind when given as [`Children`]. A child that is being deleted is left alone
    /// until it is gone; its going triggers the next reconciliation.
    ///
    /// # Errors
    /// When a kind is not declared with [`owns`](crate::Controller::owns), a child belongs to somebody else
    /// or can't be this owner's, or a request fails. Children before and after a failed one may be written.
    pub fn apply_children<K: Object, C: IntoChildren>(
        &self,
        owner: &Arc<K>,
        children: C,
    ) -> impl Future<Output = Result<ChildrenReport>> + Send {
        let children = children.into_children();
        let owner = OwnerOf {
            kind: Kind::of::<K>(),
            key: Key::of(&**owner),
            uid: owner.meta().uid.clone().unwrap_or_default(),
            decorator: children.decorator.clone(),
        };
        async move { self.apply_all(&owner, children).await }
    }

    async fn apply_all(&self, owner: &OwnerOf, mut children: Children) -> Result<ChildrenReport> {
        let mut wishes = Vec::with_capacity(children.children.len());
        for (kind, child) in std::mem::take(&mut children.children) {
            wishes.push(owner.adopt(kind, child?)?);
        }
        let kinds = children.kinds.take().unwrap_or_else(|| self.scoped.owned.clone());
        let mut to_sync: Vec<&Kind> =
            kinds.iter().chain(wishes.iter().map(|(target, _)| &target.kind)).collect();
        to_sync.sort_unstable();
        to_sync.dedup();
        for kind in to_sync {
            wait(self.scoped.view.declared(kind)?, None).await?;
        }
        let wanted: HashSet<(Kind, Key)> =
            wishes.iter().map(|(target, _)| (target.kind.clone(), target.key.clone())).collect();
        let steps = self.steps(owner, &children, &wishes)?;
        let recreated = steps.values().filter(|step| **step == Step::Recreate).count();
        let mut report = ChildrenReport { recreated, ..ChildrenReport::default() };
        let applied: Vec<Option<(Arc<Cached>, bool)>> = stream::iter(wishes)
            .map(|(target, wish)| {
                let step = steps.get(&target).copied().unwrap_or(Step::Apply);
                self.apply_child(owner, target, wish, step)
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (child, written) in applied.into_iter().flatten() {
            report.written += usize::from(written);
            report.children.push(child);
        }
        let mut surplus = Vec::new();
        for kind in &kinds {
            let informer = self.scoped.view.declared(kind)?;
            let owned: Vec<Arc<Cached>> = informer.read(|store| store.owned_by(&owner.uid).collect());
            surplus.extend(
                owned
                    .into_iter()
                    .filter(|child| is_child(child, &owner.uid, owner.decorator.as_deref()))
                    .filter(|child| {
                        !child.is_deleting() && !wanted.contains(&(kind.clone(), child.key().clone()))
                    })
                    .map(|child| (kind.clone(), child)),
            );
        }
        report.pruned = surplus.len();
        stream::iter(surplus)
            .map(|(kind, child)| async move { self.delete_cached(&kind, &child).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        self.scoped.memory.retain(&owner.key, |target| {
            target.status
                || !kinds.contains(&target.kind)
                || wanted.contains(&(target.kind.clone(), target.key.clone()))
        });
        Ok(report)
    }

    /// What is to be done about the children whose kind isn't changed all at once.
    fn steps(
        &self,
        owner: &OwnerOf,
        children: &Children,
        wishes: &[(Target, Value)],
    ) -> Result<HashMap<Target, Step>> {
        let mut by_kind: BTreeMap<&Kind, Vec<(&Target, Seen)>> = BTreeMap::new();
        for (target, wish) in wishes {
            if children.rollout_for(&target.kind) == Rollout::AllAtOnce {
                continue;
            }
            let cached = self.scoped.view.declared(&target.kind)?.get(&target.key);
            let seen = cached.map_or(Seen { exists: false, ready: false, changes: true }, |cached| Seen {
                exists: true,
                ready: is_ready(&cached),
                changes: self.differs(owner, target, wish, &cached),
            });
            by_kind.entry(&target.kind).or_default().push((target, seen));
        }
        let mut steps = HashMap::new();
        for (kind, children_of_kind) in by_kind {
            let seen: Vec<Seen> = children_of_kind.iter().map(|(_, seen)| *seen).collect();
            let decided = children.rollout_for(kind).steps(&seen);
            steps.extend(children_of_kind.iter().map(|(target, _)| (*target).clone()).zip(decided));
        }
        Ok(steps)
    }

    /// Whether a child is another than wished for: the wish has changed, or others have changed what it says.
    fn differs(&self, owner: &OwnerOf, target: &Target, wish: &Value, cached: &Cached) -> bool {
        let covered =
            || serde_json::from_slice(cached.json()).is_ok_and(|actual: Value| covers(wish, &actual));
        let memory = &self.scoped.memory;
        memory.was_another(&owner.key, target, wish, cached)
            || (!memory.is_applied(&owner.key, target, wish, cached) && !covered())
    }

    /// All objects that an owner controls, of every kind that is declared with `owns`: those that a decorator attached,
    /// or those of the owner's own controller.
    pub(crate) fn children_of<'a, K: Object>(
        &'a self,
        owner: &K,
        decorator: Option<&'a str>,
    ) -> impl Future<Output = Result<BTreeMap<(Kind, Key), Arc<Cached>>>> + Send + use<'a, K> {
        let uid = owner.meta().uid.clone().unwrap_or_default();
        async move {
            let mut children = BTreeMap::new();
            for kind in &self.scoped.owned {
                let informer = self.scoped.view.declared(kind)?;
                wait(informer, None).await?;
                let found: Vec<Arc<Cached>> = informer.read(|store| {
                    store.owned_by(&uid).filter(|child| is_child(child, &uid, decorator)).collect()
                });
                children.extend(found.into_iter().map(|child| ((kind.clone(), child.key().clone()), child)));
            }
            Ok(children)
        }
    }

    /// Applies one child unless that changes nothing. `None` while it is being deleted.
    async fn apply_child(
        &self,
        owner: &OwnerOf,
        target: Target,
        wish: Value,
        step: Step,
    ) -> Result<Option<(Arc<Cached>, bool)>> {
        let cached = self.scoped.view.following(&target.kind, target.key.namespace())?.get(&target.key);
        if let Some(cached) = &cached {
            if let Some(other) = cached.controller().filter(|controller| *controller.uid != *owner.uid) {
                return Err(Error::ChildOfAnother {
                    kind: target.kind.kind.clone(),
                    child: target.key.clone(),
                    controller: format!("{}/{}", other.kind, other.name),
                });
            }
            if decorator_of(cached).as_deref() != owner.decorator.as_deref() {
                let other = decorator_of(cached);
                return Err(Error::ChildOfAnother {
                    kind: target.kind.kind.clone(),
                    child: target.key.clone(),
                    controller: other.map_or_else(
                        || format!("the controller of {}/{}", owner.kind.kind, owner.key.name()),
                        |other| format!("the decorator {other}"),
                    ),
                });
            }
            if cached.is_deleting() {
                return Ok(None);
            }
            if step == Step::Recreate {
                self.delete_cached(&target.kind, cached).await?;
                return Ok(None);
            }
            if step == Step::Leave || self.scoped.memory.is_applied(&owner.key, &target, &wish, cached) {
                return Ok(Some((Arc::clone(cached), false)));
            }
        }
        let result = Arc::new(self.apply_value(&self.scoped.manager, &target, &wish).await?);
        let changed = cached.is_none_or(|cached| cached.resource_version() != result.resource_version());
        self.scoped.memory.applied(&owner.key, target, &wish, &result);
        Ok(Some((result, changed)))
    }

    /// Server-side apply of a whole object or its status; the object as the server keeps it.
    pub(super) async fn apply_value(&self, manager: &str, target: &Target, wish: &Value) -> Result<Cached> {
        let path = target.kind.object_path(&target.key);
        let subresource = if target.status { "/status" } else { "" };
        let manager = percent_encoding::utf8_percent_encode(manager, percent_encoding::NON_ALPHANUMERIC);
        let request = Request::patch(format!("{path}{subresource}?fieldManager={manager}&force=true"))
            .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
            .header(http::header::ACCEPT, "application/json")
            .body(serde_json::to_vec(wish)?)
            .map_err(|error| Error::Api(Box::new(kube::Error::HttpError(error))))?;
        let text = self.scoped.client.request_text(request).await?;
        Ok(Cached::read(&Bytes::from(text), &target.kind)?)
    }

    /// Deletes exactly the object that was seen: one recreated under its name stays.
    async fn delete_cached(&self, kind: &Kind, object: &Cached) -> Result {
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
            "preconditions": {"uid": object.uid()},
        });
        let request = Request::delete(kind.object_path(object.key()))
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json")
            .body(serde_json::to_vec(&options)?)
            .map_err(|error| Error::Api(Box::new(kube::Error::HttpError(error))))?;
        match self.scoped.client.request_text(request).await.map_err(Error::from) {
            Ok(_) => Ok(()),
            // Gone already, or another object of that name by now.
            Err(error) if error.status().is_some_and(|status| matches!(status.code, 404 | 409)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Applies one object that has no owner (server-side, with force), or makes it; the object as the server
    /// keeps it. For what outlives the reconciled object; children go through
    /// [`apply_children`](Self::apply_children).
    ///
    /// # Errors
    /// When the write is not declared or refused.
    pub async fn apply<K: Object>(&self, object: &K) -> Result<Arc<K>> {
        let kind = Kind::of::<K>();
        let mut wish = serde_json::to_value(object)?;
        complete(&mut wish, &kind);
        let target = Target { kind, key: Key::of(object), status: false };
        Ok(Arc::new(self.apply_value(&self.scoped.manager, &target, &wish).await?.decode()?))
    }
}

impl OwnerOf {
    /// The child as it is to be applied: typed, in a namespace, with its owner.
    fn adopt(&self, kind: Kind, mut child: Value) -> Result<(Target, Value)> {
        complete(&mut child, &kind);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&child["metadata"]["name"]);
        let mut namespace = text(&child["metadata"]["namespace"]);
        if kind.namespaced && namespace.is_empty() {
            namespace = self.key.namespace().unwrap_or_default().to_owned();
            child["metadata"]["namespace"] = json!(namespace);
        }
        let key = Key::new(if kind.namespaced { &namespace } else { "" }, &name);
        let refuse = |why| {
            let (kind, child) = (kind.kind.clone(), key.clone());
            Err(Error::InvalidChild { kind, child, owner: self.key.clone(), why })
        };
        if name.is_empty() {
            return refuse("it has no name, and a child needs one that is the same every time");
        }
        if kind.namespaced && namespace.is_empty() {
            return refuse("it has no namespace, and neither has its owner");
        }
        if self.kind.namespaced && key.namespace() != self.key.namespace() {
            return refuse("an owner in a namespace can only have children in the same namespace");
        }
        let owner = json!({
            "apiVersion": self.kind.api_version(), "kind": self.kind.kind, "name": self.key.name(),
            "uid": self.uid, "controller": true, "blockOwnerDeletion": true,
        });
        match child["metadata"]["ownerReferences"].as_array_mut() {
            Some(owners) => {
                owners.retain(|other| other["uid"] != *self.uid);
                owners.push(owner);
            }
            None => child["metadata"]["ownerReferences"] = json!([owner]),
        }
        if let Some(decorator) = &self.decorator {
            child["metadata"]["annotations"][DECORATOR] = json!(decorator);
        }
        Ok((Target { kind, key, status: false }, child))
    }
}

/// The decorator that attached an object, if one did.
fn decorator_of(object: &Cached) -> Option<String> {
    // Most objects have no annotations, and most others not this one.
    if object.annotation_bytes().is_empty() {
        return None;
    }
    object.annotations().remove(DECORATOR)
}

/// Whether an owner controls an object that its own controller made, or that a decorator attached.
fn is_child(object: &Cached, owner: &str, decorator: Option<&str>) -> bool {
    object.controller().is_some_and(|controller| *controller.uid == *owner)
        && decorator_of(object).as_deref() == decorator
}

/// Puts in what an apply needs and takes out what it must not have.
fn complete(object: &mut Value, kind: &Kind) {
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        fields.retain(|_, value| !value.is_null());
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for server_owned in
            ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"]
        {
            metadata.remove(server_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn owner() -> OwnerOf {
        let kind = Kind {
            group: "apps.example.io".into(),
            version: "v1".into(),
            kind: "Set".into(),
            plural: "sets".into(),
            namespaced: true,
        };
        OwnerOf { kind, key: Key::new("n", "s"), uid: "u".into(), decorator: None }
    }

    fn pod(metadata: Value) -> (Kind, Value) {
        (Kind::of::<Pod>(), json!({"metadata": metadata, "spec": {}, "status": {"phase": "x"}}))
    }

    #[test]
    fn a_child_gets_namespace_type_and_owner() {
        let (kind, child) = pod(json!({"name": "p", "resourceVersion": "5", "managedFields": []}));
        let (target, wish) = owner().adopt(kind, child).unwrap();
        assert_eq!(target.key, Key::new("n", "p"));
        assert_eq!(
            wish,
            json!({
                "apiVersion": "v1", "kind": "Pod", "spec": {},
                "metadata": {"name": "p", "namespace": "n", "ownerReferences": [{
                    "apiVersion": "apps.example.io/v1", "kind": "Set", "name": "s", "uid": "u",
                    "controller": true, "blockOwnerDeletion": true}]},
            })
        );
    }

    #[test]
    fn what_a_decorator_attaches_is_told_from_other_children() {
        let attached = OwnerOf { decorator: Some("op/d".into()), ..owner() };
        let (kind, child) = pod(json!({"name": "p", "annotations": {"a": "b"}}));
        let (_, wish) = attached.adopt(kind, child).unwrap();
        assert_eq!(wish["metadata"]["annotations"], json!({"a": "b", "kubewright.io/decorator": "op/d"}));
        let cached = Cached::read(wish.to_string().as_bytes(), &Kind::of::<Pod>()).unwrap();
        let of = |decorator| is_child(&cached, "u", decorator);
        assert_eq!([of(Some("op/d")), of(Some("op/e")), of(None)], [true, false, false]);
        let (kind, child) = pod(json!({"name": "p"}));
        let (_, wish) = owner().adopt(kind, child).unwrap();
        let own = Cached::read(wish.to_string().as_bytes(), &Kind::of::<Pod>()).unwrap();
        assert!(is_child(&own, "u", None) && !is_child(&own, "u", Some("op/d")));
    }

    #[test]
    fn each_kind_may_have_its_rollout() {
        let children = Children::new().rollout(Rollout::OnDelete).rollout_of::<Pod>(Rollout::Recreate);
        assert_eq!(children.rollout_for(&Kind::of::<Pod>()), Rollout::Recreate);
        assert_eq!(children.rollout_for(&owner().kind), Rollout::OnDelete);
    }

    #[test]
    fn impossible_children_are_refused_with_the_rule() {
        let refuse = |metadata: Value| {
            let (kind, child) = pod(metadata);
            owner().adopt(kind, child).unwrap_err().to_string()
        };
        assert!(refuse(json!({"generateName": "p-"})).contains("it has no name"));
        assert!(refuse(json!({"name": "p", "namespace": "other"})).contains("same namespace"));
    }

    #[test]
    fn children_of_one_kind_prune_that_kind_and_children_of_many_prune_all() {
        let one = [Pod::default()].into_children();
        assert_eq!(one.kinds, Some(vec![Kind::of::<Pod>()]));
        let many = Children::new().with(Pod::default());
        assert!(many.into_children().kinds.is_none());
    }
}

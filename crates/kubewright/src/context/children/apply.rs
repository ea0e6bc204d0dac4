//! Applying the children an owner is to have: each by server-side apply with an owner reference, the
//! rest of the owner's children of those kinds deleted. Names come from the caller and decide what is
//! the same child, so an operator that is killed at any moment finds its children again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use super::owner::{OwnerOf, decorator_of, is_child};
use super::{Children, ChildrenReport, IntoChildren};
use crate::cache::Cached;
use crate::composite::{Rollout, Seen, Step};
use crate::context::drift::{Target, covers};
use crate::context::ready::is_ready;
use crate::context::{Context, wait};
use crate::kind::{Key, Kind, Object};
use crate::{Error, Result};

/// Requests of one call that are under way at once.
const AT_ONCE: usize = 16;

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
}

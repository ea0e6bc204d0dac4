//! What every definition of a server has come to: the controllers of definitions (names, establishing, approval,
//! publication, deletion), as one function that brings everything up to date.
//!
//! [`Registry::settle`] takes in what was written since it ran last, decides, publishes what is to be served, and only
//! then stores what it decided: nobody reads `Established` of a definition whose resource is not served. It runs
//! within each write of a definition, and again for writes that did not come through this server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use kubewright_machinery::crd::{Definition, Names, status};
use kubewright_machinery::fieldset::{FieldManager, SingleVersion};
use kubewright_machinery::meta;
use kubewright_machinery::schema::SchemaRef;
use kubewright_storage::{Entry, EventKind, Expect, Range, StoreError, Watch};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::{CLEANUP_FINALIZER, GROUP, KIND, PLURAL, VERSION, instances, kind};
use crate::outbound::Outbound;
use crate::resources::{Resource, Storage, splice};
use crate::server::Core;

/// The manager of fields that the server's own controllers write.
const MANAGER: &str = "kube-apiserver";
/// How often it is begun anew when others write at the same time.
const ROUNDS: usize = 32;

/// The definitions of one server.
pub(super) struct Registry {
    fields: FieldManager,
    outbound: Arc<dyn Outbound>,
    core: OnceLock<Weak<Core>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watch: Option<Watch>,
    definitions: BTreeMap<Box<str>, Held>,
    /// What is served is no longer what was published.
    stale: bool,
}

/// One definition.
struct Held {
    created: u64,
    revision: u64,
    object: Value,
    served: Option<Served>,
    terminating: Arc<AtomicBool>,
}

/// What is served of a definition, and (as a digest) what it was made of.
struct Served {
    facts: [u8; 32],
    resources: Vec<Arc<Resource>>,
}

impl Registry {
    pub(super) fn new(schema: SchemaRef, outbound: Arc<dyn Outbound>) -> Self {
        let api_version = format!("{GROUP}/{VERSION}");
        let versions = [(api_version.clone(), schema)];
        let fields = FieldManager::new(&api_version, KIND, versions, Arc::new(SingleVersion))
            .on_subresource("status")
            .with_reset_fields(&[&["spec"]]);
        Self { fields, outbound, core: OnceLock::new(), state: Mutex::default() }
    }

    /// The server, while it is there.
    pub(super) fn core(&self) -> Option<Arc<Core>> {
        self.core.get().and_then(Weak::upgrade)
    }

    /// How webhooks are called.
    pub(super) fn outbound(&self) -> &Arc<dyn Outbound> {
        &self.outbound
    }

    /// Publishes the definitions that are stored, and follows those that others write.
    pub(super) async fn start(self: &Arc<Self>, core: &Arc<Core>) -> Result<(), StoreError> {
        // A resource serves one server; a second one would find the first one's state.
        if self.core.set(Arc::downgrade(core)).is_err() {
            return Ok(());
        }
        self.settle(core).await?;
        let prefix = Storage::prefix_of(GROUP, PLURAL);
        let watch = core.store().watch(&prefix, core.store().revision().await?)?;
        tokio::spawn(follow(Arc::downgrade(self), Arc::downgrade(core), watch, core.publications()));
        Ok(())
    }

    /// [`Registry::settle`] where nobody can be told of a failure: it is tried again with the next write.
    pub(super) async fn settle_or_log(self: &Arc<Self>, core: &Core) {
        if let Err(error) = self.settle(core).await {
            tracing::error!(%error, "definitions of custom resources could not be brought up to date");
        }
    }

    /// Brings everything up to date with what is stored now.
    pub(super) async fn settle(self: &Arc<Self>, core: &Core) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        let registry = Arc::downgrade(self);
        for _ in 0..ROUNDS {
            let groups = state.catch_up(core).await?;
            let decided = state.decide(&groups, core.now());
            state.serve(&groups, &decided, core.store().revision().await?, &registry);
            state.publish(core);
            let mut interfered = false;
            for (name, object) in decided {
                interfered |= !self.store(core, &mut state, &name, object).await?;
            }
            for name in state.terminating() {
                interfered |= !self.finish(core, &mut state, &name).await?;
            }
            state.publish(core);
            if !interfered {
                return Ok(());
            }
        }
        tracing::warn!("definitions of custom resources change faster than they can be looked at");
        Ok(())
    }

    /// Stores a definition with another status; false where somebody else was faster.
    async fn store(
        &self,
        core: &Core,
        state: &mut State,
        name: &str,
        object: Value,
    ) -> Result<bool, StoreError> {
        let Some(held) = state.definitions.get_mut(name) else { return Ok(true) };
        let mut object = self.fields.update(Some(&held.object), object, MANAGER, core.now());
        let key = format!("{}{name}", Storage::prefix_of(GROUP, PLURAL));
        match core.store().put(&key, splice::at_rest(&object), Expect::Revision(held.revision)).await {
            Ok(revision) => {
                meta::set(&mut object, "resourceVersion", revision.to_string());
                held.object = object;
                held.revision = revision;
                Ok(true)
            }
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on with the deletion of a definition: its objects, then itself. False where somebody else interfered.
    async fn finish(&self, core: &Core, state: &mut State, name: &str) -> Result<bool, StoreError> {
        let Some(held) = state.definitions.get(name) else { return Ok(true) };
        let mut object = held.object.clone();
        let now = core.now();
        let at =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
        let (group, plural) = (at("/spec/group"), at("/spec/names/plural"));
        let built_in =
            core.config().resources.iter().any(|r| *r.group == group && *r.plural == plural && !r.custom);
        let ended = if built_in {
            ("OverlappingBuiltInResource", "instances overlap with built-in resources in storage")
        } else if status::condition_is_true(&object, "Established") {
            let prefix = Storage::prefix_of(&group, &plural);
            if instances::delete_all(core.store().as_ref(), &prefix, now).await? > 0 {
                return match status::terminating(&mut object, true, now) {
                    true => self.store(core, state, name, object).await,
                    false => Ok(true),
                };
            }
            ("InstanceDeletionCompleted", "removed all instances")
        } else {
            ("NeverEstablished", "resource was never established")
        };
        meta::remove_finalizer(&mut object, CLEANUP_FINALIZER);
        if meta::finalizers(&object).next().is_some() {
            let (reason, message) = (ended.0, ended.1.into());
            let condition = status::Condition { ty: "Terminating", status: false, reason, message };
            status::set_condition(&mut object, &condition, now);
            return self.store(core, state, name, object).await;
        }
        // Not served any more before it is gone, so that nobody sees it the other way round.
        let Some(held) = state.definitions.get_mut(name) else { return Ok(true) };
        let revision = held.revision;
        state.stale |= held.served.take().is_some();
        state.publish(core);
        let key = format!("{}{name}", Storage::prefix_of(GROUP, PLURAL));
        match core.store().delete(&key, Expect::Revision(revision)).await {
            Ok(_) | Err(StoreError::NotFound) => {
                state.definitions.remove(name);
                // Names that others wanted are free now.
                Ok(false)
            }
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Settles after writes that did not come through this server.
async fn follow(
    registry: Weak<Registry>,
    core: Weak<Core>,
    mut watch: Watch,
    mut publications: tokio::sync::watch::Receiver<u64>,
) {
    loop {
        tokio::select! {
            event = watch.next() => {
                let (Some(registry), Some(core)) = (registry.upgrade(), core.upgrade()) else { return };
                match event {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => {
                        let Ok(revision) = core.store().revision().await else { return };
                        let Ok(renewed) = core.store().watch(&Storage::prefix_of(GROUP, PLURAL), revision) else {
                            return;
                        };
                        watch = renewed;
                    }
                    None => return,
                }
                registry.settle_or_log(&core).await;
            }
            changed = publications.changed() => {
                if changed.is_err() || core.upgrade().is_none_or(|core| core.is_stopping()) {
                    return;
                }
            }
        }
    }
}

impl State {
    /// Takes in what was written; gives the groups in which anything changed.
    async fn catch_up(&mut self, core: &Core) -> Result<BTreeSet<Box<str>>, StoreError> {
        let prefix = Storage::prefix_of(GROUP, PLURAL);
        let mut groups = BTreeSet::new();
        if let Some(watch) = &mut self.watch {
            let mut lost = false;
            while let Some(next) = watch.try_next() {
                let Ok(event) = next else {
                    lost = true;
                    break;
                };
                let Some(name) = event.key.strip_prefix(&*prefix) else { continue };
                match event.kind {
                    EventKind::Delete => {
                        // Its names are free now.
                        if let Ok(object) = splice::decode(&event.value, event.revision) {
                            groups.insert(group_of(&object));
                        }
                        if self.definitions.get(name).is_some_and(|held| held.revision < event.revision) {
                            let held = self.definitions.remove(name);
                            self.stale |= held.is_some_and(|held| held.served.is_some());
                        }
                    }
                    EventKind::Put { .. } => {
                        if let Ok(object) = splice::decode(&event.value, event.revision) {
                            let created = event.revision;
                            take_in(
                                &mut self.definitions,
                                name,
                                object,
                                event.revision,
                                created,
                                &mut groups,
                            );
                        }
                    }
                }
            }
            if !lost {
                return Ok(groups);
            }
        }
        let page = core.store().range(Range::all(&*prefix), None).await?;
        let mut names = BTreeSet::new();
        for Entry { key, value, created, revision } in &page.entries {
            let (Some(name), Ok(object)) = (key.strip_prefix(&*prefix), splice::decode(value, *revision))
            else {
                continue;
            };
            names.insert(name);
            take_in(&mut self.definitions, name, object, *revision, *created, &mut groups);
        }
        self.definitions.retain(|name, held| {
            let stays = names.contains(&**name);
            if !stays {
                groups.insert(group_of(&held.object));
                self.stale |= held.served.is_some();
            }
            stays
        });
        self.watch = Some(core.store().watch(&prefix, page.revision)?);
        Ok(groups)
    }

    /// Grants names and establishes: the definitions of these groups whose status changes, as they are to be.
    fn decide(&self, groups: &BTreeSet<Box<str>>, now: jiff::Timestamp) -> Vec<(Box<str>, Value)> {
        let mut decided = Vec::new();
        for group in groups {
            let mut members: Vec<(&Box<str>, &Held)> =
                self.definitions.iter().filter(|(_, held)| group_of(&held.object) == *group).collect();
            // Who came first gets the name.
            members.sort_by_key(|(_, held)| held.created);
            let mut current: Vec<Value> = members.iter().map(|(_, held)| held.object.clone()).collect();
            for i in 0..current.len() {
                let mut taken = status::Taken::default();
                for (_, other) in current.iter().enumerate().filter(|(j, _)| *j != i) {
                    taken.add(&Names::parse(other.pointer("/status/acceptedNames").unwrap_or(&Value::Null)));
                }
                let object = &mut current[i];
                let mut changed = status::accept_names(object, &taken, now);
                changed |= status::judge_approval(object, now);
                changed |= status::establish(object, now);
                if changed {
                    decided.push((members[i].0.clone(), object.clone()));
                }
            }
        }
        decided
    }

    /// Makes the resources of what is established in these groups, or will be by `decided`.
    fn serve(
        &mut self,
        groups: &BTreeSet<Box<str>>,
        decided: &[(Box<str>, Value)],
        revision: u64,
        registry: &Weak<Registry>,
    ) {
        for (name, held) in &mut self.definitions {
            if !groups.contains(&group_of(&held.object)) {
                continue;
            }
            let next = decided.iter().find(|(decided, _)| decided == name).map(|(_, object)| object);
            let object = next.unwrap_or(&held.object);
            held.terminating.store(meta::is_deleting(object), Ordering::Release);
            if !status::condition_is_true(object, "Established") {
                self.stale |= held.served.take().is_some();
                continue;
            }
            let facts = digest(object);
            if held.served.as_ref().is_some_and(|served| served.facts == facts) {
                continue;
            }
            // Whatever was written before under another schema is looked at again when read.
            let settled = if held.served.is_some() { revision } else { held.revision };
            held.served = Some(Served {
                facts,
                resources: kind::resources(&Definition::parse(object), settled, &held.terminating, registry),
            });
            self.stale = true;
        }
    }

    /// Publishes what is served, if that changed.
    fn publish(&mut self, core: &Core) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let served = self.definitions.values().filter_map(|held| held.served.as_ref());
        let custom: Vec<Arc<Resource>> = served.flat_map(|served| served.resources.iter().cloned()).collect();
        core.publish(|current| current.iter().filter(|r| !r.custom).cloned().chain(custom).collect());
    }

    /// The definitions that are being deleted and wait for their objects.
    fn terminating(&self) -> Vec<Box<str>> {
        let waits =
            |object: &Value| meta::is_deleting(object) && meta::has_finalizer(object, CLEANUP_FINALIZER);
        self.definitions
            .iter()
            .filter(|(_, held)| waits(&held.object))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// Remembers a definition as it was read, unless it is known.
fn take_in(
    definitions: &mut BTreeMap<Box<str>, Held>,
    name: &str,
    object: Value,
    revision: u64,
    created: u64,
    groups: &mut BTreeSet<Box<str>>,
) {
    match definitions.get_mut(name) {
        Some(held) if held.revision >= revision => {}
        Some(held) => {
            groups.insert(group_of(&object));
            // Another one of the same name has another life, and other objects.
            if meta::uid(&held.object) != meta::uid(&object) {
                held.created = created;
                held.terminating = Arc::default();
            }
            held.object = object;
            held.revision = revision;
        }
        None => {
            groups.insert(group_of(&object));
            let held = Held { created, revision, object, served: None, terminating: Arc::default() };
            definitions.insert(name.into(), held);
        }
    }
}

/// A digest of what the resources of a definition are made of.
fn digest(object: &Value) -> [u8; 32] {
    let facts = [object.get("spec"), object.pointer("/status/acceptedNames")];
    Sha256::digest(json!(facts).to_string()).into()
}

fn group_of(object: &Value) -> Box<str> {
    object.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default().into()
}

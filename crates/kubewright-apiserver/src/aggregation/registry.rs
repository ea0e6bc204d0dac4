//! The controllers of APIServices: an object for every group version that is served here, conditions of the remote
//! ones, and their publication. One function brings everything up to date; it runs within each write of an APIService,
//! and whenever the resources that are served, services, endpoints or the answers of remote servers change. Remote
//! servers are asked by a task of its own: no write waits for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use futures::stream::{FuturesUnordered, StreamExt};
use kubewright_machinery::fieldset::{FieldManager, SingleVersion};
use kubewright_machinery::meta;
use kubewright_machinery::schema::SchemaRef;
use kubewright_storage::{Expect, StoreError, Watch};
use parking_lot::Mutex as Lock;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};

use super::schedule::Schedule;
use super::{Backend, Facts, GROUP, KIND, PLURAL, Remote, VERSION, availability, probe};
use crate::discovery::{group_priority, version_priority};
use crate::outbound::{self, Address};
use crate::resources::{Storage, splice};
use crate::server::Core;

const MANAGER: &str = "kube-apiserver";
/// The label of APIServices that the server keeps: `onstart` for what it always serves, `true` for custom resources.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The APIServices of one server.
pub(super) struct Registry {
    fields: FieldManager,
    busy: Mutex<()>,
    schedule: Lock<Schedule<Place, Arc<Facts>>>,
    rescheduled: Notify,
}

/// Where a remote server is asked: when that changes, what it said before counts for nothing.
type Place = (Backend, Vec<Address>);

/// An APIService that is to be there.
struct Wanted {
    group: Box<str>,
    version: Box<str>,
    custom: bool,
}

impl Wanted {
    fn name(&self) -> String {
        format!("{}.{}", self.version, self.group)
    }

    fn spec(&self) -> Value {
        let mut spec = json!({
            "version": &self.version,
            "groupPriorityMinimum": group_priority(&self.group),
            "versionPriority": version_priority(&self.group, &self.version),
        });
        if !self.group.is_empty() {
            spec["group"] = json!(self.group);
        }
        spec
    }
}

impl Registry {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let api_version = format!("{GROUP}/{VERSION}");
        let versions = [(api_version.clone(), schema)];
        let fields = FieldManager::new(&api_version, KIND, versions, Arc::new(SingleVersion));
        Self { fields, busy: Mutex::default(), schedule: Lock::default(), rescheduled: Notify::new() }
    }

    /// Writes the objects of what is served from the start, and follows what changes.
    pub(super) async fn start(self: &Arc<Self>, core: &Arc<Core>) -> Result<(), StoreError> {
        self.settle(core, true).await?;
        tokio::spawn(follow(Arc::downgrade(self), Arc::downgrade(core), core.publications()));
        Ok(())
    }

    /// Brings everything up to date, where nobody can be told of a failure.
    pub(super) async fn settle_or_log(&self, core: &Core) {
        if let Err(error) = self.settle(core, false).await {
            tracing::error!(%error, "APIServices could not be brought up to date");
        }
    }

    async fn settle(&self, core: &Core, starting: bool) -> Result<(), StoreError> {
        let _one_at_a_time = self.busy.lock().await;
        let present = core.reader().snapshot(GROUP, PLURAL).await?;
        let wanted = wanted(core);
        for (name, one) in &wanted {
            match present.objects.get(name.as_str()) {
                // Those of the start may be deleted; they come back with the next start.
                None if starting || one.custom => self.create(core, name, one).await?,
                Some(object)
                    if meta::label(object, AUTOMANAGED).is_some() && object["spec"] != one.spec() =>
                {
                    let mut changed = Value::clone(object);
                    changed["spec"] = one.spec();
                    self.update(core, object, changed, "").await?;
                }
                _ => {}
            }
        }
        for (name, object) in present.objects.iter() {
            let stale = match meta::label(object, AUTOMANAGED) {
                Some("true") => true,
                Some("onstart") => starting,
                _ => false,
            };
            if stale && !wanted.contains_key(&**name) {
                let key = format!("{}{name}", Storage::prefix_of(GROUP, PLURAL));
                match core.store().delete(&key, Expect::Any).await {
                    Ok(_) | Err(StoreError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let present = core.reader().snapshot(GROUP, PLURAL).await?;
        let is_remote = |name: &str| present.objects.get(name).is_some_and(|o| !availability::is_local(o));
        self.schedule.lock().keep_only(is_remote);
        let mut remotes = Vec::new();
        for object in present.objects.values().filter(|object| !availability::is_local(object)) {
            remotes.push(Arc::new(self.judge(core, object).await?));
        }
        self.rescheduled.notify_one();
        if core.table().remotes() != remotes.as_slice() {
            core.publish_remotes(remotes);
        }
        Ok(())
    }

    async fn create(&self, core: &Core, name: &str, one: &Wanted) -> Result<(), StoreError> {
        let now = core.now();
        let mut object = json!({
            "kind": KIND,
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "metadata": {
                "name": name,
                "labels": {AUTOMANAGED: if one.custom { "true" } else { "onstart" }},
            },
            "spec": one.spec(),
        });
        object = self.fields.clone().with_reset_fields(&[&["status"]]).update(None, object, MANAGER, now);
        meta::set(&mut object, "uid", core.uid());
        meta::set(&mut object, "creationTimestamp", kubewright_machinery::time::format(now));
        availability::set(&mut object, &availability::local(), now);
        let key = format!("{}{name}", Storage::prefix_of(GROUP, PLURAL));
        match core.store().put(&key, splice::at_rest(&object), Expect::Absent).await {
            // Somebody else made one: it is theirs.
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stores a changed object, unless somebody else changed it too: then it is looked at again.
    async fn update(
        &self,
        core: &Core,
        old: &Value,
        object: Value,
        subresource: &str,
    ) -> Result<(), StoreError> {
        let fields = match subresource {
            "" => self.fields.clone().with_reset_fields(&[&["status"]]),
            name => self.fields.clone().on_subresource(name).with_reset_fields(&[&["spec"]]),
        };
        let object = fields.update(Some(old), object, MANAGER, core.now());
        let key = format!("{}{}", Storage::prefix_of(GROUP, PLURAL), meta::name(old));
        let Ok(revision) = meta::resource_version(old).parse() else { return Ok(()) };
        match core.store().put(&key, splice::at_rest(&object), Expect::Revision(revision)).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says in the condition Available how a remote APIService is, and what is to be published of it.
    async fn judge(&self, core: &Core, object: &Value) -> Result<Remote, StoreError> {
        let text = |key: &str| {
            object.pointer(&format!("/spec/service/{key}")).and_then(Value::as_str).unwrap_or_default()
        };
        let (namespace, name, own_name) = (text("namespace"), text("name"), meta::name(object));
        let service = core.reader().get("", "services", namespace, name).await?;
        let slices = match service {
            Some(_) => core.reader().list("discovery.k8s.io", "endpointslices", namespace).await?,
            None => Vec::new(),
        };
        let (mut condition, mut facts) = (None, None);
        let judged = availability::judge(object, service.as_deref(), slices.iter().map(|s| &**s));
        let backend = Backend::of(&object["spec"]);
        // A process of this machine stands for the endpoints that there are not.
        let local = core.local_services().get(namespace, name, backend.port).is_some() && service.is_some();
        match judged.or_else(|unavailable| if local { Ok(()) } else { Err(unavailable) }) {
            Err(unavailable) => {
                self.schedule.lock().forget(own_name);
                condition = Some(unavailable);
            }
            Ok(()) => {
                let found = outbound::addresses(core, namespace, name, backend.port).await;
                let mut schedule = self.schedule.lock();
                schedule.want(own_name, (backend, found.unwrap_or_default()), Instant::now());
                // Until it was asked, what was known before the server started holds.
                match schedule.outcome(own_name) {
                    Some(Ok(said)) => {
                        condition = Some(availability::passed());
                        facts = Some(Arc::clone(said));
                    }
                    Some(Err(why)) => condition = Some(availability::failed(why)),
                    None => {}
                }
            }
        }
        let mut changed = object.clone();
        if let Some(condition) = condition
            && availability::set(&mut changed, &condition, core.now())
        {
            self.update(core, object, changed.clone(), "status").await?;
        }
        Ok(Remote::of(&changed, availability::is_available(&changed), facts))
    }

    /// Asks remote servers when it is time, for ever. None waits for another.
    async fn ask_around(&self, core: &Core) {
        let mut asking = FuturesUnordered::new();
        loop {
            let due = self.schedule.lock().start_due(Instant::now());
            for (name, place, last) in due {
                let remote = core.table().remotes().iter().find(|r| named(r) == *name).cloned();
                asking.push(async move {
                    let outcome = match &remote {
                        Some(remote) => probe::ask(core, remote, last).await,
                        None => Err("it is not published yet".into()),
                    };
                    (name, place, outcome)
                });
            }
            let next = self.schedule.lock().next();
            let until_next = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((name, place, outcome)) = asking.next() => {
                    if self.schedule.lock().finished(&name, &place, outcome, Instant::now()) {
                        self.settle_or_log(core).await;
                    }
                }
                doubtful = core.upstreams().doubts() => {
                    let mut schedule = self.schedule.lock();
                    doubtful.iter().for_each(|name| schedule.doubt(name, Instant::now()));
                }
                () = self.rescheduled.notified() => {}
                () = until_next => {}
            }
        }
    }
}

/// The name of the APIService of a remote group version.
fn named(remote: &Remote) -> String {
    format!("{}.{}", remote.version, remote.group)
}

/// The group versions that this server serves, but for its own registration, by name of the APIService.
fn wanted(core: &Core) -> BTreeMap<String, Wanted> {
    let mut wanted = BTreeMap::new();
    for resource in core.table().resources().iter().filter(|r| *r.group != *GROUP) {
        let one = Wanted {
            group: resource.group.clone(),
            version: resource.version.clone(),
            custom: resource.custom,
        };
        let known = wanted.entry(one.name()).or_insert(one);
        known.custom &= resource.custom;
    }
    wanted
}

/// Settles when something changes that APIServices follow.
async fn follow(
    registry: Weak<Registry>,
    core: Weak<Core>,
    mut publications: tokio::sync::watch::Receiver<u64>,
) {
    let Some([mut services, mut slices]) = watches(&core).await else { return };
    let mut asking = false;
    loop {
        // Most servers have no remote APIServices: nothing runs for them.
        if !asking
            && let (Some(registry), Some(core)) = (registry.upgrade(), core.upgrade())
            && !core.table().remotes().is_empty()
        {
            asking = true;
            tokio::spawn(async move {
                tokio::select! {
                    () = registry.ask_around(&core) => {}
                    () = core.stopped() => {}
                }
            });
        }
        let (of_remotes, lost) = tokio::select! {
            changed = publications.changed() => match changed {
                Ok(()) => (false, false),
                Err(_) => return,
            },
            event = services.next() => (true, !matches!(event, Some(Ok(_)))),
            event = slices.next() => (true, !matches!(event, Some(Ok(_)))),
        };
        let Some(registry) = registry.upgrade() else { return };
        let Some(serving) = core.upgrade().filter(|core| !core.is_stopping()) else { return };
        if lost {
            let Some(renewed) = watches(&core).await else { return };
            [services, slices] = renewed;
        }
        if !(of_remotes && serving.table().remotes().is_empty()) {
            registry.settle_or_log(&serving).await;
        }
    }
}

/// Watches of what remote APIServices are judged by, from now on.
async fn watches(core: &Weak<Core>) -> Option<[Watch; 2]> {
    let core = core.upgrade()?;
    let revision = core.store().revision().await.ok()?;
    let watch = |group, plural| core.store().watch(&Storage::prefix_of(group, plural), revision).ok();
    Some([watch("", "services")?, watch("discovery.k8s.io", "endpointslices")?])
}

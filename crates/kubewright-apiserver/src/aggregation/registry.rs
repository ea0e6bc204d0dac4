//! The controllers of APIServices: an object for every group version that is served here, conditions of the remote
//! ones, and their publication. One function brings everything up to date; it runs within each write of an APIService,
//! and whenever the resources that are served, services or endpoints change.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use kubewright_machinery::fieldset::{FieldManager, SingleVersion};
use kubewright_machinery::meta;
use kubewright_machinery::schema::SchemaRef;
use kubewright_storage::{Expect, StoreError, Watch};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{GROUP, KIND, PLURAL, Remote, VERSION, availability};
use crate::discovery::{group_priority, version_priority};
use crate::resources::{Storage, splice};
use crate::server::Core;

const MANAGER: &str = "kube-apiserver";
/// The label of APIServices that the server keeps: `onstart` for what it always serves, `true` for custom resources.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The APIServices of one server.
pub(super) struct Registry {
    fields: FieldManager,
    busy: Mutex<()>,
}

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
        Self { fields, busy: Mutex::default() }
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
        let mut remotes = Vec::new();
        for object in core.reader().snapshot(GROUP, PLURAL).await?.objects.values() {
            if availability::is_local(object) {
                continue;
            }
            remotes.push(Arc::new(remote(object)));
            self.judge(core, object).await?;
        }
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

    /// Says in the condition Available how a remote APIService is.
    async fn judge(&self, core: &Core, object: &Value) -> Result<(), StoreError> {
        let text = |key: &str| {
            object.pointer(&format!("/spec/service/{key}")).and_then(Value::as_str).unwrap_or_default()
        };
        let (namespace, name) = (text("namespace"), text("name"));
        let service = core.reader().get("", "services", namespace, name).await?;
        let slices = match service {
            Some(_) => core.reader().list("discovery.k8s.io", "endpointslices", namespace).await?,
            None => Vec::new(),
        };
        let condition = availability::judge(object, service.as_deref(), slices.iter().map(|s| &**s));
        let mut changed = object.clone();
        match availability::set(&mut changed, &condition, core.now()) {
            true => self.update(core, object, changed, "status").await,
            false => Ok(()),
        }
    }
}

fn remote(object: &Value) -> Remote {
    let text = |key: &str| object["spec"][key].as_str().unwrap_or_default().into();
    let number = |key: &str| object["spec"][key].as_i64().unwrap_or(0);
    Remote {
        group: text("group"),
        version: text("version"),
        group_priority: number("groupPriorityMinimum"),
        version_priority: number("versionPriority"),
    }
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
    loop {
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

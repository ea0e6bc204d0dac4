//! What a reconciler works with: reads from the cache that include this process's own writes, a client
//! that refuses what is not declared, and the writes that operators need most.

mod access;
mod children;
mod drift;
mod events;
mod finalizer;
mod gone;
mod metadata;
mod reads;
mod ready;
mod requests;
mod status;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use self::access::{Access, Uses};
pub use self::children::{Children, ChildrenReport, IntoChildren};
use self::drift::Memory;
pub use self::events::Event;
pub(crate) use self::events::Recorder;
pub(crate) use self::finalizer::has_finalizer;
pub(crate) use self::metadata::Marks;
use self::reads::wait;
pub use self::reads::{Get, List};
pub(crate) use self::ready::is_ready;
pub use self::view::{Listed, View};
use crate::cache::Informer;
use crate::client::{ClientOptions, Mapper};
use crate::controller::Reason;
use crate::kind::{Key, Kind, Object};
use crate::queue::Reasons;
use crate::{Error, Result};

/// What all reconciliations of a controller share.
#[derive(Clone)]
pub(crate) struct Scoped {
    pub(crate) manager: String,
    pub(crate) client: kube::Client,
    pub(crate) view: View,
    pub(crate) owned: Vec<Kind>,
    pub(crate) recorder: Recorder,
    pub(crate) memory: Arc<Memory>,
    /// The same in other clusters of the manager, by their names.
    pub(crate) elsewhere: BTreeMap<String, Arc<Scoped>>,
    pub(crate) mapper: Mapper,
    /// Nothing that is written stays.
    pub(crate) dry_run: bool,
}

impl Scoped {
    /// The cache of another cluster; of this one where there is no name.
    pub(crate) fn view_of(&self, cluster: Option<&str>) -> Option<&View> {
        match cluster {
            None => Some(&self.view),
            Some(name) => self.elsewhere.get(name).map(|scoped| &scoped.view),
        }
    }

    /// Waits until the first list of every kind in every cluster is complete.
    pub(crate) async fn synced(&self) {
        self.view.synced().await;
        for scoped in self.elsewhere.values() {
            scoped.view.synced().await;
        }
    }

    /// What may be done in another cluster.
    pub(crate) fn elsewhere(&self, name: &str) -> Result<Access> {
        match self.elsewhere.get(name) {
            Some(scoped) => Ok(Access::new(Arc::clone(scoped))),
            None => Err(Error::Usage(format!(
                "nothing is declared for a cluster \"{name}\"; declare it with `.uses_in(\"{name}\", Uses::new()..)`"
            ))),
        }
    }

    /// The same with clients of these options, in every cluster.
    pub(crate) fn with(&self, options: &ClientOptions) -> Scoped {
        let manager = options.owner().unwrap_or(&self.manager);
        // What another owner applied, or nobody, says nothing about this one's next apply.
        let same = !options.is_dry_run() && manager == self.manager;
        let elsewhere = self.elsewhere.iter();
        Scoped {
            client: options.client_with(&self.client, self.mapper.clone()),
            memory: if same { Arc::clone(&self.memory) } else { Arc::default() },
            dry_run: self.dry_run || options.is_dry_run(),
            manager: manager.to_owned(),
            elsewhere: elsewhere
                .map(|(name, scoped)| (name.clone(), Arc::new(scoped.with(options))))
                .collect(),
            ..self.clone()
        }
    }

    /// The object is gone; so is what was remembered of its children.
    pub(crate) fn forget(&self, owner: &Key) {
        self.memory.forget(owner);
    }

    /// Of other objects than these nothing is to be remembered any more.
    pub(crate) fn keep(&self, keep: impl Fn(&Key) -> bool) {
        self.memory.keep(keep);
    }
}

/// What one reconciliation works with.
#[derive(Clone)]
pub struct Context {
    scoped: Arc<Scoped>,
    key: Key,
    reasons: Arc<Reasons<Reason>>,
}

impl Context {
    pub(crate) fn new(scoped: Arc<Scoped>, key: Key, reasons: Reasons<Reason>) -> Context {
        Context { scoped, key, reasons: Arc::new(reasons) }
    }

    /// The object that is reconciled.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Why it is reconciled.
    pub fn reasons(&self) -> &Reasons<Reason> {
        &self.reasons
    }

    /// A client of `kube` for everything else. It refuses calls that the controller does not declare, repeats
    /// what may be repeated, and later reads from the cache include what is written through it.
    pub fn client(&self) -> kube::Client {
        self.scoped.client.clone()
    }

    /// This context with a client of these options, to which its helpers keep as well: with a dry run,
    /// [`apply_children`](Self::apply_children), [`patch_status`](Self::patch_status) and the others write nothing
    /// that stays, and no event; with another field owner, they apply as that owner. Reads from the cache stay the
    /// operator's own. Other clusters of the manager are included.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    /// # use kubewright::client::{ClientOptions, Impersonate};
    /// # use kubewright::{Context, Result};
    /// # async fn example(cx: &Context, owner: &Arc<Namespace>, wanted: Vec<ConfigMap>) -> Result {
    /// // What would it be that the tenant's own account made?
    /// let tenant = ClientOptions::new().as_user(Impersonate::service_account("team", "deployer"));
    /// let report = cx.with(&tenant.dry_run()).apply_children(owner, wanted).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with(&self, options: &ClientOptions) -> Context {
        Context { scoped: Arc::new(self.scoped.with(options)), ..self.clone() }
    }

    /// From kinds to resources and back, as the API server says it now.
    pub fn mapper(&self) -> &Mapper {
        &self.scoped.mapper
    }

    /// The field manager of this controller's writes: the operator's name.
    pub fn field_manager(&self) -> &str {
        &self.scoped.manager
    }

    /// The cache without waiting for own writes and without `async`, as mapping functions see it.
    pub fn view(&self) -> &View {
        &self.scoped.view
    }

    /// An object of the cache: `cx.get::<Pod>(("default", "web")).await?`, or with a name alone for kinds of
    /// the cluster. `None` when there is none.
    ///
    /// # Errors
    /// When the kind is not declared or not served, its namespace not followed, the object can't be decoded, or the
    /// cache doesn't catch up with this process's own writes to the object.
    pub fn get<K: Object>(&self, key: impl Into<Key>) -> Get<K> {
        Get::new(&self.scoped, key.into())
    }

    /// The objects of a kind: `cx.list::<Node>().await?`, or fewer of them with
    /// `cx.list::<Pod>().in_namespace("default").owned_by(&object).await?`. Sorted by namespace and name.
    ///
    /// # Errors
    /// When the kind or index is not declared, the kind not served, the namespace not followed, or the cache doesn't catch up with this process's own writes.
    /// An object that can't be decoded is no error: see [`Listed::undecodable`].
    pub fn list<K: Object>(&self) -> List<K> {
        List::new(&self.scoped)
    }

    /// The informer of a declared kind, for reads on bytes and metadata alone.
    ///
    /// # Errors
    /// When the kind is not declared.
    pub fn informer(&self, kind: &Kind) -> Result<Informer> {
        self.scoped.view.declared(kind).cloned()
    }

    /// Another cluster of the manager, as far as the controller declares to use it.
    ///
    /// # Errors
    /// When it declares nothing for a cluster of that name.
    pub fn cluster(&self, name: &str) -> Result<Access> {
        self.scoped.elsewhere(name)
    }

    /// Waits until the cache shows this process's own writes to these kinds.
    pub(crate) async fn caught_up(&self, kinds: Vec<Kind>) -> Result {
        for kind in kinds {
            wait(self.scoped.view.declared(&kind)?, None).await?;
        }
        Ok(())
    }

    /// Records an event about an object (events.k8s.io/v1). Returns at once; repeated events are counted in
    /// one object. Events are for people: one that can't be written is only logged.
    pub fn event<K: Object>(&self, regarding: &Arc<K>, event: Event) {
        if self.scoped.dry_run {
            return tracing::debug!(object = %Key::of(&**regarding), ?event, "no event of a dry run is written");
        }
        self.scoped.recorder.record(&**regarding, event);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} of {})", self.key, self.scoped.manager)
    }
}

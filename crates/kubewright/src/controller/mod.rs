//! A controller: a reconciler, what triggers it, and what it declares to read and write.

#[cfg(test)]
mod day;
mod external;
mod gone;
mod lead;
mod predicate;
mod raw;
mod reason;
mod runner;
mod trigger;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub use self::external::External;
pub(crate) use self::lead::Lead;
pub use self::predicate::Predicate;
pub use self::raw::RawReconciler;
pub use self::reason::Reason;
pub(crate) use self::runner::Runner;
pub use self::trigger::Trigger;
pub(crate) use self::trigger::panic_message;
use crate::Result;
use crate::cache::{Backoff, Cached, Index};
use crate::client::{Permit, Verb};
use crate::composite::Relations;
use crate::context::{Context, Uses, View};
use crate::kind::{Defined, Key, Kind, Object};
use crate::queue::{Priority, Queue, Tenants};
use crate::rate::RateLimit;

/// Brings the world in line with one object at a time.
///
/// Write `async fn reconcile`; the trait spells the future out only to require that it is `Send`.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind that is reconciled.
    type Object: Object;

    /// Looks at one object and does what is needed; called for every object when the operator starts,
    /// after every change that a trigger leads to it, and again after failures. Never called for the same
    /// object twice at once. It must not rely on how often or why it is called.
    ///
    /// # Errors
    /// An error is logged, counted and retried with the object's own backoff, except [`terminal`] ones.
    ///
    /// [`terminal`]: crate::Error::terminal
    fn reconcile(
        &self,
        object: Arc<Self::Object>,
        cx: &Context,
    ) -> impl Future<Output = Result<Action>> + Send;

    /// Called once an object is gone, for those that keep something in memory. What must certainly be
    /// cleaned up outside of the cluster needs a finalizer: this is not called for objects that went while
    /// the operator was not running.
    ///
    /// Where replicas share the objects ([`Sharding`](crate::Sharding)), it is called on the replica that owned the object
    /// and on no other; on none, if the object went while its share was on the way from one to another. For a key that
    /// never had an object, which an event may lead to, one replica is called. An object made anew under the same key may be
    /// another replica's, and reconciled there at the same time.
    ///
    /// # Errors
    /// As [`reconcile`](Self::reconcile).
    fn deleted(&self, key: &Key, cx: &Context) -> impl Future<Output = Result<Action>> + Send {
        let _ = (key, cx);
        async { Ok(Action::done()) }
    }
}

/// What is to happen after a reconciliation that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    pub(crate) after: Option<Duration>,
    pub(crate) priority: Option<Priority>,
}

impl Action {
    /// Nothing, until something changes.
    pub fn done() -> Action {
        Action { after: None, priority: None }
    }

    /// The same again after this time, or earlier when something changes. It is as urgent then as it was now.
    pub fn after(delay: Duration) -> Action {
        Action { after: Some(delay), priority: None }
    }

    /// How urgent it is to run again: [`Action::after`] only, as nothing runs again otherwise.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use kubewright::{Action, queue::Priority};
    /// Action::after(Duration::from_secs(600)).priority(Priority::LOW);
    /// ```
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Action {
        self.priority = Some(priority);
        self
    }

    /// Nothing, as [`done`](Self::done): for objects that are not this controller's concern.
    pub fn never() -> Action {
        Action { after: None, priority: None }
    }
}

/// A reconciler without its types.
pub(crate) trait Erased: Send + Sync {
    fn reconcile<'a>(&'a self, object: Arc<Cached>, cx: &'a Context) -> BoxFuture<'a, Result<Action>>;
    fn deleted<'a>(&'a self, key: &'a Key, cx: &'a Context) -> BoxFuture<'a, Result<Action>>;
}

impl<R: Reconciler> Erased for R {
    fn reconcile<'a>(&'a self, object: Arc<Cached>, cx: &'a Context) -> BoxFuture<'a, Result<Action>> {
        async move { Reconciler::reconcile(self, object.typed()?, cx).await }.boxed()
    }

    fn deleted<'a>(&'a self, key: &'a Key, cx: &'a Context) -> BoxFuture<'a, Result<Action>> {
        Reconciler::deleted(self, key, cx).boxed()
    }
}

/// A controller being put together. See the [crate's example](crate).
pub struct Controller {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) definition: Option<CustomResourceDefinition>,
    pub(crate) reconciler: Arc<dyn Erased>,
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) owned: Vec<Kind>,
    pub(crate) uses: Uses,
    pub(crate) concurrency: usize,
    pub(crate) tenants: Option<Tenants<Key>>,
    pub(crate) limit: Option<RateLimit>,
    pub(crate) backoff: Backoff,
    pub(crate) timeout: Duration,
    pub(crate) every_replica: bool,
    pub(crate) client: Option<kube::Client>,
    pub(crate) externals: Vec<External>,
    /// What it does in other clusters, by their names.
    pub(crate) elsewhere: BTreeMap<String, Uses>,
    /// What its objects' wishes depend on, where it is a pure controller.
    pub(crate) relations: Arc<Relations>,
}

impl Controller {
    /// A controller of the reconciler's kind, named after it. Works for built-in kinds and for custom ones
    /// alike; a custom kind's definition is part of the operator's manifests. (`By` is inferred.)
    pub fn new<R, By>(reconciler: R) -> Controller
    where
        R: Reconciler,
        R::Object: Defined<By>,
    {
        Controller::of(Kind::of::<R::Object>(), R::Object::definition(), Arc::new(reconciler))
    }

    fn of(
        kind: Kind,
        definition: Option<CustomResourceDefinition>,
        reconciler: Arc<dyn Erased>,
    ) -> Controller {
        let on_sub = |subresource: &str, verbs: &[Verb]| {
            let resource = format!("{}/{subresource}", kind.plural);
            Permit::on_resource(&kind.group, &resource, verbs.iter().copied())
        };
        let uses = Uses::new()
            .permits(on_sub("status", &[Verb::Get, Verb::Patch, Verb::Update]))
            .permits(on_sub("finalizers", &[Verb::Update]));
        let controller = Controller {
            name: kind.kind.to_lowercase(),
            definition,
            reconciler,
            triggers: Vec::new(),
            owned: Vec::new(),
            uses,
            concurrency: 4,
            tenants: None,
            limit: None,
            backoff: Queue::<Key, Reason>::BACKOFF,
            timeout: Duration::from_secs(300),
            every_replica: false,
            client: None,
            externals: Vec::new(),
            relations: Arc::default(),
            elsewhere: BTreeMap::new(),
            kind: kind.clone(),
        };
        controller.trigger(Trigger::itself_raw(kind))
    }

    /// Another name, for logs and metrics. It must be unique within the operator.
    #[must_use]
    pub fn named(mut self, name: &str) -> Controller {
        self.name = name.into();
        self
    }

    /// Children: the controller writes objects of this kind, and runs when one that it controls changes.
    #[must_use]
    pub fn owns<K: Object>(self) -> Controller {
        use Verb::{Create, Delete, Patch, Update};
        self.writes::<K>([Create, Update, Patch, Delete]).trigger(Trigger::owned::<K>())
    }

    /// Runs when an object of another kind changes, for the keys a function leads it to.
    #[must_use]
    pub fn watches<K: Object>(
        self,
        map: impl Fn(&K, &View) -> Result<Vec<Key>> + Send + Sync + 'static,
    ) -> Controller {
        self.trigger(Trigger::mapped::<K>(map))
    }

    /// Adds a trigger. Declares its kind as read.
    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> Controller {
        if let Some(cluster) = trigger.cluster() {
            let uses = Uses::new().reads_kind(trigger.kind());
            self.elsewhere.entry(cluster.into()).or_default().extend(uses);
            self.triggers.push(trigger);
            return self;
        }
        if trigger.is_owned() {
            self.owned.push(trigger.kind().clone());
        }
        self = self.reads_kind(trigger.kind());
        self.triggers.push(trigger);
        self
    }

    /// Runs for the keys that come from outside of the cluster.
    #[must_use]
    pub fn external(mut self, external: &External) -> Controller {
        self.externals.push(external.clone());
        self
    }

    /// Limits what the reconciled objects themselves trigger, to
    /// [`Predicate::generation_changed`] for instance. Everything passes by default.
    #[must_use]
    pub fn when(mut self, predicate: Predicate) -> Controller {
        let itself = self.triggers.remove(0);
        self.triggers.insert(0, itself.when(predicate));
        self
    }

    /// Reads this kind from the cache, without being triggered by it.
    #[must_use]
    pub fn reads<K: Object>(self) -> Controller {
        self.reads_kind(&Kind::of::<K>())
    }

    /// Reads a kind known only at run time.
    #[must_use]
    pub fn reads_kind(mut self, kind: &Kind) -> Controller {
        self.uses = self.uses.reads_kind(kind);
        self
    }

    /// Writes this kind with these verbs.
    #[must_use]
    pub fn writes<K: Object>(mut self, verbs: impl IntoIterator<Item = Verb>) -> Controller {
        self.uses = self.uses.writes::<K>(verbs);
        self
    }

    /// What it reads and writes in another cluster of the manager: see [`Manager::cluster`](crate::Manager::cluster) and
    /// [`Context::cluster`]. Its changes are followed with [`Trigger::in_cluster`].
    #[must_use]
    pub fn uses_in(mut self, cluster: &str, uses: Uses) -> Controller {
        self.elsewhere.entry(cluster.into()).or_default().extend(uses);
        self
    }

    /// Any other use of the API, such as subresources.
    #[must_use]
    pub fn permits(mut self, permit: Permit) -> Controller {
        self.uses = self.uses.permits(permit);
        self
    }

    /// Makes objects of a kind findable by an index. Declares the kind as read.
    #[must_use]
    pub fn index(mut self, index: Index) -> Controller {
        self.uses = self.uses.index(index);
        self
    }

    /// How many objects may be reconciled at once; 4 by default.
    #[must_use]
    pub fn concurrency(mut self, objects: usize) -> Controller {
        self.concurrency = objects.max(1);
        self
    }

    /// Shares its turns among tenants, so that one with many objects does not hold up another:
    /// `.fair_by(Tenants::namespaces())`. First come, first served by default, within a [`Priority`].
    #[must_use]
    pub fn fair_by(mut self, tenants: Tenants<Key>) -> Controller {
        self.tenants = Some(tenants);
        self
    }

    /// How many reconciliations may begin a second, whatever leads to them. Unlimited by default.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Controller {
        self.limit = Some(limit);
        self
    }

    /// How long an object waits after failures in a row; from 5 ms doubling up to 1000 s by default, as in client-go.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use kubewright::Controller;
    /// use kubewright::cache::Backoff;
    ///
    /// # fn example(controller: Controller) -> Controller {
    /// // What lies behind is asked no more than once a second, and not left alone for more than a minute.
    /// controller.backoff(Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) })
    /// # }
    /// ```
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Controller {
        self.backoff = backoff;
        self
    }

    /// Works on every replica, whoever leads, and its writes are not fenced. For what concerns the process
    /// itself, such as filling its own tables; anything else would have several writers.
    #[must_use]
    pub fn on_every_replica(mut self) -> Controller {
        self.every_replica = true;
        self
    }

    /// Sends its requests through a client of its own rather than the manager's, under the same guard: another identity,
    /// so that the API server grants this controller less than, or something else than, its siblings. The cache and
    /// events stay the manager's, whose identity has to be granted `list` and `watch` on what this controller reads.
    /// Roles that are printed are made for one identity, with the rights of all controllers.
    #[must_use]
    pub fn client(mut self, client: kube::Client) -> Controller {
        self.client = Some(client);
        self
    }

    /// How long one reconciliation may take before it is cancelled and counts as failed; 5 minutes by default.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Controller {
        self.timeout = limit;
        self
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Controller({} of {})", self.name, self.kind)
    }
}

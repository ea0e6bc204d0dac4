//! The shared cache: one informer per kind and scope however many controllers use it, holding objects
//! as bytes. watch bytes → frames → metadata scan → store and indexes → subscribers.
//!
//! Controllers read through their [`Context`](crate::Context); this module is the layer below, for
//! code that follows kinds it only learns of at run time.

mod backoff;
mod cold;
mod coverage;
mod decoding;
mod definitions;
mod driver;
mod frame;
mod index;
mod informer;
mod memory;
mod namespaces;
mod object;
mod owner;
mod part;
mod room;
mod select;
mod share;
mod stats;
mod store;
#[cfg(test)]
mod storm;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub use self::backoff::{Backoff, Jitter};
pub use self::decoding::{decode_all, decode_each};
use self::driver::Server;
pub use self::frame::{Frame, Lines, Page, parse as parse_frame, parse_page};
pub use self::index::Index;
use self::informer::Shared;
pub use self::informer::{Delta, Informer, Subscription, What};
pub(crate) use self::informer::{Expected, Wrote};
use self::memory::Budget;
pub use self::memory::Memory;
pub use self::namespaces::Namespaces;
pub use self::object::{Cached, DecodeError};
pub use self::owner::Owner;
pub use self::select::{Select, SelectError};
use self::share::Share;
pub use self::stats::InformerStats;
pub use self::store::{Change, Store, Version};
pub use self::watch::{Effect, Failure, Step, Watch, WatchState};
use crate::client::Mapper;
use crate::kind::{Key, Kind};
use crate::sharding::Ownership;

/// Lists that a process has under way at once: after a storm, a thousand informers come back a few at a time.
const LISTS: usize = 16;

/// Which objects of a kind an informer follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of the cluster.
    All,
    /// Those of one namespace.
    Namespace(String),
    /// Those of several namespaces, which may change.
    Namespaces(Namespaces),
}

impl Scope {
    /// Whether a namespace is followed.
    pub fn follows(&self, namespace: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Namespace(only) => only == namespace,
            Scope::Namespaces(several) => several.contains(namespace),
        }
    }

    /// Whether the place of a key is followed.
    pub(crate) fn includes(&self, key: &Key) -> bool {
        *self == Scope::All || key.namespace().is_some_and(|namespace| self.follows(namespace))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => f.write_str("all namespaces"),
            Scope::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Scope::Namespaces(several) => write!(f, "namespaces {several}"),
        }
    }
}

/// The informers of a process. Clones share them.
///
/// ```
/// use std::sync::Arc;
///
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use kube::client::Body;
/// use kubewright::Kind;
/// use kubewright::cache::{Cache, Scope, What};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // A server in a few lines: one list of one object. `kube::Client::try_default` connects to a real one.
/// let server = tower::service_fn(|_: http::Request<Body>| async {
///     let events = concat!(
///         r#"{"type":"ADDED","object":{"metadata":{"name":"settings","resourceVersion":"7"},"data":{"k":"v"}}}"#, "\n",
///         r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#, "\n",
///     );
///     Ok::<_, std::io::Error>(http::Response::new(Body::from(events.as_bytes().to_vec())))
/// });
/// let cache = Cache::new(kube::Client::new(server, "default"));
/// let informer = cache.informer(&Kind::of::<ConfigMap>(), &Scope::All);
/// let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
/// let _subscription = informer.subscribe(move |delta| {
///     let _ = told.send((delta.what, delta.object.key().to_string()));
/// });
/// assert_eq!(heard.recv().await, Some((What::Added, "settings".to_owned())));
/// let settings: Arc<ConfigMap> = informer.get(&"settings".into()).unwrap().typed().unwrap();
/// assert_eq!(settings.data.as_ref().unwrap()["k"], "v");
/// # }
/// ```
#[derive(Clone)]
pub struct Cache {
    client: kube::Client,
    informers: Arc<Mutex<Informers>>,
    selects: Arc<Mutex<HashMap<Kind, Arc<Select>>>>,
    shares: Arc<Mutex<HashMap<Kind, Arc<Ownership>>>>,
    lists: Arc<Semaphore>,
    budget: Arc<Budget>,
    mapper: Mapper,
}

/// What runs, as long as somebody holds it.
type Informers = HashMap<(Kind, Scope), Weak<informer::Running>>;

impl Cache {
    /// A cache that reads through this client.
    pub fn new(client: kube::Client) -> Cache {
        Cache::with_memory(client, Memory::default())
    }

    /// A cache that keeps to this much memory.
    pub fn with_memory(client: kube::Client, memory: Memory) -> Cache {
        Cache {
            mapper: Mapper::new(client.clone()),
            client,
            informers: Arc::default(),
            selects: Arc::default(),
            shares: Arc::default(),
            lists: Arc::new(Semaphore::new(LISTS)),
            budget: Arc::new(Budget::new(memory)),
        }
    }

    /// Keeps informers that start from now on to this much memory.
    pub(crate) fn limit(&mut self, memory: Memory) {
        self.budget = Arc::new(Budget::new(memory));
    }

    /// From kinds to resources and back, as the API server says it. Definitions that this cache follows keep it up
    /// to date.
    pub fn mapper(&self) -> &Mapper {
        &self.mapper
    }

    /// Reads through another client in informers that start from now on.
    pub(crate) fn read_through(&mut self, client: kube::Client) {
        self.mapper.read_through(client.clone());
        self.client = client;
    }

    /// Follows only some objects of a kind, or keeps only parts of them, in informers that start from now on.
    pub fn select(&self, kind: &Kind, select: Select) {
        self.selects.lock().insert(kind.clone(), Arc::new(select));
    }

    /// Where a kind is followed: where it is selected, or else here.
    pub(crate) fn scope_of(&self, kind: &Kind, otherwise: &Scope) -> Scope {
        let selects = self.selects.lock();
        let selected = selects.get(kind).and_then(|select| select.namespaces.clone());
        selected.map_or_else(|| otherwise.clone(), Scope::Namespaces)
    }

    /// The informer of a kind and scope: the running one, or a new one that starts now. It stops when
    /// its last handle is dropped. Kinds of the cluster have the scope [`Scope::All`] whatever is asked for.
    ///
    /// Needs a tokio runtime.
    pub fn informer(&self, kind: &Kind, scope: &Scope) -> Informer {
        let scope = if kind.namespaced { scope.clone() } else { Scope::All };
        let mut informers = self.informers.lock();
        informers.retain(|_, running| running.strong_count() > 0);
        let slot = (kind.clone(), scope.clone());
        if let Some(running) = informers.get(&slot).and_then(Weak::upgrade) {
            return Informer(running);
        }
        let select = self.selects.lock().get(kind).cloned().unwrap_or_default();
        let share = self.shares.lock().get(kind).map(Share::new);
        let shared = Shared::new(kind.clone(), scope, select, share, Arc::clone(&self.budget));
        let server = Server {
            client: self.client.clone(),
            mapper: self.mapper.clone(),
            lists: Arc::clone(&self.lists),
        };
        let informer = Informer::start(server, shared);
        if definitions::kinds().contains(kind) {
            let mapper = self.mapper.clone();
            informer.tell(move |delta| {
                if definitions::changes(delta) {
                    mapper.changed();
                }
            });
            // What it heard before that was not told.
            self.mapper.changed();
        }
        informers.insert(slot, Arc::downgrade(&informer.0));
        informer
    }

    /// Follows only what this replica owns of a kind, in informers that start from now on.
    pub(crate) fn share(&self, kind: &Kind, ownership: &Arc<Ownership>) {
        self.shares.lock().insert(kind.clone(), Arc::clone(ownership));
    }

    /// Keeps whole objects of a kind, unless they are selected otherwise.
    pub(crate) fn keep_whole(&self, kind: &Kind) {
        self.selects.lock().entry(kind.clone()).or_default();
    }

    /// Follows CustomResourceDefinitions and APIServices as long as the informers are held, so that the
    /// [`mapper`](Self::mapper) knows at once what is served. Of definitions only what that takes is kept, unless they
    /// are [selected](Self::select) otherwise. Needs the right to list and watch both.
    pub fn follow_definitions(&self) -> Vec<Informer> {
        let kinds = definitions::kinds();
        for kind in &kinds {
            let mut selects = self.selects.lock();
            selects.entry(kind.clone()).or_insert_with(|| Arc::new(definitions::lean()));
        }
        kinds.iter().map(|kind| self.informer(kind, &Scope::All)).collect()
    }

    /// The informers that run now.
    pub fn informers(&self) -> Vec<Informer> {
        self.informers.lock().values().filter_map(Weak::upgrade).map(Informer).collect()
    }

    /// Tells the informers of a resource about a write of this process, so that reads wait for it.
    pub(crate) fn wrote(&self, group: &str, plural: &str, wrote: &Wrote) {
        for informer in self.informers() {
            let kind = informer.kind();
            if kind.group == group && kind.plural == plural && informer.0.shared.scope.includes(&wrote.key) {
                informer.0.shared.wrote(wrote.clone());
            }
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} informers)", self.informers.lock().len())
    }
}

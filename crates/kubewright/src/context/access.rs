//! What code may do in a cluster: [`Uses`] declares it, and [`Access`] is the way to it: reads of what is declared, and a
//! client that refuses the rest.

use std::fmt;
use std::sync::Arc;

use super::{Get, List, Scoped, View};
use crate::Result;
use crate::cache::{Index, Informer};
use crate::client::{ClientOptions, Mapper, Permit, Permits, Verb};
use crate::kind::{Key, Kind, Object};

/// What some code reads and writes in a cluster, declared: its role is printed from that, and its client refuses the rest.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    pub(crate) reads: Vec<Kind>,
    pub(crate) indexes: Vec<Index>,
    pub(crate) permits: Permits,
}

impl Uses {
    /// Nothing yet.
    pub fn new() -> Uses {
        Uses::default()
    }

    /// Reads this kind from the cache.
    #[must_use]
    pub fn reads<K: Object>(self) -> Uses {
        self.reads_kind(&Kind::of::<K>())
    }

    /// Reads a kind known only at run time.
    #[must_use]
    pub fn reads_kind(mut self, kind: &Kind) -> Uses {
        self.permits.name(kind);
        let verbs = [Verb::Get, Verb::List, Verb::Watch];
        self.permits.add(Permit::on_resource(&kind.group, &kind.plural, verbs));
        if !self.reads.contains(kind) {
            self.reads.push(kind.clone());
        }
        self
    }

    /// Writes this kind with these verbs.
    #[must_use]
    pub fn writes<K: Object>(mut self, verbs: impl IntoIterator<Item = Verb>) -> Uses {
        self.permits.name(&Kind::of::<K>());
        self.permits.add(Permit::on::<K>(verbs));
        self
    }

    /// Any other use of the API, such as subresources.
    #[must_use]
    pub fn permits(mut self, permit: Permit) -> Uses {
        self.permits.add(permit);
        self
    }

    /// Makes objects of a kind findable by an index. Declares the kind as read.
    #[must_use]
    pub fn index(mut self, index: Index) -> Uses {
        self = self.reads_kind(&index.kind);
        self.indexes.push(index);
        self
    }

    /// Everything that another value declares, too.
    pub(crate) fn extend(&mut self, other: Uses) {
        for kind in other.reads {
            if !self.reads.contains(&kind) {
                self.reads.push(kind);
            }
        }
        self.indexes.extend(other.indexes);
        self.permits.extend(&other.permits);
    }
}

/// A cluster as code may use it that declared its [`Uses`].
#[derive(Clone)]
pub struct Access {
    scoped: Arc<Scoped>,
}

impl Access {
    pub(crate) fn new(scoped: Arc<Scoped>) -> Access {
        Access { scoped }
    }

    /// A client that refuses calls that are not declared. Later reads include what is written through it.
    pub fn client(&self) -> kube::Client {
        self.scoped.client.clone()
    }

    /// The same with a client of these options, as [`Context::with`](super::Context::with).
    #[must_use]
    pub fn with(&self, options: &ClientOptions) -> Access {
        Access::new(Arc::new(self.scoped.with(options)))
    }

    /// From kinds to resources and back, as the cluster's API server says it now.
    pub fn mapper(&self) -> &Mapper {
        &self.scoped.mapper
    }

    /// The field manager of writes: the operator's name.
    pub fn field_manager(&self) -> &str {
        &self.scoped.manager
    }

    /// The cache as it is now, without waiting.
    pub fn view(&self) -> &View {
        &self.scoped.view
    }

    /// An object of the cache, as [`Context::get`](super::Context::get).
    ///
    /// # Errors
    /// As there.
    pub fn get<K: Object>(&self, key: impl Into<Key>) -> Get<K> {
        Get::new(&self.scoped, key.into())
    }

    /// The objects of a kind, as [`Context::list`](super::Context::list).
    ///
    /// # Errors
    /// As there.
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

    /// Another cluster of the same manager.
    ///
    /// # Errors
    /// When nothing is declared for a cluster of that name.
    pub fn cluster(&self, name: &str) -> Result<Access> {
        self.scoped.elsewhere(name)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({:?})", self.scoped.view)
    }
}

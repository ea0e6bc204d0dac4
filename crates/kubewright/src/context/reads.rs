//! Reads of the cache that include this process's own writes: of one object, and of those of a kind that a query selects.

use std::collections::HashSet;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kubewright_machinery::selector::LabelSelector;

use super::{Listed, Scoped};
use crate::cache::{Cached, Informer};
use crate::client::MapperError;
use crate::kind::{Key, Kind, Object};
use crate::{Error, Result};

/// How long a read waits for the cache to show this process's own writes.
const OWN_WRITES: Duration = Duration::from_secs(10);

/// Which objects of a kind a list wants.
#[derive(Clone, Debug, Default)]
struct Query {
    namespace: Option<String>,
    owner: Option<String>,
    index: Option<(String, String)>,
    labels: Vec<LabelSelector>,
    mistake: Option<String>,
    stale: bool,
}

impl Query {
    fn index_name(&self) -> &str {
        self.index.as_ref().map_or("", |(index, _)| index)
    }
}

/// A read of one object, under way when awaited.
pub struct Get<K> {
    scoped: Arc<Scoped>,
    key: Key,
    stale: bool,
    kind: PhantomData<fn() -> K>,
}

impl<K: Object> Get<K> {
    pub(super) fn new(scoped: &Arc<Scoped>, key: Key) -> Get<K> {
        Get { scoped: Arc::clone(scoped), key, stale: false, kind: PhantomData }
    }

    /// Does not wait for the cache to show this process's own writes.
    #[must_use]
    pub fn may_be_stale(mut self) -> Self {
        self.stale = true;
        self
    }
}

impl<K: Object> IntoFuture for Get<K> {
    type Output = Result<Option<Arc<K>>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            let informer = self.scoped.view.following(&Kind::of::<K>(), self.key.namespace())?;
            if !self.stale {
                wait(informer, Some(&self.key)).await?;
            }
            Ok(informer.get(&self.key).map(|object| object.typed()).transpose()?)
        }
        .boxed()
    }
}

/// A read of many objects, under way when awaited.
pub struct List<K> {
    scoped: Arc<Scoped>,
    query: Query,
    kind: PhantomData<fn() -> K>,
}

impl<K: Object> List<K> {
    pub(super) fn new(scoped: &Arc<Scoped>) -> List<K> {
        List { scoped: Arc::clone(scoped), query: Query::default(), kind: PhantomData }
    }

    /// Only objects of this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.query.namespace = Some(namespace.into());
        self
    }

    /// Only objects that name this one among their owners, by uid.
    #[must_use]
    pub fn owned_by<O: Object>(mut self, owner: &O) -> Self {
        self.query.owner = Some(owner.meta().uid.clone().unwrap_or_default());
        self
    }

    /// Only objects under this value of a declared index.
    #[must_use]
    pub fn indexed(mut self, index: &str, value: &str) -> Self {
        self.query.index = Some((index.into(), value.into()));
        self
    }

    /// Only objects that a label selector such as `app=web,tier in (a, b),!canary` selects.
    #[must_use]
    pub fn labels(self, selector: &str) -> Self {
        let parsed = LabelSelector::parse(selector).map_err(|error| error.to_string());
        self.selecting(selector, parsed)
    }

    /// Only objects that a selector of another object selects, such as a Deployment's `spec.selector`.
    #[must_use]
    pub fn matching(self, selector: &meta::LabelSelector) -> Self {
        let parsed = serde_json::to_value(selector)
            .map_err(|error| error.to_string())
            .and_then(|value| LabelSelector::from_value(Some(&value)).map_err(|error| error.to_string()));
        self.selecting("", parsed)
    }

    fn selecting(mut self, selector: &str, parsed: std::result::Result<LabelSelector, String>) -> Self {
        match parsed {
            Ok(selector) => self.query.labels.push(selector),
            Err(error) => self.query.mistake = Some(format!("label selector \"{selector}\": {error}")),
        }
        self
    }

    /// Does not wait for the cache to show this process's own writes.
    #[must_use]
    pub fn may_be_stale(mut self) -> Self {
        self.query.stale = true;
        self
    }

    /// The objects as they are cached, undecoded.
    ///
    /// # Errors
    /// As [`Context::list`](super::Context::list).
    pub async fn raw(self) -> Result<Vec<Arc<Cached>>> {
        let namespace = self.query.namespace.as_deref();
        let informer = self.scoped.view.following(&Kind::of::<K>(), namespace)?;
        if !self.query.stale {
            wait(informer, None).await?;
        }
        select(informer, &self.query)
    }
}

impl<K: Object> IntoFuture for List<K> {
    type Output = Result<Listed<K>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move { Ok(Listed::decode(&self.raw().await?)) }.boxed()
    }
}

/// Waits until the cache shows this process's own writes to a kind, or to one object.
pub(super) async fn wait(informer: &Informer, key: Option<&Key>) -> Result {
    if let Some(why) = informer.missing() {
        return Err(MapperError::from(why).into());
    }
    if informer.caught_up(key, OWN_WRITES).await {
        return Ok(());
    }
    Err(Error::CacheBehind { kind: informer.kind().clone(), seconds: OWN_WRITES.as_secs() })
}

/// Looks up by the narrowest index there is and checks the rest one by one.
fn select(informer: &Informer, query: &Query) -> Result<Vec<Arc<Cached>>> {
    if let Some(mistake) = &query.mistake {
        return Err(Error::Usage(mistake.clone()));
    }
    let mut found: Vec<Arc<Cached>> = informer
        .read(|store| {
            Some(match (&query.owner, &query.index, &query.namespace) {
                (Some(uid), _, _) => store.owned_by(uid).collect(),
                (None, Some((index, value)), _) => store.indexed(index, value)?.collect(),
                (None, None, Some(namespace)) => store.in_namespace(namespace).collect(),
                (None, None, None) => store.iter().collect(),
            })
        })
        .ok_or_else(|| unknown_index(informer.kind(), query.index_name()))?;
    if let Some(namespace) = &query.namespace {
        found.retain(|object| object.key().namespace() == Some(namespace));
    }
    if let (Some(_), Some((index, value))) = (&query.owner, &query.index) {
        let among = informer
            .read(|store| Some(store.indexed_keys(index, value)?.cloned().collect::<HashSet<_>>()))
            .ok_or_else(|| unknown_index(informer.kind(), query.index_name()))?;
        found.retain(|object| among.contains(object.key()));
    }
    found.retain(|object| {
        let labels = Some(object.label_bytes()).filter(|bytes| !bytes.is_empty());
        query.labels.iter().all(|selector| selector.matches_json(labels))
    });
    found.sort_unstable_by(|a, b| a.key().cmp(b.key()));
    Ok(found)
}

pub(super) fn unknown_index(kind: &Kind, index: &str) -> Error {
    let kind = &kind.kind;
    Error::Usage(format!(
        "no index \"{index}\" of {kind} is declared; declare it with `.index(Index::path::<{kind}>(\"{index}\"))`"
    ))
}

//! The cache as a controller may see it: the kinds it declares, by type, without waiting.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::reads::unknown_index;
use crate::cache::{Cache, Cached, DecodeError, Index, Informer, Scope, decode_all};
use crate::client::Undeclared;
use crate::kind::{Key, Kind, Object};
use crate::{Error, Result};

/// The declared part of the cache, as it is now. What mapping functions look things up in.
#[derive(Clone, Default)]
pub struct View {
    informers: Arc<HashMap<Kind, Informer>>,
}

impl View {
    pub(crate) fn new(informers: HashMap<Kind, Informer>) -> View {
        View { informers: Arc::new(informers) }
    }

    /// The informers of these kinds, started where nobody else has, with these indexes.
    pub(crate) fn open(cache: &Cache, scope: &Scope, reads: &[Kind], indexes: &[Index]) -> View {
        let informer = |kind: &Kind| cache.informer(kind, &cache.scope_of(kind, scope));
        let informers: HashMap<Kind, Informer> =
            reads.iter().map(|kind| (kind.clone(), informer(kind))).collect();
        for index in indexes {
            if let Some(informer) = informers.get(&index.kind) {
                informer.add_index(index.clone());
            }
        }
        View::new(informers)
    }

    pub(crate) fn informer(&self, kind: &Kind) -> Option<&Informer> {
        self.informers.get(kind)
    }

    pub(crate) fn declared(&self, kind: &Kind) -> Result<&Informer> {
        self.informer(kind).ok_or_else(|| Error::Undeclared(Undeclared::read(kind)))
    }

    /// The informer of a declared kind, for a read of one namespace.
    pub(crate) fn following(&self, kind: &Kind, namespace: Option<&str>) -> Result<&Informer> {
        let informer = self.declared(kind)?;
        match namespace.filter(|namespace| !informer.scope().follows(namespace)) {
            None => Ok(informer),
            Some(namespace) => Err(Error::NotFollowed {
                kind: kind.to_string(),
                namespace: namespace.into(),
                followed: informer.scope().to_string(),
            }),
        }
    }

    pub(crate) fn informers(&self) -> impl Iterator<Item = &Informer> {
        self.informers.values()
    }

    /// Waits until the first list of every kind is complete.
    pub(crate) async fn synced(&self) {
        for informer in self.informers() {
            informer.synced().await;
        }
    }

    /// The keys of all objects of a kind, sorted. Decodes nothing.
    ///
    /// # Errors
    /// When the kind is not declared.
    pub fn keys<K: Object>(&self) -> Result<Vec<Key>> {
        let informer = self.declared(&Kind::of::<K>())?;
        let mut keys: Vec<Key> = informer.read(|store| store.keys().cloned().collect());
        keys.sort_unstable();
        Ok(keys)
    }

    /// The keys of the objects under a value of a declared index, sorted. Decodes nothing.
    ///
    /// # Errors
    /// When the kind or the index is not declared.
    pub fn indexed_keys<K: Object>(&self, index: &str, value: &str) -> Result<Vec<Key>> {
        let informer = self.declared(&Kind::of::<K>())?;
        let keys =
            informer.read(|store| Some(store.indexed_keys(index, value)?.cloned().collect::<Vec<Key>>()));
        let mut keys = keys.ok_or_else(|| unknown_index(informer.kind(), index))?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// All objects of a kind, sorted by key.
    ///
    /// # Errors
    /// When the kind is not declared.
    pub fn list<K: Object>(&self) -> Result<Listed<K>> {
        let informer = self.declared(&Kind::of::<K>())?;
        let mut objects: Vec<Arc<Cached>> = informer.read(|store| store.iter().collect());
        objects.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        Ok(Listed::decode(&objects))
    }

    /// One object.
    ///
    /// # Errors
    /// When the kind is not declared, its namespace not followed, or the object can't be decoded.
    pub fn get<K: Object>(&self, key: impl Into<Key>) -> Result<Option<Arc<K>>> {
        let key = key.into();
        let informer = self.following(&Kind::of::<K>(), key.namespace())?;
        Ok(informer.get(&key).map(|object| object.typed()).transpose()?)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.informers.keys().map(Kind::to_string)).finish()
    }
}

/// Objects of a list. A slice of those that could be decoded, beside the errors of those that could not.
#[derive(Debug, Clone)]
pub struct Listed<K> {
    objects: Vec<Arc<K>>,
    undecodable: Vec<DecodeError>,
}

impl<K: Object> Listed<K> {
    pub(crate) fn decode(cached: &[Arc<Cached>]) -> Listed<K> {
        let mut listed = Listed { objects: Vec::with_capacity(cached.len()), undecodable: Vec::new() };
        for object in decode_all(cached) {
            match object {
                Ok(object) => listed.objects.push(object),
                Err(error) => {
                    tracing::warn!(%error, "an object is left out of a list");
                    listed.undecodable.push(error);
                }
            }
        }
        listed
    }
}

impl<K> Listed<K> {
    /// Objects that are there but are not what the type says.
    pub fn undecodable(&self) -> &[DecodeError] {
        &self.undecodable
    }

    /// The objects as a vector.
    pub fn into_vec(self) -> Vec<Arc<K>> {
        self.objects
    }
}

impl<K> Deref for Listed<K> {
    type Target = [Arc<K>];

    fn deref(&self) -> &[Arc<K>] {
        &self.objects
    }
}

impl<K> IntoIterator for Listed<K> {
    type Item = Arc<K>;
    type IntoIter = std::vec::IntoIter<Arc<K>>;

    fn into_iter(self) -> Self::IntoIter {
        self.objects.into_iter()
    }
}

impl<'a, K> IntoIterator for &'a Listed<K> {
    type Item = &'a Arc<K>;
    type IntoIter = std::slice::Iter<'a, Arc<K>>;

    fn into_iter(self) -> Self::IntoIter {
        self.objects.iter()
    }
}

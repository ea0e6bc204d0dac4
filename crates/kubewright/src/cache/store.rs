//! The objects of one kind and scope with their indexes: a pure data structure. A relist is a
//! replacement: what was not seen when it ends is given back as tombstones.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::object::Cached;
use crate::controller::panic_message;
use crate::kind::{Key, Kind, Object};

/// Computes the values under which an object is found.
type Values = dyn Fn(&Cached) -> Vec<String> + Send + Sync;

/// A declared index of a kind: a name and a way to the values under which an object is found.
#[derive(Clone)]
pub struct Index {
    pub(crate) kind: Kind,
    name: Arc<str>,
    values: Arc<Values>,
}

impl Index {
    /// Indexes by the string at a path such as `spec.nodeName`, which is also the index's name. As with field
    /// selectors, an object without it is found under the empty string. Cheap: the object is scanned, not decoded.
    pub fn path<K: Object>(path: &str) -> Index {
        let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
        Index {
            kind: Kind::of::<K>(),
            name: path.into(),
            values: Arc::new(move |object| {
                let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
                let found = object.at(&steps).and_then(|text| serde_json::from_slice::<String>(text).ok());
                vec![found.unwrap_or_default()]
            }),
        }
    }

    /// Indexes by what a function computes from the typed object; each event is decoded for it.
    pub fn by<K: Object>(name: &str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Index {
        Index {
            kind: Kind::of::<K>(),
            name: name.into(),
            values: Arc::new(move |object| {
                let compute = || object.decode::<K>().map(|object| values(&object)).unwrap_or_default();
                catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|panic| {
                    let message = panic_message(&*panic);
                    tracing::error!(object = %object.key(), message, "an index function panicked");
                    Vec::new()
                })
            }),
        }
    }

    /// The name that queries use.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({} of {})", self.name, self.kind)
    }
}

/// What a write to the store changed.
#[derive(Debug)]
pub enum Change {
    /// The object is new.
    Added,
    /// The object was there in another version.
    Updated(Arc<Cached>),
    /// The same version was there already.
    Same,
}

struct Entry {
    object: Arc<Cached>,
    round: u64,
}

/// The objects of one kind and scope.
#[derive(Default)]
pub struct Store {
    entries: HashMap<Key, Entry>,
    by_namespace: HashMap<Box<str>, BTreeSet<Key>>,
    by_owner: HashMap<Box<str>, BTreeSet<Key>>,
    indexes: Vec<(Index, HashMap<String, BTreeSet<Key>>)>,
    bytes: usize,
    round: u64,
}

impl Store {
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of JSON held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many replacements have begun.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The object of a key.
    pub fn get(&self, key: &Key) -> Option<&Arc<Cached>> {
        self.entries.get(key).map(|entry| &entry.object)
    }

    /// Every object, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cached>> {
        self.entries.values().map(|entry| &entry.object)
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Arc<Cached>> {
        self.of(self.by_namespace.get(namespace))
    }

    /// The objects that name this uid among their owners, by key.
    pub fn owned_by<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Arc<Cached>> {
        self.of(self.by_owner.get(uid))
    }

    /// The objects under a value of a declared index; `None` when there is no such index.
    pub fn indexed<'a>(&'a self, index: &str, value: &str) -> Option<impl Iterator<Item = &'a Arc<Cached>>> {
        let (_, values) = self.indexes.iter().find(|(known, _)| known.name() == index)?;
        Some(self.of(values.get(value)))
    }

    fn of<'a>(&'a self, keys: Option<&'a BTreeSet<Key>>) -> impl Iterator<Item = &'a Arc<Cached>> {
        keys.into_iter().flatten().filter_map(|key| self.get(key))
    }

    /// Adds an index; the objects that are there are indexed now. A second one of that name changes nothing.
    pub fn add_index(&mut self, index: Index) {
        if self.indexes.iter().any(|(known, _)| known.name() == index.name()) {
            return;
        }
        let mut values: HashMap<String, BTreeSet<Key>> = HashMap::new();
        for object in self.iter() {
            for value in (index.values)(object) {
                values.entry(value).or_default().insert(object.key().clone());
            }
        }
        self.indexes.push((index, values));
    }

    /// Adds or replaces an object.
    pub fn put(&mut self, object: Arc<Cached>) -> Change {
        if let Some(entry) = self.entries.get_mut(object.key()) {
            entry.round = self.round;
            let same_version = entry.object.resource_version() == object.resource_version()
                && entry.object.uid() == object.uid();
            if same_version && object.resource_version() != 0 {
                return Change::Same;
            }
        }
        let old = self.take(object.key());
        let key = object.key().clone();
        self.bytes += object.json().len();
        if let Some(namespace) = key.namespace() {
            self.by_namespace.entry(namespace.into()).or_default().insert(key.clone());
        }
        for owner in object.owners() {
            self.by_owner.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        for (index, values) in &mut self.indexes {
            for value in (index.values)(&object) {
                values.entry(value).or_default().insert(key.clone());
            }
        }
        self.entries.insert(key, Entry { object, round: self.round });
        old.map_or(Change::Added, Change::Updated)
    }

    /// Removes an object and gives it back.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Cached>> {
        self.take(key)
    }

    fn take(&mut self, key: &Key) -> Option<Arc<Cached>> {
        let object = self.entries.remove(key)?.object;
        self.bytes -= object.json().len();
        if let Some(namespace) = key.namespace() {
            forget(&mut self.by_namespace, namespace, key);
        }
        for owner in object.owners() {
            forget(&mut self.by_owner, &*owner.uid, key);
        }
        for (index, values) in &mut self.indexes {
            for value in (index.values)(&object) {
                forget(values, value.as_str(), key);
            }
        }
        Some(object)
    }

    /// Begins a replacement: objects not put from now on go when it ends. One that did not end is dropped.
    pub fn begin_replace(&mut self) {
        self.round += 1;
    }

    /// Ends a replacement: removes and returns what was not put since it began.
    pub fn finish_replace(&mut self) -> Vec<Arc<Cached>> {
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.round != self.round)
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().filter_map(|key| self.take(key)).collect()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({} objects, {} bytes)", self.len(), self.bytes)
    }
}

fn forget<I, Q>(index: &mut HashMap<I, BTreeSet<Key>>, value: &Q, key: &Key)
where
    I: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(keys) = index.get_mut(value) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use proptest::prelude::*;

    use super::*;

    fn pod(name: &str, version: u64, owner: &str, node: &str) -> Arc<Cached> {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"u-{name}","resourceVersion":"{version}","ownerReferences":[{{"apiVersion":"v1","kind":"X","name":"x","uid":"{owner}","controller":true}}]}},"spec":{{"nodeName":"{node}"}}}}"#
        );
        Arc::new(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
    }

    #[test]
    fn indexes_follow_changes_of_their_values() {
        let mut store = Store::default();
        store.add_index(Index::path::<Pod>("spec.nodeName"));
        store.put(pod("a", 1, "o1", "n1"));
        store.put(pod("b", 2, "o1", "n2"));
        assert_eq!(store.owned_by("o1").count(), 2);
        assert!(matches!(store.put(pod("a", 3, "o2", "n2")), Change::Updated(_)));
        assert_eq!(store.owned_by("o1").count(), 1);
        assert_eq!(store.indexed("spec.nodeName", "n1").unwrap().count(), 0);
        assert_eq!(store.indexed("spec.nodeName", "n2").unwrap().count(), 2);
        assert!(store.indexed("spec.other", "n2").is_none());
        store.remove(&Key::new("n", "a"));
        store.remove(&Key::new("n", "b"));
        assert_eq!((store.bytes(), store.in_namespace("n").count()), (0, 0));
        assert!(store.by_owner.is_empty() && store.by_namespace.is_empty());
    }

    #[test]
    fn an_index_added_later_finds_what_is_there() {
        let mut store = Store::default();
        store.put(pod("a", 1, "o", "n1"));
        store.add_index(Index::by::<Pod>("node", |pod| {
            pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect()
        }));
        assert_eq!(store.indexed("node", "n1").unwrap().count(), 1);
    }

    #[test]
    fn an_index_function_that_panics_leaves_the_store_whole() {
        let mut store = Store::default();
        store.add_index(Index::by::<Pod>("bad", |_| panic!("a bug")));
        store.put(pod("a", 1, "o", "n1"));
        assert_eq!((store.len(), store.indexed("bad", "").unwrap().count()), (1, 0));
    }

    #[test]
    fn a_delete_missed_during_a_relist_comes_back_as_a_tombstone() {
        let mut store = Store::default();
        store.put(pod("a", 1, "o", "n"));
        store.put(pod("b", 2, "o", "n"));
        store.begin_replace();
        assert!(matches!(store.put(pod("a", 1, "o", "n")), Change::Same));
        let gone = store.finish_replace();
        assert_eq!(gone.iter().map(|object| object.key().name()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(store.len(), 1);
    }

    proptest! {
        #[test]
        fn indexes_agree_with_a_scan_of_all(ops in prop::collection::vec((0u8..6, 0u8..3, any::<bool>()), 0..60)) {
            let mut store = Store::default();
            store.add_index(Index::path::<Pod>("spec.nodeName"));
            for (version, (name, value, put)) in ops.into_iter().enumerate() {
                let object = pod(&format!("p{name}"), version as u64 + 1, &format!("o{value}"), &format!("n{value}"));
                if put { store.put(object); } else { store.remove(object.key()); }
            }
            for value in 0..3 {
                let node = format!("\"n{value}\"");
                let expected = store.iter().filter(|object| object.at(&["spec", "nodeName"]) == Some(node.as_bytes())).count();
                prop_assert_eq!(store.indexed("spec.nodeName", &format!("n{value}")).unwrap().count(), expected);
                prop_assert_eq!(store.owned_by(&format!("o{value}")).count(), expected);
            }
            prop_assert_eq!(store.bytes(), store.iter().map(|object| object.json().len()).sum::<usize>());
        }
    }
}

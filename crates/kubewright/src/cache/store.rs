//! The objects of one kind and scope with their indexes: a pure data structure. A relist is a
//! replacement: what was not seen when it ends is given back as tombstones.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use kubewright_machinery::selector::shard;
use parking_lot::Mutex;

use super::cold::{Codec, EXAMPLES_AT_LEAST, EXAMPLES_AT_MOST, Frozen};
use super::index::{Index, Indexes};
use super::memory::Decoded;
use super::object::Cached;
use crate::kind::Key;

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

/// An object's place in the store. It stays the same while the object is there, whatever versions of it come.
struct Slot {
    key: Key,
    body: Body,
    round: u32,
    /// Read since the last time that something was compressed.
    read: AtomicBool,
}

enum Body {
    Hot(Arc<Cached>),
    Cold(Box<Frozen>),
}

impl Slot {
    fn object(&self) -> Option<Arc<Cached>> {
        self.read.store(true, Ordering::Relaxed);
        self.peek()
    }

    /// The object, without counting as a reader of it.
    fn peek(&self) -> Option<Arc<Cached>> {
        match &self.body {
            Body::Hot(object) => Some(Arc::clone(object)),
            Body::Cold(frozen) => {
                let thawed = frozen.thaw(&self.key).map(Arc::new);
                if thawed.is_none() {
                    tracing::error!(object = %self.key, "a compressed object can't be read any more");
                }
                thawed
            }
        }
    }

    /// Whether it holds an object in the state that this one is in.
    fn is_at(&self, object: &Cached) -> bool {
        match &self.body {
            Body::Hot(held) => {
                held.resource_version() == object.resource_version() && held.uid() == object.uid()
            }
            Body::Cold(frozen) => frozen.version == Version::of(object),
        }
    }

    fn version(&self) -> Version {
        match &self.body {
            Body::Hot(object) => Version::of(object),
            Body::Cold(frozen) => frozen.version,
        }
    }

    fn json_len(&self) -> usize {
        match &self.body {
            Body::Hot(object) => object.json().len(),
            Body::Cold(frozen) => frozen.json_len(),
        }
    }
}

/// What tells one state of an object from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// `metadata.resourceVersion`.
    pub resource_version: u64,
    uid: u64,
}

impl Version {
    /// The version of an object.
    pub fn of(object: &Cached) -> Version {
        Version { resource_version: object.resource_version(), uid: hash_of_uid(object.uid()) }
    }

    /// Whether it is of the object with this uid; by a hash of 64 bits.
    pub fn is_of(&self, uid: &str) -> bool {
        self.uid == hash_of_uid(uid)
    }
}

/// The objects of one kind and scope.
#[derive(Default)]
pub struct Store {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Slots by key.
    places: HashTable<u32>,
    hashing: RandomState,
    indexes: Indexes,
    bytes: usize,
    hot: usize,
    round: u32,
    /// Where the search for objects to compress goes on.
    hand: usize,
    codec: Option<Arc<Codec>>,
    decoded: Option<Arc<Decoded>>,
    /// Compressed objects that were read lately, as they were thawed.
    thawed: Mutex<Vec<(u32, Arc<Cached>)>>,
}

/// So many objects thawed by readers are kept between two events; more are thawed again if need be.
const THAWED: usize = 256;

impl Store {
    /// An empty store whose objects share the room for decoded ones with other stores'.
    pub(crate) fn with_decoded(decoded: Arc<Decoded>) -> Store {
        Store { decoded: Some(decoded), ..Store::default() }
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of JSON held, as they would be uncompressed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of JSON that are not compressed.
    pub fn hot_bytes(&self) -> usize {
        self.hot
    }

    /// How many replacements have begun.
    pub fn round(&self) -> u64 {
        self.round.into()
    }

    fn place(&self, key: &Key) -> Option<u32> {
        let hash = self.hashing.hash_one(key);
        self.places.find(hash, |place| self.slot(*place).is_some_and(|slot| slot.key == *key)).copied()
    }

    fn slot(&self, place: u32) -> Option<&Slot> {
        self.slots.get(place as usize)?.as_ref()
    }

    /// The object of a key; about 10 µs more when it is compressed.
    pub fn get(&self, key: &Key) -> Option<Arc<Cached>> {
        self.read(self.place(key)?)
    }

    fn read(&self, place: u32) -> Option<Arc<Cached>> {
        let slot = self.slot(place)?;
        let object = slot.object()?;
        if matches!(slot.body, Body::Cold(_)) {
            let mut thawed = self.thawed.lock();
            if thawed.len() < THAWED {
                thawed.push((place, Arc::clone(&object)));
            }
        }
        Some(object)
    }

    /// Holds what readers thawed uncompressed again, until its turn comes to be compressed.
    pub(crate) fn keep_thawed(&mut self) {
        for (place, object) in std::mem::take(self.thawed.get_mut()) {
            let Some(slot) = self.slots.get_mut(place as usize).and_then(Option::as_mut) else { continue };
            let Body::Cold(frozen) = &slot.body else { continue };
            if slot.key == *object.key() && frozen.version == Version::of(&object) {
                self.hot += object.json().len();
                slot.body = Body::Hot(object);
            }
        }
    }

    /// Which version of an object is there, without reading it.
    pub fn version(&self, key: &Key) -> Option<Version> {
        Some(self.slot(self.place(key)?)?.version())
    }

    /// Every object, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Cached>> {
        self.slots.iter().flatten().filter_map(Slot::object)
    }

    /// Some objects, in the order of their places, from this place on, and where the rest begins. Does not count as reading
    /// them.
    pub(crate) fn from(&self, place: usize, most: usize) -> (Vec<Arc<Cached>>, Option<usize>) {
        let rest = self.slots.get(place..).unwrap_or_default();
        let part = &rest[..rest.len().min(most)];
        let next = (part.len() < rest.len()).then_some(place + part.len());
        (part.iter().flatten().filter_map(Slot::peek).collect(), next)
    }

    /// An object is there as it was: the replacement that is under way does not take it away.
    pub(crate) fn touch(&mut self, key: &Key) {
        let place = self.place(key);
        let slot = place.and_then(|place| self.slots.get_mut(place as usize)?.as_mut());
        if let Some(slot) = slot {
            slot.round = self.round;
        }
    }

    /// Every key, in no order; reads no object.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.slots.iter().flatten().map(|slot| &slot.key)
    }

    /// The keys under a value of a declared index, in no order; reads no object.
    pub fn indexed_keys<'a>(
        &'a self,
        index: &str,
        value: &str,
    ) -> Option<impl Iterator<Item = &'a Key> + use<'a>> {
        let places = self.indexes.declared(index, value)?.into_iter().flatten();
        Some(places.filter_map(|place| self.slot(*place).map(|slot| &slot.key)))
    }

    /// The objects of a namespace, in no order.
    pub fn in_namespace<'a>(&'a self, namespace: &str) -> impl Iterator<Item = Arc<Cached>> + use<'a> {
        self.of(self.indexes.namespace(namespace))
    }

    /// The objects that name this uid among their owners, in no order.
    pub fn owned_by<'a>(&'a self, uid: &str) -> impl Iterator<Item = Arc<Cached>> + use<'a> {
        self.of(self.indexes.owner(uid))
    }

    /// The objects under a value of a declared index, in no order; `None` when there is no such index.
    pub fn indexed<'a>(
        &'a self,
        index: &str,
        value: &str,
    ) -> Option<impl Iterator<Item = Arc<Cached>> + use<'a>> {
        Some(self.of(self.indexes.declared(index, value)?))
    }

    fn of<'a>(&'a self, places: Option<&'a BTreeSet<u32>>) -> impl Iterator<Item = Arc<Cached>> + use<'a> {
        places.into_iter().flatten().filter_map(|place| self.read(*place))
    }

    /// Adds an index; the objects that are there are indexed now. A second one of that name changes nothing.
    pub fn add_index(&mut self, index: Index) {
        let slots = (0..).zip(&self.slots);
        let objects = slots.filter_map(|(place, slot)| Some((place, slot.as_ref()?.peek()?)));
        self.indexes.declare(index, objects);
    }

    /// Adds or replaces an object; gives it back as it is held.
    pub fn put(&mut self, mut object: Cached) -> (Arc<Cached>, Change) {
        object.share(self.decoded.as_ref());
        let place = self.place(object.key());
        let Some(place) = place else {
            let object = Arc::new(object);
            self.insert(&object);
            return (object, Change::Added);
        };
        let Some(slot) = self.slots.get_mut(place as usize).and_then(Option::as_mut) else {
            return (Arc::new(object), Change::Same);
        };
        slot.round = self.round;
        if object.resource_version() != 0 && slot.is_at(&object) {
            return (Arc::new(object), Change::Same);
        }
        object.rekey(&slot.key);
        let (object, before) = (Arc::new(object), slot.peek());
        self.bytes = self.bytes - slot.json_len() + object.json().len();
        if let Body::Hot(old) = &slot.body {
            self.hot -= old.json().len();
        }
        self.hot += object.json().len();
        slot.body = Body::Hot(Arc::clone(&object));
        self.indexes.change(place, before.as_deref(), Some(&object));
        // Its old state being unreadable is no reason not to report the new one.
        (Arc::clone(&object), Change::Updated(before.unwrap_or(object)))
    }

    fn insert(&mut self, object: &Arc<Cached>) {
        let slot = Slot {
            key: object.key().clone(),
            body: Body::Hot(Arc::clone(object)),
            round: self.round,
            read: AtomicBool::new(false),
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = Some(slot);
                place
            }
            None => {
                self.slots.push(Some(slot));
                // More than 4 billion objects would not fit into memory before.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let Store { places, slots, hashing, .. } = self;
        let hash = |place: &u32| {
            slots.get(*place as usize).and_then(Option::as_ref).map_or(0, |slot| hashing.hash_one(&slot.key))
        };
        places.insert_unique(hash(&place), place, hash);
        self.bytes += object.json().len();
        self.hot += object.json().len();
        self.indexes.enter(place, object);
    }

    /// Removes an object and gives it back.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Cached>> {
        let hash = self.hashing.hash_one(key);
        let Store { places, slots, .. } = self;
        let same = |place: &u32| {
            slots.get(*place as usize).and_then(Option::as_ref).is_some_and(|slot| slot.key == *key)
        };
        let (place, _) = places.find_entry(hash, same).ok()?.remove();
        let slot = self.slots.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.bytes -= slot.json_len();
        if let Body::Hot(object) = &slot.body {
            self.hot -= object.json().len();
        }
        let object = slot.peek();
        self.indexes.leave(place, key, object.as_deref());
        object
    }

    /// Begins a replacement: objects not put from now on go when it ends. One that did not end is dropped. Its number
    /// is given to [`finish_replace`](Self::finish_replace); those of several namespaces may overlap.
    pub fn begin_replace(&mut self) -> u32 {
        self.round = self.round.wrapping_add(1);
        self.round
    }

    /// Ends a replacement, of everything or of one namespace: removes and returns what was not put since it began.
    pub fn finish_replace(&mut self, round: u32, namespace: Option<&str>) -> Vec<Arc<Cached>> {
        let age = self.round.wrapping_sub(round);
        let old = |slot: &&Slot| self.round.wrapping_sub(slot.round) > age;
        let gone: Vec<Key> = match namespace {
            None => self.slots.iter().flatten().filter(old).map(|slot| slot.key.clone()).collect(),
            Some(namespace) => {
                let places = self.indexes.namespace(namespace).into_iter().flatten();
                let slots = places.filter_map(|place| self.slot(*place));
                slots.filter(old).map(|slot| slot.key.clone()).collect()
            }
        };
        gone.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Removes all objects of a namespace, or all there are.
    pub fn clear(&mut self, namespace: Option<&str>) -> Vec<Arc<Cached>> {
        let round = self.begin_replace();
        self.finish_replace(round, namespace)
    }

    /// Objects to learn from how to compress this store's, spread over it; `None` when what was learnt will do.
    pub(crate) fn examples(&self) -> Option<Vec<Arc<Cached>>> {
        let grown = |codec: &Arc<Codec>| self.len() >= codec.made_at.max(EXAMPLES_AT_LEAST).saturating_mul(8);
        if !self.codec.as_ref().is_none_or(grown) {
            return None;
        }
        let step = (self.slots.len() / EXAMPLES_AT_MOST).max(1);
        Some(self.slots.iter().step_by(step).flatten().filter_map(Slot::peek).collect())
    }

    /// Compresses with this from now on.
    pub(crate) fn compress_with(&mut self, codec: Codec) {
        self.codec = Some(Arc::new(codec));
    }

    /// Compresses objects until so many bytes of JSON are no longer held as they are, or none is left to compress:
    /// in turn, but for those that were read since their last turn. Nothing happens before
    /// [`compress_with`](Self::compress_with).
    pub(crate) fn freeze(&mut self, mut bytes: usize) {
        let Some(codec) = self.codec.clone() else { return };
        for _ in 0..self.slots.len() * 2 {
            if bytes == 0 {
                return;
            }
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let Some(slot) = self.slots.get_mut(self.hand).and_then(Option::as_mut) else { continue };
            let Body::Hot(object) = &slot.body else { continue };
            if slot.read.swap(false, Ordering::Relaxed) {
                continue;
            }
            let Some(frozen) = Frozen::freeze(object, &codec) else { continue };
            let length = object.json().len();
            slot.body = Body::Cold(Box::new(frozen));
            self.hot -= length;
            bytes = bytes.saturating_sub(length);
        }
    }
}

fn hash_of_uid(uid: &str) -> u64 {
    shard::hash(uid)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({} objects, {} bytes)", self.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use proptest::prelude::*;

    use super::*;
    use crate::kind::Kind;

    fn pod(name: &str, version: u64, owner: &str, node: &str) -> Cached {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"u-{name}","resourceVersion":"{version}","ownerReferences":[{{"apiVersion":"v1","kind":"X","name":"x","uid":"{owner}","controller":true}}]}},"spec":{{"nodeName":"{node}"}}}}"#
        );
        Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap()
    }

    #[test]
    fn indexes_follow_changes_of_their_values() {
        let mut store = Store::default();
        store.add_index(Index::path::<Pod>("spec.nodeName"));
        store.put(pod("a", 1, "o1", "n1"));
        store.put(pod("b", 2, "o1", "n2"));
        assert_eq!(store.owned_by("o1").count(), 2);
        assert!(matches!(store.put(pod("a", 3, "o2", "n2")).1, Change::Updated(_)));
        assert_eq!(store.owned_by("o1").count(), 1);
        assert_eq!(store.indexed("spec.nodeName", "n1").unwrap().count(), 0);
        assert_eq!(store.indexed("spec.nodeName", "n2").unwrap().count(), 2);
        assert!(store.indexed("spec.other", "n2").is_none());
        store.remove(&Key::new("n", "a"));
        store.remove(&Key::new("n", "b"));
        assert_eq!((store.bytes(), store.in_namespace("n").count()), (0, 0));
        assert!(store.indexes.is_empty());
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
    fn what_is_not_read_is_compressed_and_found_all_the_same() {
        let mut store = Store::default();
        store.add_index(Index::path::<Pod>("spec.nodeName"));
        for number in 0..100 {
            store.put(pod(&format!("p{number}"), number + 1, "o", &format!("n{}", number % 3)));
        }
        let all = store.hot_bytes();
        store.get(&Key::new("n", "p7"));
        store.compress_with(Codec::learn(&store.examples().unwrap(), store.len()).unwrap());
        store.freeze(all - 300);
        assert!(store.hot_bytes() <= 300, "{}", store.hot_bytes());
        assert_eq!((store.bytes(), store.iter().count()), (all, 100));
        let p7 = store.get(&Key::new("n", "p7")).unwrap();
        assert_eq!((p7.resource_version(), p7.uid()), (8, "u-p7"));
        assert_eq!(store.indexed("spec.nodeName", "n1").unwrap().count(), 33);
        assert!(matches!(store.put(pod("p7", 8, "o", "n1")).1, Change::Same));
        let (_, change) = store.put(pod("p7", 200, "o", "n0"));
        let Change::Updated(before) = change else { panic!("{change:?}") };
        assert_eq!(before.at(&["spec", "nodeName"]), Some(&b"\"n1\""[..]));
        assert_eq!(store.indexed("spec.nodeName", "n0").unwrap().count(), 35);
        assert_eq!(store.remove(&Key::new("n", "p8")).unwrap().uid(), "u-p8");
        assert_eq!(store.len(), 99);
    }

    #[test]
    fn a_walk_through_all_objects_takes_a_few_at_a_time_and_counts_as_no_read() {
        let mut store = Store::default();
        for number in 0..40 {
            store.put(pod(&format!("p{number}"), number + 1, "o", "n"));
        }
        store.remove(&Key::new("n", "p3"));
        store.compress_with(Codec::learn(&[], 0).unwrap());
        store.freeze(usize::MAX);
        let (mut seen, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let objects;
            (objects, next) = store.from(from, 16);
            assert!(objects.len() <= 16);
            seen.extend(objects.iter().map(|object| object.resource_version()));
        }
        assert_eq!(seen, (1..=40).filter(|version| *version != 4).collect::<Vec<u64>>());
        store.keep_thawed();
        assert_eq!(store.hot_bytes(), 0);
    }

    #[test]
    fn what_was_thawed_for_a_reader_stays_so_until_its_next_turn() {
        let mut store = Store::default();
        for number in 0..40 {
            store.put(pod(&format!("p{number}"), number + 1, "o", "n"));
        }
        store.compress_with(Codec::learn(&[], 0).unwrap());
        store.freeze(usize::MAX);
        assert_eq!(store.hot_bytes(), 0);
        let read = store.get(&Key::new("n", "p1")).unwrap();
        store.keep_thawed();
        assert!(Arc::ptr_eq(&read, &store.get(&Key::new("n", "p1")).unwrap()));
        assert_eq!(store.hot_bytes(), read.json().len());
    }

    #[test]
    fn a_delete_missed_during_a_relist_comes_back_as_a_tombstone() {
        let mut store = Store::default();
        store.put(pod("a", 1, "o", "n"));
        store.put(pod("b", 2, "o", "n"));
        let round = store.begin_replace();
        assert!(matches!(store.put(pod("a", 1, "o", "n")).1, Change::Same));
        let gone = store.finish_replace(round, None);
        assert_eq!(gone.iter().map(|object| object.key().name()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn replacements_of_namespaces_overlap_without_harm() {
        let of = |namespace: &str, name: &str, version: u64| {
            let object = serde_json::json!({"metadata": {"name": name, "namespace": namespace, "uid": name,
                "resourceVersion": version.to_string()}});
            Cached::read(object.to_string().as_bytes(), &Kind::of::<Pod>()).unwrap()
        };
        let mut store = Store::default();
        for (namespace, name) in [("n", "a"), ("n", "b"), ("m", "c"), ("m", "d")] {
            store.put(of(namespace, name, 1));
        }
        let first = store.begin_replace();
        store.put(of("n", "a", 1));
        let second = store.begin_replace();
        store.put(of("m", "c", 1));
        let names = |gone: Vec<Arc<Cached>>| {
            gone.iter().map(|object| object.key().name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(store.finish_replace(first, Some("n"))), ["b"]);
        assert_eq!(names(store.finish_replace(second, Some("m"))), ["d"]);
        assert_eq!(names(store.clear(Some("m"))), ["c"]);
        assert_eq!(store.len(), 1);
    }

    proptest! {
        #[test]
        fn indexes_agree_with_a_scan_of_all(
            ops in prop::collection::vec((0u8..6, 0u8..3, any::<bool>()), 0..60),
            freeze in any::<bool>(),
        ) {
            let mut store = Store::default();
            store.add_index(Index::path::<Pod>("spec.nodeName"));
            for (version, (name, value, put)) in ops.into_iter().enumerate() {
                let object = pod(&format!("p{name}"), version as u64 + 1, &format!("o{value}"), &format!("n{value}"));
                if put { store.put(object); } else { store.remove(object.key()); }
                if freeze {
                    if let Some(examples) = store.examples() {
                        store.compress_with(Codec::learn(&examples, store.len()).unwrap());
                    }
                    store.freeze(400);
                    store.keep_thawed();
                }
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

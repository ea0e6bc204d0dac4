//! The ways in which a store finds objects other than by key: by namespace, by owner, and by the values that users
//! declare. They hold places of the store, never objects.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::object::Cached;
use crate::controller::panic_message;
use crate::kind::{Key, Kind, Object};

/// Computes the values under which an object is found.
type Values = dyn Fn(&Cached) -> Vec<String> + Send + Sync;

/// A declared index of a kind: a name and a way to the values under which an object is found. Give it to
/// [`Controller::index`](crate::Controller::index), and ask with [`List::indexed`](crate::List::indexed).
///
/// ```
/// use k8s_openapi::api::core::v1::Pod;
/// use kubewright::Kind;
/// use kubewright::cache::{Cached, Index, Store};
///
/// let by_node = Index::path::<Pod>("spec.nodeName");
/// // An object may be found under several values.
/// let by_image = Index::by("image", |pod: &Pod| {
///     let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
///     containers.filter_map(|container| container.image.clone()).collect()
/// });
///
/// let mut store = Store::default();
/// store.add_index(by_node);
/// store.add_index(by_image);
/// let pod = br#"{"metadata":{"name":"web","namespace":"shop"},
///     "spec":{"nodeName":"n1","containers":[{"name":"a","image":"nginx"},{"name":"b","image":"envoy"}]}}"#;
/// store.put(Cached::read(pod, &Kind::of::<Pod>())?);
/// assert_eq!(store.indexed("spec.nodeName", "n1").map(Iterator::count), Some(1));
/// assert_eq!(store.indexed("image", "envoy").map(Iterator::count), Some(1));
/// # Ok::<(), kubewright::cache::DecodeError>(())
/// ```
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

/// Places of a store by what their objects say.
type Places<V> = HashMap<V, BTreeSet<u32>>;

/// The indexes of a store.
#[derive(Default)]
pub(super) struct Indexes {
    by_namespace: Places<Box<str>>,
    by_owner: Places<Box<str>>,
    declared: Vec<(Index, Places<String>)>,
}

impl Indexes {
    /// The places of a namespace.
    pub(super) fn namespace(&self, namespace: &str) -> Option<&BTreeSet<u32>> {
        self.by_namespace.get(namespace)
    }

    /// The places of the objects that name this uid among their owners.
    pub(super) fn owner(&self, uid: &str) -> Option<&BTreeSet<u32>> {
        self.by_owner.get(uid)
    }

    /// The places under a value of a declared index; the outer `None` when there is no such index.
    pub(super) fn declared(&self, index: &str, value: &str) -> Option<Option<&BTreeSet<u32>>> {
        let (_, values) = self.declared.iter().find(|(known, _)| known.name() == index)?;
        Some(values.get(value))
    }

    /// Adds an index of what is there already; a second one of that name changes nothing.
    pub(super) fn declare(&mut self, index: Index, objects: impl Iterator<Item = (u32, Arc<Cached>)>) {
        if self.declared.iter().any(|(known, _)| known.name() == index.name()) {
            return;
        }
        let mut values = Places::new();
        for (place, object) in objects {
            for value in (index.values)(&object) {
                add(&mut values, value, place);
            }
        }
        self.declared.push((index, values));
    }

    /// An object has taken a place.
    pub(super) fn enter(&mut self, place: u32, object: &Cached) {
        if let Some(namespace) = object.key().namespace() {
            add_str(&mut self.by_namespace, namespace, place);
        }
        self.change(place, None, Some(object));
    }

    /// An object has left its place; which one it was is unknown where it can't be read any more.
    pub(super) fn leave(&mut self, place: u32, key: &Key, object: Option<&Cached>) {
        if let Some(namespace) = key.namespace() {
            forget(&mut self.by_namespace, namespace, place);
        }
        self.change(place, object, None);
    }

    /// Moves a place from where the old state is found to where the new one is. Namespaces stay.
    pub(super) fn change<'a>(&mut self, place: u32, old: Option<&'a Cached>, new: Option<&'a Cached>) {
        let owners = |object: Option<&'a Cached>| object.map_or(&[][..], Cached::owner_bytes);
        if owners(old) != owners(new) {
            if let Some(old) = old {
                old.each_owner_uid(|uid| forget(&mut self.by_owner, uid, place));
            }
            if let Some(new) = new {
                new.each_owner_uid(|uid| add_str(&mut self.by_owner, uid, place));
            }
        }
        for (index, found) in &mut self.declared {
            let values = |object: Option<&Cached>| object.map_or(Vec::new(), |object| (index.values)(object));
            let (old, new) = (values(old), values(new));
            if old != new {
                old.iter().for_each(|value| forget(found, value.as_str(), place));
                new.into_iter().for_each(|value| add(found, value, place));
            }
        }
    }

    /// Whether there is nothing under any namespace, owner or declared value.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Indexes { by_namespace, by_owner, declared } = self;
        by_namespace.is_empty() && by_owner.is_empty() && declared.iter().all(|(_, values)| values.is_empty())
    }
}

fn add<V: Hash + Eq>(index: &mut Places<V>, value: V, place: u32) {
    index.entry(value).or_default().insert(place);
}

/// The same without an allocation where the value is known.
fn add_str(index: &mut Places<Box<str>>, value: &str, place: u32) {
    match index.get_mut(value) {
        Some(places) => {
            places.insert(place);
        }
        None => add(index, value.into(), place),
    }
}

fn forget<V, Q>(index: &mut Places<V>, value: &Q, place: u32)
where
    V: Borrow<Q> + Hash + Eq,
    Q: Hash + Eq + ?Sized,
{
    if let Some(places) = index.get_mut(value) {
        places.remove(&place);
        if places.is_empty() {
            index.remove(value);
        }
    }
}

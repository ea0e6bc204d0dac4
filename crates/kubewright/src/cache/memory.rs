//! How much memory the caches of a process may take, and what keeps them to it: a count of uncompressed bytes over
//! all stores, and a ring of the objects that are kept decoded. Nothing here reads or writes an object's bytes.

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::informer::Shared;
use super::object::Cached;

/// How much memory a cache may take, over all its kinds.
///
/// Objects are held in three forms: decoded (large, and free to read), as bytes (the default; a pod of 9 KB takes
/// about 6 KB without its managedFields), and compressed (a tenth of that; about 10 µs to read). What was
/// read least recently is compressed when there are too many bytes, and dropped from the decoded ones when there are
/// too many of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of JSON that may stay uncompressed; `None` compresses nothing.
    pub raw: Option<usize>,
    /// Bytes that decoded objects may take, estimated from their JSON; 0 keeps none.
    pub decoded: usize,
}

impl Default for Memory {
    /// Nothing is compressed; 64 MiB of decoded objects.
    fn default() -> Memory {
        Memory { raw: None, decoded: 64 << 20 }
    }
}

/// What the stores of a cache share.
pub(crate) struct Budget {
    limit: Option<usize>,
    raw: AtomicUsize,
    /// Those whose uncompressed bytes are counted.
    members: Mutex<Vec<Weak<Shared>>>,
    pub(crate) decoded: Arc<Decoded>,
}

impl Budget {
    pub(crate) fn new(memory: Memory) -> Budget {
        let decoded =
            Decoded { limit: memory.decoded, ring: Mutex::new(Ring { entries: VecDeque::new(), used: 0 }) };
        Budget {
            limit: memory.raw,
            raw: AtomicUsize::new(0),
            members: Mutex::default(),
            decoded: Arc::new(decoded),
        }
    }

    /// Another one holds objects from now on.
    pub(super) fn join(&self, member: &Arc<Shared>) {
        let mut members = self.members.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
    }

    /// Those who hold objects.
    pub(super) fn members(&self) -> Vec<Arc<Shared>> {
        self.members.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// A store holds another number of uncompressed bytes than before.
    pub(crate) fn changed(&self, before: usize, after: usize) {
        if after >= before {
            self.raw.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.raw.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// How many uncompressed bytes there are too many.
    pub(crate) fn excess(&self) -> usize {
        self.limit.map_or(0, |limit| self.raw.load(Ordering::Relaxed).saturating_sub(limit))
    }
}

/// Whether an object is kept decoded. The first reader gets a value of its own: most objects are looked at once, when
/// they change.
#[derive(Default)]
pub(crate) enum Memo {
    /// Nobody asked for a type yet.
    #[default]
    Unread,
    /// Somebody did, or it had to make room.
    ReadOnce,
    /// The object as a type.
    Kept {
        of: TypeId,
        value: Arc<dyn Any + Send + Sync>,
        /// Read again since the ring last came by.
        again: bool,
    },
}

impl Memo {
    /// The value, if it is kept as this type.
    pub(crate) fn read<K: Send + Sync + 'static>(&mut self) -> Option<Arc<K>> {
        let Memo::Kept { of, value, again } = self else { return None };
        if *of != TypeId::of::<K>() {
            return None;
        }
        *again = true;
        Arc::clone(value).downcast().ok()
    }

    /// The object was decoded to this; whether it is kept from now on.
    pub(crate) fn decoded<K: Send + Sync + 'static>(&mut self, value: &Arc<K>) -> bool {
        let keep = !matches!(self, Memo::Unread);
        *self = match keep {
            true => Memo::Kept { of: TypeId::of::<K>(), value: Arc::<K>::clone(value), again: false },
            false => Memo::ReadOnce,
        };
        keep
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Memo::Unread => "Unread",
            Memo::ReadOnce => "ReadOnce",
            Memo::Kept { .. } => "Kept",
        })
    }
}

/// A decoded object takes about so many times the bytes of its JSON (measured on pods).
const SPREAD: usize = 8;

/// The objects of a cache that are kept decoded, oldest first; those read again get a second turn.
#[derive(Debug)]
pub(crate) struct Decoded {
    limit: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    entries: VecDeque<(Weak<Cached>, usize)>,
    used: usize,
}

impl Decoded {
    /// Whether an object of that many bytes of JSON may be kept at all.
    pub(crate) fn takes(&self, json: usize) -> bool {
        json.saturating_mul(SPREAD) <= self.limit
    }

    /// An object was decoded and holds the result; others give theirs up for it.
    pub(crate) fn keep(&self, object: &Arc<Cached>) {
        let size = object.json().len().saturating_mul(SPREAD);
        let mut ring = self.ring.lock();
        ring.used += size;
        ring.entries.push_back((Arc::downgrade(object), size));
        // Each entry gets at most one more turn, so that this ends.
        let mut turns = ring.entries.len();
        while ring.used > self.limit {
            let Some((entry, size)) = ring.entries.pop_front() else { return };
            if let Some(object) = entry.upgrade() {
                let mut memo = object.memo.lock();
                if let Memo::Kept { again, .. } = &mut *memo
                    && turns > 0
                    && *again
                {
                    turns -= 1;
                    *again = false;
                    ring.entries.push_back((entry, size));
                    continue;
                }
                *memo = Memo::ReadOnce;
            }
            ring.used -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::Value;

    use super::*;
    use crate::cache::Store;
    use crate::kind::Kind;

    fn store(limit: usize, objects: usize) -> (Store, Vec<Arc<Cached>>) {
        let budget = Budget::new(Memory { raw: None, decoded: limit });
        let mut store = Store::with_decoded(Arc::clone(&budget.decoded));
        let objects = (0..objects).map(|number| {
            let text =
                format!(r#"{{"metadata":{{"name":"c{number}","resourceVersion":"1"}},"data":{{"a":"b"}}}}"#);
            store.put(Cached::read(text.as_bytes(), &Kind::of::<ConfigMap>()).unwrap()).0
        });
        let objects = objects.collect();
        (store, objects)
    }

    #[test]
    fn an_object_that_is_read_again_stays_decoded() {
        let (_store, objects) = store(1 << 20, 1);
        let read = || objects[0].typed::<ConfigMap>().unwrap();
        let (first, second, third) = (read(), read(), read());
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &third));
        // Another type takes the place.
        assert!(objects[0].typed::<Value>().is_ok());
        assert!(!Arc::ptr_eq(&third, &read()));
    }

    #[test]
    fn decoded_objects_make_room_for_others_but_for_those_read_meanwhile() {
        let (_store, objects) = store(0, 1);
        for _ in 0..3 {
            objects[0].typed::<ConfigMap>().unwrap();
        }
        assert!(!matches!(*objects[0].memo.lock(), Memo::Kept { .. }));
        let size = objects[0].json().len() * SPREAD;
        let (_store, objects) = store(size * 2, 3);
        let read = |number: usize| objects[number].typed::<ConfigMap>().unwrap();
        let kept = |number: usize| matches!(*objects[number].memo.lock(), Memo::Kept { .. });
        for number in [0, 0, 1, 1, 0, 2, 2] {
            read(number);
        }
        assert_eq!([kept(0), kept(1), kept(2)], [true, false, true]);
    }
}

//! How much memory the caches of a process may take, and what keeps them to it: a count of uncompressed bytes over
//! all stores, and a ring of the objects that are kept decoded. Nothing here reads or writes an object's bytes.

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

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
#[derive(Debug)]
pub(crate) struct Budget {
    limit: Option<usize>,
    raw: AtomicUsize,
    pub(crate) decoded: Arc<Decoded>,
}

impl Budget {
    pub(crate) fn new(memory: Memory) -> Budget {
        let decoded =
            Decoded { limit: memory.decoded, ring: Mutex::new(Ring { entries: VecDeque::new(), used: 0 }) };
        Budget { limit: memory.raw, raw: AtomicUsize::new(0), decoded: Arc::new(decoded) }
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

/// What an object was last decoded to.
pub(crate) struct Memo {
    of: TypeId,
    value: Arc<dyn Any + Send + Sync>,
    /// Read again since the ring last came by.
    again: bool,
}

impl Memo {
    pub(crate) fn new<K: Send + Sync + 'static>(value: Arc<K>) -> Memo {
        Memo { of: TypeId::of::<K>(), value, again: false }
    }

    /// The value, if it is of this type.
    pub(crate) fn read<K: Send + Sync + 'static>(&mut self) -> Option<Arc<K>> {
        if self.of != TypeId::of::<K>() {
            return None;
        }
        self.again = true;
        Arc::clone(&self.value).downcast().ok()
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
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
                if turns > 0 && memo.as_ref().is_some_and(|memo| memo.again) {
                    turns -= 1;
                    if let Some(memo) = memo.as_mut() {
                        memo.again = false;
                    }
                    ring.entries.push_back((entry, size));
                    continue;
                }
                *memo = None;
            }
            ring.used -= size;
        }
    }
}

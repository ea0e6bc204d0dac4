//! One change of one key, shared by the log and all watchers.
//!
//! An event carries the value and the one before, so that a watcher with a selector can tell entering, staying and
//! leaving apart without reading the store. It also carries one memo: what the first watcher computes from the event
//! (its encoding) the others take over.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// What happened to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A value was written.
    Put {
        /// Whether the key did not exist before.
        created: bool,
    },
    /// The key was deleted.
    Delete,
}

/// One change of one key.
pub struct Event {
    /// The revision of the change.
    pub revision: u64,
    /// The whole key.
    pub key: Arc<str>,
    /// What happened to it.
    pub kind: EventKind,
    /// The value written; of a deletion the last value.
    pub value: Bytes,
    /// The value before, where the key existed.
    pub previous: Option<Bytes>,
    /// The revision that had written [`Event::previous`].
    pub previous_revision: Option<u64>,
    memo: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Event {
    /// A value written over what `previous` says: the value and revision before, or `None` for a creation.
    pub fn put(revision: u64, key: Arc<str>, value: Bytes, previous: Option<(Bytes, u64)>) -> Self {
        let kind = EventKind::Put { created: previous.is_none() };
        let (previous, previous_revision) = previous.unzip();
        Self { revision, key, kind, value, previous, previous_revision, memo: OnceLock::new() }
    }

    /// The deletion of `last`, which was written at `last_revision`.
    pub fn delete(revision: u64, key: Arc<str>, last: Bytes, last_revision: u64) -> Self {
        Self {
            revision,
            key,
            kind: EventKind::Delete,
            value: last.clone(),
            previous: Some(last),
            previous_revision: Some(last_revision),
            memo: OnceLock::new(),
        }
    }

    /// What `make` computes, computed once for all holders of the event; concurrent callers wait for the first.
    ///
    /// There is one slot: the first type that asks owns it, and another type gets a fresh value on every call. A
    /// caller with several things to keep puts them in one struct. The memo lives as long as the event is in the log.
    pub fn memo<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut make = Some(make);
        let slot = self.memo.get_or_init(|| match make.take() {
            Some(make) => Arc::new(make()),
            None => unreachable!("the slot is initialised at most once"),
        });
        match (Arc::clone(slot).downcast::<T>(), make) {
            (Ok(kept), _) => kept,
            (Err(_), Some(make)) => Arc::new(make()),
            (Err(_), None) => unreachable!("a slot filled by this call holds this call's type"),
        }
    }

    /// How much memory the log accounts to this event, in bytes: both values, counted in full although they are
    /// shared with the store (the memo is about as large), and the bookkeeping around them.
    pub(crate) fn weight(&self) -> usize {
        const BOOKKEEPING: usize = 256;
        BOOKKEEPING + self.key.len() + self.value.len() + self.previous.as_ref().map_or(0, Bytes::len)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("revision", &self.revision)
            .field("key", &self.key)
            .field("kind", &self.kind)
            .field("value", &self.value)
            .field("previous_revision", &self.previous_revision)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_memo_is_computed_once_and_shared() {
        let event = Event::put(2, "k".into(), Bytes::from_static(b"v"), None);
        let computed = Cell::new(0);
        let make = || {
            computed.set(computed.get() + 1);
            String::from("encoded")
        };
        let first = event.memo(make);
        let second = event.memo(make);
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(computed.get(), 1);
    }

    #[test]
    fn a_second_type_does_not_disturb_the_memo() {
        let event = Event::delete(3, "k".into(), Bytes::from_static(b"v"), 2);
        assert_eq!(*event.memo(|| 1_u32), 1);
        assert_eq!(*event.memo(|| String::from("other")), "other");
        assert_eq!(*event.memo(|| 2_u32), 1);
    }
}

//! The contract of an engine: the [`Store`] trait, what it takes and what it gives back.
//!
//! Keys and values flow through; nothing here holds state. The semantics are those of etcd v3 as far as an API server
//! uses them: one revision counter, compare-and-swap by revision, ranges at a revision, compaction.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::Watch;

/// A boxed future, so that [`Store`] stays object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One key at one revision. Cheap to clone: two reference counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: Arc<str>,
    /// What was put, byte for byte.
    pub value: Bytes,
    /// The revision at which this life of the key began; a key that was deleted and put again starts anew.
    pub created: u64,
    /// The revision that wrote this value (of a deletion: the deletion's).
    pub revision: u64,
}

/// What a write expects to find, compared and swapped in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// No such key (never put, or deleted).
    Absent,
    /// The key exists and was last written at exactly this revision.
    Revision(u64),
}

/// Which keys to list: those starting with `prefix`, in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// A plain string prefix, with no meaning given to separators; empty for every key.
    pub prefix: String,
    /// Start strictly after this key: the last key of the page before.
    pub after: Option<String>,
    /// At most so many entries; 0 for all.
    pub limit: usize,
}

impl Range {
    /// Every key under `prefix`, in one page.
    pub fn all(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), after: None, limit: 0 }
    }

    /// The same range in pages of at most `limit` entries.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The same range from strictly after `key` on.
    #[must_use]
    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.after = Some(key.into());
        self
    }
}

/// A page of a [`Range`], all of it as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In byte order of the keys.
    pub entries: Vec<Entry>,
    /// The revision the page shows; pass it as `at` to get the following pages of the same state.
    pub revision: u64,
    /// Whether keys of the range follow the last entry.
    pub more: bool,
    /// How many keys of the range follow the last entry.
    pub remaining: u64,
}

/// A revisioned key-value store: etcd's semantics, one writer at a time, many readers and watchers.
///
/// `at: None` reads the newest state, linearizably: a read that starts after a write returned sees that write.
/// `at: Some(revision)` reads the state right after that revision: [`StoreError::Future`] when it has not happened
/// yet, [`StoreError::Compacted`] when it is no longer kept.
///
/// The first revision of an empty store is 1, so that no revision is ever 0; each successful put or delete takes the
/// next one, and a failed write takes none. Dropping a future before it is ready may or may not have written.
pub trait Store: Send + Sync + 'static {
    /// The newest revision, linearizable.
    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// One key; `None` where it does not exist at that revision.
    fn get<'a>(&'a self, key: &'a str, at: Option<u64>) -> BoxFuture<'a, Result<Option<Entry>, StoreError>>;

    /// The keys of a range with their values. Copies no value bytes.
    fn range(&self, range: Range, at: Option<u64>) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// How many keys start with `prefix`. Reads no values.
    fn count<'a>(&'a self, prefix: &'a str, at: Option<u64>) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Writes a key and returns the revision of the write. [`StoreError::Conflict`] where `expect` does not hold.
    ///
    /// The value is kept as it is: hand in `Bytes` of their own, not a slice that keeps a larger buffer alive.
    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Deletes a key and returns its last value with the revision of the deletion. [`StoreError::NotFound`] where
    /// there is none, whatever was expected; [`StoreError::Conflict`] where `expect` does not hold.
    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Entry, StoreError>>;

    /// Every change of keys starting with `prefix`, strictly after revision `after`, in order, each once.
    ///
    /// [`StoreError::Compacted`] when changes after `after` may no longer be kept. `after` may lie in the future: the
    /// watch then starts there. Dropping the [`Watch`] ends it.
    fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError>;

    /// Forgets the states before `revision`, which itself stays readable. [`StoreError::Compacted`] when it was
    /// compacted already, [`StoreError::Future`] when it has not happened yet.
    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Resolves when the store has reached `revision`; a caller that does not want to wait for ever adds a timeout.
    fn wait_for(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>>;
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        (**self).revision()
    }

    fn get<'a>(&'a self, key: &'a str, at: Option<u64>) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        (**self).get(key, at)
    }

    fn range(&self, range: Range, at: Option<u64>) -> BoxFuture<'_, Result<Page, StoreError>> {
        (**self).range(range, at)
    }

    fn count<'a>(&'a self, prefix: &'a str, at: Option<u64>) -> BoxFuture<'a, Result<u64, StoreError>> {
        (**self).count(prefix, at)
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        (**self).put(key, value, expect)
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Entry, StoreError>> {
        (**self).delete(key, expect)
    }

    fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        (**self).watch(prefix, after)
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).compact(revision)
    }

    fn wait_for(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        (**self).wait_for(revision)
    }
}

impl fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// Why a store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A compare-and-swap found something else than it expected.
    #[error("the key is not at the expected revision")]
    Conflict {
        /// What is there; `None` where the key does not exist.
        current: Option<Entry>,
    },
    /// A delete found no such key.
    #[error("the key does not exist")]
    NotFound,
    /// The revision asked for, or the changes after it, are no longer kept.
    #[error("the revision has been compacted; the oldest one kept is {revision}")]
    Compacted {
        /// The oldest revision that can still be read, and watched after.
        revision: u64,
    },
    /// The revision asked for has not happened yet.
    #[error("the revision is in the future; the newest one is {current}")]
    Future {
        /// The newest revision.
        current: u64,
    },
    /// The engine below failed: a disk, a connection. The write may or may not have happened.
    #[error("the storage engine failed to {operation}")]
    Engine {
        /// What it was doing, as a verb phrase ("append to the log").
        operation: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

//! A revisioned key-value store with etcd's semantics, and its in-memory engine.
//!
//! What flows through it: opaque bytes under string keys. Every write takes the next number of one revision counter;
//! reads may name a revision since the last compaction; watches deliver every change strictly after a revision, in
//! order, exactly once. What an API server calls `resourceVersion` is this revision, and values are stored without
//! it: whoever serves them splices [`Entry::revision`] in.
//!
//! What never happens here: a value is parsed, a reader blocks a writer for longer than a short critical section, or
//! a slow watcher blocks anybody (it gets [`StoreError::Compacted`] once it has fallen out of the log).
//!
//! - [`Store`] is what callers write against, object-safe: `Arc<dyn Store>`.
//! - [`MemoryStore`] is the engine that keeps everything in memory.
//! - [`conformance`] is the suite every engine runs.
//! - [`WatchLog`] is the shared log behind every [`Watch`]; other engines publish into one too.

mod compactor;
pub mod conformance;
mod event;
mod log;
mod memory;
mod store;
mod watch;

pub use compactor::Compactor;
pub use event::{Event, EventKind};
pub use log::{Wake, WatchLog};
pub use memory::{MemoryStore, Retention, Size};
pub use store::{BoxFuture, Entry, Expect, Page, Range, Store, StoreError};
pub use watch::Watch;

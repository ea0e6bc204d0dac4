//! The engine that keeps everything in memory.
//!
//! Reads and writes come in; a table of versions answers them under one lock, and each write goes into the shared
//! [`WatchLog`] before its lock is released, so that log and table never disagree. Long reads let go of the lock every
//! few hundred keys: the versions they look at stay, whatever is written meanwhile.
//!
//! What never happens: value bytes are copied, a writer waits for a whole list, or a deleted key leaves anything
//! behind once its deletion has been compacted.

mod heap;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{BoxFuture, Entry, Event, Expect, Page, Range, Store, StoreError, Watch, WatchLog};
use table::{Found, Table};

/// Keys read under one hold of the lock.
const CHUNK: usize = 512;

/// A compaction that freed more bytes than this asks the allocator to give memory back to the system.
const GIVE_BACK: usize = 1 << 20;

/// How much history the engine keeps by itself. What is older is compacted as writes go on, a little with each, so
/// that memory stays bounded without anybody calling [`Store::compact`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Keep at most so many revisions before the newest.
    pub revisions: usize,
    /// Keep at most so many bytes of history: values, the values they replaced, and the bookkeeping. Values that are
    /// still current count too, since what watchers memoise is about as large.
    pub bytes: usize,
}

impl Default for Retention {
    /// 100 000 revisions or 64 MiB, whichever is less.
    fn default() -> Self {
        Self { revisions: 100_000, bytes: 64 << 20 }
    }
}

/// The in-memory engine. Share it as `Arc<MemoryStore>`; dropping it ends its watches.
#[derive(Debug)]
pub struct MemoryStore {
    table: RwLock<Table>,
    log: WatchLog,
    /// Nothing before this revision can be read: set before versions are forgotten.
    compacted: AtomicU64,
    retention: Retention,
}

/// What the engine holds, in numbers of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Keys, with those that are deleted but not yet compacted.
    pub keys: usize,
    /// Versions of keys.
    pub versions: usize,
    /// Events in the log.
    pub events: usize,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Retention::default())
    }
}

impl MemoryStore {
    /// An empty store at revision 1.
    pub fn new(retention: Retention) -> Self {
        Self { table: RwLock::default(), log: WatchLog::new(1), compacted: AtomicU64::new(1), retention }
    }

    /// What the engine holds now. Costs a walk over all keys.
    pub fn size(&self) -> Size {
        let table = self.table.read();
        let (keys, versions) = table.size();
        Size { keys, versions, events: self.log.size().0 }
    }

    /// The oldest revision that can be read.
    pub fn compacted(&self) -> u64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// Checks that the state at `at` can be read. To be called under the lock that the read happens under.
    fn readable(&self, at: Option<u64>) -> Result<u64, StoreError> {
        let current = self.log.current();
        let Some(at) = at else { return Ok(current) };
        let compacted = self.compacted();
        if at > current {
            return Err(StoreError::Future { current });
        }
        if at < compacted {
            return Err(StoreError::Compacted { revision: compacted });
        }
        Ok(at)
    }

    /// Runs one write at the next revision and publishes its event.
    fn write<T>(
        &self,
        change: impl FnOnce(&mut Table, u64) -> Result<(T, Event), StoreError>,
    ) -> Result<T, StoreError> {
        let (done, wake) = {
            let mut table = self.table.write();
            let (done, event) = change(&mut table, self.log.current() + 1)?;
            let wake = self.log.publish(event);
            self.retain(&mut table);
            (done, wake)
        };
        wake.wake();
        Ok(done)
    }

    /// Compacts what exceeds the retention: at most a few events, since every write calls it.
    fn retain(&self, table: &mut Table) {
        const A_FEW: usize = 4;
        for _ in 0..A_FEW {
            let (events, bytes) = self.log.size();
            if events <= self.retention.revisions && bytes <= self.retention.bytes {
                break;
            }
            let oldest = self.log.compacted() + 1;
            self.compacted.fetch_max(oldest, Ordering::AcqRel);
            match self.log.pop(oldest) {
                Some(event) => table.forget(&event),
                None => break,
            }
        }
    }

    /// Visits the keys of a range at one revision, in chunks of at most `chunk` keys under one hold of the lock, and
    /// gives that revision.
    fn walk(
        &self,
        prefix: &str,
        after: Option<&str>,
        mut at: Option<u64>,
        chunk: usize,
        visit: &mut impl FnMut(&Found<'_>),
    ) -> Result<u64, StoreError> {
        let mut last: Option<Arc<str>> = None;
        loop {
            let table = self.table.read();
            let now = self.readable(at)?;
            at = Some(now);
            let mut visited = 0;
            let mut end = None;
            for found in table.scan(prefix, last.as_deref().or(after), now).take(chunk) {
                visit(&found);
                visited += 1;
                end = Some(found.key);
            }
            if visited < chunk {
                return Ok(now);
            }
            last = end.cloned();
        }
    }

    /// Takes a long read, again where the newest state was asked for and compacted under the reader: such a read
    /// never fails for its age.
    fn read<T>(
        &self,
        at: Option<u64>,
        mut attempt: impl FnMut(usize) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if at.is_none() {
            for _ in 0..2 {
                match attempt(CHUNK) {
                    Err(StoreError::Compacted { .. }) => {}
                    done => return done,
                }
            }
        }
        attempt(if at.is_none() { usize::MAX } else { CHUNK })
    }

    fn read_range(&self, range: &Range, at: Option<u64>) -> Result<Page, StoreError> {
        self.read(at, |chunk| {
            let mut entries = Vec::new();
            let mut remaining = 0;
            let revision = self.walk(&range.prefix, range.after.as_deref(), at, chunk, &mut |found| {
                if range.limit == 0 || entries.len() < range.limit {
                    entries.extend(found.entry());
                } else {
                    remaining += 1;
                }
            })?;
            Ok(Page { entries, revision, more: remaining > 0, remaining })
        })
    }

    fn read_count(&self, prefix: &str, at: Option<u64>) -> Result<u64, StoreError> {
        self.read(at, |chunk| {
            let mut count = 0;
            self.walk(prefix, None, at, chunk, &mut |_| count += 1)?;
            Ok(count)
        })
    }

    fn forget_through(&self, revision: u64) -> Result<(), StoreError> {
        {
            let _writers_wait = self.table.write();
            let current = self.log.current();
            let compacted = self.compacted();
            if revision > current {
                return Err(StoreError::Future { current });
            }
            if revision <= compacted {
                return Err(StoreError::Compacted { revision: compacted });
            }
            self.compacted.store(revision, Ordering::Release);
        }
        let mut freed = 0;
        let mut last = Vec::new();
        loop {
            let forgotten = self.forget_some(revision);
            if forgotten.is_empty() {
                break;
            }
            freed += forgotten.iter().map(|event| event.weight()).sum::<usize>();
            // The values of the turn before are freed here, outside the lock.
            last = forgotten;
        }
        if freed > GIVE_BACK {
            heap::give_back(last);
        }
        Ok(())
    }

    /// Forgets what the next few events up to `revision` replaced, and hands over these events.
    fn forget_some(&self, revision: u64) -> Vec<Arc<Event>> {
        let mut forgotten = Vec::with_capacity(CHUNK);
        let mut table = self.table.write();
        while forgotten.len() < CHUNK {
            let Some(event) = self.log.pop(revision) else { break };
            table.forget(&event);
            forgotten.push(event);
        }
        forgotten
    }
}

impl Store for MemoryStore {
    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async { Ok(self.log.current()) })
    }

    fn get<'a>(&'a self, key: &'a str, at: Option<u64>) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async move {
            let table = self.table.read();
            let at = self.readable(at)?;
            Ok(table.get(key, at))
        })
    }

    fn range(&self, range: Range, at: Option<u64>) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move { self.read_range(&range, at) })
    }

    fn count<'a>(&'a self, prefix: &'a str, at: Option<u64>) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move { self.read_count(prefix, at) })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            self.write(|table, revision| {
                let event = table.put(key, value, expect, revision)?;
                Ok((revision, event))
            })
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Entry, StoreError>> {
        Box::pin(async move { self.write(|table, revision| table.delete(key, expect, revision)) })
    }

    fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        let revision = self.compacted();
        if after < revision {
            return Err(StoreError::Compacted { revision });
        }
        self.log.watch(prefix, after)
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.forget_through(revision) })
    }

    fn wait_for(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.log.wait_for(revision).await;
            Ok(())
        })
    }
}

//! A source as a storage engine, so that everything that works on a store works on it: apply, patches, tables, pages,
//! selectors, watches.
//!
//! Reads and writes go to the source each time; nothing is cached. Where the source tells of changes, they flow through a
//! [`WatchLog`] that all watches share, and the newest form of each object is kept, for selectors to tell entering from
//! leaving. Older states cannot be read: a page of a list that was begun before a change is answered with 410.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kubewright_machinery::meta;
use kubewright_storage::{BoxFuture, Entry, Event, Expect, Page, Range, Store, StoreError, Watch, WatchLog};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use super::Key;
use super::source::{Feed, Rows, SourceError, Told, Writes};
use crate::resources::splice;

/// What a source's versions are less than the revisions they are served as: a source may begin to count at 1, and the
/// state before that has a revision too, which is never 0.
const OFFSET: u64 = 1;
/// Changes that are kept for watches to go on from.
const HISTORY: usize = 10_000;
/// How long to wait before a source is asked for its changes again.
const AGAIN: Duration = Duration::from_secs(1);

type Changes = BoxStream<'static, Result<Told, SourceError>>;

/// The engine of one kind.
pub(super) struct Engine {
    /// Of the keys: everything in the engine is under it.
    pub prefix: Box<str>,
    pub kind: Box<str>,
    pub api_version: Box<str>,
    pub namespaced: bool,
    pub rows: Box<dyn Rows>,
    pub writes: Option<Box<dyn Writes>>,
    pub feed: Option<Box<dyn Feed>>,
    /// The newest revision that was seen.
    pub newest: AtomicU64,
    pub log: RwLock<Arc<WatchLog>>,
    pub known: Mutex<HashMap<Arc<str>, (Bytes, u64)>>,
}

fn failed(operation: &'static str, error: SourceError) -> StoreError {
    let source = match error {
        SourceError::Missing => return StoreError::NotFound,
        SourceError::Failed(source) => source,
        other => Box::new(other),
    };
    StoreError::Engine { operation, source }
}

impl Engine {
    fn key(&self, store_key: &str) -> Key {
        let rest = store_key.strip_prefix(&*self.prefix).unwrap_or(store_key);
        match rest.split_once('/').filter(|_| self.namespaced) {
            Some((namespace, name)) => Key::new(namespace, name),
            None => Key::new("", rest),
        }
    }

    fn store_key(&self, key: &Key) -> Arc<str> {
        match self.namespaced {
            true => format!("{}{}/{}", self.prefix, key.namespace, key.name).into(),
            false => format!("{}{}", self.prefix, key.name).into(),
        }
    }

    fn seen(&self, revision: u64) -> u64 {
        self.newest.fetch_max(revision, Ordering::AcqRel).max(revision)
    }

    fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// An object at rest. One without a version is as new as anything.
    fn entry(&self, mut object: Value) -> Entry {
        let revision = match meta::resource_version(&object).parse() {
            Ok(version @ 1..) => u64::saturating_add(version, OFFSET),
            _ => self.newest(),
        };
        let key = self.store_key(&Key::new(meta::namespace(&object), meta::name(&object)));
        if let Some(fields) = object.as_object_mut() {
            fields.insert("kind".into(), (&*self.kind).into());
            fields.insert("apiVersion".into(), (&*self.api_version).into());
        }
        // When it was created nobody knows; nobody asks a source that.
        Entry { key, value: splice::at_rest(&object), created: revision, revision }
    }

    fn object(value: &Bytes) -> Result<Value, StoreError> {
        let source = |error: serde_json::Error| StoreError::Engine {
            operation: "read an object",
            source: error.into(),
        };
        let mut object: Value = serde_json::from_slice(value).map_err(source)?;
        if let Some(fields) = object.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        Ok(object)
    }

    fn at(&self, at: Option<u64>) -> Result<(), StoreError> {
        let current = self.newest();
        match at {
            Some(at) if at > current => Err(StoreError::Future { current }),
            Some(at) if at < current => Err(StoreError::Compacted { revision: current }),
            _ => Ok(()),
        }
    }

    async fn find(&self, store_key: &str) -> Result<Option<Entry>, StoreError> {
        let found = self.rows.get(&self.key(store_key)).await;
        let Some(object) = found.map_err(|error| failed("read an object", error))? else { return Ok(None) };
        let entry = self.entry(object);
        self.seen(entry.revision);
        Ok(Some(entry))
    }

    async fn all(&self, prefix: &str) -> Result<(Vec<Entry>, u64), StoreError> {
        let before = self.newest();
        let rest = prefix.strip_prefix(&*self.prefix).unwrap_or_default();
        let namespace = rest.strip_suffix('/').filter(|n| self.namespaced && !n.is_empty());
        let listed = self.rows.list(namespace).await.map_err(|error| failed("list objects", error))?;
        let mut entries: Vec<Entry> = listed.into_iter().map(|object| self.entry(object)).collect();
        entries.retain(|entry| entry.key.starts_with(prefix));
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let revision = entries.iter().map(|entry| entry.revision).max().unwrap_or(0).max(before);
        self.seen(revision);
        Ok((entries, revision))
    }

    /// Writes, and says what is there instead where that is refused.
    async fn write(&self, store_key: &str, value: &Bytes, expect: Expect) -> Result<u64, StoreError> {
        let Some(writes) = &self.writes else {
            return Err(failed("write", SourceError::failed("the source is read-only")));
        };
        let object = Self::object(value)?;
        let expected = match expect {
            Expect::Absent => None,
            Expect::Revision(revision) => Some(revision),
            Expect::Any => self.find(store_key).await?.map(|entry| entry.revision),
        };
        let outcome = match expected {
            None => writes.create(object).await,
            Some(revision) => writes.update(object, revision.saturating_sub(OFFSET)).await,
        };
        match outcome {
            Ok(version) => {
                let revision = version.saturating_add(OFFSET);
                self.seen(revision);
                Ok(revision)
            }
            Err(SourceError::Exists | SourceError::Conflict | SourceError::Missing) => {
                Err(StoreError::Conflict { current: self.find(store_key).await? })
            }
            Err(error) => Err(failed("write an object", error)),
        }
    }

    /// Begins to follow the source, where it tells of changes; watches can start when this is done.
    pub(super) async fn start(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(feed) = &self.feed else { return Ok(()) };
        let changes = self.begin(feed.changes()).await?;
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut changes = Some(changes);
            loop {
                if let Some(changes) = changes.take() {
                    Self::follow(&engine, changes).await;
                }
                let Some(engine) = engine.upgrade() else { return };
                tracing::warn!(kind = &*engine.kind, "the source ended its changes; asking again");
                tokio::time::sleep(AGAIN).await;
                let Some(feed) = &engine.feed else { return };
                match engine.begin(feed.changes()).await {
                    Ok(begun) => changes = Some(begun),
                    Err(error) => tracing::error!(%error, kind = &*engine.kind, "the source cannot be read"),
                }
            }
        });
        Ok(())
    }

    /// Takes in everything there is and a log that goes on from there; the watches of the log before end.
    async fn begin(&self, changes: Changes) -> Result<Changes, StoreError> {
        let (entries, revision) = self.all(&self.prefix).await?;
        let known = entries.into_iter().map(|entry| (entry.key, (entry.value, entry.revision)));
        *self.known.lock() = known.collect();
        *self.log.write() = Arc::new(WatchLog::new(revision));
        Ok(changes)
    }

    /// Publishes changes until they end, or one comes that is out of order.
    async fn follow(engine: &std::sync::Weak<Self>, mut changes: Changes) {
        while let Some(change) = changes.next().await {
            let Some(engine) = engine.upgrade() else { return };
            match change {
                Ok(change) => {
                    if !engine.publish(change) {
                        return;
                    }
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, kind = &*engine.kind, "a change cannot be read");
                    return;
                }
            }
        }
    }

    /// Whether the change is one that can follow the ones before.
    fn publish(&self, change: Told) -> bool {
        let log = Arc::clone(&self.log.read());
        let (event, revision) = match change {
            Told::Put(object) => {
                let entry = self.entry(object);
                let mut known = self.known.lock();
                if known.get(&entry.key).is_some_and(|(_, revision)| *revision >= entry.revision) {
                    // It was in the list that the log began with.
                    return true;
                }
                let previous = known.insert(Arc::clone(&entry.key), (entry.value.clone(), entry.revision));
                (Event::put(entry.revision, entry.key, entry.value, previous), entry.revision)
            }
            Told::Deleted { key, version } => {
                let key = self.store_key(&key);
                let Some((value, revision)) = self.known.lock().remove(&key) else { return true };
                let deleted = version.saturating_add(OFFSET);
                (Event::delete(deleted, key, value, revision), deleted)
            }
        };
        if revision <= log.current() {
            tracing::error!(kind = &*self.kind, revision, "the source tells of changes out of order");
            return false;
        }
        self.seen(revision);
        log.publish(event).wake();
        if log.size().0 > HISTORY {
            log.pop(revision);
        }
        true
    }
}

impl Store for Engine {
    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(std::future::ready(Ok(self.newest())))
    }

    fn get<'a>(&'a self, key: &'a str, at: Option<u64>) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async move {
            self.at(at)?;
            self.find(key).await
        })
    }

    fn range(&self, range: Range, at: Option<u64>) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            self.at(at)?;
            let (mut entries, revision) = self.all(&range.prefix).await?;
            if let Some(after) = &range.after {
                entries.retain(|entry| *entry.key > **after);
            }
            let remaining = match range.limit {
                0 => 0,
                limit => entries.len().saturating_sub(limit) as u64,
            };
            entries.truncate(entries.len() - remaining as usize);
            Ok(Page { entries, revision, more: remaining > 0, remaining })
        })
    }

    fn count<'a>(&'a self, prefix: &'a str, at: Option<u64>) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            self.at(at)?;
            Ok(self.all(prefix).await?.0.len() as u64)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move { self.write(key, &value, expect).await })
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Entry, StoreError>> {
        Box::pin(async move {
            let Some(writes) = &self.writes else {
                return Err(failed("delete", SourceError::failed("the source is read-only")));
            };
            let Some(mut entry) = self.find(key).await? else { return Err(StoreError::NotFound) };
            let expected = match expect {
                Expect::Revision(revision) => revision,
                Expect::Any => entry.revision,
                Expect::Absent => return Err(StoreError::Conflict { current: Some(entry) }),
            };
            match writes.delete(&self.key(key), expected.saturating_sub(OFFSET)).await {
                Ok(version) => {
                    let revision = version.saturating_add(OFFSET);
                    self.seen(revision);
                    entry.revision = revision;
                    Ok(entry)
                }
                Err(SourceError::Conflict) => Err(StoreError::Conflict { current: self.find(key).await? }),
                Err(error) => Err(failed("delete an object", error)),
            }
        })
    }

    fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        match self.feed {
            Some(_) => self.log.read().watch(prefix, after),
            None => Err(failed("watch", SourceError::failed("the source tells of no changes"))),
        }
    }

    fn compact(&self, _revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn wait_for(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let log = Arc::clone(&self.log.read());
            if self.newest() < revision {
                match self.feed {
                    Some(_) => log.wait_for(revision).await,
                    // It gets there when somebody reads or writes: nobody tells.
                    None => std::future::pending().await,
                }
            }
            Ok(())
        })
    }
}

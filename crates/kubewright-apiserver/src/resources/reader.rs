//! Reads of other objects by strategies, admission, authorizers and controllers inside the server.
//!
//! Objects come from the store and are decoded at most once per revision. [`Reader::list`] keeps what it listed up to
//! date from the watch log, so that the next call costs the changes since, not the objects. What it gives is as new
//! as the newest write that has returned.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kubewright_storage::{EventKind, Range, Store, StoreError, Watch};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Storage, splice};

/// Decoded objects in their stored version, with resourceVersion set.
pub struct Reader {
    store: Arc<dyn Store>,
    lists: Mutex<HashMap<Box<str>, Arc<tokio::sync::Mutex<Kept>>>>,
    gets: Mutex<HashMap<Box<str>, Decoded>>,
}

/// An object with the revision that it was decoded from.
type Decoded = (u64, Arc<Value>);

/// A list that is kept.
#[derive(Default)]
struct Kept {
    watch: Option<Watch>,
    snapshot: Snapshot,
}

/// All objects of a kind at one moment. Cloning is two reference counts.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows whenever an object changes: equal numbers mean an equal list, so that what was computed from it holds.
    pub serial: u64,
    /// By store key: cluster-scoped `NAME`, namespaced `NAMESPACE/NAME`.
    pub objects: Arc<BTreeMap<Box<str>, Arc<Value>>>,
}

/// How many single objects are remembered decoded.
const REMEMBERED: usize = 1024;

impl Reader {
    /// A reader of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, lists: Mutex::default(), gets: Mutex::default() }
    }

    /// One object; namespace empty for cluster-scoped ones. `None` also for an object that cannot be decoded.
    pub async fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, StoreError> {
        let mut key = Storage::prefix_of(group, plural);
        if !namespace.is_empty() {
            key.push_str(namespace);
            key.push('/');
        }
        key.push_str(name);
        let Some(entry) = self.store.get(&key, None).await? else {
            self.gets.lock().remove(key.as_str());
            return Ok(None);
        };
        if let Some((revision, object)) = self.gets.lock().get(key.as_str())
            && *revision == entry.revision
        {
            return Ok(Some(Arc::clone(object)));
        }
        let Ok(object) = splice::decode(&entry.value, entry.revision) else { return Ok(None) };
        let object = Arc::new(object);
        let mut gets = self.gets.lock();
        if gets.len() >= REMEMBERED {
            gets.clear();
        }
        gets.insert(key.into(), (entry.revision, Arc::clone(&object)));
        Ok(Some(object))
    }

    /// The objects of a kind, in one namespace or (empty) in all. Keeps them decoded from the first call on: meant for
    /// kinds with few objects that are read often, such as roles, quotas, policies.
    pub async fn list(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
    ) -> Result<Vec<Arc<Value>>, StoreError> {
        let snapshot = self.snapshot(group, plural).await?;
        if namespace.is_empty() {
            return Ok(snapshot.objects.values().cloned().collect());
        }
        let prefix = format!("{namespace}/");
        let from = snapshot.objects.range(Box::from(prefix.as_str())..);
        Ok(from
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| Arc::clone(object))
            .collect())
    }

    /// All objects of a kind, kept up to date; see [`Reader::list`].
    pub async fn snapshot(&self, group: &str, plural: &str) -> Result<Snapshot, StoreError> {
        let prefix = Storage::prefix_of(group, plural);
        let kept = Arc::clone(self.lists.lock().entry(prefix.as_str().into()).or_default());
        let mut kept = kept.lock().await;
        if !kept.catch_up(&prefix) {
            let page = self.store.range(Range::all(prefix.as_str()), None).await?;
            let objects = page.entries.iter().filter_map(|entry| {
                let object = splice::decode(&entry.value, entry.revision).ok()?;
                Some((entry.key.strip_prefix(prefix.as_str())?.into(), Arc::new(object)))
            });
            let objects = objects.collect();
            kept.watch = Some(self.store.watch(&prefix, page.revision)?);
            kept.snapshot = Snapshot { serial: kept.snapshot.serial + 1, objects: Arc::new(objects) };
        }
        Ok(kept.snapshot.clone())
    }
}

impl Kept {
    /// Takes in what happened since; false when the list has to be read anew.
    fn catch_up(&mut self, prefix: &str) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        while let Some(next) = watch.try_next() {
            let Ok(event) = next else {
                self.watch = None;
                return false;
            };
            let Some(key) = event.key.strip_prefix(prefix) else { continue };
            let objects = Arc::make_mut(&mut self.snapshot.objects);
            match event.kind {
                EventKind::Delete => {
                    objects.remove(key);
                }
                EventKind::Put { .. } => match splice::decode(&event.value, event.revision) {
                    Ok(object) => {
                        objects.insert(key.into(), Arc::new(object));
                    }
                    Err(_) => {
                        objects.remove(key);
                    }
                },
            }
            self.snapshot.serial += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use kubewright_storage::{Expect, MemoryStore};
    use serde_json::json;

    use super::*;

    async fn put(store: &MemoryStore, name: &str, data: &str) {
        let object = json!({"kind": "T", "apiVersion": "v1", "metadata": {"name": name}, "data": data});
        store
            .put(&format!("/registry/core/ts/a/{name}"), splice::at_rest(&object), Expect::Any)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_list_follows_the_store() {
        let store = Arc::new(MemoryStore::default());
        let reader = Reader::new(Arc::clone(&store) as Arc<dyn Store>);
        put(&store, "x", "1").await;
        let before = reader.snapshot("", "ts").await.unwrap();
        assert_eq!(reader.snapshot("", "ts").await.unwrap().serial, before.serial);
        put(&store, "x", "2").await;
        put(&store, "y", "3").await;
        let list = reader.list("", "ts", "a").await.unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0]["data"], "2");
        assert!(reader.list("", "ts", "b").await.unwrap().is_empty());
        store.delete("/registry/core/ts/a/x", Expect::Any).await.unwrap();
        assert_eq!(reader.list("", "ts", "").await.unwrap().len(), 1);
        assert_eq!(reader.get("", "ts", "a", "x").await.unwrap(), None);
        assert_eq!(reader.get("", "ts", "a", "y").await.unwrap().unwrap()["data"], "3");
    }
}

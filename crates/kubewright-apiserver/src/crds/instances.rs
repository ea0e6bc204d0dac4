//! Deleting all objects of a definition that is being deleted.

use kubewright_machinery::{meta, time};
use kubewright_storage::{Entry, Expect, Range, Store, StoreError};

use crate::resources::splice;

/// Deletes every object under a prefix; those with finalizers are marked, as by any deletion. Gives how many remain.
/// Costs a decoding of each object.
pub(super) async fn delete_all(
    store: &dyn Store,
    prefix: &str,
    now: jiff::Timestamp,
) -> Result<usize, StoreError> {
    let page = store.range(Range::all(prefix), None).await?;
    let mut remaining = 0;
    for entry in page.entries {
        if !delete_one(store, entry, now).await? {
            remaining += 1;
        }
    }
    Ok(remaining)
}

/// Whether the object is gone.
async fn delete_one(store: &dyn Store, mut entry: Entry, now: jiff::Timestamp) -> Result<bool, StoreError> {
    loop {
        let expect = Expect::Revision(entry.revision);
        let outcome = match splice::decode(&entry.value, entry.revision) {
            Ok(mut object) if meta::finalizers(&object).next().is_some() => {
                if meta::is_deleting(&object) {
                    return Ok(false);
                }
                let generation = meta::generation(&object);
                meta::set(&mut object, "generation", generation + 1);
                meta::set(&mut object, "deletionTimestamp", time::format(now));
                meta::set(&mut object, "deletionGracePeriodSeconds", 0);
                store.put(&entry.key, splice::at_rest(&object), expect).await.map(|_| false)
            }
            // What cannot be read cannot be asked for finalizers.
            _ => store.delete(&entry.key, expect).await.map(|_| true),
        };
        match outcome {
            Err(StoreError::NotFound | StoreError::Conflict { current: None }) => return Ok(true),
            Err(StoreError::Conflict { current: Some(newer) }) => entry = newer,
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use kubewright_storage::MemoryStore;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn objects_with_finalizers_are_marked_and_remain() {
        let store = MemoryStore::default();
        for (name, finalizers) in [("a", json!([])), ("b", json!(["x.io/y"]))] {
            let metadata = json!({"name": name, "generation": 1, "finalizers": finalizers});
            let object = json!({"kind": "W", "apiVersion": "x.io/v1", "metadata": metadata});
            let key = format!("/registry/x.io/ws/{name}");
            store.put(&key, splice::at_rest(&object), Expect::Absent).await.unwrap();
        }
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for _ in 0..2 {
            assert_eq!(delete_all(&store, "/registry/x.io/ws/", now).await.unwrap(), 1);
        }
        let left = store.get("/registry/x.io/ws/b", None).await.unwrap().unwrap();
        let left = splice::decode(&left.value, left.revision).unwrap();
        assert_eq!(meta::deletion_timestamp(&left), Some("2026-01-01T00:00:00Z"));
        assert_eq!(meta::generation(&left), 2);
    }
}

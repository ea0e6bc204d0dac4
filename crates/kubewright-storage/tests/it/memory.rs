//! What the memory engine promises beyond the contract: bounded history, and memory given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kubewright_storage::{Expect, MemoryStore, Range, Retention, Size, Store, StoreError};

fn value(size: usize) -> Bytes {
    Bytes::from(vec![b'x'; size])
}

async fn put(store: &MemoryStore, key: &str, size: usize) -> u64 {
    store.put(key, value(size), Expect::Any).await.unwrap()
}

#[tokio::test]
async fn ten_thousand_deleted_objects_leave_nothing_behind_once_compacted() {
    let store = MemoryStore::default();
    let mut watch = store.watch("/registry/", 1).unwrap();
    for index in 0..10_000 {
        put(&store, &format!("/registry/things/ns/{index}"), 100).await;
    }
    for index in 0..10_000 {
        store.delete(&format!("/registry/things/ns/{index}"), Expect::Any).await.unwrap();
    }
    while watch.try_next().is_some() {}
    assert_eq!(store.size(), Size { keys: 10_000, versions: 20_000, events: 20_000 });
    store.compact(store.revision().await.unwrap()).await.unwrap();
    assert_eq!(store.size(), Size { keys: 0, versions: 0, events: 0 });
}

#[tokio::test]
async fn compaction_frees_the_replaced_values_themselves() {
    struct Counted {
        _alive: Arc<()>,
        bytes: Vec<u8>,
    }
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    let store = MemoryStore::default();
    let alive = Arc::new(());
    for turn in 0..100 {
        let value = Bytes::from_owner(Counted { _alive: Arc::clone(&alive), bytes: vec![turn; 10] });
        store.put("/a", value, Expect::Any).await.unwrap();
    }
    assert_eq!(Arc::strong_count(&alive), 101);
    store.compact(store.revision().await.unwrap()).await.unwrap();
    assert_eq!(Arc::strong_count(&alive), 2);
    store.delete("/a", Expect::Any).await.unwrap();
    store.compact(store.revision().await.unwrap()).await.unwrap();
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test]
async fn history_is_bounded_in_revisions_without_anybody_compacting() {
    let store = MemoryStore::new(Retention { revisions: 100, bytes: usize::MAX });
    let first = put(&store, "/hot", 10).await;
    for _ in 0..1_000 {
        put(&store, "/hot", 10).await;
    }
    let size = store.size();
    assert_eq!((size.keys, size.events), (1, 100));
    assert!(size.versions <= 101);
    assert!(matches!(store.get("/hot", Some(first)).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.watch("/", first), Err(StoreError::Compacted { .. })));
    let oldest = store.compacted();
    assert!(store.get("/hot", Some(oldest)).await.unwrap().is_some());
    assert!(store.watch("/", oldest).is_ok());
}

#[tokio::test]
async fn history_is_bounded_in_bytes_too() {
    let store = MemoryStore::new(Retention { revisions: usize::MAX, bytes: 1 << 20 });
    for index in 0..1_000 {
        put(&store, &format!("/big/{}", index % 10), 10_000).await;
    }
    let size = store.size();
    assert_eq!(size.keys, 10);
    assert!(size.events < 110, "{size:?} holds more than a mebibyte");
    assert_eq!(store.count("/big/", None).await.unwrap(), 10);
}

#[tokio::test]
async fn deletions_are_forgotten_by_retention_as_well() {
    let store = MemoryStore::new(Retention { revisions: 50, bytes: usize::MAX });
    for index in 0..1_000 {
        let key = format!("/churn/{index}");
        put(&store, &key, 10).await;
        store.delete(&key, Expect::Any).await.unwrap();
    }
    assert!(store.size().keys <= 50, "{:?}", store.size());
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_a_writer_never_waits_for_it() {
    let store = MemoryStore::new(Retention { revisions: 10, bytes: usize::MAX });
    let mut slow = store.watch("/p/", 1).unwrap();
    let mut elsewhere = store.watch("/q/", 1).unwrap();
    put(&store, "/q/a", 1).await;
    elsewhere.next().await.unwrap().unwrap();
    for _ in 0..100 {
        put(&store, "/p/a", 1).await;
    }
    assert!(matches!(slow.next().await, Some(Err(StoreError::Compacted { .. }))));
    // Whoever has seen all of its own prefix is not behind, whatever happened elsewhere.
    let last = put(&store, "/q/a", 2).await;
    assert_eq!(elsewhere.next().await.unwrap().unwrap().revision, last);
}

#[tokio::test]
async fn a_read_of_the_newest_state_never_fails_for_its_age() {
    let store = Arc::new(MemoryStore::new(Retention { revisions: 1, bytes: 0 }));
    for index in 0..2_000 {
        put(&store, &format!("/p/{index:04}"), 1).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut index = 0;
                while !done.load(Ordering::Relaxed) {
                    put(&store, &format!("/p/{:04}", index % 2_000), 1).await;
                    index += 1;
                }
            });
        }
    });
    for _ in 0..30 {
        assert_eq!(store.range(Range::all("/p/"), None).await.unwrap().entries.len(), 2_000);
        assert_eq!(store.count("/p/", None).await.unwrap(), 2_000);
    }
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

#[tokio::test]
async fn watches_end_when_the_store_goes_after_what_they_have_still_to_give() {
    let store = MemoryStore::default();
    let mut behind = store.watch("/", 1).unwrap();
    let mut waiting = store.watch("/", 1).unwrap();
    let revision = put(&store, "/a", 1).await;
    waiting.next().await.unwrap().unwrap();
    let waiter = tokio::spawn(async move { waiting.next().await.is_none() });
    tokio::task::yield_now().await;
    drop(store);
    assert!(waiter.await.unwrap());
    assert_eq!(behind.next().await.unwrap().unwrap().revision, revision);
    assert!(behind.next().await.is_none());
}

/// Resident memory of this process, in pages.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn memory_goes_back_to_the_system_after_a_compaction() {
    const ALONE: &str = "KUBEWRIGHT_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // Resident memory is the process's: measure in one that runs no other test.
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::memory_goes_back_to_the_system_after_a_compaction"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(MemoryStore::default());
        let fill = |from: usize, to: usize| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for index in from..to {
                    put(&store, &format!("/registry/things/ns/{index:05}"), 4_000).await;
                }
            })
        };
        fill(0, 100).await.unwrap();
        let before = resident();
        fill(100, 10_100).await.unwrap();
        let full = resident();
        assert!(full > before * 2, "the test fills too little: {before} to {full} pages");
        for index in 100..10_100 {
            store.delete(&format!("/registry/things/ns/{index:05}"), Expect::Any).await.unwrap();
        }
        store.compact(store.revision().await.unwrap()).await.unwrap();
        let after = resident();
        assert!(after * 2 <= before * 3, "{before} pages before, {full} full, {after} after");
        assert_eq!(store.count("/", None).await.unwrap(), 100);
    });
}

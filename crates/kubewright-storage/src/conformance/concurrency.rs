//! What holds while many write, read and watch at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{EventKind, Range};

const WRITERS: usize = 8;
const WRITES: usize = 50;

async fn join<T: 'static>(tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.expect("a task ends"));
    }
    done
}

/// Writers that create, change and delete keys under `/p/`.
fn churn(store: &Shared) -> Vec<tokio::task::JoinHandle<()>> {
    (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for turn in 0..WRITES {
                    let key = format!("/p/{}", (writer + turn) % 10);
                    if turn % 5 == 4 {
                        // Another writer may have deleted it first.
                        match store.delete(&key, Expect::Any).await {
                            Ok(_) | Err(StoreError::NotFound) => {}
                            Err(other) => panic!("a delete failed: {other}"),
                        }
                    } else {
                        put(&store, &key, &format!("{writer}-{turn}")).await;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect()
}

pub(super) async fn concurrent_creations_have_one_winner(store: Shared) {
    let base = newest(&store).await;
    let tasks = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(
                async move { store.put("/a", bytes(&writer.to_string()), Expect::Absent).await.is_ok() },
            )
        })
        .collect();
    assert_eq!(join(tasks).await.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(newest(&store).await, base + 1);
}

pub(super) async fn concurrent_compare_and_swaps_lose_no_update(store: Shared) {
    put(&store, "/counter", "0").await;
    let tasks = (0..WRITERS)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..WRITES {
                    loop {
                        let (value, revision) =
                            get(&store, "/counter", None).await.expect("the counter exists");
                        tokio::task::yield_now().await;
                        let more = value.parse::<usize>().expect("a number") + 1;
                        match store
                            .put("/counter", bytes(&more.to_string()), Expect::Revision(revision))
                            .await
                        {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => {}
                            Err(other) => panic!("a put failed: {other}"),
                        }
                    }
                }
            })
        })
        .collect();
    join(tasks).await;
    assert_eq!(
        get(&store, "/counter", None).await.map(|found| found.0),
        Some((WRITERS * WRITES).to_string())
    );
}

pub(super) async fn every_watcher_sees_every_change_once_and_in_order(store: Shared) {
    let base = newest(&store).await;
    let watchers = (0..20)
        .map(|_| {
            let mut watch = watch(&store, "/p/", base);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                loop {
                    let event = next(&mut watch).await;
                    if &*event.key == "/p/end" {
                        return seen;
                    }
                    seen.push(event.revision);
                }
            })
        })
        .collect();
    join(churn(&store)).await;
    let end = put(&store, "/p/end", "").await;
    let all: Vec<u64> = (base + 1..end).collect();
    for seen in join(watchers).await {
        assert_eq!(seen, all);
    }
}

pub(super) async fn a_list_and_a_watch_from_it_miss_nothing_between_them(store: Shared) {
    let writers = churn(&store);
    let readers = (0..4)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let page = store.range(Range::all("/p/"), None).await.expect("a list");
                let mut state: BTreeMap<Arc<str>, Bytes> =
                    page.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
                let mut watch = watch(&store, "/p/", page.revision);
                loop {
                    let event = next(&mut watch).await;
                    match event.kind {
                        _ if &*event.key == "/p/end" => return state,
                        EventKind::Put { .. } => state.insert(Arc::clone(&event.key), event.value.clone()),
                        EventKind::Delete => state.remove(&event.key),
                    };
                }
            })
        })
        .collect();
    join(writers).await;
    let end = put(&store, "/p/end", "").await;
    let page = store.range(Range::all("/p/"), Some(end - 1)).await.expect("a list");
    let expected: BTreeMap<Arc<str>, Bytes> =
        page.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    for state in join(readers).await {
        assert_eq!(state, expected);
    }
}

pub(super) async fn a_list_during_writes_shows_one_revision(store: Shared) {
    // Every round writes the keys in order, so that at each revision their rounds never rise from key to key.
    const KEYS: usize = 1500;
    const LISTS: usize = 20;
    for key in 0..KEYS {
        put(&store, &format!("/p/{key:04}"), "000000000").await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        async move {
            for write in KEYS.. {
                if done.load(Ordering::Relaxed) {
                    return write - KEYS;
                }
                put(&store, &format!("/p/{:04}", write % KEYS), &format!("{:09}", write / KEYS)).await;
                tokio::task::yield_now().await;
            }
            0
        }
    });
    for list in 0..LISTS {
        // So many writes at least have happened, whoever runs first.
        store.wait_for(newest(&store).await + list as u64).await.expect("the writer goes on");
        let page = store.range(Range::all("/p/"), None).await.expect("a list");
        assert_eq!(page.entries.len(), KEYS);
        assert!(page.entries.iter().all(|entry| entry.revision <= page.revision));
        assert!(page.entries.is_sorted_by(|one, next| one.value >= next.value), "torn at {}", page.revision);
    }
    done.store(true, Ordering::Relaxed);
    assert!(writer.await.expect("the writer ends") > 0);
}

pub(super) async fn a_write_is_seen_by_reads_that_start_after_it(store: Shared) {
    let tasks = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let key = format!("/p/{writer}");
                for turn in 0..WRITES {
                    let revision = put(&store, &key, &turn.to_string()).await;
                    assert!(newest(&store).await >= revision);
                    assert_eq!(get(&store, &key, None).await, Some((turn.to_string(), revision)));
                    assert_eq!(get(&store, &key, Some(revision)).await, Some((turn.to_string(), revision)));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    join(tasks).await;
}

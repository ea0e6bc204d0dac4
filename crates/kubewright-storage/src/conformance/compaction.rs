//! What compaction promises: states and changes before it are gone, nothing current is touched.

use super::*;
use crate::Range;

pub(super) async fn states_before_a_compaction_are_gone_and_later_ones_stay(store: Shared) {
    let first = put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    let third = put(&store, "/a", "3").await;
    store.compact(second).await.expect("a compaction");
    assert_eq!(compacted(store.get("/a", Some(first)).await), second);
    assert_eq!(compacted(store.range(Range::all("/"), Some(first)).await), second);
    assert_eq!(compacted(store.count("/", Some(first)).await), second);
    assert_eq!(get(&store, "/a", Some(third)).await, Some(("3".into(), third)));
    assert_eq!(newest(&store).await, third);
}

pub(super) async fn a_compacted_revision_itself_stays_readable(store: Shared) {
    put(&store, "/a", "1").await;
    let a = put(&store, "/a", "2").await;
    let b = put(&store, "/b", "1").await;
    put(&store, "/a", "3").await;
    delete(&store, "/b").await;
    store.compact(b).await.expect("a compaction");
    assert_eq!(get(&store, "/a", Some(b)).await, Some(("2".into(), a)));
    assert_eq!(get(&store, "/b", Some(b)).await, Some(("1".into(), b)));
    assert_eq!(store.count("/", Some(b)).await.expect("a count"), 2);
}

pub(super) async fn a_compaction_keeps_every_current_value(store: Shared) {
    for index in 0..50 {
        put(&store, &format!("/p/{index:02}"), "old").await;
    }
    for index in 0..25 {
        put(&store, &format!("/p/{index:02}"), "new").await;
    }
    let newest = newest(&store).await;
    store.compact(newest).await.expect("a compaction");
    let page = store.range(Range::all("/p/"), None).await.expect("a range");
    assert_eq!(page.entries.len(), 50);
    for (index, entry) in page.entries.iter().enumerate() {
        assert_eq!(text(&entry.value), if index < 25 { "new" } else { "old" }, "{}", entry.key);
    }
}

pub(super) async fn a_compaction_drops_deleted_keys_for_good(store: Shared) {
    put(&store, "/a", "1").await;
    let gone = delete(&store, "/a").await.revision;
    let last = put(&store, "/b", "1").await;
    store.compact(last).await.expect("a compaction");
    assert_eq!(get(&store, "/a", None).await, None);
    assert_eq!(compacted(store.get("/a", Some(gone)).await), last);
    // It can come back, and its history starts there.
    let again = store.put("/a", bytes("2"), Expect::Absent).await.expect("the key is absent");
    assert_eq!(get(&store, "/a", Some(last)).await, None);
    assert_eq!(get(&store, "/a", None).await, Some(("2".into(), again)));
}

pub(super) async fn compacting_twice_is_refused(store: Shared) {
    let first = put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    store.compact(second).await.expect("a compaction");
    assert_eq!(compacted(store.compact(second).await), second);
    assert_eq!(compacted(store.compact(first).await), second);
}

pub(super) async fn compacting_the_future_is_refused(store: Shared) {
    let revision = put(&store, "/a", "1").await;
    assert_eq!(future(store.compact(revision + 1).await), revision);
    assert_eq!(get(&store, "/a", Some(revision)).await, Some(("1".into(), revision)));
}

pub(super) async fn a_watch_from_before_a_compaction_is_refused(store: Shared) {
    let first = put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    let third = put(&store, "/a", "3").await;
    store.compact(third).await.expect("a compaction");
    // An engine may say so at once or by the first thing the watch gives.
    let revision = match store.watch("/", first) {
        Err(StoreError::Compacted { revision }) => revision,
        Ok(mut watch) => compacted(watch.next().await.expect("an error, not the end")),
        Err(other) => panic!("expected a compacted revision, got {other:?}"),
    };
    assert_eq!(revision, third);
}

pub(super) async fn a_watch_from_the_compacted_revision_misses_nothing(store: Shared) {
    put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    let third = put(&store, "/a", "3").await;
    store.compact(second).await.expect("a compaction");
    let mut watch = watch(&store, "/", second);
    assert_eq!(next(&mut watch).await.revision, third);
}

pub(super) async fn a_watch_that_has_seen_everything_survives_a_compaction(store: Shared) {
    let mut watch = watch(&store, "/p/", newest(&store).await);
    put(&store, "/p/a", "1").await;
    next(&mut watch).await;
    for value in ["x", "y", "z"] {
        put(&store, "/q/a", value).await;
    }
    store.compact(newest(&store).await).await.expect("a compaction");
    let after = put(&store, "/p/a", "2").await;
    let event = next(&mut watch).await;
    assert_eq!((event.revision, event.previous.clone()), (after, Some(bytes("1"))));
}

pub(super) async fn a_watch_that_fell_behind_ends_with_compacted(store: Shared) {
    let mut behind = watch(&store, "/p/", newest(&store).await);
    put(&store, "/p/a", "1").await;
    let last = put(&store, "/p/a", "2").await;
    store.compact(last).await.expect("a compaction");
    assert_eq!(compacted(behind.next().await.expect("an error, not the end")), last);
    assert!(behind.next().await.is_none());
    assert!(behind.try_next().is_none());
}

pub(super) async fn later_pages_of_a_compacted_revision_are_refused(store: Shared) {
    for key in ["/p/a", "/p/b", "/p/c"] {
        put(&store, key, "1").await;
    }
    let first = store.range(Range::all("/p/").limit(1), None).await.expect("a page");
    let later = put(&store, "/p/d", "1").await;
    store.compact(later).await.expect("a compaction");
    let next = Range::all("/p/").limit(1).after("/p/a");
    assert_eq!(compacted(store.range(next.clone(), Some(first.revision)).await), later);
    // The newest state can be paged on from the same key: an inconsistent continue.
    let page = store.range(next, None).await.expect("a page");
    assert_eq!((keys(&page.entries), page.remaining), (vec!["/p/b"], 2));
}

//! What a watch promises: every change of its prefix strictly after a revision, in order, once.

use super::*;
use crate::EventKind;

/// `(key, value, revision)` of the next events.
async fn take(watch: &mut Watch, count: usize) -> Vec<(String, String, u64)> {
    let mut taken = Vec::new();
    for _ in 0..count {
        let event = next(watch).await;
        taken.push((event.key.to_string(), text(&event.value), event.revision));
    }
    taken
}

fn row(key: &str, value: &str, revision: u64) -> (String, String, u64) {
    (key.into(), value.into(), revision)
}

pub(super) async fn a_watch_gives_changes_strictly_after_its_revision(store: Shared) {
    put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    let third = put(&store, "/a", "3").await;
    let mut watch = watch(&store, "/", second);
    assert_eq!(take(&mut watch, 1).await, [row("/a", "3", third)]);
    let fourth = put(&store, "/a", "4").await;
    assert_eq!(take(&mut watch, 1).await, [row("/a", "4", fourth)]);
}

pub(super) async fn a_watch_gives_only_its_prefix(store: Shared) {
    let base = newest(&store).await;
    let mut watch = watch(&store, "/p/", base);
    let a = put(&store, "/p/a", "1").await;
    put(&store, "/q/a", "x").await;
    put(&store, "/p", "x").await;
    put(&store, "/pp/a", "x").await;
    let b = put(&store, "/p/b/c", "2").await;
    assert_eq!(take(&mut watch, 2).await, [row("/p/a", "1", a), row("/p/b/c", "2", b)]);
}

pub(super) async fn a_watch_of_one_prefix_is_not_disturbed_by_a_longer_or_shorter_one(store: Shared) {
    let base = newest(&store).await;
    let prefixes = ["", "/", "/p/", "/p/a", "/p/a/", "/p/a/x"];
    let mut watches: Vec<_> = prefixes.iter().map(|prefix| watch(&store, prefix, base)).collect();
    let written = ["/p/a/x", "/p/a/y", "/p/ab", "/p/b", "/q", "end", "/p/a/xx", "/p/a/z", "/p/end", "/end"];
    for key in written {
        put(&store, key, "v").await;
    }
    for (prefix, watch) in prefixes.iter().zip(&mut watches) {
        let expected: Vec<_> = written.iter().filter(|key| key.starts_with(prefix)).collect();
        let seen: Vec<_> = take(watch, expected.len()).await.into_iter().map(|row| row.0).collect();
        assert_eq!(seen.iter().collect::<Vec<_>>(), expected, "prefix {prefix:?}");
    }
}

pub(super) async fn a_watch_from_the_past_catches_up_and_goes_on(store: Shared) {
    let base = newest(&store).await;
    let mut expected = Vec::new();
    for index in 0..200 {
        let value = index.to_string();
        expected.push(row("/p/a", &value, put(&store, "/p/a", &value).await));
        put(&store, "/q/a", &value).await;
    }
    let mut watch = watch(&store, "/p/", base);
    expected.push(row("/p/b", "new", put(&store, "/p/b", "new").await));
    assert_eq!(take(&mut watch, 201).await, expected);
}

pub(super) async fn a_later_watch_may_start_earlier(store: Shared) {
    let base = newest(&store).await;
    let a = put(&store, "/p/a", "1").await;
    let b = put(&store, "/p/b", "2").await;
    let mut late = watch(&store, "/p/", b);
    let mut middle = watch(&store, "/p/", a);
    let mut early = watch(&store, "/p/", base);
    let c = put(&store, "/p/c", "3").await;
    let all = [row("/p/a", "1", a), row("/p/b", "2", b), row("/p/c", "3", c)];
    assert_eq!(take(&mut early, 3).await, all);
    assert_eq!(take(&mut middle, 2).await, all[1..]);
    assert_eq!(take(&mut late, 1).await, all[2..]);
}

pub(super) async fn a_watch_may_start_in_the_future(store: Shared) {
    let base = newest(&store).await;
    let mut watch = watch(&store, "/", base + 2);
    put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    let third = put(&store, "/a", "3").await;
    assert_eq!(take(&mut watch, 1).await, [row("/a", "3", third)]);
}

pub(super) async fn events_carry_the_value_before(store: Shared) {
    let mut watch = watch(&store, "/", newest(&store).await);
    let created = put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    delete(&store, "/a").await;
    put(&store, "/a", "3").await;
    let first = next(&mut watch).await;
    assert_eq!(first.kind, EventKind::Put { created: true });
    assert_eq!((first.previous.as_ref(), first.previous_revision), (None, None));
    let second = next(&mut watch).await;
    assert_eq!(second.kind, EventKind::Put { created: false });
    assert_eq!((second.previous.clone(), second.previous_revision), (Some(bytes("1")), Some(created)));
    assert_eq!(next(&mut watch).await.kind, EventKind::Delete);
    let again = next(&mut watch).await;
    assert_eq!(again.kind, EventKind::Put { created: true });
    assert_eq!((again.previous.as_ref(), again.previous_revision), (None, None));
}

pub(super) async fn a_deletion_carries_the_last_value_and_its_own_revision(store: Shared) {
    let put_at = put(&store, "/a", "last").await;
    let mut watch = watch(&store, "/", put_at);
    let gone = delete(&store, "/a").await;
    let event = next(&mut watch).await;
    assert_eq!((event.kind, event.revision, &*event.key), (EventKind::Delete, gone.revision, "/a"));
    assert_eq!((text(&event.value), event.previous.clone()), ("last".into(), Some(bytes("last"))));
    assert_eq!(event.previous_revision, Some(put_at));
}

pub(super) async fn refused_writes_are_not_events(store: Shared) {
    let revision = put(&store, "/a", "1").await;
    let mut watch = watch(&store, "/", revision);
    conflict(store.put("/a", bytes("x"), Expect::Absent).await);
    conflict(store.delete("/a", Expect::Revision(revision + 7)).await);
    store.delete("/b", Expect::Any).await.expect_err("there is no such key");
    let real = put(&store, "/a", "2").await;
    assert_eq!(take(&mut watch, 1).await, [row("/a", "2", real)]);
}

pub(super) async fn watchers_share_one_event(store: Shared) {
    let base = newest(&store).await;
    let mut same = [watch(&store, "/p/", base), watch(&store, "/p/", base), watch(&store, "/", base)];
    put(&store, "/p/a", "1").await;
    let mut memos = Vec::new();
    for watch in &mut same {
        memos.push(next(watch).await.memo(|| String::from("encoded")));
    }
    assert!(Arc::ptr_eq(&memos[0], &memos[1]) && Arc::ptr_eq(&memos[0], &memos[2]));
}

pub(super) async fn an_idle_watch_is_complete_up_to_the_newest_revision(store: Shared) {
    let base = newest(&store).await;
    let mut watch = watch(&store, "/p/", base);
    assert_eq!(watch.revision(), base);
    let other = put(&store, "/q/a", "x").await;
    assert_eq!(watch.revision(), other);
    let own = put(&store, "/p/a", "1").await;
    next(&mut watch).await;
    assert_eq!(watch.revision(), own);
    let other = put(&store, "/q/a", "y").await;
    assert_eq!(watch.revision(), other);
    assert!(watch.try_next().is_none());
}

pub(super) async fn a_watch_with_something_pending_is_complete_only_before_it(store: Shared) {
    let mut watch = watch(&store, "/p/", newest(&store).await);
    put(&store, "/q/a", "x").await;
    let first = put(&store, "/p/a", "1").await;
    put(&store, "/q/a", "y").await;
    let second = put(&store, "/p/a", "2").await;
    assert_eq!(watch.revision(), first - 1);
    next(&mut watch).await;
    assert_eq!(watch.revision(), second - 1);
    next(&mut watch).await;
    assert_eq!(watch.revision(), second);
}

pub(super) async fn a_waiting_watch_wakes_up(store: Shared) {
    let base = newest(&store).await;
    let waiting: Vec<_> = ["/p/", "/p/", "/", ""]
        .iter()
        .map(|prefix| {
            let mut watch = watch(&store, prefix, base);
            tokio::spawn(async move { next(&mut watch).await.revision })
        })
        .collect();
    tokio::task::yield_now().await;
    let revision = put(&store, "/p/a", "1").await;
    for waiter in waiting {
        assert_eq!(waiter.await.expect("the watcher ends"), revision);
    }
}

pub(super) async fn a_dropped_wait_loses_nothing(store: Shared) {
    let mut watch = watch(&store, "/", newest(&store).await);
    for value in ["1", "2", "3"] {
        // Polled once, then dropped, as a select! does.
        let mut waiting = Box::pin(watch.next());
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(polled, "nothing was written yet");
        drop(waiting);
        put(&store, "/a", value).await;
        assert_eq!(text(&next(&mut watch).await.value), value);
    }
}

pub(super) async fn a_watch_ends_where_another_goes_on(store: Shared) {
    let base = newest(&store).await;
    let mut kept = watch(&store, "/p/", base);
    let dropped = watch(&store, "/p/", base);
    let a = put(&store, "/p/a", "1").await;
    drop(dropped);
    let b = put(&store, "/p/b", "2").await;
    assert_eq!(take(&mut kept, 2).await, [row("/p/a", "1", a), row("/p/b", "2", b)]);
    drop(kept);
    let mut fresh = watch(&store, "/p/", base);
    assert_eq!(take(&mut fresh, 2).await, [row("/p/a", "1", a), row("/p/b", "2", b)]);
}

//! What a read promises: the newest state, or the state of one revision, in order, in pages.

use super::*;
use crate::Range;

async fn range(store: &Shared, range: Range, at: Option<u64>) -> crate::Page {
    store.range(range, at).await.expect("a range")
}

pub(super) async fn an_empty_store_has_a_revision_above_zero(store: Shared) {
    let revision = newest(&store).await;
    assert!(revision > 0);
    let page = range(&store, Range::all("/"), None).await;
    assert_eq!((page.entries.len(), page.revision, page.more, page.remaining), (0, revision, false, 0));
}

pub(super) async fn a_get_sees_the_newest_write(store: Shared) {
    assert_eq!(get(&store, "/a", None).await, None);
    let first = put(&store, "/a", "1").await;
    assert_eq!(get(&store, "/a", None).await, Some(("1".into(), first)));
    let second = put(&store, "/a", "2").await;
    assert_eq!(get(&store, "/a", None).await, Some(("2".into(), second)));
}

pub(super) async fn a_get_at_a_revision_sees_the_state_of_then(store: Shared) {
    let base = newest(&store).await;
    let first = put(&store, "/a", "1").await;
    let other = put(&store, "/b", "x").await;
    let second = put(&store, "/a", "2").await;
    let gone = delete(&store, "/a").await.revision;
    let third = put(&store, "/a", "3").await;
    let expected = [
        (base, None),
        (first, Some(("1", first))),
        (other, Some(("1", first))),
        (second, Some(("2", second))),
        (gone, None),
        (third, Some(("3", third))),
    ];
    for (at, state) in expected {
        let state = state.map(|(value, revision)| (String::from(value), revision));
        assert_eq!(get(&store, "/a", Some(at)).await, state, "at {at}");
    }
}

pub(super) async fn a_read_of_the_future_is_refused(store: Shared) {
    let revision = put(&store, "/a", "1").await;
    assert_eq!(future(store.get("/a", Some(revision + 1)).await), revision);
    assert_eq!(future(store.range(Range::all("/"), Some(revision + 1)).await), revision);
    assert_eq!(future(store.count("/", Some(revision + 1)).await), revision);
}

pub(super) async fn a_range_is_in_byte_order_and_under_the_prefix_only(store: Shared) {
    for key in
        ["/pods/b/2", "/pods/a/1", "/podsets/a", "/pods/b-c/1", "/pods/b/10", "/pod", "/pods/", "/pods0"]
    {
        put(&store, key, key).await;
    }
    let page = range(&store, Range::all("/pods/"), None).await;
    assert_eq!(keys(&page.entries), ["/pods/", "/pods/a/1", "/pods/b-c/1", "/pods/b/10", "/pods/b/2"]);
    assert!(page.entries.iter().all(|entry| text(&entry.value) == *entry.key));
    assert_eq!(range(&store, Range::all(""), None).await.entries.len(), 8);
    assert_eq!(keys(&range(&store, Range::all("/pods/b"), None).await.entries).len(), 3);
}

pub(super) async fn a_range_at_a_revision_sees_the_state_of_then(store: Shared) {
    put(&store, "/p/a", "1").await;
    let then = put(&store, "/p/b", "1").await;
    put(&store, "/p/a", "2").await;
    delete(&store, "/p/b").await;
    put(&store, "/p/c", "1").await;
    let page = range(&store, Range::all("/p/"), Some(then)).await;
    let state: Vec<_> = page.entries.iter().map(|entry| (&*entry.key, text(&entry.value))).collect();
    assert_eq!(state, [("/p/a", "1".into()), ("/p/b", "1".into())]);
    assert_eq!(page.revision, then);
    assert_eq!(keys(&range(&store, Range::all("/p/"), None).await.entries), ["/p/a", "/p/c"]);
}

pub(super) async fn pages_of_one_revision_do_not_see_later_writes(store: Shared) {
    for key in ["/p/a", "/p/b", "/p/c", "/p/d", "/p/e"] {
        put(&store, key, "1").await;
    }
    let first = range(&store, Range::all("/p/").limit(2), None).await;
    assert_eq!(keys(&first.entries), ["/p/a", "/p/b"]);
    put(&store, "/p/aa", "new").await;
    put(&store, "/p/cc", "new").await;
    put(&store, "/p/d", "changed").await;
    delete(&store, "/p/c").await;
    let second = range(&store, Range::all("/p/").limit(2).after("/p/b"), Some(first.revision)).await;
    assert_eq!(keys(&second.entries), ["/p/c", "/p/d"]);
    assert!(second.entries.iter().all(|entry| text(&entry.value) == "1"));
    let last = range(&store, Range::all("/p/").limit(2).after("/p/d"), Some(first.revision)).await;
    assert_eq!(keys(&last.entries), ["/p/e"]);
    assert_eq!((second.revision, last.revision), (first.revision, first.revision));
    assert!(first.more && second.more && !last.more);
}

pub(super) async fn a_page_says_how_many_keys_follow(store: Shared) {
    for index in 0..7 {
        put(&store, &format!("/p/{index}"), "x").await;
    }
    put(&store, "/q/0", "x").await;
    delete(&store, "/p/6").await;
    for (limit, after, entries, remaining) in [
        (0, None, 6, 0),
        (4, None, 4, 2),
        (6, None, 6, 0),
        (7, None, 6, 0),
        (2, Some("/p/1"), 2, 2),
        (1, Some("/p/5"), 0, 0),
    ] {
        let wanted = Range { prefix: "/p/".into(), after: after.map(String::from), limit };
        let page = range(&store, wanted, None).await;
        assert_eq!(
            (page.entries.len(), page.remaining),
            (entries, remaining),
            "limit {limit} after {after:?}"
        );
        assert_eq!(page.more, remaining > 0);
    }
}

pub(super) async fn a_page_starts_after_a_key_that_no_longer_exists(store: Shared) {
    for key in ["/p/a", "/p/b", "/p/c"] {
        put(&store, key, "1").await;
    }
    delete(&store, "/p/b").await;
    let page = range(&store, Range::all("/p/").after("/p/b"), None).await;
    assert_eq!(keys(&page.entries), ["/p/c"]);
    let page = range(&store, Range::all("/p/").after("/p/aa"), None).await;
    assert_eq!(keys(&page.entries), ["/p/c"]);
}

pub(super) async fn a_start_before_the_prefix_does_not_widen_the_range(store: Shared) {
    for key in ["/a", "/p/a", "/q"] {
        put(&store, key, "1").await;
    }
    assert_eq!(keys(&range(&store, Range::all("/p/").after("/"), None).await.entries), ["/p/a"]);
    assert_eq!(range(&store, Range::all("/p/").after("/q"), None).await.entries, []);
}

pub(super) async fn a_count_is_of_the_keys_that_exist(store: Shared) {
    put(&store, "/p/a", "1").await;
    let then = put(&store, "/p/b", "1").await;
    put(&store, "/p/b", "2").await;
    put(&store, "/q/a", "1").await;
    delete(&store, "/p/a").await;
    let counts =
        [("/p/", None, 1), ("/p/", Some(then), 2), ("/q/", Some(then), 0), ("", None, 2), ("/r", None, 0)];
    for (prefix, at, expected) in counts {
        assert_eq!(store.count(prefix, at).await.expect("a count"), expected, "{prefix} at {at:?}");
    }
}

pub(super) async fn waiting_ends_when_the_revision_is_reached(store: Shared) {
    let base = newest(&store).await;
    store.wait_for(base).await.expect("it is there already");
    let waiter = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            store.wait_for(base + 2).await.expect("it is reached");
            newest(&store).await
        }
    });
    put(&store, "/a", "1").await;
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    put(&store, "/a", "2").await;
    assert_eq!(waiter.await.expect("the waiter ends"), base + 2);
}

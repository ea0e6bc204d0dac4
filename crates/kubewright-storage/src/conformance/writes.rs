//! What a write promises: compare-and-swap by revision, one revision each, nothing done when refused.

use super::*;

pub(super) async fn a_put_takes_the_next_revision(store: Shared) {
    let base = newest(&store).await;
    assert_eq!(put(&store, "/a", "1").await, base + 1);
    assert_eq!(put(&store, "/b", "2").await, base + 2);
    assert_eq!(put(&store, "/a", "3").await, base + 3);
    assert_eq!(newest(&store).await, base + 3);
}

pub(super) async fn a_put_keeps_the_revision_of_creation(store: Shared) {
    let created = put(&store, "/a", "1").await;
    let updated = put(&store, "/a", "2").await;
    let entry = store.get("/a", None).await.expect("a get").expect("the key exists");
    assert_eq!((entry.created, entry.revision), (created, updated));
}

pub(super) async fn a_refused_write_changes_nothing_and_takes_no_revision(store: Shared) {
    let revision = put(&store, "/a", "kept").await;
    conflict(store.put("/a", bytes("x"), Expect::Absent).await);
    conflict(store.put("/a", bytes("x"), Expect::Revision(revision + 1)).await);
    conflict(store.put("/b", bytes("x"), Expect::Revision(revision)).await);
    conflict(store.delete("/a", Expect::Revision(revision + 1)).await);
    assert!(matches!(store.delete("/b", Expect::Any).await, Err(StoreError::NotFound)));
    assert_eq!(newest(&store).await, revision);
    assert_eq!(get(&store, "/a", None).await, Some(("kept".into(), revision)));
    assert_eq!(get(&store, "/b", None).await, None);
}

pub(super) async fn a_put_of_an_absent_key_refuses_an_existing_one(store: Shared) {
    let revision = store.put("/a", bytes("1"), Expect::Absent).await.expect("the key is absent");
    let current = conflict(store.put("/a", bytes("2"), Expect::Absent).await).expect("what is there");
    assert_eq!((&*current.key, text(&current.value), current.revision), ("/a", "1".into(), revision));
}

pub(super) async fn a_put_at_a_revision_needs_exactly_that_revision(store: Shared) {
    let first = put(&store, "/a", "1").await;
    let second = store.put("/a", bytes("2"), Expect::Revision(first)).await.expect("nobody wrote between");
    let current =
        conflict(store.put("/a", bytes("3"), Expect::Revision(first)).await).expect("what is there");
    assert_eq!((text(&current.value), current.revision), ("2".into(), second));
    // A write of another key moves the store's revision, not this key's.
    put(&store, "/b", "x").await;
    store.put("/a", bytes("3"), Expect::Revision(second)).await.expect("nobody wrote this key between");
}

pub(super) async fn a_put_at_a_revision_refuses_a_missing_key(store: Shared) {
    assert_eq!(conflict(store.put("/a", bytes("1"), Expect::Revision(1)).await), None);
    let revision = put(&store, "/a", "1").await;
    delete(&store, "/a").await;
    assert_eq!(conflict(store.put("/a", bytes("2"), Expect::Revision(revision)).await), None);
}

pub(super) async fn a_delete_gives_the_last_value_at_its_own_revision(store: Shared) {
    let created = put(&store, "/a", "1").await;
    let updated = put(&store, "/a", "2").await;
    let gone = delete(&store, "/a").await;
    assert_eq!((&*gone.key, text(&gone.value)), ("/a", "2".into()));
    assert_eq!((gone.created, gone.revision), (created, updated + 1));
    assert_eq!(newest(&store).await, gone.revision);
    assert_eq!(get(&store, "/a", None).await, None);
}

pub(super) async fn a_delete_of_a_missing_key_is_not_found(store: Shared) {
    for expect in [Expect::Any, Expect::Revision(1)] {
        assert!(matches!(store.delete("/a", expect).await, Err(StoreError::NotFound)));
    }
    put(&store, "/a", "1").await;
    delete(&store, "/a").await;
    assert!(matches!(store.delete("/a", Expect::Any).await, Err(StoreError::NotFound)));
}

pub(super) async fn a_delete_at_a_revision_needs_exactly_that_revision(store: Shared) {
    let first = put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    let current = conflict(store.delete("/a", Expect::Revision(first)).await).expect("what is there");
    assert_eq!(current.revision, second);
    store.delete("/a", Expect::Revision(second)).await.expect("the expectation holds");
}

pub(super) async fn a_key_created_again_begins_a_new_life(store: Shared) {
    let first = put(&store, "/a", "1").await;
    delete(&store, "/a").await;
    let again = store.put("/a", bytes("2"), Expect::Absent).await.expect("a deleted key is absent");
    let entry = store.get("/a", None).await.expect("a get").expect("the key exists");
    assert_eq!((entry.created, entry.revision), (again, again));
    assert!(again > first);
}

pub(super) async fn keys_that_start_alike_are_different_keys(store: Shared) {
    put(&store, "/a", "1").await;
    put(&store, "/a/b", "2").await;
    put(&store, "/ab", "3").await;
    delete(&store, "/a").await;
    assert_eq!(get(&store, "/a", None).await, None);
    assert_eq!(get(&store, "/a/b", None).await.map(|found| found.0), Some("2".into()));
    assert_eq!(get(&store, "/ab", None).await.map(|found| found.0), Some("3".into()));
}

pub(super) async fn values_come_back_byte_for_byte(store: Shared) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = vec![7_u8; 2 << 20];
    for (key, value) in [("/empty", vec![]), ("/every", every_byte), ("/large", large)] {
        store.put(key, Bytes::from(value.clone()), Expect::Absent).await.expect("a put");
        let entry = store.get(key, None).await.expect("a get").expect("the key exists");
        assert!(entry.value == value, "{key} differs");
    }
}

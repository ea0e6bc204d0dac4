use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::cache::Memory;
use crate::client::Missing;

/// An informer of everything, and what its watch feeds.
struct Fed(Shared, Arc<Part>);

impl std::ops::Deref for Fed {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Fed {
    fn begin_replace(&self) {
        self.0.begin_replace(&self.1);
    }

    fn apply(&self, batch: Vec<(Effect, Option<Cached>)>) {
        self.0.apply(&self.1, batch);
    }
}

fn shared() -> Fed {
    selecting(Select::all())
}

fn selecting(select: Select) -> Fed {
    let budget = Arc::new(Budget::new(Memory::default()));
    let shared = Shared::new(Kind::of::<Pod>(), Scope::All, Arc::new(select), None, budget);
    let part = shared.join(None);
    Fed(shared, part)
}

fn pod(name: &str, uid: &str, version: u64) -> Option<Cached> {
    let text = format!(r#"{{"metadata":{{"name":"{name}","uid":"{uid}","resourceVersion":"{version}"}}}}"#);
    Some(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
}

fn wrote(name: &str, what: Expected) -> Wrote {
    Wrote { key: name.into(), what, object: None }
}

#[test]
fn a_read_waits_for_the_version_that_was_written() {
    let shared = shared();
    shared.begin_replace();
    shared.apply(vec![(Effect::Synced(10), None)]);
    shared.wrote(wrote("a", Expected::Version(12)));
    assert!(shared.is_behind(None, u64::MAX) && shared.is_behind(Some(&"a".into()), u64::MAX));
    assert!(!shared.is_behind(Some(&"b".into()), u64::MAX));
    shared.apply(vec![(Effect::Put { initial: false }, pod("z", "z", 11))]);
    assert!(shared.is_behind(None, u64::MAX));
    shared.apply(vec![(Effect::Put { initial: false }, pod("a", "u", 12))]);
    assert!(!shared.is_behind(None, u64::MAX));
}

#[test]
fn a_read_does_not_wait_for_writes_made_after_it_began() {
    let shared = shared();
    shared.begin_replace();
    shared.apply(vec![(Effect::Synced(10), None)]);
    shared.wrote(wrote("a", Expected::Version(11)));
    let began = shared.pending.lock().last;
    shared.wrote(wrote("b", Expected::Version(12)));
    assert!(shared.is_behind(None, began));
    shared.apply(vec![(Effect::Reached(11), None)]);
    assert!(!shared.is_behind(None, began) && shared.is_behind(None, u64::MAX));
}

#[test]
fn a_read_waits_until_a_deleted_object_is_gone() {
    let shared = shared();
    shared.begin_replace();
    shared.apply(vec![(Effect::Put { initial: true }, pod("a", "u", 5)), (Effect::Synced(10), None)]);
    shared.wrote(wrote("a", Expected::Gone("u".into())));
    assert!(shared.is_behind(Some(&"a".into()), u64::MAX));
    shared.apply(vec![(Effect::Delete, pod("a", "u", 11))]);
    assert!(!shared.is_behind(None, u64::MAX));
}

#[test]
fn an_object_created_and_deleted_at_once_does_not_appear_in_between() {
    let shared = shared();
    shared.begin_replace();
    shared.apply(vec![(Effect::Synced(10), None)]);
    shared.wrote(wrote("a", Expected::Version(11)));
    shared.wrote(wrote("a", Expected::Gone("u".into())));
    shared.apply(vec![(Effect::Put { initial: false }, pod("a", "u", 11))]);
    assert!(shared.is_behind(None, u64::MAX));
    shared.apply(vec![(Effect::Delete, pod("a", "u", 12))]);
    assert!(!shared.is_behind(None, u64::MAX));
}

#[test]
fn a_read_does_not_wait_for_what_is_not_followed() {
    let shared = selecting(Select::all().labels("app=a").unwrap());
    shared.begin_replace();
    shared.apply(vec![(Effect::Put { initial: true }, pod("a", "u", 5)), (Effect::Synced(10), None)]);
    let unlabelled = |name: &str, version| Wrote {
        key: name.into(),
        what: Expected::Version(version),
        object: pod(name, "u", version).map(Arc::new),
    };
    shared.wrote(unlabelled("b", 11));
    assert!(!shared.is_behind(None, u64::MAX));
    // One that is no longer followed goes.
    shared.wrote(unlabelled("a", 12));
    assert!(shared.is_behind(None, u64::MAX));
    shared.apply(vec![(Effect::Delete, pod("a", "u", 12))]);
    assert!(!shared.is_behind(None, u64::MAX));
}

#[test]
fn writes_before_a_relist_are_covered_by_it_even_when_revisions_start_over() {
    let shared = shared();
    shared.begin_replace();
    shared.apply(vec![(Effect::Synced(500), None)]);
    shared.wrote(wrote("a", Expected::Version(900)));
    shared.begin_replace();
    shared.wrote(wrote("b", Expected::Version(4)));
    shared.apply(vec![(Effect::Synced(3), None)]);
    assert!(!shared.is_behind(Some(&"a".into()), u64::MAX));
    assert!(shared.is_behind(Some(&"b".into()), u64::MAX));
    shared.apply(vec![(Effect::Reached(4), None)]);
    assert!(!shared.is_behind(None, u64::MAX));
}

#[test]
fn an_object_recreated_unseen_is_reported_as_deleted_and_added() {
    let shared = shared();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    shared.subscribers.lock().push((
        0,
        Box::new(move |event: &Delta| record.lock().push((event.what, event.object.uid().to_owned()))),
    ));
    shared.begin_replace();
    shared.apply(vec![(Effect::Put { initial: true }, pod("a", "old", 5)), (Effect::Synced(10), None)]);
    shared.begin_replace();
    shared.apply(vec![(Effect::Put { initial: true }, pod("a", "new", 20)), (Effect::Synced(21), None)]);
    let seen = seen.lock();
    assert_eq!(
        *seen,
        [(What::Added, "old".into()), (What::Deleted, "old".into()), (What::Added, "new".into())]
    );
}

fn in_namespace(namespace: &str, name: &str, version: u64) -> Option<Cached> {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{name}","resourceVersion":"{version}"}}}}"#
    );
    Some(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
}

#[test]
fn namespaces_come_and_go_without_a_word_about_deletion() {
    let Fed(shared, whole) = shared();
    shared.parts.write().clear();
    drop(whole);
    let (one, two) = (shared.join(Some("one")), shared.join(Some("two")));
    let (seen, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let (record, count) = (Arc::clone(&seen), Arc::clone(&left));
    let callback = move |event: &Delta| record.lock().push((event.what, event.object.key().to_string()));
    shared.subscribers.lock().push((0, Box::new(callback)));
    shared.leavers.lock().push((
        0,
        Box::new(move |left: &dyn Fn(&Key) -> bool| {
            assert!(left(&("two", "q").into()) && !left(&("one", "p").into()));
            count.fetch_add(1, Ordering::Relaxed);
        }),
    ));
    shared.begin_replace(&one);
    shared.begin_replace(&two);
    let put = |namespace, version| (Effect::Put { initial: true }, in_namespace(namespace, "p", version));
    shared.apply(&one, vec![put("one", 3), (Effect::Synced(5), None)]);
    assert!(!shared.is_settled(None) && shared.is_settled(Some(&("one", "p").into())));
    shared.apply(&two, vec![put("two", 4), (Effect::Synced(5), None)]);
    assert!(shared.is_settled(None) && shared.synced.load(Ordering::Relaxed));
    // Each namespace's watch is as far as it is, and so are the writes that reads wait for.
    shared.wrote(Wrote { key: ("two", "q").into(), what: Expected::Version(9), object: None });
    shared.apply(&one, vec![(Effect::Reached(20), None)]);
    assert!(shared.is_behind(None, u64::MAX));
    shared.leave("two");
    assert!(!shared.is_behind(None, u64::MAX));
    assert_eq!(shared.store.read().len(), 1);
    // One that is followed later is not read before it is listed, and the rest is.
    let three = shared.join(Some("three"));
    shared.settle();
    assert!(
        !shared.is_settled(Some(&("three", "p").into())) && shared.is_settled(Some(&("one", "p").into()))
    );
    assert!(shared.synced.load(Ordering::Relaxed), "the process stays ready");
    shared.begin_replace(&three);
    shared.apply(&three, vec![(Effect::Synced(21), None)]);
    assert!(shared.is_settled(None));
    let told = [(What::Added, "one/p".to_owned()), (What::Added, "two/p".to_owned())];
    assert_eq!((&*seen.lock(), left.load(Ordering::Relaxed)), (&told.to_vec(), 1));
}

#[test]
fn what_is_served_no_more_is_gone() {
    let shared = shared();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let callback = move |event: &Delta| record.lock().push((event.what, event.object.key().to_string()));
    shared.subscribers.lock().push((0, Box::new(callback)));
    shared.begin_replace();
    shared.apply(vec![(Effect::Put { initial: true }, pod("a", "u", 5)), (Effect::Synced(10), None)]);
    shared.wrote(wrote("b", Expected::Version(12)));
    let missing = Missing::Group("example.com".into());
    shared.not_served(&shared.1, NotServed { wanted: "Widget of example.com/v1".into(), missing });
    assert!(!shared.synced.load(Ordering::Relaxed) && !shared.is_behind(None, u64::MAX));
    assert_eq!(*seen.lock(), [(What::Added, "a".to_owned()), (What::Deleted, "a".to_owned())]);
    shared.begin_replace();
    shared.apply(vec![(Effect::Synced(30), None)]);
    assert!(shared.synced.load(Ordering::Relaxed) && shared.1.missing().is_none());
}

#[test]
fn figures_tell_how_far_the_cache_may_be_behind() {
    let shared = shared();
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    shared.1.heard(start);
    shared.begin_replace();
    shared.apply(vec![(Effect::Synced(10), None)]);
    shared.wrote(wrote("a", Expected::Version(12)));
    let stats = shared.stats(later(70));
    assert_eq!((stats.lag, stats.resource_version, stats.own_writes), (Duration::from_secs(70), 10, 1));
    // Another namespace, or a part of the scope, that is further behind counts for all.
    let other = shared.join(Some("other"));
    other.heard(later(30));
    shared.1.heard(later(80));
    assert_eq!(
        (shared.stats(later(90)).lag, shared.stats(later(90)).resource_version),
        (Duration::from_secs(60), 0)
    );
    other.heard(later(90));
    assert_eq!(shared.stats(later(90)).lag, Duration::from_secs(10));
}

#[test]
fn writes_after_which_nobody_reads_are_forgotten_once_they_are_shown() {
    let shared = shared();
    shared.begin_replace();
    shared.apply(vec![(Effect::Synced(10), None)]);
    for version in 11..50 {
        shared.wrote(wrote("a", Expected::Version(version)));
    }
    assert_eq!(shared.stats(Instant::now()).own_writes, 39);
    shared.apply(vec![(Effect::Put { initial: false }, pod("a", "u", 30))]);
    assert_eq!(shared.stats(Instant::now()).own_writes, 19);
    shared.apply(vec![(Effect::Reached(60), None)]);
    assert_eq!(shared.stats(Instant::now()).own_writes, 0);
}

#[test]
fn a_state_that_cannot_be_kept_leaves_the_last_one_until_the_object_is_gone() {
    let picky = Select::all().keeping(|pod| assert!(pod["metadata"]["resourceVersion"] != "8", "a bug"));
    let shared = selecting(picky);
    let keep = |version| shared.keep(pod("a", "u", version).unwrap());
    let held = || shared.store.read().get(&"a".into()).map(|pod| pod.resource_version());
    shared.begin_replace();
    shared.apply(vec![(Effect::Put { initial: true }, keep(7)), (Effect::Synced(7), None)]);
    assert!(keep(8).is_none());
    assert_eq!(held(), Some(7));
    // A list says that it is there, in a state that can't be kept.
    shared.begin_replace();
    assert!(keep(8).is_none());
    shared.apply(vec![(Effect::Synced(9), None)]);
    assert_eq!((held(), shared.stats(Instant::now()).undecodable), (Some(7), 2));
    let last = pod("a", "u", 8).unwrap();
    assert!(shared.shares(&last));
    shared.apply(vec![(Effect::Delete, Some(last))]);
    assert_eq!(held(), None);
}

#[test]
fn two_informers_of_a_resource_are_one_series() {
    let (one, other) = (shared(), shared());
    one.begin_replace();
    one.apply(vec![(Effect::Put { initial: true }, pod("a", "u", 7)), (Effect::Synced(7), None)]);
    let now = Instant::now();
    let both = one.stats(now).and(other.stats(now));
    assert_eq!((both.objects, both.events, both.relists, both.resource_version), (1, 1, 1, 0));
    assert!(!both.connected);
}

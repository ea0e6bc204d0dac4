use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::ConfigMap;
use kubewright::Kind;
use kubewright::cache::{Cache, Scope, What};
use tokio::sync::mpsc;

use crate::canned::{Answer, Canned};

fn event(what: &str, name: &str, version: u64) -> String {
    format!(
        r#"{{"type":"{what}","object":{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"n","uid":"u-{name}","resourceVersion":"{version}"}}}}}}"#
    )
}

fn initial_end(version: u64) -> String {
    format!(
        r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"{version}","annotations":{{"k8s.io/initial-events-end":"true"}}}}}}}}"#
    )
}

fn page(version: u64, name: &str, object_version: u64) -> String {
    format!(
        r#"{{"kind":"ConfigMapList","metadata":{{"resourceVersion":"{version}"}},"items":[{{"metadata":{{"name":"{name}","namespace":"n","uid":"u-{name}","resourceVersion":"{object_version}"}}}}]}}"#
    )
}

/// Starts an informer and gives what subscribers hear.
fn follow(canned: &Canned) -> (kubewright::cache::Informer, mpsc::UnboundedReceiver<String>, impl Sized) {
    let cache = Cache::new(canned.client());
    let informer = cache.informer(&Kind::of::<ConfigMap>(), &Scope::All);
    let (sender, receiver) = mpsc::unbounded_channel();
    let subscription = informer.subscribe(move |delta| {
        let what = match delta.what {
            What::Added => "+",
            What::Updated => "~",
            What::Deleted => "-",
        };
        // The test may be over.
        let _ = sender.send(format!("{what}{}", delta.object.key().name()));
    });
    (informer, receiver, subscription)
}

async fn hear(receiver: &mut mpsc::UnboundedReceiver<String>, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    for _ in 0..count {
        heard.push(receiver.recv().await.unwrap());
    }
    heard
}

#[tokio::test]
async fn a_watch_that_expires_is_listed_anew_and_missed_deletes_are_told() {
    let first = [event("ADDED", "a", 1), event("ADDED", "b", 2), initial_end(5), event("MODIFIED", "a", 6)];
    let second = [event("ADDED", "a", 9), event("ADDED", "c", 10), initial_end(12)];
    let expired = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}}"#;
    let canned = Canned::new([
        Answer::watch("sendInitialEvents=true", &first.each_ref().map(String::as_str)).ended(),
        Answer::body("limit=1", 200, &page(9, "a", 6)),
        Answer::watch("resourceVersion=6", &[expired]).ended(),
        Answer::watch("sendInitialEvents=true", &second.each_ref().map(String::as_str)),
    ]);
    let (informer, mut receiver, _subscription) = follow(&canned);
    assert_eq!(hear(&mut receiver, 3).await, ["+a", "+b", "~a"]);
    assert_eq!(hear(&mut receiver, 3).await, ["~a", "+c", "-b"]);
    assert_eq!(informer.stats().objects, 2);
    assert_eq!(canned.sent("watch=true").len(), 3);
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_read_in_pages() {
    let page = |name: &str, next: &str| {
        format!(
            r#"{{"kind":"ConfigMapList","metadata":{{"resourceVersion":"7","continue":"{next}"}},"items":[{{"metadata":{{"name":"{name}","resourceVersion":"3"}}}}]}}"#
        )
    };
    let canned = Canned::new([
        Answer::body("sendInitialEvents=true", 422, r#"{"kind":"Status","code":422,"message":"forbidden"}"#),
        Answer::body("continue=t%2B1", 200, &page("b", "")),
        Answer::body("limit=500", 200, &page("a", "t+1")),
        Answer::watch("resourceVersion=7", &[&event("DELETED", "x", 8)]),
    ]);
    let (informer, mut receiver, _subscription) = follow(&canned);
    assert_eq!(hear(&mut receiver, 3).await, ["+a", "+b", "-x"]);
    assert!(informer.is_synced());
}

#[tokio::test]
async fn controllers_share_an_informer_and_it_stops_with_the_last() {
    let canned = Canned::new([Answer::watch("configmaps", &[&initial_end(1)])]);
    let cache = Cache::new(canned.client());
    let kind = Kind::of::<ConfigMap>();
    let first = cache.informer(&kind, &Scope::All);
    let second = cache.informer(&kind, &Scope::All);
    second.synced().await;
    assert_eq!(canned.sent("configmaps").len(), 1);
    drop(first);
    assert_eq!(cache.informers().len(), 1);
    drop(second);
    assert!(cache.informers().is_empty());
}

#[tokio::test]
async fn a_late_subscriber_hears_of_what_is_there_exactly_once() {
    let lines = [event("ADDED", "a", 1), initial_end(5)];
    let canned = Canned::new([Answer::watch("configmaps", &lines.each_ref().map(String::as_str))]);
    let (informer, _receiver, _subscription) = follow(&canned);
    informer.synced().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&heard);
    let _late = informer.subscribe(move |delta| record.lock().unwrap().push(delta.object.key().to_string()));
    assert_eq!(*heard.lock().unwrap(), ["n/a"]);
}

#[tokio::test]
async fn a_watch_resumes_where_it_was_after_the_server_went_away() {
    let lines = [event("ADDED", "a", 1), initial_end(5), event("ADDED", "b", 6)];
    let canned = Canned::new([
        Answer::watch("sendInitialEvents=true", &lines.each_ref().map(String::as_str)).broken(),
        Answer::refused("limit=1"),
        Answer::body("limit=1", 503, r#"{"kind":"Status","code":503,"message":"starting"}"#),
        Answer::body("limit=1", 200, &page(6, "a", 1)),
        Answer::watch("resourceVersion=6", &[&event("DELETED", "a", 7)]),
    ]);
    let (informer, mut receiver, _subscription) = follow(&canned);
    assert_eq!(hear(&mut receiver, 3).await, ["+a", "+b", "-a"]);
    assert_eq!(canned.sent("limit=1").len(), 3);
    assert!(informer.is_connected() && informer.is_running());
}

#[tokio::test]
async fn a_server_that_was_reset_is_noticed_and_listed_anew() {
    // Its revisions start over; or they have gone past ours, but an object is not the one we know.
    for probe in [page(3, "z", 2), page(900, "a", 3)] {
        let first = [event("ADDED", "a", 400), initial_end(500)];
        let second = [event("ADDED", "z", 2), initial_end(3)];
        let canned = Canned::new([
            Answer::watch("sendInitialEvents=true", &first.each_ref().map(String::as_str)).broken(),
            Answer::body("limit=1", 200, &probe),
            Answer::watch("sendInitialEvents=true", &second.each_ref().map(String::as_str)),
        ]);
        let (_informer, mut receiver, _subscription) = follow(&canned);
        assert_eq!(hear(&mut receiver, 3).await, ["+a", "+z", "-a"]);
    }
}

#[tokio::test]
async fn an_unreadable_object_neither_stops_the_stream_nor_goes_unnoticed() {
    let bad = r#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":{}}}}"#;
    let lines = [bad.to_owned(), event("ADDED", "a", 1), initial_end(5)];
    let canned = Canned::new([Answer::watch("configmaps", &lines.each_ref().map(String::as_str))]);
    let (informer, mut receiver, _subscription) = follow(&canned);
    assert_eq!(hear(&mut receiver, 1).await, ["+a"]);
    informer.synced().await;
    assert_eq!(informer.stats().undecodable, 1);
}

#[tokio::test]
async fn a_subscriber_that_panics_harms_nobody_else() {
    let lines = [event("ADDED", "a", 1), initial_end(5)];
    let canned = Canned::new([Answer::watch("configmaps", &lines.each_ref().map(String::as_str))]);
    let cache = Cache::new(canned.client());
    let informer = cache.informer(&Kind::of::<ConfigMap>(), &Scope::All);
    let _bad = informer.subscribe(|_| panic!("a bug"));
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let _good = informer.subscribe(move |delta| sender.send(delta.object.key().to_string()).unwrap());
    assert_eq!(hear(&mut receiver, 1).await, ["n/a"]);
    assert!(informer.is_running());
}

//! Pure controllers, against canned answers.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kubewright::composite::{Composite, Decoration, Decorator, Desired, Observed, Selector};
use kubewright::{Controller, Operator, Result};
use tokio::sync::{mpsc, oneshot};

use crate::canned::{Answer, Canned};

const END: &str = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;

/// One ConfigMap a namespace, and a word on what was seen.
struct Greeter(mpsc::UnboundedSender<String>);

impl Composite for Greeter {
    type Parent = Namespace;

    fn desired(&self, namespace: &Namespace, observed: &Observed<'_>) -> Result<Desired> {
        let old = observed.child::<ConfigMap>(("team", "old"))?.is_some();
        self.0.send(format!("{} children, old: {old}", observed.count())).unwrap();
        let mut greeting = ConfigMap::default();
        greeting.metadata.name = Some("greeting".into());
        greeting.metadata.namespace = namespace.metadata.name.clone();
        Ok(Desired::new().with(greeting))
    }

    fn finalizer(&self) -> Option<&str> {
        Some("example.com/greeter")
    }

    fn finalize(&self, _: &Namespace, observed: &Observed<'_>) -> Result<Desired> {
        self.0.send(format!("finalize with {} children", observed.count())).unwrap();
        let nothing = Desired::new();
        Ok(if observed.count() == 0 { nothing.finalized() } else { nothing })
    }
}

fn namespace(what: &str, version: u64, more: &str) -> String {
    format!(
        r#"{{"type":"{what}","object":{{"kind":"Namespace","apiVersion":"v1","metadata":{{"name":"team","uid":"u","resourceVersion":"{version}"{more}}}}}}}"#
    )
}

fn map(name: &str, version: u64) -> String {
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"team","uid":"{name}","resourceVersion":"{version}","ownerReferences":[{{"apiVersion":"v1","kind":"Namespace","name":"team","uid":"u","controller":true}}]}}}}"#
    )
}

#[tokio::test]
async fn a_parent_gets_a_finalizer_and_its_children_and_goes_once_they_are_gone() {
    let held = r#","finalizers":["example.com/greeter"]"#;
    let (parents, parent_lines) = mpsc::unbounded_channel();
    let (children, child_lines) = mpsc::unbounded_channel();
    let patched =
        |version, more| serde_json::from_str::<serde_json::Value>(&namespace("X", version, more)).unwrap();
    let old = format!(r#"{{"type":"ADDED","object":{}}}"#, map("old", 4));
    let canned = Canned::new([
        Answer::watch("/namespaces?watch", &[&namespace("ADDED", 3, ""), END]).live(parent_lines),
        Answer::watch("/configmaps?watch", &[&old, END]).live(child_lines),
        Answer::body("PATCH /api/v1/namespaces/team?", 200, &patched(6, held)["object"].to_string()),
        Answer::body("PATCH /api/v1/namespaces/team/configmaps/greeting", 201, &map("greeting", 7)),
        Answer::body("DELETE /api/v1/namespaces/team/configmaps/old", 200, &map("old", 4)),
        Answer::body("DELETE /api/v1/namespaces/team/configmaps/greeting", 200, &map("greeting", 9)),
        Answer::body("PATCH /api/v1/namespaces/team?", 200, &patched(12, "")["object"].to_string()),
    ]);
    let (told, mut heard) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let operator = Operator::new("op").controller(Controller::composite(Greeter(told)).owns::<ConfigMap>());
    let running = tokio::spawn(operator.run(canned.client(), async {
        let _ = stopped.await;
    }));
    assert_eq!(heard.recv().await.unwrap(), "1 children, old: true");
    let say = |line: String| parents.send(line).unwrap();
    let child = |what: &str, name: &str, version| {
        children.send(format!(r#"{{"type":"{what}","object":{}}}"#, map(name, version))).unwrap();
    };
    child("ADDED", "greeting", 7);
    child("DELETED", "old", 8);
    let deleting = format!(r#"{held},"deletionTimestamp":"2026-01-01T00:00:00Z""#);
    say(namespace("MODIFIED", 9, &deleting));
    while heard.recv().await.unwrap() != "finalize with 1 children" {}
    child("DELETED", "greeting", 10);
    while heard.recv().await.unwrap() != "finalize with 0 children" {}
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let patches = canned.sent("PATCH /api/v1/namespaces/team?");
    assert_eq!(patches[0].body["metadata"]["finalizers"], serde_json::json!(["example.com/greeter"]));
    assert_eq!(patches[1].body["metadata"]["finalizers"], serde_json::json!([]));
    assert_eq!(canned.sent("DELETE").len(), 2);
}

/// Marks namespaces that ask for it.
struct Marker;

impl Decorator for Marker {
    type Target = Namespace;

    fn name(&self) -> &str {
        "marker"
    }

    fn selector(&self) -> Selector {
        Selector::everything().labels("marked=please")
    }

    fn desired(&self, _: &Namespace, _: &Observed<'_>) -> Result<Decoration> {
        Ok(Decoration::new().label("mark", "yes"))
    }

    fn finalizer(&self) -> Option<&str> {
        Some("example.com/marker")
    }
}

#[tokio::test]
async fn a_finalizer_stays_until_the_marks_are_really_taken_back() {
    // Nobody asks for the mark any more, and another writes to the namespace at the same time.
    let held = r#","labels":{"mark":"yes"},"finalizers":["example.com/marker"]"#;
    let patched = |version, more| {
        let line = serde_json::from_str::<serde_json::Value>(&namespace("X", version, more)).unwrap();
        line["object"].to_string()
    };
    let conflict = r#"{"kind":"Status","code":409,"reason":"Conflict","message":"again"}"#;
    let marks = "PATCH /api/v1/namespaces/team?fieldManager=op%2Fmarker&force=true";
    let (taken, taken_line) = mpsc::unbounded_channel();
    let canned = Canned::new([
        Answer::watch("/namespaces?watch", &[&namespace("ADDED", 3, held), END]).live(taken_line),
        Answer::body(marks, 409, conflict),
        Answer::body("GET /api/v1/namespaces/team", 200, &patched(4, held)),
        Answer::body(marks, 200, &patched(7, r#","finalizers":["example.com/marker"]"#)),
        Answer::body("PATCH /api/v1/namespaces/team?fieldManager=op", 200, &patched(8, "")),
    ]);
    let (stop, stopped) = oneshot::channel::<()>();
    let operator = Operator::new("op").controller(Controller::decorator(Marker));
    let running = tokio::spawn(operator.run(canned.client(), async {
        let _ = stopped.await;
    }));
    // The first word about finalizers, which may come only after the second about the marks.
    let finalizers =
        || canned.sent("PATCH").iter().position(|sent| !sent.body["metadata"]["finalizers"].is_null());
    let mut off = Some(namespace("MODIFIED", 7, r#","finalizers":["example.com/marker"]"#));
    while finalizers().is_none() {
        if canned.sent(marks).len() == 2
            && let Some(line) = off.take()
        {
            taken.send(line).unwrap();
        }
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(finalizers(), Some(2), "{:?}", canned.sent("PATCH"));
}

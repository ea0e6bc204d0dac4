use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::Api;
use kubewright::queue::Priority;
use kubewright::{Action, Context, Controller, Error, Operator, Reconciler, Result, Verb};
use tokio::sync::{mpsc, oneshot};

use crate::canned::{Answer, Canned};

const NAMESPACES: [&str; 2] = [
    r#"{"type":"ADDED","object":{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"team","uid":"u","resourceVersion":"3"}}}"#,
    r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
];
const NOTHING: [&str; 1] = [
    r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
];

/// Does what a closure's number says and reports how it went.
struct Tells<F>(F, mpsc::UnboundedSender<String>);

impl<F, Fut> Reconciler for Tells<F>
where
    F: Fn(Arc<Namespace>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send,
{
    type Object = Namespace;

    async fn reconcile(&self, namespace: Arc<Namespace>, cx: &Context) -> Result<Action> {
        let told = (self.0)(namespace, cx.clone()).await;
        // The test may be over.
        let _ =
            self.1.send(told.as_ref().map_or_else(|error| format!("error: {}", error.chain()), Clone::clone));
        told.map(|_| Action::done())
    }
}

/// Runs a controller until it told so many things.
async fn run<F, Fut>(
    canned: &Canned,
    reconcile: F,
    build: impl FnOnce(Controller) -> Controller,
    count: usize,
) -> Vec<String>
where
    F: Fn(Arc<Namespace>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let operator = Operator::new("op").controller(build(Controller::new(Tells(reconcile, sender))));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(operator.run(canned.client(), async {
        let _ = stopped.await;
    }));
    let mut told = Vec::new();
    for _ in 0..count {
        told.push(receiver.recv().await.unwrap());
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    told
}

fn greeting(namespace: &Namespace) -> ConfigMap {
    let mut greeting = ConfigMap::default();
    greeting.metadata.name = Some("greeting".into());
    greeting.metadata.namespace = namespace.metadata.name.clone();
    greeting.data = Some([("hello".into(), "world".into())].into());
    greeting
}

#[tokio::test]
async fn an_undeclared_call_is_refused_by_name_and_never_sent() {
    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES)]);
    let told = run(
        &canned,
        |_, cx| async move {
            let pods: Api<Pod> = Api::namespaced(cx.client(), "team");
            let write: Error = pods.delete("p", &Default::default()).await.unwrap_err().into();
            let read = cx.list::<Pod>().await.unwrap_err();
            Ok(format!("{write}; {read}"))
        },
        |controller| controller,
        1,
    )
    .await;
    assert!(told[0].contains("undeclared call: delete pods"), "{told:?}");
    assert!(told[0].contains("`.owns::<Pod>()` or `.writes::<Pod>([Verb::Delete])`"), "{told:?}");
    assert!(
        told[0].contains("undeclared call: list pods; declare it on the controller with `.reads::<Pod>()`")
    );
    assert!(canned.sent("/pods").is_empty());
}

#[tokio::test]
async fn a_controller_with_a_client_of_its_own_sends_through_it_what_it_declares_and_nothing_else() {
    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES)]);
    let made = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"greeting","namespace":"team","uid":"c","resourceVersion":"7"}}"#;
    let own = Canned::new([Answer::body("POST /api/v1/namespaces/team/configmaps", 201, made)]);
    let told = run(
        &canned,
        |namespace, cx| async move {
            let maps: Api<ConfigMap> = Api::namespaced(cx.client(), "team");
            maps.create(&Default::default(), &greeting(&namespace)).await?;
            let refused: Error = maps.delete("greeting", &Default::default()).await.unwrap_err().into();
            Ok(refused.to_string())
        },
        |controller| controller.writes::<ConfigMap>([Verb::Create]).client(own.client()),
        1,
    )
    .await;
    assert!(told[0].contains("undeclared call: delete configmaps"), "{told:?}");
    assert_eq!(own.sent("").len(), 1);
    assert!(canned.sent("/configmaps").is_empty());
}

#[tokio::test]
async fn a_panic_is_caught_and_retried() {
    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES)]);
    let runs = AtomicU32::new(0);
    let told = run(
        &canned,
        move |_, _| {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(run >= 2, "a bug");
                Ok(format!("run {run}"))
            }
        },
        |controller| controller,
        1,
    )
    .await;
    assert_eq!(told, ["run 2"]);
}

#[tokio::test]
async fn a_child_is_applied_with_its_owner_and_the_surplus_pruned() {
    let child = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"greeting","namespace":"team","uid":"c","resourceVersion":"9","ownerReferences":[{"apiVersion":"v1","kind":"Namespace","name":"team","uid":"u","controller":true}]},"data":{"hello":"world"}}"#;
    let surplus = r#"{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"old","namespace":"team","uid":"o","resourceVersion":"4","ownerReferences":[{"apiVersion":"v1","kind":"Namespace","name":"team","uid":"u","controller":true}]}}}"#;
    let others = r#"{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"others","namespace":"team","uid":"x","resourceVersion":"4"}}}"#;
    let canned = Canned::new([
        Answer::watch("/namespaces?watch", &NAMESPACES),
        Answer::watch("/configmaps?watch", &[surplus, others, NOTHING[0]]),
        Answer::body("PATCH", 201, child),
        Answer::body(
            "DELETE",
            200,
            r#"{"kind":"Status","status":"Success","details":{"uid":"gone-already"}}"#,
        ),
    ]);
    let told = run(
        &canned,
        |namespace, cx| async move {
            let report = cx.apply_children(&namespace, [greeting(&namespace)]).await?;
            Ok(format!("{} of {} ready, {} pruned", report.ready(), report.total(), report.pruned()))
        },
        |controller| controller.owns::<ConfigMap>(),
        1,
    )
    .await;
    assert_eq!(told, ["1 of 1 ready, 1 pruned"]);
    let applied = &canned.sent("PATCH")[0];
    assert_eq!(applied.line, "PATCH /api/v1/namespaces/team/configmaps/greeting?fieldManager=op&force=true");
    assert_eq!(applied.body["metadata"]["ownerReferences"][0]["uid"], "u");
    let deleted = canned.sent("DELETE");
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].line, "DELETE /api/v1/namespaces/team/configmaps/old");
    assert_eq!(deleted[0].body["preconditions"]["uid"], "o");
}

#[tokio::test]
async fn a_failed_create_is_not_sent_twice_and_a_throttled_one_is() {
    let canned = Canned::new([
        Answer::watch("/namespaces?watch", &NAMESPACES),
        Answer::body(
            "POST",
            503,
            r#"{"kind":"Status","code":503,"reason":"ServiceUnavailable","message":"busy"}"#,
        ),
        Answer::body("POST", 429, r#"{"kind":"Status","code":429,"reason":"TooManyRequests"}"#),
        Answer::body(
            "POST",
            201,
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"greeting","resourceVersion":"7"}}"#,
        ),
    ]);
    let told = run(
        &canned,
        |namespace, cx| async move {
            let maps: Api<ConfigMap> = Api::namespaced(cx.client(), "team");
            maps.create(&Default::default(), &greeting(&namespace)).await?;
            Ok("created".into())
        },
        |controller| controller.writes::<ConfigMap>([kubewright::Verb::Create]),
        2,
    )
    .await;
    assert!(told[0].starts_with("error: ") && told[0].contains("busy"), "{told:?}");
    assert_eq!(told[1], "created");
    assert_eq!(canned.sent("POST").len(), 3);
}

#[tokio::test]
async fn two_controllers_of_one_name_are_refused() {
    let canned = Canned::new([]);
    let (sender, _receiver) = mpsc::unbounded_channel();
    let controller = || {
        Controller::new(Tells(|_: Arc<Namespace>, _: Context| async { Ok(String::new()) }, sender.clone()))
    };
    let operator = Operator::new("op").controller(controller()).controller(controller());
    let error = operator.run(canned.client(), std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("two controllers are named namespace"), "{error}");
}

/// An operator whose only reconciliation says that it began and then waits to be released.
fn one_that_waits(
    canned: &Canned,
    grace: std::time::Duration,
) -> (
    oneshot::Sender<()>,
    mpsc::UnboundedReceiver<String>,
    Arc<tokio::sync::Notify>,
    tokio::task::JoinHandle<Result>,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let began = sender.clone();
    let release = Arc::new(tokio::sync::Notify::new());
    let released = Arc::clone(&release);
    let reconcile = move |_: Arc<Namespace>, _: Context| {
        let (began, released) = (began.clone(), Arc::clone(&released));
        async move {
            began.send("began".into()).unwrap();
            released.notified().await;
            Ok("finished".into())
        }
    };
    let operator = Operator::new("op").grace(grace).controller(Controller::new(Tells(reconcile, sender)));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(operator.run(canned.client(), async {
        let _ = stopped.await;
    }));
    (stop, receiver, release, running)
}

#[tokio::test]
async fn a_stop_lets_what_is_running_finish() {
    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES)]);
    let (stop, mut told, release, running) = one_that_waits(&canned, std::time::Duration::from_secs(60));
    assert_eq!(told.recv().await.unwrap(), "began");
    stop.send(()).unwrap();
    release.notify_one();
    running.await.unwrap().unwrap();
    assert_eq!(told.recv().await.unwrap(), "finished");
}

#[tokio::test]
async fn a_stop_cancels_what_outlives_the_grace_period() {
    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES)]);
    let (stop, mut told, _release, running) = one_that_waits(&canned, std::time::Duration::ZERO);
    assert_eq!(told.recv().await.unwrap(), "began");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(told.recv().await, None);
}

#[tokio::test]
async fn a_list_waits_for_the_own_write_before_it() {
    let created = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"greeting","namespace":"team","uid":"c","resourceVersion":"9"}}"#;
    let (events, lines) = mpsc::unbounded_channel();
    let canned = Canned::new([
        Answer::watch("/namespaces?watch", &NAMESPACES),
        Answer::watch("/configmaps?watch", &NOTHING).live(lines),
        Answer::body("POST", 201, created),
    ]);
    let told = run(
        &canned,
        move |namespace, cx| {
            let events = events.clone();
            async move {
                let maps: Api<ConfigMap> = Api::namespaced(cx.client(), "team");
                maps.create(&Default::default(), &greeting(&namespace)).await?;
                let stale = cx.list::<ConfigMap>().may_be_stale().await?.len();
                let mut list = cx.list::<ConfigMap>().into_future();
                let waits = futures::poll!(&mut list).is_pending();
                events.send(format!(r#"{{"type":"ADDED","object":{created}}}"#)).unwrap();
                Ok(format!("{stale} before, waits {waits}, {} after", list.await?.len()))
            }
        },
        |controller| controller.reads::<ConfigMap>().writes::<ConfigMap>([kubewright::Verb::Create]),
        1,
    )
    .await;
    assert_eq!(told, ["0 before, waits true, 1 after"]);
}

const OTHER: &str = r#"{"type":"ADDED","object":{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"other","uid":"o","resourceVersion":"4"}}}"#;

#[tokio::test]
async fn no_more_objects_are_reconciled_at_once_than_allowed() {
    for (allowed, expected) in [(1, ["began", "alone"]), (2, ["began", "began"])] {
        let canned =
            Canned::new([Answer::watch("/namespaces?watch", &[NAMESPACES[0], OTHER, NAMESPACES[1]])]);
        let (sender, mut told) = mpsc::unbounded_channel();
        let began = sender.clone();
        let reconcile = move |_: Arc<Namespace>, _: Context| {
            began.send("began".into()).unwrap();
            // With room for another it would begin before this one goes on: there are no other tasks to wait for.
            async {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                Ok("alone".into())
            }
        };
        let controller = Controller::new(Tells(reconcile, sender)).concurrency(allowed);
        let running = tokio::spawn(
            Operator::new("op").controller(controller).run(canned.client(), std::future::pending()),
        );
        assert_eq!([told.recv().await.unwrap(), told.recv().await.unwrap()], expected);
        running.abort();
    }
}

#[tokio::test]
async fn a_reconciliation_that_takes_too_long_is_cancelled_and_retried() {
    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES)]);
    let runs = AtomicU32::new(0);
    let told = run(
        &canned,
        move |_, cx| {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            async move {
                if run < 2 {
                    std::future::pending::<()>().await;
                }
                Ok(format!("run {run}, {:?}", cx.reasons().first()))
            }
        },
        |controller| controller.timeout(std::time::Duration::ZERO),
        1,
    )
    .await;
    assert_eq!(told, ["run 2, [Retried]"]);
}

#[tokio::test]
async fn a_terminal_error_is_not_retried_before_something_changes() {
    let (events, lines) = mpsc::unbounded_channel();
    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES).live(lines)]);
    let told = run(
        &canned,
        move |namespace, cx| {
            let events = events.clone();
            async move {
                if namespace.metadata.resource_version.as_deref() == Some("3") {
                    events
                        .send(NAMESPACES[0].replace("ADDED", "MODIFIED").replace(r#""3""#, r#""7""#))
                        .unwrap();
                    return Err(Error::terminal("nothing helps"));
                }
                Ok(cx.reasons().first().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
        },
        |controller| controller,
        2,
    )
    .await;
    assert_eq!(told, ["error: nothing helps", "Namespace team updated"]);
}

#[tokio::test]
async fn a_reconciliation_may_ask_to_run_again_and_how_urgently() {
    /// Asks for it once.
    struct Again(AtomicU32, mpsc::UnboundedSender<String>);

    impl Reconciler for Again {
        type Object = Namespace;

        async fn reconcile(&self, _: Arc<Namespace>, cx: &Context) -> Result<Action> {
            self.1.send(format!("{:?}", cx.reasons().first())).unwrap();
            Ok(match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Action::after(std::time::Duration::from_millis(1)).priority(Priority::LIVE),
                _ => Action::done(),
            })
        }
    }

    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES)]);
    let (sender, mut told) = mpsc::unbounded_channel();
    let operator = Operator::new("op").controller(Controller::new(Again(AtomicU32::new(0), sender)));
    let running = tokio::spawn(operator.run(canned.client(), std::future::pending()));
    assert_eq!(told.recv().await.unwrap(), "[Listed(\"Namespace\", team)]");
    assert_eq!(told.recv().await.unwrap(), "[Requeued]");
    running.abort();
}

/// Reports a status, and tells how that went.
async fn reports(answers: impl IntoIterator<Item = Answer>) -> (String, Canned) {
    let canned = Canned::new([Answer::watch("/namespaces?watch", &NAMESPACES)].into_iter().chain(answers));
    let reconcile = |namespace: Arc<Namespace>, cx: Context| async move {
        let reported = cx.patch_status(&namespace, serde_json::json!({"phase": "Active"})).await;
        Ok(reported.map_or_else(|error| error.chain(), |()| "reported".into()))
    };
    let told = run(&canned, reconcile, |controller| controller, 1).await;
    (told[0].clone(), canned)
}

#[tokio::test]
async fn a_status_that_was_not_written_is_an_error_unless_its_object_is_gone() {
    let status = "PATCH /api/v1/namespaces/team/status";
    let refusal = |code: u16, reason: &str| {
        let body = format!(r#"{{"kind":"Status","code":{code},"reason":"{reason}","message":"{reason}!"}}"#);
        Answer::body(status, code, &body)
    };
    let there = |uid: &str| {
        let body = format!(
            r#"{{"kind":"PartialObjectMetadata","metadata":{{"name":"team","uid":"{uid}","resourceVersion":"9"}}}}"#
        );
        Answer::body("GET /api/v1/namespaces/team", 200, &body)
    };
    // Its kind has no such subresource, or others write to it.
    for (code, reason) in [(404, "NotFound"), (409, "Conflict")] {
        let (told, canned) = reports([refusal(code, reason), there("u")]).await;
        assert!(told.contains(&format!("{reason}!")), "{told}");
        assert_eq!(canned.sent(status).len(), 1);
        let (told, _) = reports([refusal(code, reason), there("another")]).await;
        assert_eq!(told, "reported", "another has its name");
        // Whoever has no prepared answer is not found.
        let (told, canned) = reports([refusal(code, reason)]).await;
        assert_eq!(told, "reported", "it is gone");
        assert_eq!(canned.sent("GET /api/v1/namespaces/team").len(), 1);
    }
    let unknown = Answer::body("GET /api/v1/namespaces/team", 500, "{}");
    let (told, _) = reports([refusal(409, "Conflict"), unknown]).await;
    assert!(told.contains("Conflict!"), "whether it is gone can't be told: {told}");
}

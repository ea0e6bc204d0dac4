//! Questions of API servers, good and bad ones, put to handlers without a socket; and one over TLS.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::thread::ThreadId;
use std::time::SystemTime;

use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::client::Body;
use kubewright_pki::{Authority, ClientVerifier, Identity, ServingCertificate};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::super::admission::{Mutates, Raw, Validates};
use super::super::names::Names;
use super::super::{Handler, Mutator, Validator, Verdict};
use super::*;
use crate::Result;
use crate::cache::{Cache, Scope};
use crate::client::Mapper;
use crate::context::Recorder;
use crate::kind::Kind;
use crate::serving::{Secured, serve};

/// Does what the image's name says.
struct Obeys;

impl Validator for Obeys {
    type Object = Pod;

    async fn validate_create(&self, pod: &Pod, cx: &Admission) -> Result<Verdict> {
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref());
        match image.unwrap_or_default() {
            "deny" => Ok(Verdict::deny(format!("not for {}", cx.user().username))),
            "panic" => panic!("told to"),
            "fail" => Err(Error::other("no idea")),
            "hang" => std::future::pending().await,
            "warn" => Ok(Verdict::allow().warn(if cx.is_dry_run() { "a trial" } else { "for real" })),
            _ => Ok(Verdict::allow()),
        }
    }

    async fn validate_update(&self, old: &Pod, new: &Pod, _: &Admission) -> Result<Verdict> {
        let image = |pod: &Pod| pod.spec.as_ref().map(|spec| spec.containers[0].image.clone());
        Ok(if image(old) == image(new) { Verdict::allow() } else { Verdict::deny("images stay") })
    }

    async fn validate_delete(&self, pod: &Pod, _: &Admission) -> Result<Verdict> {
        let keep = pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("keep"));
        Ok(if keep { Verdict::deny("it is to be kept") } else { Verdict::allow() })
    }
}

/// Labels pods.
struct Labels;

impl Mutator for Labels {
    type Object = Pod;

    async fn mutate(&self, pod: &mut Pod, cx: &Admission) -> Result<Verdict> {
        pod.metadata.labels.get_or_insert_default().insert("by".into(), cx.user().username.clone());
        Ok(Verdict::allow())
    }
}

/// Replaces the data of anything.
struct Redacts;

impl Handler for Redacts {
    async fn handle(&self, cx: &Admission) -> Result<Verdict> {
        let mut object = cx.object()?.unwrap_or_default();
        object["data"] = json!({});
        Ok(Verdict::allow().replace(object))
    }
}

fn router() -> Router {
    let service =
        tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    router_of(kube::Client::new(service, "default"), View::default())
}

/// The same with a client and what the webhooks read.
fn router_of(client: kube::Client, view: View) -> Router {
    let (recorder, _) = Recorder::new(client.clone(), "test");
    let scoped = Arc::new(Scoped {
        manager: "test".into(),
        mapper: Mapper::new(client.clone()),
        client,
        view,
        owned: Vec::new(),
        recorder,
        memory: Default::default(),
        elsewhere: Default::default(),
        dry_run: false,
    });
    let mut router = Router::default();
    let handlers: [(&str, Arc<dyn Erased>); 3] = [
        ("/validate", Arc::new(Validates(Obeys))),
        ("/mutate", Arc::new(Mutates(Labels))),
        ("/raw", Arc::new(Raw(Redacts))),
    ];
    for (path, handler) in handlers {
        let hook = Hook { handler, scoped: Arc::clone(&scoped) };
        router.routes.insert(path.into(), (Route::Admission(hook), Arc::new(PathMetrics::new(path))));
    }
    router
}

fn pod(image: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": image}], "newer": {"field": 1}}})
}

fn question(operation: &str, object: Value, old: Value) -> String {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u", "operation": operation, "object": object, "oldObject": old, "name": "p", "namespace": "n",
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "userInfo": {"username": "jane"}}})
    .to_string()
}

async fn ask(router: &Router, path: &str, body: impl Into<Bytes>) -> (u16, String) {
    let request = Request::post(path).header("content-type", "application/json; charset=utf-8");
    answered(router.answer(request.body(Full::new(body.into())).unwrap()).await).await
}

async fn answered(response: Response<Full<Bytes>>) -> (u16, String) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

async fn verdict(router: &Router, path: &str, body: String) -> Value {
    let (code, text) = ask(router, path, body).await;
    assert_eq!(code, 200, "{text}");
    let review: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&review["kind"], &review["response"]["uid"]), (&json!("AdmissionReview"), &json!("u")));
    review["response"].clone()
}

#[tokio::test]
async fn a_validator_judges_creations_updates_and_deletions() {
    let router = router();
    let create = |image| question("CREATE", pod(image), Value::Null);
    assert_eq!(verdict(&router, "/validate", create("fine")).await["allowed"], true);
    let denied = verdict(&router, "/validate", create("deny")).await;
    assert_eq!((&denied["allowed"], &denied["status"]["message"]), (&json!(false), &json!("not for jane")));
    assert_eq!(verdict(&router, "/validate", create("warn")).await["warnings"], json!(["for real"]));
    let update = verdict(&router, "/validate", question("UPDATE", pod("b"), pod("a"))).await;
    assert_eq!(update["status"]["message"], "images stay");
    let mut kept = pod("a");
    kept["metadata"]["labels"] = json!({"keep": ""});
    let delete = verdict(&router, "/validate", question("DELETE", Value::Null, kept)).await;
    assert_eq!(delete["status"]["code"], 403);
}

#[tokio::test]
async fn a_mutator_sends_back_what_it_changed_and_nothing_else() {
    let response = verdict(&router(), "/mutate", question("CREATE", pod("a"), Value::Null)).await;
    assert_eq!(patch(&response), json!([{"op": "add", "path": "/metadata/labels", "value": {"by": "jane"}}]));
    let deletion = verdict(&router(), "/mutate", question("DELETE", Value::Null, pod("a"))).await;
    assert_eq!(deletion, json!({"uid": "u", "allowed": true}));
}

#[tokio::test]
async fn a_raw_handler_works_on_json() {
    let object = json!({"kind": "Secret", "data": {"password": "aHVudGVyMg=="}});
    let response = verdict(&router(), "/raw", question("CREATE", object, Value::Null)).await;
    assert_eq!(patch(&response), json!([{"op": "remove", "path": "/data/password"}]));
}

fn patch(response: &Value) -> Value {
    use base64::Engine as _;
    assert_eq!(response["patchType"], "JSONPatch");
    let text = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test]
async fn what_goes_wrong_in_a_handler_is_a_failure_of_the_webhook_and_of_nothing_else() {
    let router = router();
    let create = |image| question("CREATE", pod(image), Value::Null);
    assert_eq!(ask(&router, "/validate", create("panic")).await, (500, "the webhook panicked\n".into()));
    assert_eq!(ask(&router, "/validate", create("fail")).await, (500, "no idea\n".into()));
    let (code, text) = ask(&router, "/validate?timeout=1ms", create("hang")).await;
    assert_eq!((code, &*text), (504, "no answer within 1ms\n"));
    assert_eq!(verdict(&router, "/validate", create("fine")).await["allowed"], true);
    let mut metrics = super::super::metrics::WebhookMetrics::default();
    metrics.paths.extend(router.routes.values().map(|(_, figures)| Arc::clone(figures)));
    let mut out = String::new();
    metrics.write(&mut out);
    for line in [
        "controller_runtime_webhook_panics_total{webhook=\"/validate\"} 1\n",
        "controller_runtime_webhook_requests_total{code=\"500\",webhook=\"/validate\"} 2\n",
        "controller_runtime_webhook_requests_total{code=\"504\",webhook=\"/validate\"} 1\n",
        "controller_runtime_webhook_requests_in_flight{webhook=\"/validate\"} 0\n",
    ] {
        assert!(out.contains(line), "{line} is missing in:\n{out}");
    }
}

#[tokio::test]
async fn a_question_that_takes_a_kind_that_is_not_served_fails_at_once_and_names_it() {
    let service = tower::service_fn(|request: Request<Body>| async move {
        let served = r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[]}"#;
        let mut response = Response::new(Body::from(served.as_bytes().to_vec()));
        if !matches!(request.uri().path(), "/api" | "/apis") {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok::<_, Infallible>(response)
    });
    let client = kube::Client::new(service, "default");
    let cache = Cache::new(client.clone());
    let view = View::open(&cache, &Scope::All, &[Kind::of::<Deployment>()], &[]);
    let router = router_of(client, view);
    let (code, text) = ask(&router, "/validate", question("CREATE", pod("fine"), Value::Null)).await;
    assert!(code == 500 && text.contains("there is no group \"apps\""), "{code} {text}");
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let router = router();
    assert_eq!(ask(&router, "/elsewhere", "{}").await.0, 404);
    assert_eq!(ask(&router, "/validate", "{").await.0, 400);
    assert_eq!(ask(&router, "/validate", "{}").await.0, 400);
    let get = Request::get("/validate").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(router.answer(get).await.status(), 405);
    let text = Request::post("/validate").header("content-type", "text/plain");
    assert_eq!(router.answer(text.body(Full::new(Bytes::new())).unwrap()).await.status(), 415);
    let (code, text) = ask(&router, "/validate", vec![b' '; MAX_REVIEW + 1]).await;
    assert_eq!((code, &*text), (413, "the body is longer than 7340032 bytes\n"));
    let wrong = question("CREATE", json!({"kind": "Pod", "spec": {"containers": 7}}), Value::Null);
    let (code, text) = ask(&router, "/validate", wrong).await;
    assert!(code == 500 && text.contains("the object of the review is no Pod"), "{text}");
    let missing = question("CREATE", Value::Null, Value::Null);
    assert_eq!(ask(&router, "/validate", missing).await.0, 500);
}

#[tokio::test]
async fn objects_of_any_depth_are_answered_without_a_crash() {
    let router = router();
    for depth in [100, 1_000, 300_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let body = question("CREATE", pod("fine"), Value::Null).replace("{\"field\":1}", &deep);
        for path in ["/validate", "/mutate", "/raw"] {
            let (code, _) = ask(&router, path, body.clone()).await;
            assert!(matches!(code, 200 | 400 | 500), "{path} at {depth}: {code}");
        }
    }
}

/// Notes on which thread it is asked to convert.
#[derive(Default)]
struct Notes(Mutex<Vec<ThreadId>>);

impl Converts for Notes {
    fn kind(&self) -> &Kind {
        static POD: LazyLock<Kind> = LazyLock::new(Kind::of::<Pod>);
        &POD
    }

    fn definition(&self, _: &Names) -> Result<CustomResourceDefinition> {
        Err(Error::other("pods have none"))
    }

    fn convert(&self, object: Value, _: &str) -> Result<Value, String> {
        self.0.lock().push(std::thread::current().id());
        Ok(object)
    }
}

#[tokio::test]
async fn a_large_conversion_does_not_hold_up_the_thread_of_the_runtime() {
    let mut router = router();
    let notes = Arc::new(Notes::default());
    let route = Route::Conversion(vec![Arc::clone(&notes) as Arc<dyn Converts>]);
    router.routes.insert("/convert".into(), (route, Arc::new(PathMetrics::new("/convert"))));
    for length in [1, LARGE] {
        let review = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "request": {
            "uid": "u", "desiredAPIVersion": "v1", "objects": [pod(&"x".repeat(length))]}});
        let (code, text) = ask(&router, "/convert", review.to_string()).await;
        assert!(code == 200 && text.contains("\"status\":\"Success\""), "{text}");
    }
    let here = std::thread::current().id();
    assert_eq!(notes.0.lock().iter().map(|thread| *thread == here).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn the_caller_says_how_long_it_waits_within_bounds() {
    let millis = |query: &str| time_limit(Some(query)).as_millis();
    assert_eq!(["timeout=10s", "a=b&timeout=250ms", "timeout=0s"].map(millis), [10_000, 250, 1]);
    assert_eq!(["timeout=900s", "timeout=99999999999999999s", "timeout=x", ""].map(millis), [30_000; 4]);
}

#[tokio::test]
async fn connections_wait_for_the_certificate_and_answers_under_way_are_given_at_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tls, loaded) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);
    let secured = Some(Secured { shown: loaded, callers: None });
    let server = tokio::spawn(serve(listener, secured, "webhooks", Arc::new(router()), stopped));
    let early = TcpStream::connect(address).await.unwrap();

    let authority = Authority::new("test", SystemTime::now()).unwrap();
    let identity = authority.server(&["localhost"], &[], SystemTime::now()).unwrap();
    let serving = Arc::new(ServingCertificate::new(&identity).unwrap());
    let config = kubewright_pki::server_config(serving).unwrap();
    tls.send_replace(Some(TlsAcceptor::from(Arc::new(config))));

    let client = kubewright_pki::client_config(&authority.bundle(), None).unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, early).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let question = question("CREATE", pod("deny"), Value::Null);
    let request = Request::post("/validate").header("content-type", "application/json");
    let response = sender.send_request(request.body(Full::new(question.into())).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    stop.send_replace(true);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("not for jane"));
    server.await.unwrap();
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn callers_are_answered_only_if_the_authority_of_callers_vouches_for_them() {
    let now = SystemTime::now();
    let [servers, callers, others] =
        ["servers", "callers", "others"].map(|name| Authority::new(name, now).unwrap());
    let identity = servers.server(&["localhost"], &[], now).unwrap();
    let serving = Arc::new(ServingCertificate::new(&identity).unwrap());
    let tls = TlsAcceptor::from(Arc::new(kubewright_pki::server_config(serving).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shown, (stop, stopped)) = (watch::Sender::new(Some(tls)), watch::channel(false));
    let verifier = ClientVerifier::new(&callers.bundle()).unwrap();
    let secured = Some(Secured { shown: shown.subscribe(), callers: Some(verifier) });
    let server = tokio::spawn(serve(listener, secured, "webhooks", Arc::new(router()), stopped));

    let ask = async |identity: Option<&Identity>| -> Option<u16> {
        let config = kubewright_pki::client_config(&servers.bundle(), identity).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        let handshake = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.ok()?;
        let connection = tokio::spawn(connection);
        let question = question("CREATE", pod("deny"), Value::Null);
        let request = Request::post("/validate").header("content-type", "application/json");
        let answer = sender.send_request(request.body(Full::new(question.into())).unwrap()).await;
        connection.abort();
        answer.ok().map(|answer| answer.status().as_u16())
    };
    let known = callers.client("apiserver", &[] as &[&str], now).unwrap();
    let stranger = others.client("apiserver", &[] as &[&str], now).unwrap();
    assert_eq!(
        [ask(None).await, ask(Some(&stranger)).await, ask(Some(&known)).await],
        [None, None, Some(200)]
    );
    stop.send_replace(true);
    server.await.unwrap();
}

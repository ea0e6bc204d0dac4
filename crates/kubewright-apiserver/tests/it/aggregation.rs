//! Requests for the APIs of other servers: what gets there, what comes back, and what is said when nothing does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::TokioIo;
use kubewright_apiserver::authn::UserInfo;
use kubewright_pki::Authority;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use crate::backend::{Backend, Front, Request, Response, full, json_of};

const THINGS: &str = "/apis/far.io/v1/namespaces/default/things";

fn text(code: u16, text: &'static str) -> Response {
    http::Response::builder().status(code).body(full(text)).unwrap()
}

fn missing() -> Response {
    text(404, "")
}

/// A backend that keeps the heads of requests for things.
async fn remembering() -> (Backend, Arc<Mutex<Vec<http::request::Parts>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let backend = Backend::start(move |request: Request| {
        let kept = Arc::clone(&kept);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let sent = body.collect().await.map(|body| body.to_bytes().len());
            if !parts.uri.path().contains("things") {
                return missing();
            }
            kept.lock().unwrap().push(parts);
            json_of(&json!({"received": sent.ok()}))
        })
    })
    .await;
    (backend, heads)
}

#[tokio::test]
async fn a_request_arrives_with_who_it_is_from_and_not_with_who_it_says_it_is() {
    let (backend, heads) = remembering().await;
    let front = Front::of(&backend).await;
    let user = UserInfo::new("jane", &["dev", "system:authenticated"]);
    let request = http::Request::get(format!("{THINGS}?labelSelector=a%3Db"))
        .header("x-remote-user", "admin")
        .header("x-remote-group", "system:masters")
        .header("x-remote-extra-scopes", "all")
        .header("authorization", "Bearer secret")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = front.server.service(Some(user)).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let audit_id = response.headers()["audit-id"].clone();
    let heads = heads.lock().unwrap();
    let head = &heads[0];
    assert_eq!(head.uri.path(), THINGS);
    assert_eq!(head.uri.query(), Some("labelSelector=a%3Db"));
    assert_eq!(head.headers["x-remote-user"], "jane");
    let groups: Vec<_> = head.headers.get_all("x-remote-group").iter().collect();
    assert_eq!(groups, ["dev", "system:authenticated"]);
    for gone in ["x-remote-extra-scopes", "authorization", "x-hop", "connection"] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(head.headers["accept"], "application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_eq!(head.headers["audit-id"], audit_id);
    assert_eq!(backend.peers.lock().unwrap()[0], "front-proxy");
}

#[tokio::test]
async fn bodies_are_streamed_whatever_their_size() {
    let (backend, _) = remembering().await;
    let front = Front::of(&backend).await;
    // More than this server would read itself.
    let body = "x".repeat(8 << 20);
    let response = front.client.raw("POST", THINGS, "text/plain", &body).await;
    assert_eq!(response.status(), 200);
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap()["received"], body.len());
}

/// A backend whose watches give one line for each that the test sends.
async fn watched() -> (Backend, tokio::sync::broadcast::Sender<&'static str>) {
    let lines = tokio::sync::broadcast::Sender::new(8);
    let source = lines.clone();
    let backend = Backend::start(move |request: Request| {
        let lines = source.subscribe();
        Box::pin(async move {
            if !request.uri().path().contains("things") {
                return missing();
            }
            let lines = futures::stream::unfold(lines, |mut lines| async move {
                let line = lines.recv().await.ok()?;
                Some((Ok(http_body::Frame::data(Bytes::from(line))), lines))
            });
            http::Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)))
        })
    })
    .await;
    (backend, lines)
}

#[tokio::test]
async fn a_watch_gives_each_event_when_it_happens_and_breaks_when_the_backend_dies() {
    let (backend, lines) = watched().await;
    let front = Front::of(&backend).await;
    let response = front.client.raw("GET", &format!("{THINGS}?watch=true"), "", "").await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body().into_data_stream();
    for line in ["{\"type\":\"ADDED\"}\n", "{\"type\":\"DELETED\"}\n"] {
        lines.send(line).unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), line);
    }
    backend.stop();
    assert!(body.next().await.unwrap().is_err(), "the client sees that the watch broke");
    // And whoever comes next is told why, and then that there is no service.
    let (code, said) = front.client.get(THINGS).await;
    assert_eq!(code, 503);
    let said = said.as_str().unwrap();
    assert!(said.starts_with("error trying to reach service: ") || said == "service unavailable\n", "{said}");
    front.until(|remote| !remote.available).await;
    let condition = front.condition("False").await;
    assert_eq!(condition["reason"], "FailedDiscoveryCheck");
    let port = backend.address.port();
    let url = format!("https://127.0.0.1:{port}/apis/far.io/v1");
    assert_eq!(
        condition["message"],
        format!(
            "failing or missing response from {url}: Get \"{url}\": dial tcp 127.0.0.1:{port}: connect: connection \
             refused"
        )
    );
    assert_eq!(front.client.get(THINGS).await, (503, json!("service unavailable\n")));
}

#[tokio::test]
async fn a_watch_ends_when_the_server_stops() {
    let (backend, lines) = watched().await;
    let front = Front::of(&backend).await;
    let response = front.client.raw("GET", &format!("{THINGS}?watch=true"), "", "").await;
    let mut body = response.into_body().into_data_stream();
    lines.send("{}\n").unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "{}\n");
    front.server.shutdown();
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn a_redirect_is_neither_followed_nor_passed_on() {
    let backend = Backend::start(|request: Request| {
        let code = if request.uri().path().ends_with("/cached") { 304 } else { 307 };
        let response = http::Response::builder().status(code).header("x-other", "1");
        let response = if code == 307 { response.header("location", "https://192.0.2.1/") } else { response };
        std::future::ready(response.body(full("")).unwrap()).boxed()
    })
    .await;
    let front = Front::of(&backend).await;
    let response = front.client.raw("GET", THINGS, "", "").await;
    assert_eq!(response.status(), 502);
    assert!(!response.headers().contains_key("location") && !response.headers().contains_key("x-other"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "the backend attempted to redirect this request, which is not permitted");
    let unchanged = front.client.raw("GET", &format!("{THINGS}/cached"), "", "").await;
    assert_eq!(unchanged.status(), 304);
}

#[tokio::test]
async fn a_backend_that_nobody_vouches_for_is_not_talked_to() {
    let (backend, heads) = remembering().await;
    let other = Authority::new("others", std::time::SystemTime::now()).unwrap().bundle().to_pem();
    let front = Front::trusting(&backend, &other, Duration::from_secs(60)).await;
    let condition = front.condition("False").await;
    assert_eq!(condition["reason"], "FailedDiscoveryCheck");
    let message = condition["message"].as_str().unwrap();
    assert!(message.ends_with("x509: certificate signed by unknown authority"), "{message}");
    assert_eq!(front.client.get(THINGS).await, (503, json!("service unavailable\n")));
    assert!(heads.lock().unwrap().is_empty());
    // Unless it is said that this is what is wanted.
    let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1.far.io";
    let spec = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    assert_eq!(front.client.merge(path, spec).await.0, 200);
    front.until(|remote| remote.available).await;
    assert_eq!(front.client.get(THINGS).await.0, 200);
}

#[tokio::test]
async fn a_backend_that_hangs_costs_its_client_a_while_and_nobody_else_anything() {
    let backend = Backend::start(|request: Request| {
        Box::pin(async move {
            if request.uri().path().contains("things") {
                std::future::pending::<()>().await;
            }
            missing()
        })
    })
    .await;
    let front = Front::trusting(&backend, &backend.authority, Duration::from_millis(50)).await;
    front.until(|remote| remote.available).await;
    let (code, said) = front.client.get(THINGS).await;
    assert_eq!((code, &said["reason"]), (504, &json!("Timeout")));
    assert_eq!(front.client.get("/api/v1/namespaces/default").await.0, 200);
}

#[tokio::test]
async fn headers_go_through_up_to_a_limit() {
    let backend = Backend::start(|request: Request| {
        let long = request.headers().get("x-long").map_or(0, |value| value.len());
        let size = if request.uri().path().ends_with("/more") { 4 << 20 } else { long };
        let response = http::Response::builder().header("x-long", "y".repeat(size));
        std::future::ready(response.body(full("")).unwrap()).boxed()
    })
    .await;
    let front = Front::of(&backend).await;
    let send = |path: String, size: usize| {
        let request = http::Request::get(path).header("x-long", "x".repeat(size));
        let request = request.body(Full::new(Bytes::new())).unwrap();
        front.server.service(Some(UserInfo::server())).oneshot(request)
    };
    let response = send(THINGS.into(), 8000).await.unwrap();
    assert_eq!(response.headers()["x-long"].len(), 8000);
    let response = send(format!("{THINGS}/more"), 1).await.unwrap();
    assert_eq!(response.status(), 503);
    // It was one answer that was too long: the next is as good as ever.
    assert_eq!(send(THINGS.into(), 10).await.unwrap().headers()["x-long"].len(), 10);
}

/// A backend that echoes in capitals whatever follows an upgrade to `shout`.
async fn shouting() -> Backend {
    Backend::start(|mut request: Request| {
        Box::pin(async move {
            if request.headers().get("upgrade").is_none_or(|protocol| protocol != "shout") {
                return text(400, "no such protocol");
            }
            let user = request.headers()["x-remote-user"].clone();
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    if &buffer[..n] == b"bye" {
                        break;
                    }
                    let loud = buffer[..n].to_ascii_uppercase();
                    stream.write_all(&loud).await.unwrap();
                }
            });
            let response = http::Response::builder().status(101).header("upgrade", "shout");
            response.header("connection", "upgrade").header("x-user", user).body(full("")).unwrap()
        })
    })
    .await
}

#[tokio::test]
async fn a_connection_that_goes_on_in_another_protocol_is_passed_through() {
    let backend = shouting().await;
    let front = Front::of(&backend).await;
    let ask = |protocol: &'static str| {
        let request = http::Request::get(format!("{THINGS}/one/talk"))
            .header("connection", "Upgrade")
            .header("upgrade", protocol)
            .header("x-remote-user", "admin")
            .body(Full::new(Bytes::new()))
            .unwrap();
        front.server.service(Some(UserInfo::new("jane", &[]))).oneshot(request)
    };
    let mut response = ask("shout").await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "shout");
    assert_eq!(response.headers()["x-user"], "jane");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    for (said, heard) in [("hello", "HELLO"), ("who is there", "WHO IS THERE")] {
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut buffer = vec![0; heard.len()];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, heard.as_bytes());
    }
    stream.write_all(b"bye").await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "the other side is gone");

    let response = ask("whisper").await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no such protocol");
}

#[tokio::test]
async fn one_request_is_one_request_however_its_length_is_written() {
    let (backend, heads) = remembering().await;
    let front = Front::of(&backend).await;
    let listener = front.server.listen(([127, 0, 0, 1], 0).into(), None).await.unwrap();
    let smuggled = "GET /apis/far.io/v1/namespaces/kube-system/things HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}", 4),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunked}"),
        format!("Content-Length: 4\r\nContent-Length: {}\r\n\r\nabcd{smuggled}", 4 + smuggled.len()),
        format!("Transfer-Encoding: xchunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{chunked}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{chunked}"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(listener.address()).await.unwrap();
        let head = format!("POST {THINGS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answers = String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{}", String::from_utf8_lossy(&answer));
    }
    for head in heads.lock().unwrap().iter() {
        assert_eq!((head.method.as_str(), head.uri.path()), ("POST", THINGS));
    }
    assert!(!heads.lock().unwrap().is_empty(), "what is well-formed arrives");
}

#[tokio::test]
async fn discovery_and_openapi_are_one_document_for_all_servers() {
    let definition = json!({"type": "object",
        "x-kubernetes-group-version-kind": [{"group": "far.io", "version": "v1", "kind": "Thing"}]});
    let swagger = json!({"swagger": "2.0", "definitions": {"io.far.Thing": definition},
        "paths": {format!("{THINGS}"): {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/io.far.Thing"}}}}},
            "/api/v1/evil": {}}});
    let backend = Backend::start(move |request: Request| {
        let path = request.uri().path_and_query().unwrap().to_string();
        let url = json!({"serverRelativeURL": "/openapi/v3/apis/far.io/v1?hash=H"});
        let response = match path.as_str() {
            "/openapi/v3" => json_of(&json!({"paths": {"apis/far.io/v1": url}})),
            "/openapi/v2" => json_of(&swagger),
            "/openapi/v3/apis/far.io/v1?hash=H" => {
                let user = request.headers()["x-remote-user"].to_str().unwrap();
                json_of(&json!({"openapi": "3.0.0", "for": user}))
            }
            _ => missing(),
        };
        std::future::ready(response).boxed()
    })
    .await;
    let front = Front::of(&backend).await;
    let condition = front.condition("True").await;
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("Passed"), &json!("all checks passed"))
    );
    let aggregated = |front: &Front| {
        let request = http::Request::get("/apis")
            .header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
            .body(Full::new(Bytes::new()))
            .unwrap();
        let answer = front.server.service(Some(UserInfo::server())).oneshot(request);
        async move {
            let body = answer.await.unwrap().into_body().collect().await.unwrap().to_bytes();
            let document: Value = serde_json::from_slice(&body).unwrap();
            let groups = document["items"].as_array().unwrap().clone();
            groups.into_iter().find(|group| group["metadata"]["name"] == "far.io").unwrap()
        }
    };
    let version = &aggregated(&front).await["versions"][0];
    assert_eq!(
        (&version["freshness"], &version["resources"][0]["resource"]),
        (&json!("Current"), &json!("things"))
    );
    let (_, index) = front.client.get("/openapi/v3").await;
    let url = index["paths"]["apis/far.io/v1"]["serverRelativeURL"].as_str().unwrap().to_string();
    let (code, document) = front.client.get(&url).await;
    assert_eq!((code, &document["for"]), (200, &json!("system:apiserver")));
    let (_, merged) = front.client.get("/openapi/v2").await;
    assert_eq!(merged["definitions"]["io.far.Thing"]["type"], "object");
    assert!(merged["paths"][THINGS].is_object() && merged["paths"]["/api/v1/evil"].is_null());
    assert!(merged["paths"]["/api/v1/namespaces/{namespace}/services"].is_object());

    // Without its service nothing of it is left but its name.
    assert_eq!(front.client.delete("/api/v1/namespaces/default/services/far", Value::Null).await.0, 200);
    front.until(|remote| !remote.available).await;
    let version = &aggregated(&front).await["versions"][0];
    assert_eq!(*version, json!({"version": "v1", "freshness": "Stale"}));
    assert_eq!(front.condition("False").await["reason"], "ServiceNotFound");
    let (_, index) = front.client.get("/openapi/v3").await;
    assert!(index["paths"]["apis/far.io/v1"].is_null());
}

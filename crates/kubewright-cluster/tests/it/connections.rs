//! Connections that cost the server more than the client: slow ones, and HTTP/2 with streams without end. Each is cut
//! off, and others do not notice.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::wire::{Caller, cluster, codes};

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_head_that_comes_drop_by_drop_ends_the_connection() {
    let cluster = cluster(|c| c.limits.head_timeout = SOON).await;
    let mut wire = Caller::nobody(&cluster).connect().await;
    wire.send(b"GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    // It ends, without an answer that would be a success.
    let answers = wire.text().await;
    assert!(codes(&answers).iter().all(|code| *code == 408), "{answers}");
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_ends() {
    let cluster = cluster(|c| c.limits.head_timeout = SOON).await;
    let mut silent = Caller::nobody(&cluster).connect().await;
    assert_eq!(codes(&silent.text().await), [] as [u16; 0]);
    // Neither does it wait for a handshake.
    let mut stream = TcpStream::connect(cluster.address().expect("it listens")).await.expect("it listens");
    let mut nothing = Vec::new();
    let _ = stream.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn a_connection_that_is_kept_without_use_ends_and_one_with_a_watch_goes_on() {
    let cluster = cluster(|c| c.limits.idle_timeout = SOON).await;
    let admin = Caller::admin(&cluster);
    let mut watch = admin.connect().await;
    watch.send(b"GET /api/v1/namespaces?watch=true HTTP/1.1\r\nHost: x\r\n\r\n").await;
    for _ in 0..3 {
        let mut kept = admin.connect().await;
        kept.send(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(codes(&kept.text().await), [200], "it is answered, and closed by the server");
    }
    let namespace =
        serde_json::json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "late"}});
    assert_eq!(admin.post("/api/v1/namespaces", namespace).await.code, 201);
    let mut seen = String::new();
    while !seen.contains("\"late\"") {
        let more = watch.some().await;
        assert!(!more.is_empty(), "the watch goes on");
        seen.push_str(&String::from_utf8_lossy(&more));
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let cluster = cluster(|c| c.limits.request_timeout = SOON).await;
    let mut wire = Caller::admin(&cluster).connect().await;
    let head = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 1000\r\nConnection: close\r\n\r\n{";
    wire.send(head.as_bytes()).await;
    let answer = wire.text().await;
    assert_eq!(codes(&answer), [504], "{answer}");
    assert!(answer.contains("request did not complete within the allotted timeout"), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_for_an_impossible_time_is_told() {
    let cluster = cluster(|_| {}).await;
    let answer = Caller::admin(&cluster).get("/api/v1/namespaces?timeout=soon").await;
    assert_eq!(answer.code, 400);
    assert_eq!(
        answer.body["message"],
        "invalid timeout specified in the request URL - time: invalid duration \"soon\""
    );
}

#[tokio::test]
async fn a_server_that_goes_down_says_so_ends_watches_and_answers_what_it_has_begun() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let mut watch = admin.connect().await;
    watch.send(b"GET /api/v1/namespaces?watch=true HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("\"ADDED\"") {
        seen.extend(watch.some().await);
    }
    let mut begun = admin.connect().await;
    let body = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"m"}}"#;
    let head = format!(
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    begun.send(head.as_bytes()).await;
    let continues = String::from_utf8_lossy(&begun.some().await).into_owned();
    assert_eq!(codes(&continues), [100], "the server waits for the body");

    cluster.server().announce_shutdown();
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.code, 500);
    assert!(ready.body.to_string().contains("[-]shutdown failed"), "{}", ready.body);
    assert_eq!(admin.get("/livez").await.code, 200);
    assert_eq!(admin.get("/api/v1/namespaces").await.code, 200, "it still serves");

    let down = tokio::spawn(cluster.shutdown());
    assert!(watch.text().await.ends_with("0\r\n\r\n"), "a watch ends as it should");
    begun.send(body.as_bytes()).await;
    assert_eq!(codes(&begun.text().await), [201]);
    down.await.expect("it goes down");
}

/// HTTP/2 frames, by hand.
mod frames {
    pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
    /// END_STREAM and END_HEADERS.
    pub const WHOLE: u8 = 0x5;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("frames are short").to_be_bytes();
        let mut out = vec![length[1], length[2], length[3], kind, flags];
        out.extend(stream.to_be_bytes());
        out.extend(payload);
        out
    }

    /// `GET path` as header block: indexed fields, and literals without indexing.
    pub fn get(path: &str) -> Vec<u8> {
        let mut block = vec![0x82, 0x87];
        for (name, value) in [(0x04, path), (0x01, "localhost")] {
            block.push(name);
            block.push(u8::try_from(value.len()).expect("values are short"));
            block.extend(value.as_bytes());
        }
        block
    }

    /// Kind, stream and payload of the frames in some bytes.
    pub fn parse(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
        let mut found = Vec::new();
        while bytes.len() >= 9 {
            let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
            let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
            let Some(payload) = bytes.get(9..9 + length) else { break };
            found.push((bytes[3], stream, payload.to_vec()));
            bytes = &bytes[9 + length..];
        }
        found
    }
}

use frames::{CONTINUATION, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, WHOLE, frame, parse};

/// The error code of the last GOAWAY in what came.
fn goodbye(bytes: &[u8]) -> Option<u32> {
    let last = parse(bytes).into_iter().rfind(|(kind, ..)| *kind == GOAWAY)?.2;
    Some(u32::from_be_bytes(last.get(4..8)?.try_into().ok()?))
}

/// A connection that has agreed on HTTP/2.
async fn http2(caller: &Caller) -> crate::wire::Wire {
    let mut wire = caller.clone().http2().connect().await;
    wire.send(PREFACE).await;
    wire.send(&frame(SETTINGS, 0, 0, &[])).await;
    wire
}

#[tokio::test]
async fn streams_that_are_reset_as_fast_as_they_are_opened_end_the_connection() {
    let cluster = cluster(|_| {}).await;
    let caller = Caller::nobody(&cluster);
    let mut wire = http2(&caller).await;
    let mut flood = Vec::new();
    for n in 0..5000 {
        let stream = 2 * n + 1;
        flood.extend(frame(HEADERS, WHOLE, stream, &frames::get("/version")));
        flood.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    wire.send(&flood).await;
    let said = wire.rest().await;
    // ENHANCE_YOUR_CALM.
    assert_eq!(goodbye(&said), Some(0xb), "{:?}", parse(&said).last());
    assert_eq!(caller.get("/version").await.code, 200, "others do not notice");
}

#[tokio::test]
async fn more_streams_than_there_may_be_are_refused() {
    let cluster = cluster(|c| c.limits.max_streams = 10).await;
    let mut wire = http2(&Caller::admin(&cluster)).await;
    for n in 0..50 {
        let block = frames::get("/api/v1/namespaces?watch=true");
        wire.send(&frame(HEADERS, WHOLE, 2 * n + 1, &block)).await;
    }
    let mut said = Vec::new();
    let refused = loop {
        let more = wire.some().await;
        let ended = more.is_empty();
        said.extend(more);
        let refused = parse(&said).into_iter().filter(|(kind, _, code)| {
            // REFUSED_STREAM.
            *kind == RST_STREAM && code[..] == 7u32.to_be_bytes()
        });
        let refused = refused.count();
        if refused >= 40 || ended {
            break refused;
        }
    };
    assert_eq!(refused, 40);
}

#[tokio::test]
async fn a_head_that_goes_on_in_frames_without_end_ends_the_connection() {
    let cluster = cluster(|c| c.limits.max_header_bytes = 16 * 1024).await;
    let caller = Caller::nobody(&cluster);
    let mut wire = http2(&caller).await;
    // END_STREAM alone: the head goes on.
    let mut flood = frame(HEADERS, 0x1, 1, &frames::get("/version"));
    let mut field = vec![0x00, 1, b'x', 0x7f, 0x81, 0x1d];
    field.extend([b'a'; 4000 - 6 - 128]);
    for _ in 0..2000 {
        flood.extend(frame(CONTINUATION, 0, 1, &field));
    }
    wire.send(&flood).await;
    assert!(goodbye(&wire.rest().await).is_some_and(|code| code != 0));
    assert_eq!(caller.get("/version").await.code, 200);
}

#[tokio::test]
async fn who_may_not_have_more_requests_in_flight_is_told_to_come_again() {
    let cluster = cluster(|c| {
        c.limits.max_requests_in_flight = 0;
        c.limits.max_mutating_requests_in_flight = 1;
        c.limits.fairness = false;
    })
    .await;
    let answer = Caller::user(&cluster, "jane", &[]).get("/version").await;
    assert_eq!(answer.code, 429);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.body, "Too many requests, please try again later.\n");
    assert_eq!(Caller::admin(&cluster).get("/version").await.code, 200, "masters always get an answer");
}

#[tokio::test]
async fn answers_say_by_which_schema_and_level_they_were_let_in() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let uid =
        |answer: crate::wire::Answer| answer.body["metadata"]["uid"].as_str().unwrap_or_default().to_string();
    let group = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let schema = uid(admin.get(&format!("{group}/flowschemas/global-default")).await);
    let level = uid(admin.get(&format!("{group}/prioritylevelconfigurations/global-default")).await);
    let answer = Caller::user(&cluster, "jane", &[]).get("/version").await;
    assert_eq!(answer.headers["x-kubernetes-pf-flowschema-uid"], schema);
    assert_eq!(answer.headers["x-kubernetes-pf-prioritylevel-uid"], level);
    let exempt = uid(admin.get(&format!("{group}/flowschemas/exempt")).await);
    assert_eq!(admin.get("/version").await.headers["x-kubernetes-pf-flowschema-uid"], exempt);
}

//! Messages that two readers could take for different ones: what is not clearly one request is refused or ends the
//! connection, and never becomes a second request.

use crate::wire::{Caller, cluster, codes};

/// What the server says to these bytes, until it closes or the client has had its answers: a last, well-formed request
/// asks for that.
async fn said(bytes: &str) -> String {
    let cluster = cluster(|_| {}).await;
    let mut wire = Caller::nobody(&cluster).connect().await;
    wire.send(bytes.as_bytes()).await;
    wire.text().await
}

#[tokio::test]
async fn a_request_with_two_lengths_is_one_request_at_most() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    // The length covers what the chunks leave over: whoever goes by the length sees one request, whoever goes by the
    // chunks would see two.
    let both = format!(
        "POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let answers = said(&both).await;
    assert!(codes(&answers).len() <= 1, "{answers}");
    let other_way = format!(
        "POST /version HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nConnection: close\r\n\r\n0\r\n\r\n{smuggled}"
    );
    let answers = said(&other_way).await;
    assert!(codes(&answers).len() <= 1, "{answers}");
}

#[tokio::test]
async fn lengths_that_contradict_or_are_none_are_refused() {
    for lengths in [
        "Content-Length: 0\r\nContent-Length: 30",
        "Content-Length: 0, 30",
        "Content-Length: +5",
        "Content-Length: 0x10",
        "Content-Length: -1",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity\r\nContent-Length: 3",
    ] {
        let answers = said(&format!("POST /version HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\nabc")).await;
        assert_eq!(codes(&answers), [400], "{lengths}: {answers}");
    }
}

#[tokio::test]
async fn headers_that_fold_or_hide_are_refused() {
    for header in [
        "X-A: 1\r\n folded: 2",
        "X-A: 1\r\n\tfolded",
        "Content-Length : 5",
        " X-A: 1",
        "X A: 1",
        "X-A: a\0b",
        "X-A: a\rb",
        "no colon at all",
    ] {
        let answers = said(&format!("GET /version HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")).await;
        assert_eq!(codes(&answers), [400], "{header:?}: {answers}");
    }
}

#[tokio::test]
async fn a_bare_line_feed_ends_a_line_and_nothing_more() {
    // Lines may end so; what matters is that a value does not hold a line.
    let answers = said("GET /version HTTP/1.1\nHost: x\nX-A: 1\nConnection: close\n\n").await;
    assert!(codes(&answers).len() == 1, "{answers}");
    let hidden =
        "GET /version HTTP/1.1\r\nHost: x\r\nX-A: 1\nX-Remote-User: root\r\nConnection: close\r\n\r\n";
    let answers = said(hidden).await;
    assert!(codes(&answers).len() == 1, "{answers}");
}

#[tokio::test]
async fn chunks_that_are_no_chunks_do_not_become_requests() {
    for chunks in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "5\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
    ] {
        let request = format!(
            "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let answers = said(&request).await;
        assert!(codes(&answers).len() <= 1, "{chunks:?}: {answers}");
        assert!(!codes(&answers).contains(&201), "{chunks:?}: {answers}");
    }
}

#[tokio::test]
async fn heads_without_end_are_refused_in_time() {
    let cluster = cluster(|c| c.limits.max_header_bytes = 16 * 1024).await;
    let caller = Caller::nobody(&cluster);
    let mut wire = caller.connect().await;
    wire.send(format!("GET /version HTTP/1.1\r\nHost: x\r\nX-Long: {}", "a".repeat(64 * 1024)).as_bytes())
        .await;
    let answers = wire.text().await;
    assert_eq!(codes(&answers), [431], "{answers}");

    let many: String = (0..2000).map(|n| format!("X-{n}: a\r\n")).collect();
    let mut wire = caller.connect().await;
    wire.send(format!("GET /version HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).await;
    let answers = wire.text().await;
    assert_eq!(codes(&answers), [431], "{answers}");

    let mut wire = caller.connect().await;
    wire.send(format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70 * 1024)).as_bytes()).await;
    let answers = wire.text().await;
    assert!(matches!(codes(&answers)[..], [414 | 431]), "{answers}");
    assert_eq!(caller.get("/version").await.code, 200);
}

#[tokio::test]
async fn no_path_leads_out_of_where_it_is() {
    let cluster = cluster(|_| {}).await;
    let admin = Caller::admin(&cluster);
    let secret = serde_json::json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}});
    assert_eq!(admin.post("/api/v1/namespaces/kube-system/secrets", secret).await.code, 201);
    for path in [
        "/api/v1/namespaces/default/configmaps/../../kube-system/secrets/s",
        "/api/v1/namespaces/default/configmaps/..%2f..%2fkube-system%2fsecrets%2fs",
        "/api/v1/namespaces/default/secrets/..%2Fkube-system%2Fs",
        "/api/v1/namespaces/default%2f..%2fkube-system/secrets/s",
        "/api/v1/namespaces/../secrets/s",
        "/api/v1/namespaces/default/secrets/%2e%2e",
        "/api/v1/namespaces/default/secrets/.",
        "/openapi/v3/../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%00",
        "/api/v1/namespaces/default/secrets/s%00",
    ] {
        let answer = admin.get(path).await;
        assert!(matches!(answer.code, 400 | 404 | 405), "{path}: {} {}", answer.code, answer.body);
        assert_ne!(answer.body["kind"], "Secret", "{path}");
    }
    // What is authorized is what is served: a user of one namespace stays there.
    let eve = Caller::user(&cluster, "eve", &[]);
    for path in [
        "/api/v1/namespaces/default%2fsecrets/x",
        "//api/v1/secrets",
        "/./api/v1/secrets",
        "/version/../api/v1/secrets",
    ] {
        let answer = eve.get(path).await;
        assert!(matches!(answer.code, 400 | 403 | 404), "{path}: {} {}", answer.code, answer.body);
    }
}

//! Bodies, and what is asked of answers, that a server refuses before it looks at the object: in the words of a real
//! one.

use kubewright_apiserver::authn::UserInfo;
use kubewright_apiserver::server::Server;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::server::{self, send_as};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// Sends a text; the code and the message of the answer.
async fn say(server: &Server, method: &str, uri: &str, content_type: &str, text: &str) -> (u16, String) {
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", content_type)
        .body(http_body_util::Full::new(bytes::Bytes::copy_from_slice(text.as_bytes())))
        .expect("the request is well-formed");
    let response = server.service(Some(UserInfo::server())).oneshot(request).await.expect("the server runs");
    let code = response.status().as_u16();
    let body =
        http_body_util::BodyExt::collect(response.into_body()).await.expect("the body ends").to_bytes();
    let body: Value = serde_json::from_slice(&body).expect("the answer is JSON");
    (code, body["message"].as_str().unwrap_or_default().to_string())
}

#[tokio::test]
async fn a_body_of_which_no_kind_can_be_told_is_refused_as_such() {
    let server = server::start().await;
    let start = "the object provided is unrecognized (must be of type ConfigMap): ";
    let no_kind = "couldn't get version/kind; json parse error: ";
    let not_of_type = r#" into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    for (content_type, body, why) in [
        (JSON, "", format!("{no_kind}unexpected end of JSON input (<empty>)")),
        (JSON, "{", format!("{no_kind}unexpected end of JSON input ({{)")),
        (JSON, "[]", format!("{no_kind}json: cannot unmarshal array{not_of_type} (5b5d)")),
        (JSON, "\"x\"", format!("{no_kind}json: cannot unmarshal string{not_of_type} (227822)")),
        (YAML, "- a", format!("{no_kind}json: cannot unmarshal array{not_of_type} (2d2061)")),
        (
            JSON,
            r#"{"kind":1}"#,
            format!(
                "{no_kind}json: cannot unmarshal number into Go struct field .kind of type string ({{\"kind\":1}})"
            ),
        ),
        (
            JSON,
            r#"{"apiVersion":"a/b/c"}"#,
            "unexpected GroupVersion string: a/b/c ({\"apiVersion\":\"a/b/c\"})".to_string(),
        ),
    ] {
        let (code, message) = say(&server, "POST", MAPS, content_type, body).await;
        assert_eq!((code, message), (400, format!("{start}{why}")), "{body}");
    }
}

#[tokio::test]
async fn a_body_that_is_null_is_an_object_without_fields() {
    let server = server::start().await;
    for (content_type, body) in [(JSON, "null"), (YAML, ""), (YAML, "---\n")] {
        let (code, message) = say(&server, "POST", MAPS, content_type, body).await;
        assert_eq!(code, 422, "{message}");
        assert!(
            message.ends_with("metadata.name: Required value: name or generateName is required"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn options_of_a_deletion_are_decoded_as_strictly_as_an_object() {
    let server = server::start().await;
    let no_kind = "couldn't get version/kind; json parse error: ";
    let field = "into Go struct field";
    for (body, why) in [
        ("{bad", format!("{no_kind}invalid character 'b' looking for beginning of object key string")),
        (
            r#"{"gracePeriodSeconds":"1"}"#,
            format!("json: cannot unmarshal string {field} DeleteOptions.gracePeriodSeconds of type int64"),
        ),
        (
            r#"{"gracePeriodSeconds":1.5}"#,
            format!(
                "json: cannot unmarshal number 1.5 {field} DeleteOptions.gracePeriodSeconds of type int64"
            ),
        ),
        (
            r#"{"propagationPolicy":[]}"#,
            format!(
                "json: cannot unmarshal array {field} DeleteOptions.propagationPolicy of type v1.DeletionPropagation"
            ),
        ),
        (
            r#"{"preconditions":{"uid":1}}"#,
            format!(
                "json: cannot unmarshal number {field} Preconditions.preconditions.uid of type types.UID"
            ),
        ),
        (
            r#"{"dryRun":[1]}"#,
            format!("json: cannot unmarshal number {field} DeleteOptions.dryRun of type string"),
        ),
    ] {
        let (code, message) = say(&server, "DELETE", &format!("{MAPS}/x"), JSON, body).await;
        assert_eq!((code, message), (400, why), "{body}");
    }
}

#[tokio::test]
async fn an_empty_list_of_owners_forgets_them_whichever_way_it_comes() {
    let server = server::start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "1"}});
    let one = format!("{MAPS}/x");
    let merge = "application/merge-patch+json";
    let empty = json!({"metadata": {"managedFields": []}});
    for (method, content_type) in [("PATCH", merge), ("PUT", JSON)] {
        let applied = format!("{one}?fieldManager=a&force=true");
        let (_, before) = send_as(&server, "PATCH", &applied, "application/apply-patch+yaml", &map).await;
        assert!(before["metadata"]["managedFields"].is_array(), "{before}");
        let mut body = if method == "PUT" { map.clone() } else { empty.clone() };
        body["metadata"]["managedFields"] = json!([]);
        let (code, after) = send_as(&server, method, &one, content_type, &body).await;
        assert_eq!((code, after["metadata"].get("managedFields")), (200, None), "{method}: {after}");
    }
}

#[tokio::test]
async fn a_watch_is_not_written_in_yaml() {
    let server = server::start().await;
    let request = http::Request::builder()
        .uri(format!("{MAPS}?watch=1"))
        .header("accept", YAML)
        .body(http_body_util::Full::default())
        .expect("the request is well-formed");
    let response = server.service(Some(UserInfo::server())).oneshot(request).await.expect("the server runs");
    assert_eq!(response.status(), 406);
    let body =
        http_body_util::BodyExt::collect(response.into_body()).await.expect("the body ends").to_bytes();
    let status = kubewright_machinery::decode::yaml(&body).expect("the answer is YAML").value;
    let types = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    assert!(status["message"].as_str().is_some_and(|message| message.contains(types)), "{status}");
}

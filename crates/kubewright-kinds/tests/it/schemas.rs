//! One object of each kind that can be created, held against the published schemas of Kubernetes: what the server
//! defaults, stores and serves has no unknown field, no wrong type and lacks nothing that is required.
//!
//! The schemas are those of the Python package kubernetes-validate, which `cargo xtask test` fetches. Where it is not
//! there the objects are still created and read, and the test says that nothing validated them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use kubewright_apiserver::server::Server;
use serde_json::Value;

use crate::server::{self, send_as};

const OBJECTS: &str = include_str!("one_of_each.json");
const VERSION: &str = "1.36";

async fn send(server: &Server, method: &str, uri: &str, body: &Value) -> (u16, Value) {
    send_as(server, method, uri, "application/json", body).await
}

/// The resources of discovery that can be created: API version, kind, plural, whether they are in a namespace.
async fn creatable(server: &Server) -> BTreeSet<(String, String, String, bool)> {
    let (_, groups) = send(server, "GET", "/apis", &Value::Null).await;
    let versions = groups["groups"].as_array().into_iter().flatten();
    let versions = versions.flat_map(|group| group["versions"].as_array().into_iter().flatten());
    let mut paths = vec!["/api/v1".to_string()];
    paths.extend(versions.filter_map(|v| v["groupVersion"].as_str()).map(|v| format!("/apis/{v}")));
    let mut found = BTreeSet::new();
    for path in paths {
        let (_, list) = send(server, "GET", &path, &Value::Null).await;
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        for resource in list["resources"].as_array().into_iter().flatten() {
            let verbs = resource["verbs"].as_array().into_iter().flatten();
            if verbs.into_iter().any(|verb| verb == "create") && !text(&resource["name"]).contains('/') {
                let namespaced = resource["namespaced"] == true;
                found.insert((
                    text(&list["groupVersion"]),
                    text(&resource["kind"]),
                    text(&resource["name"]),
                    namespaced,
                ));
            }
        }
    }
    found
}

#[tokio::test]
async fn objects_of_every_kind_obey_the_published_schemas() {
    let server = server::start().await;
    let objects: Vec<Value> = serde_json::from_str(OBJECTS).expect("it is JSON");
    let mut kinds = creatable(&server).await;
    let mut served = Vec::new();
    for object in &objects {
        let text = |name: &str| object[name].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let resource = kinds.iter().find(|(v, k, ..)| v == version && k == kind).cloned();
        let resource =
            resource.unwrap_or_else(|| panic!("there are two of {version} {kind}, or it is not served"));
        kinds.remove(&resource);
        let (_, _, plural, namespaced) = resource;
        let root = if version.contains('/') { "/apis" } else { "/api" };
        let namespace = if namespaced { "/namespaces/default" } else { "" };
        let path = format!("{root}/{version}{namespace}/{plural}");
        let (code, made) = send(&server, "POST", &path, object).await;
        assert_eq!(code, 201, "{version} {kind}: {made}");
        let name = made["metadata"]["name"].as_str().unwrap_or_default();
        // Reviews and bindings are answered and not kept.
        let (code, read) = send(&server, "GET", &format!("{path}/{name}"), &Value::Null).await;
        served.push(if code == 200 && !name.is_empty() { read } else { made });
    }
    server.shutdown();
    // A Binding is answered by a Status, which has no schema of its own.
    let before = served.len();
    served.retain(|object| object["kind"] != "Status");
    assert_eq!(before - served.len(), 1);
    assert!(kinds.is_empty(), "kinds without an object: {kinds:?}");

    let Some(library) = std::env::var_os("KUBEWRIGHT_KUBERNETES_VALIDATE") else {
        return eprintln!("not validated: `cargo xtask test` fetches the schemas");
    };
    let mut python = Command::new("python3")
        .args(["-c", include_str!("validate.py"), VERSION])
        .env("PYTHONPATH", library)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is on the PATH");
    let mut input = python.stdin.take().expect("it is a pipe");
    let lines: String = served.iter().map(|object| format!("{object}\n")).collect();
    // What it writes meanwhile, a line a fault, fits into the pipe.
    input.write_all(lines.as_bytes()).expect("it reads");
    drop(input);
    let output = python.wait_with_output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.trim_end(), format!("{} objects", served.len()));
}

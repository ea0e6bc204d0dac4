//! A server with two plain kinds, and a client of few words.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use kubewright_apiserver::authn::UserInfo;
use kubewright_apiserver::resources::{Generation, Resource, WriteRules};
use kubewright_apiserver::server::{InProcess, Response, Server, ServerConfig};
use kubewright_storage::MemoryStore;
use serde_json::Value;
use tower::ServiceExt as _;

/// A server that knows ConfigMaps and a cluster-scoped kind with a generation.
pub async fn server() -> Server {
    let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
    config.resources.push(Arc::new(Resource::stored("", "v1", "ConfigMap", "configmaps", true)));
    let rules = WriteRules {
        generation: Generation::Fields(vec!["spec".into()]),
        unconditional_update: false,
        ..WriteRules::default()
    };
    let boxes = Resource { rules, ..Resource::stored("test.example.com", "v1", "Box", "boxes", false) };
    config.resources.push(Arc::new(boxes));
    Server::new(config).await.expect("the store is in memory")
}

/// What asks for a table.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Sends requests as an administrator.
#[derive(Clone)]
pub struct Client(pub InProcess);

impl Client {
    pub fn of(server: &Server) -> Self {
        Self(server.service(Some(UserInfo::server())))
    }

    pub async fn raw(&self, method: &str, path: &str, content_type: &str, body: &str) -> Response {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("user-agent", "tester/1")
            .header("content-type", content_type)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .expect("tests send well-formed requests");
        self.0.clone().oneshot(request).await.expect("the server runs")
    }

    pub async fn send(&self, method: &str, path: &str, content_type: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        read(self.raw(method, path, content_type, &body).await).await
    }

    /// Sends nothing, and takes the answer in one form.
    pub async fn accepting(&self, method: &str, path: &str, accept: &str) -> (u16, Value) {
        let request = http::Request::builder().method(method).uri(path).header("accept", accept);
        let request = request.body(Full::new(Bytes::new())).expect("tests send well-formed requests");
        read(self.0.clone().oneshot(request).await.expect("the server runs")).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("POST", path, "application/json", &body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("PUT", path, "application/json", &body).await
    }

    pub async fn merge(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("PATCH", path, "application/merge-patch+json", &body).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("DELETE", path, "application/json", &body).await
    }
}

async fn read(response: Response) -> (u16, Value) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("the body ends").to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()))
}

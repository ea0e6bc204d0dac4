//! What a cluster starts with: the built-in kinds, their admission, and the objects that every cluster has.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use ipnet::Ipv4Net;
use kubewright_apiserver::authn::UserInfo;
use kubewright_apiserver::server::{Server, ServerConfig};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::config::first;
use crate::{ClusterConfig, ClusterError, nodes};

/// Adds the built-in kinds and their policies to a server's configuration.
pub(crate) fn kinds(server: &mut ServerConfig, config: &ClusterConfig, service_range: Ipv4Net) {
    let _ = config;
    let options = kubewright_kinds::Options::new(service_range.into());
    server.resources = kubewright_kinds::resources(&options).into_iter().map(Arc::new).collect();
    server.body_decoders.push(Arc::new(kubewright_kinds::protobuf::Protobuf));
}

/// The objects that there are before anybody asks.
pub(crate) fn objects(config: &ClusterConfig, service_range: Ipv4Net) -> Vec<Value> {
    let mut objects: Vec<Value> = ["default", "kube-node-lease", "kube-public", "kube-system"]
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .into();
    objects.push(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": first(service_range).to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]},
    }));
    if config.controllers {
        objects.extend((0..config.nodes).filter_map(|index| serde_json::to_value(nodes::named(index)).ok()));
    }
    objects
}

/// Creates objects as the server itself; those that are there already stay as they are.
pub(crate) async fn install(server: &Server, objects: &[Value]) -> Result<(), ClusterError> {
    let service = server.service(Some(UserInfo::server()));
    let table = server.core().table();
    for object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        let name = format!("{kind} {}", text(&object["metadata"]["name"]));
        let refused = |answer: String| ClusterError::Bootstrap { object: name.clone(), answer };
        let resource =
            table.by_kind(group, version, &kind).ok_or_else(|| refused("the kind is not served".into()))?;
        let root = if group.is_empty() { "/api" } else { "/apis" };
        let scope = match object["metadata"]["namespace"].as_str() {
            Some(namespace) if resource.namespaced => format!("/namespaces/{namespace}"),
            _ => String::new(),
        };
        let request = http::Request::post(format!("{root}/{api_version}{scope}/{}", resource.plural))
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json")
            .body(Full::from(object.to_string()))
            .map_err(|error| refused(error.to_string()))?;
        let response = service.clone().oneshot(request).await.map_err(|error| refused(error.to_string()))?;
        let status = response.status();
        if !status.is_success() && status != http::StatusCode::CONFLICT {
            let body = response.into_body().collect().await.map_err(|error| refused(error.to_string()))?;
            return Err(refused(String::from_utf8_lossy(&body.to_bytes()).into_owned()));
        }
    }
    Ok(())
}

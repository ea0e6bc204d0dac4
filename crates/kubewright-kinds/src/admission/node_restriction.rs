//! `NodeRestriction`: a kubelet writes its own Node, the Pods on it and what belongs to them, and gives itself no rights
//! by what it writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::field::quote;
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::unreadable;
use crate::access::{node_of, references};
use crate::fields::{at, entries, flag, items, same, text};

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
/// Labels of kubernetes.io that kubelets set.
const LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct NodeRestriction;

impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        match node_of(attributes.user) {
            None => ready(Ok(())),
            Some("") => {
                let who = quote(&attributes.user.name);
                ready(Err(attributes.forbidden(format!("could not determine node from user {who}"))))
            }
            Some(_) => Box::pin(check(attributes)),
        }
    }
}

async fn check(attributes: &Attributes<'_>) -> Result<(), Status> {
    let node = node_of(attributes.user).unwrap_or_default();
    let subresource = attributes.subresource_name();
    match (&*attributes.resource.group, &*attributes.resource.plural) {
        ("", "pods") => match subresource {
            "" => pod(attributes, node).await,
            "status" => pod_status(attributes, node),
            "eviction" => eviction(attributes, node).await,
            other => Err(attributes.forbidden(format!(
                "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                quote(other)
            ))),
        },
        ("", "nodes") => own_node(attributes, node),
        ("", "persistentvolumeclaims") if subresource == "status" => claim_status(attributes, node),
        ("", "persistentvolumeclaims") => Err(attributes.forbidden("may only update PVC status")),
        ("", "serviceaccounts") if subresource == "token" => token(attributes, node).await,
        ("coordination.k8s.io", "leases") => {
            if attributes.namespace != LEASES {
                let why = format!("can only access leases in the {} system namespace", quote(LEASES));
                return Err(attributes.forbidden(why));
            }
            named_like(
                attributes,
                node,
                "can only access node lease with the same name as the requesting node",
            )
        }
        ("storage.k8s.io", "csinodes") => {
            named_like(attributes, node, "can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => slice(attributes, node),
        _ => Ok(()),
    }
}

/// The pod that a write is about, as it is.
async fn stored_pod(attributes: &Attributes<'_>, name: &str) -> Result<Arc<Value>, Status> {
    let found = attributes.core.reader().get("", "pods", attributes.namespace, name).await;
    found.map_err(unreadable)?.ok_or_else(|| Status::not_found("", "pods", name))
}

async fn pod(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let shown = quote(node);
    match attributes.operation {
        Operation::Create => new_pod(attributes, node).await,
        Operation::Delete => {
            let pod = stored_pod(attributes, attributes.name).await?;
            if text(&pod, &["spec", "nodeName"]) == node {
                return Ok(());
            }
            Err(attributes
                .forbidden(format!("node {shown} can only delete pods with spec.nodeName set to itself")))
        }
        other => Err(attributes.forbidden(format!(
            "unexpected operation {}, node {shown} can only create and delete mirror pods",
            quote(other.as_str())
        ))),
    }
}

async fn new_pod(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let Some(pod) = &attributes.object else { return Ok(()) };
    let shown = quote(node);
    let refuse = |why: String| Err(attributes.forbidden(why));
    if at(pod, &["metadata", "annotations", MIRROR]).is_null() {
        return refuse(format!(
            "pod does not have {} annotation, node {shown} can only create mirror pods",
            quote(MIRROR)
        ));
    }
    if text(pod, &["spec", "nodeName"]) != node {
        return refuse(format!("node {shown} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match items(pod, &["metadata", "ownerReferences"]) {
        [] => {
            return refuse(format!(
                "node {shown} can only create pods with an owner reference set to itself"
            ));
        }
        [owner] => owner,
        _ => {
            return refuse(format!(
                "node {shown} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if (text(owner, &["apiVersion"]), text(owner, &["kind"]), text(owner, &["name"])) != ("v1", "Node", node)
    {
        return refuse(format!("node {shown} can only create pods with an owner reference set to itself"));
    }
    if !flag(owner, &["controller"]) {
        return refuse(format!(
            "node {shown} can only create pods with a controller owner reference set to itself"
        ));
    }
    if flag(owner, &["blockOwnerDeletion"]) {
        return refuse(format!("node {shown} must not set blockOwnerDeletion on an owner reference"));
    }
    let found = attributes.core.reader().get("", "nodes", "", node).await.map_err(unreadable)?;
    let found = found.ok_or_else(|| Status::not_found("", "nodes", node))?;
    let (expected, got) = (text(owner, &["uid"]), meta::uid(&found));
    if expected != got {
        return refuse(format!("node {node} UID mismatch: expected {expected} got {got}"));
    }
    let refers = references::of_pod(pod);
    let bundles = || {
        let projected = items(pod, &["spec", "volumes"]).iter();
        let mut sources = projected.flat_map(|volume| items(volume, &["projected", "sources"]));
        sources.any(|source| !at(source, &["clusterTrustBundle"]).is_null())
    };
    let claims =
        items(pod, &["spec", "volumes"]).iter().any(|v| !at(v, &["persistentVolumeClaim"]).is_null());
    for (what, does) in [
        ("a service account", !text(pod, &["spec", "serviceAccountName"]).is_empty()),
        ("secrets", !refers.secrets.is_empty()),
        ("configmaps", !refers.config_maps.is_empty()),
        ("clustertrustbundles", bundles()),
        ("persistentvolumeclaims", claims),
    ] {
        if does {
            return refuse(format!("node {shown} can not create pods that reference {what}"));
        }
    }
    Ok(())
}

fn pod_status(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let shown = quote(node);
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old) else {
        let operation = quote(attributes.operation.as_str());
        return Err(attributes.forbidden(format!("unexpected operation {operation}")));
    };
    let why = if text(old, &["spec", "nodeName"]) != node {
        format!("node {shown} can only update pod status for pods with spec.nodeName set to itself")
    } else if !same(at(new, &["metadata", "labels"]), at(old, &["metadata", "labels"])) {
        format!("node {shown} cannot update labels through pod status")
    } else if !same(
        at(new, &["status", "resourceClaimStatuses"]),
        at(old, &["status", "resourceClaimStatuses"]),
    ) {
        format!("node {shown} cannot update resource claim statues")
    } else {
        return Ok(());
    };
    Err(attributes.forbidden(why))
}

async fn eviction(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let named = attributes.object.as_ref().map_or("", meta::name);
    let name = if attributes.name.is_empty() { named } else { attributes.name };
    if name.is_empty() {
        return Err(attributes.forbidden("could not determine pod from request data"));
    }
    let pod = stored_pod(attributes, name).await?;
    if text(&pod, &["spec", "nodeName"]) == node {
        return Ok(());
    }
    Err(attributes.forbidden(format!("node {node} can only evict pods with spec.nodeName set to itself")))
}

fn own_node(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let shown = quote(node);
    let named = attributes.object.as_ref().map_or("", meta::name);
    let name = if attributes.name.is_empty() { named } else { attributes.name };
    if name != node {
        return Err(
            attributes.forbidden(format!("node {shown} is not allowed to modify node {}", quote(name)))
        );
    }
    let Some(new) = &attributes.object else { return Ok(()) };
    let source = |node: &Value| at(node, &["spec", "configSource"]).clone();
    match &attributes.old {
        None => {
            if !source(new).is_null() {
                return Err(attributes.forbidden(format!(
                    "node {shown} is not allowed to create pods with a non-nil configSource"
                )));
            }
            let labels = forbidden_labels(new, &Value::Null);
            if !labels.is_empty() {
                return Err(attributes.forbidden(format!(
                    "node {shown} is not allowed to set the following labels: {}",
                    labels.join(", ")
                )));
            }
        }
        Some(old) => {
            if !source(new).is_null() && source(new) != source(old) {
                return Err(attributes.forbidden(format!(
                    "node {shown} is not allowed to update configSource to a new non-nil configSource"
                )));
            }
            if !same(at(new, &["spec", "taints"]), at(old, &["spec", "taints"])) {
                return Err(attributes.forbidden(format!("node {shown} is not allowed to modify taints")));
            }
            let labels = forbidden_labels(new, old);
            if !labels.is_empty() {
                return Err(
                    attributes.forbidden(format!("is not allowed to modify labels: {}", labels.join(", ")))
                );
            }
        }
    }
    Ok(())
}

/// Labels that differ and that a kubelet may not touch, sorted.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let labels = |object: &Value| -> BTreeSet<(String, String)> {
        entries(object, &["metadata", "labels"])
            .map(|(key, value)| (key.to_string(), value.as_str().unwrap_or_default().to_string()))
            .collect()
    };
    let (new, old) = (labels(new), labels(old));
    let changed: BTreeSet<&String> = new.symmetric_difference(&old).map(|(key, _)| key).collect();
    changed.into_iter().filter(|key| is_forbidden(key)).cloned().collect()
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let below = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if below("node-restriction.kubernetes.io") {
        return true;
    }
    let kubelets = LABELS.contains(&label) || below("kubelet.kubernetes.io") || below("node.kubernetes.io");
    (below("kubernetes.io") || below("k8s.io")) && !kubelets
}

fn claim_status(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old) else {
        let operation = quote(attributes.operation.as_str());
        return Err(attributes.forbidden(format!("unexpected operation {operation}")));
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in ["resourceVersion", "managedFields"] {
            meta::remove(&mut claim, field);
        }
        if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
            for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
                status.remove(field);
            }
        }
        claim
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    Err(attributes.forbidden(format!(
        "node {} is not allowed to update fields other than status.capacity and status.conditions",
        quote(node)
    )))
}

/// Tokens are for pods on the node alone.
async fn token(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let Some(request) = attributes.object.as_ref().filter(|_| attributes.operation == Operation::Create)
    else {
        return Ok(());
    };
    let bound = at(request, &["spec", "boundObjectRef"]);
    let (name, uid) = (text(bound, &["name"]), text(bound, &["uid"]));
    if (text(bound, &["apiVersion"]), text(bound, &["kind"])) != ("v1", "Pod") || name.is_empty() {
        return Err(attributes.forbidden("node requested token not bound to a pod"));
    }
    if uid.is_empty() {
        return Err(attributes.forbidden("node requested token with a pod binding without a uid"));
    }
    let pod = stored_pod(attributes, name).await?;
    if uid != meta::uid(&pod) {
        return Err(attributes.forbidden(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        )));
    }
    if text(&pod, &["spec", "nodeName"]) != node {
        return Err(attributes.forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    Ok(())
}

fn named_like(attributes: &Attributes<'_>, node: &str, why: &str) -> Result<(), Status> {
    let name = match (&attributes.object, attributes.operation) {
        (Some(object), Operation::Create) => meta::name(object),
        _ => attributes.name,
    };
    if name == node { Ok(()) } else { Err(attributes.forbidden(why)) }
}

fn slice(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let of = |slice: &Value| text(slice, &["spec", "nodeName"]) == node;
    match (attributes.operation, &attributes.object, &attributes.old) {
        (Operation::Create, Some(new), _) if !of(new) => Err(attributes
            .forbidden("can only create ResourceSlice with the same NodeName as the requesting node")),
        (Operation::Delete, _, Some(old)) if !of(old) => Err(attributes
            .forbidden("can only delete ResourceSlice with the same NodeName as the requesting node")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use kubewright_apiserver::authn::UserInfo;
    use kubewright_apiserver::server::{Server, ServerConfig};
    use kubewright_storage::MemoryStore;
    use serde_json::json;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{Options, resources};

    async fn server() -> Server {
        let mut config = ServerConfig::new(Arc::new(MemoryStore::default()));
        let options = Options::new("10.0.0.0/24".parse().expect("a range"));
        config.resources = resources(&options).into_iter().map(Arc::new).collect();
        config.admission = vec![Arc::new(NodeRestriction)];
        Server::new(config).await.expect("the store is in memory")
    }

    async fn send(
        server: &Server,
        user: &UserInfo,
        method: &str,
        path: &str,
        body: Value,
    ) -> (u16, String, Value) {
        let request = http::Request::builder().method(method).uri(path);
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = request.header("content-type", kind);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(Full::new(bytes::Bytes::from(body))).expect("a request");
        let answer = server.service(Some(user.clone())).oneshot(request).await.expect("the server runs");
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        (code, said["message"].as_str().unwrap_or_default().to_string(), said)
    }

    fn kubelet(node: &str) -> UserInfo {
        UserInfo::new(format!("system:node:{node}"), &["system:nodes"])
    }

    fn node(name: &str, labels: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    }

    #[tokio::test]
    async fn a_kubelet_writes_its_own_node_and_neither_its_taints_nor_labels_of_others() {
        let (server, n1) = (server().await, kubelet("n1"));
        let (code, why, _) = send(&server, &n1, "POST", "/api/v1/nodes", node("n2", json!({}))).await;
        assert_eq!(code, 403);
        assert!(why.ends_with("node \"n1\" is not allowed to modify node \"n2\""), "{why}");
        let bad = json!({"node-restriction.kubernetes.io/a": "b", "node-role.kubernetes.io/x": ""});
        let (code, why, _) = send(&server, &n1, "POST", "/api/v1/nodes", node("n1", bad)).await;
        assert_eq!(code, 403);
        assert!(
            why.ends_with(
                "the following labels: node-restriction.kubernetes.io/a, node-role.kubernetes.io/x"
            ),
            "{why}"
        );
        let good = json!({"kubernetes.io/hostname": "n1", "node.kubernetes.io/x": "y", "own": "label"});
        assert_eq!(send(&server, &n1, "POST", "/api/v1/nodes", node("n1", good)).await.0, 201);
        let taint = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
        let (code, why, _) = send(&server, &n1, "PATCH", "/api/v1/nodes/n1", taint).await;
        assert_eq!(code, 403);
        assert!(why.ends_with("is not allowed to modify taints"), "{why}");
        let label = json!({"metadata": {"labels": {"k8s.io/x": "y"}}});
        let (code, why, _) = send(&server, &n1, "PATCH", "/api/v1/nodes/n1", label).await;
        assert_eq!((code, why.ends_with("is not allowed to modify labels: k8s.io/x")), (403, true));
        assert_eq!(send(&server, &n1, "DELETE", "/api/v1/nodes/n1", Value::Null).await.0, 200);
    }

    #[tokio::test]
    async fn a_kubelet_makes_mirror_pods_of_its_own_that_refer_to_nothing() {
        let (server, n1) = (server().await, kubelet("n1"));
        let (_, _, own) = send(&server, &n1, "POST", "/api/v1/nodes", node("n1", json!({}))).await;
        let uid = own["metadata"]["uid"].clone();
        let pod = |annotations: Value, spec: Value| {
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "static", "annotations": annotations, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true},
                ]},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
            });
            for (key, value) in spec.as_object().expect("an object") {
                pod["spec"][key] = value.clone();
            }
            pod
        };
        let at = "/api/v1/namespaces/default/pods";
        let mirror = json!({MIRROR: "x"});
        for (bad, why) in [
            (pod(json!({}), json!({})), "can only create mirror pods"),
            (pod(mirror.clone(), json!({"nodeName": "n2"})), "with spec.nodeName set to itself"),
            (pod(mirror.clone(), json!({"serviceAccountName": "x"})), "that reference a service account"),
            (
                pod(mirror.clone(), json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]})),
                "that reference secrets",
            ),
        ] {
            let (code, said, _) = send(&server, &n1, "POST", at, bad).await;
            assert_eq!(code, 403, "{why}");
            assert!(said.ends_with(why), "{said}");
        }
        let (code, said, _) = send(&server, &n1, "POST", at, pod(mirror, json!({}))).await;
        assert_eq!(code, 201, "{said}");
        let status = json!({"status": {"phase": "Running"}});
        let path = format!("{at}/static/status");
        assert_eq!(send(&server, &n1, "PATCH", &path, status.clone()).await.0, 200);
        assert_eq!(send(&server, &kubelet("n2"), "PATCH", &path, status).await.0, 403);
        let path = format!("{at}/static");
        assert_eq!(send(&server, &kubelet("n2"), "DELETE", &path, Value::Null).await.0, 403);
        assert_eq!(send(&server, &n1, "DELETE", &path, Value::Null).await.0, 200);
    }

    #[tokio::test]
    async fn a_kubelet_has_its_own_lease_and_others_are_not_asked() {
        let server = server().await;
        let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}});
        let at = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let (n1, eve) = (kubelet("n1"), UserInfo::new("eve", &[]));
        assert_eq!(send(&server, &n1, "POST", at, lease("n2")).await.0, 403);
        assert_eq!(send(&server, &n1, "POST", at, lease("n1")).await.0, 201);
        assert_eq!(send(&server, &eve, "POST", at, lease("n2")).await.0, 201);
        assert_eq!(send(&server, &n1, "DELETE", &format!("{at}/n2"), Value::Null).await.0, 403);
        let nobody = UserInfo::new("system:node:", &["system:nodes"]);
        let (code, why, _) = send(&server, &nobody, "POST", at, lease("n3")).await;
        assert_eq!((code, why.ends_with("could not determine node from user \"system:node:\"")), (403, true));
    }
}

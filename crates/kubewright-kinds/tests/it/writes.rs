//! What the server itself makes of objects as they are written: what it counts, drops and keeps.

use kubewright_apiserver::server::Server;
use serde_json::{Value, json};

use crate::server;

async fn send(server: &Server, method: &str, uri: &str, body: Value) -> (u16, Value) {
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    server::send_as(server, method, uri, content, &body).await
}

#[tokio::test]
async fn a_daemon_set_counts_changes_of_its_template_in_an_annotation() {
    const NAME: &str = "deprecated.daemonset.template.generation";
    let server = server::start().await;
    let sets = "/apis/apps/v1/namespaces/default/daemonsets";
    let template = |image: &str| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
    let set = |image: &str| json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template(image)}});
    let (code, made) = send(&server, "POST", sets, set("a:1")).await;
    assert_eq!((code, &made["metadata"]["annotations"][NAME]), (201, &json!("1")), "{made}");
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:annotations"];
    assert!(fields[format!("f:{NAME}")].is_object(), "{fields}");
    let one = format!("{sets}/d");
    let (_, changed) = send(&server, "PUT", &one, set("a:2")).await;
    assert_eq!(changed["metadata"]["annotations"][NAME], "2");
    let meddled = json!({"metadata": {"annotations": {NAME: "7"}}, "spec": {"minReadySeconds": 3}});
    let (_, meddled) = send(&server, "PATCH", &one, meddled).await;
    assert_eq!(meddled["metadata"]["annotations"][NAME], "2");
    assert_eq!(meddled["metadata"]["generation"], 3);
    server.shutdown();
}

#[tokio::test]
async fn a_slice_drops_old_topology_and_counts_its_endpoints_and_labels() {
    let server = server::start().await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.1.1"], "deprecatedTopology": {"a": "b"}}]});
    let (code, made) = send(&server, "POST", slices, slice).await;
    assert_eq!((code, &made["endpoints"][0]["deprecatedTopology"]), (201, &Value::Null), "{made}");
    let one = format!("{slices}/s");
    let annotated = json!({"metadata": {"annotations": {"a": "b"}}});
    assert_eq!(send(&server, "PATCH", &one, annotated).await.1["metadata"]["generation"], 1);
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(send(&server, "PATCH", &one, labelled).await.1["metadata"]["generation"], 2);
    server.shutdown();
}

#[tokio::test]
async fn fields_of_features_that_are_off_are_dropped() {
    let server = server::start().await;
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "h", "preferredHolder": "p",
        "strategy": "OldestEmulationVersion"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let (code, made) = send(&server, "POST", leases, lease).await;
    assert_eq!((code, &made["spec"]), (201, &json!({"holderIdentity": "h"})), "{made}");
    let node = json!({"metadata": {"name": "n"}, "status": {"config": {"error": "x"}},
        "spec": {"configSource": {"configMap": {"name": "c", "namespace": "n", "kubeletConfigKey": "k"}}}});
    let (code, made) = send(&server, "POST", "/api/v1/nodes", node).await;
    assert_eq!(
        (code, &made["spec"]["configSource"], &made["status"]["config"]),
        (201, &Value::Null, &Value::Null)
    );
    server.shutdown();
}

#[tokio::test]
async fn what_belongs_to_the_system_is_there_and_stays() {
    let server = server::start().await;
    let class = "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical";
    let (code, refused) = send(&server, "DELETE", class, Value::Null).await;
    assert_eq!(code, 403, "{refused}");
    assert!(refused["message"].as_str().is_some_and(|m| m.ends_with("and cannot be deleted")), "{refused}");
    let flow = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let (_, schema) = send(&server, "GET", &format!("{flow}/flowschemas/probes"), Value::Null).await;
    assert_eq!(schema["spec"]["priorityLevelConfiguration"]["name"], "exempt");
    assert!(schema["status"]["conditions"][0]["lastTransitionTime"].is_string(), "{schema}");
    let range = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
    let (_, range) = send(&server, "GET", range, Value::Null).await;
    assert_eq!(range["status"]["conditions"][0]["type"], "Ready", "{range}");
    server.shutdown();
}

//! What a cluster starts with besides its roles: namespaces, the service of the API server, priority classes, and what
//! aggregated API servers need to know about credentials.
//!
//! Objects flow out as a client would post them, without uid, times or managers: whoever creates them adds those, and
//! leaves alone what is there already. A server creates them in this order.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// The namespaces of every cluster.
pub const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

/// The objects that are there before anybody asks. `service_address` is the first of the service range `range`;
/// `endpoint` is where the API server listens. A loopback address, which endpoints may not have, leaves the service
/// without any.
pub fn objects(range: &IpNet, service_address: IpAddr, endpoint: SocketAddr) -> Vec<Value> {
    let mut objects: Vec<Value> = NAMESPACES.map(namespace).into();
    objects.extend(priority_classes());
    objects.push(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [range.trunc().to_string()]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "",
            "message": "Kubernetes default Service CIDR is ready"}]},
    }));
    objects.push(api_service(service_address, endpoint.port()));
    if !endpoint.ip().is_loopback() && !endpoint.ip().is_unspecified() {
        objects.extend(api_endpoints(endpoint));
    }
    objects
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

/// The priority classes that every cluster has and nobody deletes.
pub const SYSTEM_PRIORITY_CLASSES: [&str; 2] = ["system-node-critical", "system-cluster-critical"];

fn priority_classes() -> [Value; 2] {
    let [node, cluster] = SYSTEM_PRIORITY_CLASSES;
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    [
        class(
            node,
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            cluster,
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// The service `default/kubernetes`.
fn api_service(address: IpAddr, port: u16) -> Value {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let address = address.to_string();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ipFamilies": [family], "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]},
        "status": {"loadBalancer": {}},
    })
}

/// Where that service leads. It has no selector: nobody else makes these.
fn api_endpoints(endpoint: SocketAddr) -> [Value; 2] {
    let (ip, port) = (endpoint.ip().to_string(), endpoint.port());
    let family = if endpoint.is_ipv4() { "IPv4" } else { "IPv6" };
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    [endpoints, slice]
}

/// How a proxy in front of the API server, or the API server in front of an aggregated one, tells who a request is
/// from.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    /// Certificates (PEM) of the authority that signs the certificates of proxies.
    pub authority: String,
    /// Common names that certificates of proxies may have; none: any.
    pub allowed_names: Vec<String>,
}

/// The ConfigMap `kube-system/extension-apiserver-authentication`: which credentials aggregated API servers accept.
/// `client_authority` is certificates (PEM) of the authority that signs those of clients.
pub fn authentication(client_authority: Option<&str>, request_header: Option<&RequestHeader>) -> Value {
    let mut data = Map::new();
    if let Some(authority) = client_authority {
        data.insert("client-ca-file".into(), authority.into());
    }
    if let Some(header) = request_header {
        let mut add = |key: &str, value: String| data.insert(format!("requestheader-{key}"), value.into());
        add("client-ca-file", header.authority.clone());
        add("allowed-names", json!(header.allowed_names).to_string());
        add("username-headers", json!(["X-Remote-User"]).to_string());
        add("uid-headers", json!(["X-Remote-Uid"]).to_string());
        add("group-headers", json!(["X-Remote-Group"]).to_string());
        add("extra-headers-prefix", json!(["X-Remote-Extra-"]).to_string());
    }
    let mut object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
    });
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(endpoint: &str) -> Vec<String> {
        let range: IpNet = "10.0.0.0/24".parse().unwrap();
        let objects = objects(&range, [10, 0, 0, 1].into(), endpoint.parse().unwrap());
        objects.iter().map(|o| o["kind"].as_str().unwrap().to_string()).collect()
    }

    #[test]
    fn a_server_that_pods_reach_has_endpoints_and_a_loopback_address_is_none() {
        assert_eq!(kinds("192.0.2.1:7443")[7..], ["Service", "Endpoints", "EndpointSlice"]);
        assert_eq!(kinds("127.0.0.1:6443")[7..], ["Service"]);
    }

    #[test]
    fn aggregated_servers_learn_only_what_there_is_to_know() {
        assert_eq!(authentication(None, None)["data"], Value::Null);
        let header = RequestHeader { authority: "PEM".into(), allowed_names: vec!["front-proxy".into()] };
        let data = &authentication(Some("CA"), Some(&header))["data"];
        assert_eq!(data["client-ca-file"], "CA");
        assert_eq!(data["requestheader-allowed-names"], "[\"front-proxy\"]");
        assert_eq!(data["requestheader-username-headers"], "[\"X-Remote-User\"]");
    }
}

//! A pod as it comes in and what becomes of it before it is stored, step by step as the server does it.
//!
//! Admission, managers of fields and the store are not in it: it is what the kind itself costs.

use kubewright_apiserver::resources::Resource;
use kubewright_kinds::{Options, resources, validation};
use kubewright_machinery::field::{Error, Path};
use kubewright_machinery::{decode, meta, schema};
use serde_json::{Value, json};

/// The resource `pods` as the server has it.
pub struct Pods(Resource);

impl Default for Pods {
    fn default() -> Self {
        Self::new()
    }
}

impl Pods {
    /// Of all built-in resources, pods.
    pub fn new() -> Self {
        let options = Options::new("10.0.0.0/24".parse().expect("a range"));
        let pods = resources(&options).into_iter().find(|r| &*r.plural == "pods");
        Self(pods.expect("pods are served"))
    }

    /// The body of a create: 9 KB of JSON.
    pub fn body() -> Vec<u8> {
        pod().to_string().into_bytes()
    }

    /// Bytes → an object of the kind, with the metadata that such objects have.
    pub fn decode(&self, body: &[u8]) -> Value {
        let mut object = decode::json_as(body, &self.0.schema).expect("a pod").value;
        let metadata = schema::object_meta::decode(&object["metadata"], false).expect("metadata");
        object["metadata"] = metadata.metadata;
        object
    }

    /// The defaults of the schema and of the kind; the canonical form.
    pub fn default(&self, object: &mut Value) {
        self.0.default(object);
    }

    /// What is wrong with it, in its metadata and as a pod.
    pub fn validate(&self, object: &Value) -> Vec<Error> {
        let mut errors = validation::create(&self.0.group, &self.0.kind, object);
        if errors.is_empty() {
            let rules = &self.0.rules;
            errors =
                meta::validate(&object["metadata"], self.0.namespaced, rules.name, &Path::new("metadata"));
        }
        errors
    }

    /// All of it.
    pub fn write(&self, body: &[u8]) -> Value {
        let mut object = self.decode(body);
        self.default(&mut object);
        let errors = self.validate(&object);
        assert!(errors.is_empty(), "{errors:?}");
        object
    }
}

/// The same bytes through serde_json alone, to a value and back.
pub fn there_and_back(body: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(body).expect("JSON");
    serde_json::to_vec(&value).expect("JSON")
}

/// A pod as operators write them: about 9 KB.
fn pod() -> Value {
    let env: Vec<Value> = (0..47)
        .map(|i| json!({"name": format!("VARIABLE_{i}"), "value": format!("a value of some length, number {i}")}))
        .collect();
    let mounts: Vec<Value> = (0..8)
        .map(|i| json!({"name": format!("volume-{i}"), "mountPath": format!("/var/lib/data/{i}")}))
        .collect();
    let volumes: Vec<Value> = (0..8)
        .map(|i| json!({"name": format!("volume-{i}"), "configMap": {"name": format!("config-{i}")}}))
        .collect();
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example.com/team/{name}:1.2.3"),
            "args": ["--verbose", "--listen=0.0.0.0:8080", "--config=/etc/config/file.yaml"],
            "env": env, "volumeMounts": mounts,
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": 5},
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-5d9c7b8f6-abcde", "namespace": "default", "uid": "0",
            "labels": {"app": "web", "pod-template-hash": "5d9c7b8f6"}, "annotations": {"example.com/owner": "team"}},
        "spec": {
            "containers": [container("web"), container("side")], "volumes": volumes,
            "serviceAccountName": "default", "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        },
    })
}

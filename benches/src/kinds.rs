//! The built-in kinds: what a written pod costs before it is stored, and what the catalogue costs at start.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use kubewright_apiserver::resources::Resource;
use kubewright_kinds::catalogue::Catalogue;
use kubewright_kinds::{Options, resources, validation};
use kubewright_machinery::decode;
use serde_json::{Value, json};

use crate::table::{Row, Table};

const SAMPLES: usize = 2_000;

/// Measures.
pub fn run() -> anyhow::Result<Table> {
    let started = Instant::now();
    let types = Catalogue::builtin().types().count();
    let catalogue = started.elapsed().as_secs_f64() * 1000.0;
    let started = Instant::now();
    let resources = resources(&Options::new("10.0.0.0/24".parse()?));
    let built = started.elapsed().as_secs_f64() * 1000.0;
    anyhow::ensure!(types > 500 && !resources.is_empty(), "the catalogue is not empty");
    let pods = resources.into_iter().find(|r| &*r.plural == "pods").context("pods are served")?;
    let pods = Arc::new(pods);

    let bytes = serde_json::to_vec(&pod())?;
    let plain = sample(|| {
        let value: Value = serde_json::from_slice(&bytes)?;
        Ok(serde_json::to_vec(&value)?.len())
    })?;
    let ours = sample(|| write(&pods, &bytes))?;
    let peer = median(&plain);
    Ok(Table {
        rows: vec![
            row("read the catalogue", "ms", vec![catalogue], None, Some(3.0)),
            row("put the built-in resources together", "ms", vec![built], None, Some(3.0)),
            row(
                "decode, default and validate a 9 KB pod; peer: serde_json there and back",
                "µs",
                ours,
                Some(peer),
                Some(100.0),
            ),
        ],
    })
}

fn row(
    name: &'static str,
    unit: &'static str,
    samples: Vec<f64>,
    peer: Option<f64>,
    at_most: Option<f64>,
) -> Row {
    Row { name, unit, samples, peer: peer.map(|p| (p, false)), at_most }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Microseconds of each run.
fn sample(mut run: impl FnMut() -> anyhow::Result<usize>) -> anyhow::Result<Vec<f64>> {
    for _ in 0..100 {
        std::hint::black_box(run()?);
    }
    (0..SAMPLES)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(run()?);
            Ok(started.elapsed().as_secs_f64() * 1e6)
        })
        .collect()
}

/// What happens to the body of a create, up to the store.
fn write(pods: &Arc<Resource>, bytes: &[u8]) -> anyhow::Result<usize> {
    let mut object = decode::json_as(bytes, &pods.schema)?.value;
    pods.strategy.default(&mut object);
    let errors = validation::create(&pods.group, &pods.kind, &object);
    anyhow::ensure!(errors.is_empty(), "{errors:?}");
    Ok(object.as_object().map_or(0, serde_json::Map::len))
}

/// A pod as operators write them: about 9 KB.
fn pod() -> Value {
    let env: Vec<Value> = (0..44)
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

//! Server-side apply, as the server does it for a kind that it knows: owners and the merged object.
//!
//! A ConfigMap of 1 MB and a pod with 50 containers, each applied for the first time, by the same manager with one change,
//! and by another manager to an object that the first owns. Beside them: what a copy of the object costs.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use kubewright_kinds::{Options, resources};
use kubewright_machinery::fieldset::FieldManager;
use kubewright_machinery::schema::SchemaRef;
use serde_json::{Value, json};

fn schema(plural: &str) -> SchemaRef {
    let options = Options::new("10.0.0.0/24".parse().expect("a range"));
    let resource = resources(&options).into_iter().find(|r| &*r.plural == plural && r.group.is_empty());
    resource.expect("the kind is served").schema.clone()
}

/// 10 000 keys with 90 bytes each.
fn config_map() -> Value {
    let data: Value = (0..10_000)
        .map(|i| (format!("key-{i:05}"), Value::from("x".repeat(90))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "large", "namespace": "default", "labels": {"app": "bench"}}, "data": data,
    })
}

/// One key with 1 MB.
fn one_key() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "long", "namespace": "default"},
        "data": {"key": "x".repeat(1_000_000)},
    })
}

fn pod() -> Value {
    let containers: Vec<Value> = (0..50)
        .map(|i| {
            json!({
                "name": format!("container-{i}"), "image": format!("registry.example.com/team/image-{i}:1.2.3"),
                "args": ["--verbose", "--listen=0.0.0.0:8080"],
                "env": [{"name": "A", "value": "a"}, {"name": "B", "value": "b"}, {"name": "C", "value": "c"}],
                "ports": [{"name": format!("http-{i}"), "containerPort": 8000 + i, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": containers, "volumes": [{"name": "data", "emptyDir": {}}]},
    })
}

fn applies(c: &mut Criterion) {
    let (configs, pods) = (schema("configmaps"), schema("pods"));
    let cases = [
        ("ConfigMap of 1 MB in 10 000 keys", "ConfigMap", &configs, config_map(), "/data/key-05000"),
        ("ConfigMap of 1 MB in one key", "ConfigMap", &configs, one_key(), "/data/key"),
        ("Pod with 50 containers", "Pod", &pods, pod(), "/spec/containers/25/image"),
    ];
    for (name, kind, schema, object, place) in cases {
        let manager = FieldManager::single("v1", kind, schema.clone());
        let now = Timestamp::UNIX_EPOCH;
        let apply = |live: Option<&Value>, patch: &Value, who: &str, force: bool| {
            manager.apply(live, patch, who, force, now).expect("the apply is in order")
        };
        let live = apply(None, &object, "first", false);
        let mut changed = object.clone();
        *changed.pointer_mut(place).expect("the place is there") = "another".into();
        let mut group: BenchmarkGroup<'_, _> = c.benchmark_group(name);
        group.bench_function("first apply", |b| b.iter(|| apply(None, black_box(&object), "first", false)));
        group.bench_function("applied again", |b| {
            b.iter(|| apply(Some(&live), black_box(&object), "first", false))
        });
        group.bench_function("one change", |b| {
            b.iter(|| apply(Some(&live), black_box(&changed), "first", false))
        });
        group.bench_function("taken by another", |b| {
            b.iter(|| apply(Some(&live), black_box(&changed), "second", true))
        });
        group.bench_function("update with one change", |b| {
            b.iter(|| manager.update(Some(&live), black_box(changed.clone()), "editor", now));
        });
        group.bench_function("a copy of the object", |b| b.iter(|| black_box(&live).clone()));
        group.finish();
    }
}

criterion_group!(benches, applies);
criterion_main!(benches);

//! What a pod of 9 KB costs on its way to the store, whole and by stages, and what the bytes alone cost.

use std::hint::black_box;

use benches::pod::{Pods, there_and_back};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn pod(c: &mut Criterion) {
    let pods = Pods::new();
    let body = Pods::body();
    let decoded = pods.decode(&body);
    let mut defaulted = decoded.clone();
    pods.default(&mut defaulted);

    let mut group = c.benchmark_group("pod");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("decode, default and validate", |b| b.iter(|| pods.write(black_box(&body))));
    group.bench_function("serde_json there and back", |b| b.iter(|| there_and_back(black_box(&body))));
    group.bench_function("decode", |b| b.iter(|| pods.decode(black_box(&body))));
    group.bench_function("default", |b| {
        b.iter_batched_ref(|| decoded.clone(), |object| pods.default(object), BatchSize::SmallInput);
    });
    group.bench_function("validate", |b| b.iter(|| pods.validate(black_box(&defaulted))));
    group.finish();
}

criterion_group!(benches, pod);
criterion_main!(benches);

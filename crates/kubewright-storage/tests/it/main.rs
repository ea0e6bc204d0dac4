//! The memory engine under the suite of all engines, against a naive model, and for what it alone promises.

mod memory;
mod model;

use kubewright_storage::{MemoryStore, Retention, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_engine_keeps_every_promise() {
    conformance::run(|| async { MemoryStore::default() }).await;
}

#[tokio::test]
async fn the_memory_engine_keeps_every_promise_on_one_thread() {
    conformance::run(|| async { MemoryStore::new(Retention { revisions: 20_000, bytes: usize::MAX }) }).await;
}

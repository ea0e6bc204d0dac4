//! Ours: the informer and the controller, typed and on metadata alone.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kubewright::cache::{Cache, Cached, Informer, Scope};
use kubewright::{Action, Context, Controller, Kind, Manager, RawReconciler, Reconciler, Result};

use super::seen::Seen;

/// An informer of pods, once it is complete.
pub async fn informer(cache: &Cache) -> Informer {
    let informer = cache.informer(&Kind::of::<Pod>(), &Scope::All);
    informer.synced().await;
    informer
}

struct Typed(Arc<Seen>);

impl Reconciler for Typed {
    type Object = Pod;

    async fn reconcile(&self, pod: Arc<Pod>, _: &Context) -> Result<Action> {
        let now = Instant::now();
        std::hint::black_box(&pod);
        self.0.note(now);
        Ok(Action::done())
    }
}

struct Metadata(Arc<Seen>);

impl RawReconciler for Metadata {
    async fn reconcile(&self, pod: Arc<Cached>, _: &Context) -> Result<Action> {
        let now = Instant::now();
        std::hint::black_box(pod.labels());
        self.0.note(now);
        Ok(Action::done())
    }
}

/// A controller of pods that does nothing but to note that it was called.
pub fn controller(client: kube::Client, seen: Arc<Seen>, typed: bool) -> tokio::task::JoinHandle<()> {
    let controller = match typed {
        true => Controller::new(Typed(seen)),
        false => Controller::raw(&Kind::of::<Pod>(), Metadata(seen)),
    };
    let manager = Manager::new("bench", client).controller(controller);
    tokio::spawn(async move {
        let _ = manager.run(std::future::pending()).await;
    })
}

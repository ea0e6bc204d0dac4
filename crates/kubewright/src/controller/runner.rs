//! Runs one controller: triggers feed the queue, items become reconciliations, at most so many at once.
//! Panics are caught, time is limited, and how each ended is logged, counted and told to the queue.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::{Action, Controller, Reason, panic_message};
use crate::cache::{Backoff, Informer, Subscription};
use crate::context::{Context, Scoped};
use crate::kind::Key;
use crate::manager::metrics::{ControllerMetrics, Ended};
use crate::queue::{Outcome, Priority, Queue, SharedQueue, Taken};
use crate::{Error, Result};

/// How long the object itself may lag behind this process's own writes before it is reconciled anyway.
const OWN_WRITES: Duration = Duration::from_secs(2);

/// A controller that runs, or is about to.
pub(crate) struct Runner {
    controller: Controller,
    scoped: Arc<Scoped>,
    objects: Informer,
    queue: Arc<SharedQueue<Key, Reason>>,
    metrics: Arc<ControllerMetrics>,
}

impl Runner {
    pub(crate) fn new(
        controller: Controller,
        scoped: Arc<Scoped>,
        objects: Informer,
        metrics: Arc<ControllerMetrics>,
    ) -> Runner {
        const BACKOFF: Backoff = Queue::<Key, Reason>::BACKOFF;
        let queue = Arc::new(SharedQueue::new(BACKOFF));
        metrics.watch_queue(&queue);
        metrics.concurrency(controller.concurrency);
        Runner { controller, scoped, objects, queue, metrics }
    }

    /// Subscribes the triggers and, once every cache is synced, works until told to stop; then lets what
    /// is running finish. Whoever drops this future cancels what is running.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let subscriptions: Vec<Subscription> = self.subscribe();
        let name = self.controller.name.clone();
        tokio::select! {
            () = self.scoped.view().synced() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tracing::info!(controller = name, "starting: the caches are synced");
        let runner = Arc::new(self);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = running.join_next(), if !running.is_empty() => {}
                taken = runner.queue.take(), if running.len() < runner.controller.concurrency => {
                    running.spawn(Arc::clone(&runner).handle(taken));
                }
            }
        }
        drop(subscriptions);
        while running.join_next().await.is_some() {}
        tracing::info!(controller = name, "stopped");
    }

    fn subscribe(&self) -> Vec<Subscription> {
        let mut subscriptions = Vec::new();
        for trigger in &self.controller.triggers {
            let Some(informer) = self.scoped.view().informer(trigger.kind()) else { continue };
            let (trigger, kind) = (trigger.clone(), self.controller.kind.clone());
            let (view, queue) = (self.scoped.view().clone(), Arc::clone(&self.queue));
            subscriptions.push(informer.subscribe(move |delta| {
                let priority = if delta.initial { Priority::Low } else { Priority::Live };
                for key in trigger.route(delta, &kind, &view) {
                    queue.add(key, priority, Reason::of(delta, trigger.kind()));
                }
            }));
        }
        subscriptions
    }

    async fn handle(self: Arc<Self>, taken: Taken<Key, Reason>) {
        let why = taken.reasons.first().first().map_or(String::new(), Reason::to_string);
        let span = tracing::info_span!(
            "reconcile",
            controller = self.controller.name,
            object = %taken.key,
            why,
            attempt = taken.failures + 1
        );
        let key = taken.key.clone();
        let (outcome, reason) = self.reconcile(taken).instrument(span).await;
        self.queue.done(&key, outcome, reason);
    }

    async fn reconcile(&self, taken: Taken<Key, Reason>) -> (Outcome, Reason) {
        let started = Instant::now();
        self.metrics.started(taken.waited);
        let failures = taken.failures;
        let cx = Context::new(Arc::clone(&self.scoped), taken.key, taken.reasons);
        let attempt = AssertUnwindSafe(tokio::time::timeout(self.controller.timeout, self.attempt(&cx)));
        let result = match attempt.catch_unwind().await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Timeout(self.controller.timeout)),
            Err(panic) => Err(Error::Panicked(panic_message(&*panic))),
        };
        let (outcome, ended) = match &result {
            Ok(Action { after: None }) => (Outcome::Done, Ended::Success),
            Ok(Action { after: Some(delay) }) => (Outcome::After(*delay), Ended::RequeueAfter),
            Err(Error::Terminal(_) | Error::Decode(_) | Error::Undeclared(_)) => {
                (Outcome::GaveUp, Ended::Terminal)
            }
            Err(Error::Panicked(_)) => (Outcome::Failed, Ended::Panic),
            Err(_) => (Outcome::Failed, Ended::Error),
        };
        self.metrics.ended(started.elapsed(), ended);
        match &result {
            Ok(_) => tracing::debug!(elapsed = ?started.elapsed(), "reconciled"),
            Err(error) if is_conflict(error) => {
                tracing::debug!(error = error.chain(), "the object changed meanwhile; trying again");
            }
            Err(error) if outcome == Outcome::GaveUp => {
                tracing::error!(
                    error = error.chain(),
                    "reconciliation failed; not retried until something changes"
                );
            }
            Err(error) => {
                let retry = Queue::<Key, Reason>::BACKOFF.delay(failures + 1);
                tracing::error!(error = error.chain(), ?retry, "reconciliation failed");
            }
        }
        let reason = if outcome == Outcome::Failed { Reason::Retried } else { Reason::Requeued };
        (outcome, reason)
    }

    async fn attempt(&self, cx: &Context) -> Result<Action> {
        if !self.objects.caught_up(Some(cx.key()), OWN_WRITES).await {
            tracing::debug!("reconciling although the cache lags behind an own write");
        }
        match self.objects.get(cx.key()) {
            Some(object) => self.controller.reconciler.reconcile(object, cx).await,
            None => {
                self.scoped.forget(cx.key());
                self.controller.reconciler.deleted(cx.key(), cx).await
            }
        }
    }
}

/// Two writers met, or a server's state moved on between a read and a write: normal, and retried.
fn is_conflict(error: &Error) -> bool {
    error.status().is_some_and(|status| status.code == 409)
}

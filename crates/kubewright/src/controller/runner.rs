//! Runs one controller: triggers feed the queue, items become reconciliations, at most so many at once.
//! Panics are caught, time is limited, and how each ended is logged, counted and told to the queue.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::gone::Gone;
use super::{Action, Controller, External, Lead, Reason, panic_message};
use crate::cache::{Informer, Subscription, What};
use crate::context::{Context, Scoped};
use crate::kind::Key;
use crate::manager::metrics::{ControllerMetrics, Ended as How};
use crate::queue::{Outcome, Priority, Queue, SharedQueue, Taken};
use crate::sharding::{Busy, Ownership, Slots, slot_of};
use crate::{Error, Result};

/// How long the object itself may lag behind this process's own writes before it is reconciled anyway.
const OWN_WRITES: Duration = Duration::from_secs(2);

/// The slots, once they change; never without sharing.
async fn next_share(shares: &mut Option<watch::Receiver<Slots>>) -> Slots {
    if let Some(shares) = shares
        && shares.changed().await.is_ok()
    {
        return *shares.borrow_and_update();
    }
    std::future::pending().await
}

/// What tells a reconciliation from all others in logs and traces, those of other replicas included.
struct ReconcileId(u64);

impl ReconcileId {
    fn next() -> ReconcileId {
        static LAST: AtomicU64 = AtomicU64::new(0);
        ReconcileId(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Display for ReconcileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static PROCESS: LazyLock<u32> =
            LazyLock::new(|| RandomState::new().hash_one(std::process::id()) as u32);
        write!(f, "{:08x}-{}", *PROCESS, self.0)
    }
}

/// Why a controller stopped working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It was told to.
    Stopped,
    /// This process does not lead any more.
    Lost,
}

/// A controller that runs, or is about to.
pub(crate) struct Runner {
    controller: Controller,
    scoped: Arc<Scoped>,
    objects: Informer,
    queue: Arc<SharedQueue<Key, Reason>>,
    metrics: Arc<ControllerMetrics>,
    /// Where replicas share the objects: what is gone, and whose it was.
    gone: Arc<Mutex<Gone>>,
}

impl Runner {
    pub(crate) fn new(
        controller: Controller,
        scoped: Arc<Scoped>,
        objects: Informer,
        metrics: Arc<ControllerMetrics>,
    ) -> Runner {
        let queue = Arc::new(SharedQueue::new(queue_of(&controller)));
        Runner::with_queue(controller, scoped, objects, metrics, queue)
    }

    pub(super) fn with_queue(
        controller: Controller,
        scoped: Arc<Scoped>,
        objects: Informer,
        metrics: Arc<ControllerMetrics>,
        queue: Arc<SharedQueue<Key, Reason>>,
    ) -> Runner {
        metrics.watch_queue(&queue);
        metrics.concurrency(controller.concurrency);
        Runner { controller, scoped, objects, queue, metrics, gone: Arc::default() }
    }

    /// What is to be reconciled.
    pub(crate) fn queue(&self) -> Arc<SharedQueue<Key, Reason>> {
        Arc::clone(&self.queue)
    }

    /// Works whenever this process leads, until told to stop; then lets what is running finish. Whoever
    /// drops this future cancels what is running.
    pub(crate) async fn run(self, mut lead: Lead, mut stop: watch::Receiver<bool>) {
        let runner = Arc::new(self);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = lead.gained() => {}
            }
            if runner.term(&mut lead, &mut stop).await == Ended::Stopped {
                return;
            }
        }
    }

    /// Subscribes the triggers and, once every cache is synced, works until told to stop or the Lease is lost.
    async fn term(self: &Arc<Self>, lead: &mut Lead, stop: &mut watch::Receiver<bool>) -> Ended {
        let subscriptions: Vec<Subscription> = self.subscribe(lead.ownership.is_some());
        let name = &self.controller.name;
        let mut running = JoinSet::new();
        let synced = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ended::Stopped,
            () = lead.lost() => false,
            () = self.scoped.synced() => true,
        };
        if synced {
            tracing::info!(controller = name, "starting: the caches are synced");
        }
        // What came with the subscriptions includes the objects of every slot that is owned by now.
        let ownership = lead.ownership.clone();
        let mut shares = ownership.as_ref().map(|ownership| ownership.changes());
        let mut owned = shares.as_mut().map_or(0, |shares| *shares.borrow_and_update());
        self.controller.externals.iter().for_each(|external| external.connect(&self.queue));
        let limit = self.controller.concurrency;
        let ended = loop {
            // What is there already is begun without a turn of the loop for each.
            while running.try_join_next().is_some() {}
            while running.len() < limit
                && let Some(taken) = self.queue.try_take()
            {
                self.begin(taken, ownership.as_ref(), &mut running);
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break Ended::Stopped,
                () = lead.lost() => break Ended::Lost,
                now = next_share(&mut shares) => {
                    self.enqueue(now & !owned);
                    owned = now;
                }
                Some(_) = running.join_next(), if !running.is_empty() => {}
                taken = self.queue.take(), if running.len() < limit => {
                    self.begin(taken, ownership.as_ref(), &mut running);
                }
            }
        };
        drop(subscriptions);
        self.controller.externals.iter().for_each(External::disconnect);
        match ended {
            Ended::Stopped => while running.join_next().await.is_some() {},
            Ended::Lost => {
                // Whoever leads now must not be disturbed; what is cancelled here, its controllers do.
                running.shutdown().await;
                self.queue.clear();
                *self.gone.lock() = Gone::default();
            }
        }
        tracing::info!(controller = name, ?ended, "stopped");
        ended
    }

    /// Begins work on an object, unless it is another replica's.
    fn begin(
        self: &Arc<Self>,
        taken: Taken<Key, Reason>,
        ownership: Option<&Arc<Ownership>>,
        running: &mut JoinSet<()>,
    ) {
        let gone = ownership.and_then(|_| self.gone.lock().untold(&taken.key).map(Box::from));
        // Its namespace may have been left meanwhile; then it is not gone, but nobody's here.
        let share = Some(&taken.key).filter(|key| self.objects.follows(key));
        match share.and_then(|key| self.enter(key, ownership)) {
            Some(share) => {
                running.spawn(Arc::clone(self).handle(taken, share, gone));
            }
            None => {
                let external = |reason: &Reason| matches!(reason, Reason::External(_));
                if taken.reasons.first().iter().any(external) {
                    let (controller, object) = (&self.controller.name, &taken.key);
                    tracing::debug!(controller, %object, "an external event is left to the object's owner");
                }
                self.told(&taken.key, gone);
                self.scoped.forget(&taken.key);
                self.controller.relations.forget(&taken.key);
                self.queue.done(&taken.key, Outcome::Declined, Reason::Requeued);
            }
        }
    }

    /// This replica's share in an object; none when it is another's. What is gone is still whose it was, who may have kept
    /// something of it; where nobody knows whose, its key decides, for all replicas alike.
    fn enter(&self, key: &Key, ownership: Option<&Arc<Ownership>>) -> Option<Option<Busy>> {
        let Some(ownership) = ownership else { return Some(None) };
        if let Some(object) = self.objects.get(key) {
            return ownership.enter(object.uid()).map(Some);
        }
        let gone = self.gone.lock();
        if self.objects.is_share() {
            // Nobody else was told that it is gone, even if the slot was given away since.
            return gone.untold(key).map(|uid| ownership.enter(uid));
        }
        match gone.uid(key) {
            Some(uid) => ownership.enter(uid).map(Some),
            None => ownership.enter(&key.to_string()).map(Some),
        }
    }

    /// Whoever is concerned was told that the object of this uid is gone, or is no concern of this replica.
    fn told(&self, key: &Key, gone: Option<Box<str>>) {
        if let Some(uid) = gone {
            self.gone.lock().tell(key, &uid);
        }
    }

    /// Wants the objects of these slots reconciled: they were another replica's until now.
    fn enqueue(&self, slots: Slots) {
        let keys: Vec<Key> = self.objects.read(|store| {
            let gained = store.iter().filter(|object| slot_of(object.uid()) & slots != 0);
            gained.map(|object| object.key().clone()).collect()
        });
        let kind: Arc<str> = self.controller.kind.kind.as_str().into();
        for key in keys {
            let reason = Reason::Listed(Arc::clone(&kind), key.clone());
            self.queue.add(key, Priority::LOW, reason);
        }
    }

    /// Feeds the queue; `shares` says whether other replicas have a share in the objects.
    fn subscribe(&self, shares: bool) -> Vec<Subscription> {
        let (queue, scoped) = (Arc::clone(&self.queue), Arc::clone(&self.scoped));
        let gone = Arc::clone(&self.gone);
        let left = self.objects.on_leave(move |left| {
            queue.retain(|key| !left(key));
            scoped.keep(|key| !left(key));
            gone.lock().retain(|key| !left(key));
        });
        let mut subscriptions = vec![left];
        for trigger in &self.controller.triggers {
            let Some(view) = self.scoped.view_of(trigger.cluster()) else { continue };
            let Some(informer) = view.informer(trigger.kind()) else { continue };
            let (trigger, kind) = (trigger.clone(), self.controller.kind.clone());
            let (view, queue) = (view.clone(), Arc::clone(&self.queue));
            let of_objects = trigger.is_itself() && trigger.cluster().is_none();
            let gone = Some(&self.gone).filter(|_| shares && of_objects).cloned();
            subscriptions.push(informer.subscribe(move |delta| {
                if let Some(gone) = gone.as_ref().filter(|_| delta.what != What::Deleted) {
                    gone.lock().remove(delta.object.key());
                }
                let priority = trigger.priority_of(delta);
                trigger.route(delta, &kind, &view, |key| {
                    // Kept until the queue gives the key out, so only of keys that it gets.
                    if let Some(gone) = gone.as_ref().filter(|_| delta.what == What::Deleted) {
                        gone.lock().add(key.clone(), delta.object.uid());
                    }
                    queue.add(key, priority, Reason::of(delta, &trigger));
                });
            }));
        }
        subscriptions
    }

    async fn handle(self: Arc<Self>, taken: Taken<Key, Reason>, share: Option<Busy>, gone: Option<Box<str>>) {
        // What is written into the span is made only if somebody looks.
        let span = tracing::info_span!(
            "reconcile",
            controller = self.controller.name,
            object = %taken.key,
            id = %ReconcileId::next(),
            why = taken.reasons.first().first().map(tracing::field::display),
            attempt = taken.failures + 1
        );
        let key = taken.key.clone();
        let (outcome, reason) = self.reconcile(taken).instrument(span).await;
        if matches!(outcome, Outcome::Done | Outcome::GaveUp) {
            self.told(&key, gone);
        }
        drop(share);
        if let Some(worked) = self.queue.done(&key, outcome, reason) {
            self.metrics.worked(worked);
        }
    }

    async fn reconcile(&self, taken: Taken<Key, Reason>) -> (Outcome, Reason) {
        let started = Instant::now();
        let active = self.metrics.started(taken.waited);
        let failures = taken.failures;
        let cx = Context::new(Arc::clone(&self.scoped), taken.key, taken.reasons);
        let attempt = AssertUnwindSafe(tokio::time::timeout(self.controller.timeout, self.attempt(&cx)));
        let result = match attempt.catch_unwind().await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Timeout(self.controller.timeout)),
            Err(panic) => Err(Error::Panicked(panic_message(&*panic))),
        };
        let (outcome, ended) = match &result {
            Ok(Action { after: None, .. }) => (Outcome::Done, How::Success),
            Ok(Action { after: Some(delay), priority }) => {
                (Outcome::After { delay: *delay, priority: *priority }, How::RequeueAfter)
            }
            Err(Error::Terminal(_) | Error::Decode(_) | Error::Undeclared(_)) => {
                (Outcome::GaveUp, How::Terminal)
            }
            Err(Error::Panicked(_)) => (Outcome::Failed, How::Panic),
            Err(Error::Timeout(_)) => (Outcome::Failed, How::Timeout),
            Err(_) => (Outcome::Failed, How::Error),
        };
        active.ended(started.elapsed(), ended);
        match &result {
            Ok(_) => tracing::debug!(elapsed = ?started.elapsed(), "reconciled"),
            Err(Error::Fenced(fenced)) => tracing::debug!(%fenced, "reconciliation ends with the lease"),
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
                let retry = self.controller.backoff.delay(failures + 1);
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

/// A queue as a controller wants it.
fn queue_of(controller: &Controller) -> Queue<Key, Reason> {
    let mut queue = Queue::new(controller.backoff);
    if let Some(tenants) = &controller.tenants {
        queue = queue.fair_by(tenants.clone());
    }
    if let Some(limit) = controller.limit {
        queue = queue.limited(limit);
    }
    queue
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::cache::{Backoff, Cached};
    use crate::kind::Kind;
    use crate::queue::Tenants;
    use crate::rate::RateLimit;
    use crate::{RawReconciler, Result};

    struct Nothing;

    impl RawReconciler for Nothing {
        async fn reconcile(&self, _: Arc<Cached>, _: &Context) -> Result<Action> {
            Ok(Action::done())
        }
    }

    #[test]
    fn a_controller_says_how_long_failures_wait_whose_turn_it_is_and_how_fast() {
        let plain = || Controller::raw(&Kind::of::<ConfigMap>(), Nothing);
        let now = Instant::now();
        let after_a_failure = |controller: Controller| {
            let mut queue = queue_of(&controller);
            let key = Key::new("n", "a");
            queue.add(key.clone(), Priority::LIVE, Reason::Requeued, now);
            queue.take(now).unwrap();
            queue.done(&key, Outcome::Failed, Reason::Retried, now);
            queue.next_timer(now).unwrap() - now
        };
        assert_eq!(after_a_failure(plain()), Duration::from_millis(5));
        let hourly = Backoff { first: Duration::from_secs(3600), cap: Duration::from_secs(7200) };
        assert_eq!(after_a_failure(plain().backoff(hourly)), Duration::from_secs(3600));

        let first = |controller: Controller, turns: usize| {
            let mut queue = queue_of(&controller);
            for (namespace, name) in [("busy", "a"), ("busy", "b"), ("calm", "c")] {
                queue.add(Key::new(namespace, name), Priority::LIVE, Reason::Requeued, now);
            }
            (0..turns)
                .filter_map(|_| queue.take(now))
                .map(|taken| taken.key.name().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(first(plain(), 2), ["a", "b"]);
        assert_eq!(first(plain().fair_by(Tenants::namespaces()), 2), ["a", "c"]);
        assert_eq!(first(plain().rate_limit(RateLimit::per_second(1).burst(2)), 3), ["a", "b"]);
    }
}

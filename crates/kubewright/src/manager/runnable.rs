//! What runs beside controllers: a task of the user's own that the manager starts, watches over and stops with the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::health::Health;
use crate::context::{Access, Scoped, Uses};
use crate::controller::{Lead, panic_message};
use crate::{Error, Result};

type Run = dyn Fn(Running) -> BoxFuture<'static, Result> + Send + Sync;

/// A task beside the controllers: it polls something outside of the cluster, sweeps once an hour, serves another protocol.
///
/// ```no_run
/// use std::time::Duration;
/// use k8s_openapi::api::core::v1::Pod;
/// use kubewright::{Operator, Result, Runnable, Uses};
///
/// #[tokio::main]
/// async fn main() -> Result {
///     let count = Runnable::new("count", |running| async move {
///         let mut hours = tokio::time::interval(Duration::from_secs(3600));
///         loop {
///             tokio::select! {
///                 _ = hours.tick() => tracing::info!(pods = running.access().list::<Pod>().await?.len()),
///                 () = running.stopped() => return Ok(()),
///             }
///         }
///     });
///     Operator::new("op").runnable(count.uses(Uses::new().reads::<Pod>())).main().await
/// }
/// ```
///
/// It is started when the caches of what it reads are synced and, where replicas elect a leader, when this process leads;
/// it is dropped when the Lease is lost, and started anew when it is back. Where replicas share the objects, one of them
/// runs it. If it ends, fails or panics before the manager was told to stop, the manager stops with an error that names
/// it. A manager that stops tells it by [`Running::stopped`] and waits for its end within the grace period.
pub struct Runnable {
    pub(super) name: String,
    pub(super) every_replica: bool,
    pub(super) may_end: bool,
    pub(super) client: Option<kube::Client>,
    pub(crate) uses: Uses,
    pub(crate) elsewhere: BTreeMap<String, Uses>,
    run: Arc<Run>,
}

impl Runnable {
    /// A task under a name that is unique within the manager.
    pub fn new<F, Fut>(name: &str, run: F) -> Runnable
    where
        F: Fn(Running) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        Runnable {
            name: name.into(),
            every_replica: false,
            may_end: false,
            client: None,
            uses: Uses::new(),
            elsewhere: BTreeMap::new(),
            run: Arc::new(move |running| run(running).boxed()),
        }
    }

    /// Runs on every replica, whoever leads, and its writes are not fenced.
    #[must_use]
    pub fn on_every_replica(mut self) -> Runnable {
        self.every_replica = true;
        self
    }

    /// May be done before the manager is, such as a migration. An error or a panic of it still stops the manager.
    #[must_use]
    pub fn may_end(mut self) -> Runnable {
        self.may_end = true;
        self
    }

    /// Sends its requests through a client of its own rather than the manager's: see
    /// [`Controller::client`](crate::Controller::client).
    #[must_use]
    pub fn client(mut self, client: kube::Client) -> Runnable {
        self.client = Some(client);
        self
    }

    /// What it reads and writes. Nothing by default.
    #[must_use]
    pub fn uses(mut self, uses: Uses) -> Runnable {
        self.uses.extend(uses);
        self
    }

    /// What it reads and writes in another cluster of the manager.
    #[must_use]
    pub fn uses_in(mut self, cluster: &str, uses: Uses) -> Runnable {
        self.elsewhere.entry(cluster.into()).or_default().extend(uses);
        self
    }

    /// Runs it whenever this process is the one to do so, until it ends or is told to stop.
    pub(super) fn drive(
        self,
        mut lead: Lead,
        scoped: Arc<Scoped>,
        mut stop: watch::Receiver<bool>,
        health: &Health,
    ) -> impl Future<Output = Result> + Send + 'static {
        let state = Arc::new(AtomicU8::new(State::StandsBy as u8));
        health.ready_check(check(&self.name, Arc::clone(&state)));
        async move {
            let now = |now: State| state.store(now as u8, Ordering::Relaxed);
            loop {
                now(State::StandsBy);
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                    () = lead.gained() => {}
                }
                let share = match lead.share(&self.name) {
                    Ok(share) => share,
                    Err(()) => {
                        tokio::select! {
                            _ = stop.wait_for(|stop| *stop) => return Ok(()),
                            () = lead.gained_share(&self.name) => continue,
                        }
                    }
                };
                now(State::Waits);
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                    () = lead.lost_share(&self.name) => continue,
                    () = scoped.synced() => {}
                }
                now(State::Runs);
                tracing::info!(runnable = self.name, "starting");
                let running = Running { stop: stop.clone(), access: Access::new(Arc::clone(&scoped)) };
                let run = AssertUnwindSafe(async { (self.run)(running).await });
                let ended = tokio::select! {
                    ended = run.catch_unwind() => Some(ended),
                    () = lead.lost_share(&self.name) => None,
                };
                drop(share);
                match ended {
                    Some(Ok(result)) => {
                        now(if result.is_ok() { State::Done } else { State::Failed });
                        return result;
                    }
                    Some(Err(panic)) => {
                        now(State::Failed);
                        return Err(Error::Panicked(panic_message(&*panic)));
                    }
                    None => tracing::info!(
                        runnable = self.name,
                        "is cancelled: this process does not lead any more"
                    ),
                }
            }
        }
    }
}

impl fmt::Debug for Runnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runnable({})", self.name)
    }
}

/// What a runnable works with.
#[derive(Clone)]
pub struct Running {
    stop: watch::Receiver<bool>,
    access: Access,
}

impl Running {
    /// Resolves once the manager stops.
    pub async fn stopped(&self) {
        // Without a manager there is nothing to run for either.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// The manager's own cluster, as far as the runnable declares to use it.
    pub fn access(&self) -> &Access {
        &self.access
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({:?})", self.access)
    }
}

/// What readiness tells of a runnable.
#[derive(Clone, Copy, Debug)]
enum State {
    StandsBy,
    Waits,
    Runs,
    Done,
    Failed,
}

const STATES: [(State, &str, bool); 5] = [
    (State::StandsBy, "stands by", true),
    (State::Waits, "waits for its caches", false),
    (State::Runs, "runs", true),
    (State::Done, "is done", true),
    (State::Failed, "has failed", false),
];

fn check(name: &str, state: Arc<AtomicU8>) -> super::health::Check {
    let name = name.to_owned();
    Box::new(move || {
        let now = state.load(Ordering::Relaxed);
        let (_, text, well) = STATES.into_iter().find(|(state, ..)| *state as u8 == now).unwrap_or(STATES[4]);
        (format!("runnable {name} {text}"), well)
    })
}

//! The parts of a manager that runs: a task each, with a name. A part that ends before the manager was told to stop is a
//! failure that names it, unless the part said that it may end. Nothing is started again here.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use super::health::Health;
use crate::controller::panic_message;
use crate::{Error, Result};

/// What runs, by task.
#[derive(Default)]
pub(super) struct Parts {
    tasks: JoinSet<Result>,
    parts: HashMap<Id, Part>,
}

struct Part {
    name: String,
    may_end: bool,
}

impl Parts {
    /// Starts a part that must not end on its own.
    pub(super) fn start(&mut self, name: String, task: impl Future<Output = Result> + Send + 'static) {
        self.add(Part { name, may_end: false }, task);
    }

    /// Starts a part that may be done before the manager is.
    pub(super) fn start_what_may_end(
        &mut self,
        name: String,
        task: impl Future<Output = Result> + Send + 'static,
    ) {
        self.add(Part { name, may_end: true }, task);
    }

    fn add(&mut self, part: Part, task: impl Future<Output = Result> + Send + 'static) {
        let task = self.tasks.spawn(task);
        self.parts.insert(task.id(), part);
    }

    /// Resolves with what went wrong once a part has ended that must not. Never while all is well.
    pub(super) async fn failed(&mut self, health: &Health) -> Error {
        loop {
            let Some((part, result)) = self.next().await else { return std::future::pending().await };
            let error = match result {
                Ok(()) if part.may_end => {
                    tracing::info!(part = part.name, "has ended");
                    continue;
                }
                Ok(()) => Error::TaskEnded(part.name.clone()),
                Err(error) => Error::TaskFailed { name: part.name.clone(), source: Box::new(error) },
            };
            health.ended(&part.name);
            return error;
        }
    }

    /// Waits until all have ended, and cancels those that have not within the grace period.
    pub(super) async fn drain(mut self, grace: Duration) {
        let drained = async {
            while let Some((part, result)) = self.next().await {
                if let Err(error) = result {
                    tracing::warn!(part = part.name, error = error.chain(), "failed while it was stopped");
                }
            }
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            let mut late: Vec<&str> = self.parts.values().map(|part| &*part.name).collect();
            late.sort_unstable();
            let late = late.join(", ");
            tracing::warn!(?grace, late, "what did not finish within the grace period is cancelled");
            self.tasks.shutdown().await;
        }
    }

    async fn next(&mut self) -> Option<(Part, Result)> {
        let (id, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, result)) => (id, result),
            Err(error) => {
                let id = error.id();
                let what = match error.try_into_panic() {
                    Ok(panic) => panic_message(&*panic),
                    Err(error) => error.to_string(),
                };
                (id, Err(Error::Panicked(what)))
            }
        };
        let part = self.parts.remove(&id).unwrap_or(Part { name: "a task".into(), may_end: false });
        Some((part, result))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    async fn first_failure(parts: &mut Parts) -> (String, String) {
        let health = Health::default();
        health.started(Vec::new());
        let error = parts.failed(&health).await;
        (error.chain(), health.live().1)
    }

    #[tokio::test]
    async fn what_ends_fails_or_panics_is_named_and_the_process_is_not_alive() {
        let mut parts = Parts::default();
        parts.start("runnable x".into(), async { Ok(()) });
        parts.start("runnable y".into(), pending());
        let (error, health) = first_failure(&mut parts).await;
        assert_eq!(error, "runnable x ended unexpectedly");
        assert!(health.starts_with("[-]runnable x runs\n"), "{health}");
        parts.start("runnable z".into(), async { Err(Error::other("no disk")) });
        assert_eq!(first_failure(&mut parts).await.0, "runnable z failed: no disk");
        parts.start("runnable z".into(), async { panic!("a bug") });
        assert!(first_failure(&mut parts).await.0.ends_with("panicked: a bug"));
    }

    #[tokio::test]
    async fn what_may_end_ends_without_harm_and_may_not_fail() {
        let mut parts = Parts::default();
        parts.start_what_may_end("migration".into(), async { Ok(()) });
        parts.start("controller x".into(), async { Ok(()) });
        assert_eq!(first_failure(&mut parts).await.0, "controller x ended unexpectedly");
        parts.start_what_may_end("migration".into(), async { Err(Error::other("no disk")) });
        assert_eq!(first_failure(&mut parts).await.0, "migration failed: no disk");
    }

    #[tokio::test]
    async fn what_outlives_the_grace_period_is_cancelled() {
        struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let mut parts = Parts::default();
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let dropped = Dropped(told);
        parts.start("x".into(), async move {
            let _dropped = dropped;
            pending().await
        });
        tokio::task::yield_now().await;
        parts.drain(Duration::ZERO).await;
        assert!(hear.try_recv().is_ok());
    }
}

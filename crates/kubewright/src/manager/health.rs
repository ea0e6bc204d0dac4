//! Whether the process lives and is ready, told from what is true at that moment.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use parking_lot::Mutex;

use crate::cache::Informer;
use crate::controller::panic_message;

/// Something that is asked whenever an endpoint is: what it is about, and whether it is well.
pub(crate) type Check = Box<dyn Fn() -> (String, bool) + Send + Sync>;

/// What the endpoints tell.
#[derive(Default)]
pub(crate) struct Health {
    state: Mutex<State>,
    live: Mutex<Vec<Check>>,
    ready: Mutex<Vec<Check>>,
}

#[derive(Default)]
struct State {
    /// With the names of their clusters, where these are not the manager's own.
    informers: Vec<(Option<String>, Informer)>,
    started: bool,
    stopping: bool,
    ended: Vec<String>,
}

impl Health {
    /// The informers that must be synced before the process is ready.
    pub(crate) fn started(&self, mut informers: Vec<(Option<String>, Informer)>) {
        let of = |informer: &(Option<String>, Informer)| (informer.0.clone(), informer.1.kind().clone());
        informers.sort_by_key(of);
        informers.dedup_by_key(|informer| of(informer));
        let mut state = self.state.lock();
        state.informers = informers;
        state.started = true;
    }

    /// Asks this too, for liveness.
    pub(crate) fn live_check(&self, check: Check) {
        self.live.lock().push(check);
    }

    /// Asks this too, for readiness.
    pub(crate) fn ready_check(&self, check: Check) {
        self.ready.lock().push(check);
    }

    /// The process is on its way out: not ready any more. Lets go of the informers.
    pub(crate) fn stopping(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        state.informers.clear();
    }

    /// A part of the process ended that should not have.
    pub(crate) fn ended(&self, task: &str) {
        self.state.lock().ended.push(task.into());
    }

    /// Whether the process works; false means that only a restart helps.
    pub(crate) fn live(&self) -> (bool, String) {
        let state = self.state.lock();
        let dead = state.informers.iter().filter(|(_, informer)| !informer.is_running());
        let mut checks: Vec<_> =
            dead.map(|(cluster, informer)| (format!("{} runs", cache(cluster, informer)), false)).collect();
        checks.extend(state.ended.iter().map(|task| (format!("{task} runs"), false)));
        drop(state);
        checks.extend(self.live.lock().iter().map(ask));
        report("healthz", checks)
    }

    /// Whether the process does its work now.
    pub(crate) fn ready(&self) -> (bool, String) {
        self.ready_at(Instant::now())
    }

    fn ready_at(&self, now: Instant) -> (bool, String) {
        let state = self.state.lock();
        let mut checks =
            vec![("started".to_owned(), state.started), ("not stopping".to_owned(), !state.stopping)];
        for (cluster, informer) in &state.informers {
            let name = cache(cluster, informer);
            checks.push(match (informer.missing(), informer.cut_off(now)) {
                (Some(why), _) => (format!("{name}: {why}"), false),
                (None, Some(lag)) if informer.is_synced() => {
                    (format!("{name}: nothing was heard of it for {} s", lag.as_secs()), false)
                }
                (None, _) => (format!("{name} synced"), informer.is_synced() && informer.is_running()),
            });
        }
        checks.extend(state.ended.iter().map(|task| (format!("{task} runs"), false)));
        drop(state);
        checks.extend(self.ready.lock().iter().map(ask));
        report("readyz", checks)
    }
}

/// A cache as it is named to people.
fn cache(cluster: &Option<String>, informer: &Informer) -> String {
    match cluster {
        None => format!("cache {}", informer.kind()),
        Some(cluster) => format!("cache {} in {cluster}", informer.kind()),
    }
}

/// A check of a user may panic; then it fails.
fn ask(check: &Check) -> (String, bool) {
    catch_unwind(AssertUnwindSafe(check))
        .unwrap_or_else(|panic| (format!("a check panicked: {}", panic_message(&*panic)), false))
}

fn report(check: &str, checks: Vec<(String, bool)>) -> (bool, String) {
    let passed = checks.iter().all(|(_, ok)| *ok);
    let mut text = String::new();
    for (name, ok) in checks {
        let _ = writeln!(text, "[{}]{name}", if ok { '+' } else { '-' });
    }
    let _ = writeln!(text, "{check} check {}", if passed { "passed" } else { "failed" });
    (passed, text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use http::{Request, Response};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::Body;

    use super::*;
    use crate::cache::{Cache, Scope};
    use crate::kind::Kind;

    #[test]
    fn readiness_tells_what_is_missing() {
        let health = Health::default();
        assert_eq!(health.ready(), (false, "[-]started\n[+]not stopping\nreadyz check failed\n".into()));
        health.started(Vec::new());
        assert!(health.ready().0 && health.live().0);
        health.ended("controller x");
        assert!(!health.ready().0);
        assert_eq!(health.live(), (false, "[-]controller x runs\nhealthz check failed\n".into()));
    }

    #[tokio::test]
    async fn a_cache_that_is_cut_off_for_long_is_not_ready() {
        let cut = AtomicBool::new(false);
        let end = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        let service = tower::service_fn(move |_: Request<Body>| {
            // One list, and then nobody is there.
            let answer =
                (!cut.swap(true, Ordering::Relaxed)).then(|| Body::from(format!("{end}\n").into_bytes()));
            async move { answer.map(Response::new).ok_or_else(|| std::io::Error::other("nobody is there")) }
        });
        let cache = Cache::new(kube::Client::new(service, "default"));
        let informer = cache.informer(&Kind::of::<ConfigMap>(), &Scope::All);
        informer.synced().await;
        while informer.is_connected() {
            tokio::task::yield_now().await;
        }
        let health = Health::default();
        health.started(vec![(None, informer)]);
        let now = Instant::now();
        let after = |seconds| health.ready_at(now + Duration::from_secs(seconds));
        assert!(after(60).1.contains("[+]cache configmaps synced\n"), "{}", after(60).1);
        let (ready, told) = after(3600);
        assert!(!ready && told.contains("[-]cache configmaps: nothing was heard of it for 3"), "{told}");
        assert!(health.live().0);
    }

    #[test]
    fn checks_of_users_count_and_one_that_panics_fails() {
        let health = Health::default();
        health.started(Vec::new());
        health.ready_check(Box::new(|| ("licence valid".into(), true)));
        assert!(health.ready().0);
        health.ready_check(Box::new(|| panic!("a bug")));
        let (ready, text) = health.ready();
        assert!(!ready && text.contains("[+]licence valid\n[-]a check panicked: a bug\n"), "{text}");
        assert!(health.live().0);
        health.live_check(Box::new(|| ("disk".into(), false)));
        assert!(!health.live().0);
    }

    #[test]
    fn a_stopping_process_is_alive_and_not_ready() {
        let health = Health::default();
        health.started(Vec::new());
        health.stopping();
        assert!(!health.ready().0 && health.live().0);
    }
}

//! How much CPU time and memory this process may use, as its container is limited, and whether it comes near: what sizes
//! the cache where nothing else is said, and what an operator warns of before the kernel ends it.

mod cgroup;

use std::time::Duration;

use self::cgroup::Groups;
use crate::cache::Memory;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(15);
/// Parts of the limit from which on memory is near it, and below which it is not any more.
const NEAR: f64 = 0.9;
const FAR: f64 = 0.8;

/// What the container of this process is limited to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    groups: Groups,
    /// CPUs' worth of time.
    pub(crate) cpus: Option<f64>,
    /// Bytes.
    pub(crate) memory: Option<u64>,
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

impl Limits {
    /// As they are now. Nothing is limited where there are no control groups.
    pub(crate) fn read() -> Limits {
        let groups = Groups::find(&read);
        Limits { cpus: groups.cpus(&read), memory: groups.memory(&read), groups }
    }

    /// The cache's share of the memory, where that is limited: two fifths uncompressed, an eighth decoded. The rest is for
    /// what is under way, and for compressed objects.
    pub(crate) fn cache(&self) -> Option<Memory> {
        let bytes = usize::try_from(self.memory?).unwrap_or(usize::MAX);
        let decoded = Memory::default().decoded.min(bytes / 8);
        Some(Memory { raw: Some(bytes / 5 * 2), decoded })
    }

    /// Tells what was found, and what is odd about it. `workers` are the threads that tokio has.
    pub(crate) fn tell(&self, workers: usize) {
        tracing::info!(cpus = self.cpus, memory = self.memory, workers, "limits of this process");
        if let Some(cpus) = self.cpus.filter(|cpus| (workers as f64) > cpus.ceil() * 2.0) {
            tracing::warn!(
                cpus,
                workers,
                "more threads than CPU time: the kernel will stop them all for parts of each 100 ms; leave out \
                 `worker_threads`, which follows the quota by default"
            );
        }
    }

    /// Warns when memory nears the limit, for ever.
    pub(crate) async fn watch(self) {
        let Some(limit) = self.memory else { return std::future::pending().await };
        let mut pressure = Pressure::default();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let Some(used) = self.groups.working_set(&read) else { continue };
            match pressure.observe(used, limit) {
                Some(true) => tracing::warn!(
                    used,
                    limit,
                    "memory nears the limit, at which the kernel ends this process: raise it, or lower that of the cache"
                ),
                Some(false) => tracing::info!(used, limit, "memory is well below the limit again"),
                None => {}
            }
        }
    }

    /// Bytes of memory in use that count against the limit.
    pub(crate) fn working_set(&self) -> u64 {
        self.groups.working_set(&read).unwrap_or(0)
    }
}

/// Whether memory is near its limit; told once each time.
#[derive(Debug, Default)]
struct Pressure {
    near: bool,
}

impl Pressure {
    /// Whether that changed.
    fn observe(&mut self, used: u64, limit: u64) -> Option<bool> {
        let part = used as f64 / limit.max(1) as f64;
        let near = if self.near { part >= FAR } else { part >= NEAR };
        (std::mem::replace(&mut self.near, near) != near).then_some(near)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearing_the_limit_is_told_once_until_memory_is_well_below_it() {
        let mut pressure = Pressure::default();
        let told = [50, 89, 90, 95, 85, 91, 79, 85, 90].map(|used| pressure.observe(used, 100));
        let (near, far) = (Some(true), Some(false));
        assert_eq!(told, [None, None, near, None, None, None, far, None, near]);
    }

    #[test]
    fn the_cache_gets_its_share_of_a_limit_and_no_more_than_without_one() {
        let cache = |memory| Limits { memory, ..Limits::default() }.cache();
        assert_eq!(cache(None), None);
        assert_eq!(cache(Some(100 << 20)), Some(Memory { raw: Some(40 << 20), decoded: (100 << 20) / 8 }));
        assert_eq!(cache(Some(8 << 30)).unwrap().decoded, Memory::default().decoded);
    }
}

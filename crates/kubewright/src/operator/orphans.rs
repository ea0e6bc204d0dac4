//! What a process has to do that is the first of its container (PID 1): children of processes that ended become its own,
//! and stay as zombies until somebody waits for them. An operator starts no processes by itself, so there is nobody to pass
//! signals on to; a program that does waits for its own children, and is left the time for it.
//!
//! The decision is pure; the driver looks at `/proc` when a child has ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// How long a zombie is left to whoever may wait for it, such as `tokio::process`.
const LEFT: Duration = Duration::from_secs(5);

/// Zombies, and since when they are known.
#[derive(Debug, Default)]
struct Zombies(BTreeMap<i32, Instant>);

impl Zombies {
    /// Whom to reap of those that there are now, and when to look again.
    fn look(&mut self, now_there: &[i32], now: Instant) -> (Vec<i32>, Option<Instant>) {
        self.0.retain(|pid, _| now_there.contains(pid));
        for pid in now_there {
            self.0.entry(*pid).or_insert(now);
        }
        let due = self.0.iter().filter(|(_, since)| now >= **since + LEFT).map(|(pid, _)| *pid).collect();
        let next = self.0.values().map(|since| *since + LEFT).filter(|due| now < *due).min();
        (due, next)
    }
}

/// Reaps orphans for ever, if this process is the first of its container.
pub(super) async fn reap() {
    if getpid() != Pid::INIT {
        return;
    }
    let Ok(mut ended) = signal(SignalKind::child()) else { return };
    let mut zombies = Zombies::default();
    let mut next = None;
    loop {
        let wait = async {
            match next {
                Some(at) => tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = ended.recv() => {}
            () = wait => {}
        }
        let (due, again) = zombies.look(&zombies_of(Pid::INIT.as_raw_nonzero().get()), Instant::now());
        next = again;
        for pid in due {
            let reaped =
                Pid::from_raw(pid).and_then(|pid| waitpid(Some(pid), WaitOptions::NOHANG).ok().flatten());
            if reaped.is_some() {
                tracing::debug!(pid, "an orphan was reaped");
            }
        }
    }
}

/// The children of a process that have ended and were not waited for.
fn zombies_of(parent: i32) -> Vec<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats.filter_map(|stat| zombie(&stat, parent)).collect()
}

/// The process of a `/proc/PID/stat`, if it is a zombie of this parent. Its name may hold anything, brackets too.
fn zombie(stat: &str, parent: i32) -> Option<i32> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    (fields.next()? == "Z" && fields.next()?.parse() == Ok(parent)).then(|| pid.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_of_a_parent_are_told_from_their_stat() {
        assert_eq!(zombie("42 (sh) Z 1 42 42 0 -1 4194560", 1), Some(42));
        assert_eq!(zombie("42 (a ) Z 1 (x) S 1 42", 1), None);
        assert_eq!(zombie("42 (a) b) Z 1 42", 1), Some(42));
        assert_eq!(zombie("42 (sh) Z 7 42", 1), None);
        for text in ["", "42", "42 (sh", "42 (sh)", "x (sh) Z 1"] {
            assert_eq!(zombie(text, 1), None, "{text}");
        }
    }

    #[test]
    fn a_zombie_that_nobody_waits_for_is_reaped_and_others_are_left_to_their_parents_code() {
        let start = Instant::now();
        let mut zombies = Zombies::default();
        assert_eq!(zombies.look(&[7, 9], start), (vec![], Some(start + LEFT)));
        // Somebody waited for 9; 8 is new.
        let soon = start + Duration::from_secs(1);
        assert_eq!(zombies.look(&[7, 8], soon), (vec![], Some(start + LEFT)));
        assert_eq!(zombies.look(&[7, 8], start + LEFT), (vec![7], Some(soon + LEFT)));
        assert_eq!(zombies.look(&[], soon + LEFT), (vec![], None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_child_that_has_ended_is_found_and_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (pid, own) = (i32::try_from(child.id()).unwrap(), getpid().as_raw_nonzero().get());
        while !zombies_of(own).contains(&pid) {
            std::thread::yield_now();
        }
        assert!(waitpid(Pid::from_raw(pid), WaitOptions::NOHANG).unwrap().is_some());
        assert!(child.wait().is_err(), "it was waited for");
    }
}

//! When which remote group version is asked whether it answers. Pure: the time is an argument.
//!
//! One that is new or whose place changed is asked at once; one that answered again after [`RESYNC`]; one that did not
//! after a pause that doubles with each failure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often one that answers is asked again.
pub(super) const RESYNC: Duration = Duration::from_secs(30);
/// The pause after the first failure; it doubles up to [`RESYNC`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What is asked when, by name of the APIService. `P` says where it is asked: another one means asking anew.
#[derive(Debug)]
pub(super) struct Schedule<P, T> {
    entries: BTreeMap<Box<str>, Entry<P, T>>,
}

#[derive(Debug)]
struct Entry<P, T> {
    place: P,
    due: Instant,
    asking: bool,
    failures: u32,
    outcome: Option<Result<T, String>>,
}

impl<P, T> Default for Schedule<P, T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<P: Clone + PartialEq, T: Clone + PartialEq> Schedule<P, T> {
    /// One is to be asked at a place from now on; what it said at another place is forgotten.
    pub(super) fn want(&mut self, name: &str, place: P, now: Instant) {
        match self.entries.get_mut(name) {
            Some(entry) if entry.place == place => {}
            _ => {
                let entry = Entry { place, due: now, asking: false, failures: 0, outcome: None };
                self.entries.insert(name.into(), entry);
            }
        }
    }

    /// One is not to be asked any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Only these are to be asked.
    pub(super) fn keep_only(&mut self, wanted: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| wanted(name));
    }

    /// One is to be asked at once, because something speaks against its last answer.
    pub(super) fn doubt(&mut self, name: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name)
            && entry.outcome.as_ref().is_some_and(Result::is_ok)
        {
            entry.due = entry.due.min(now);
        }
    }

    /// Those that are to be asked now, with what they said last; they count as being asked.
    pub(super) fn start_due(&mut self, now: Instant) -> Vec<(Box<str>, P, Option<T>)> {
        let due = self.entries.iter_mut().filter(|(_, entry)| !entry.asking && entry.due <= now);
        due.map(|(name, entry)| {
            entry.asking = true;
            let last = entry.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok()).cloned();
            (name.clone(), entry.place.clone(), last)
        })
        .collect()
    }

    /// One was asked. Whether that changes what is known of it.
    pub(super) fn finished(
        &mut self,
        name: &str,
        place: &P,
        outcome: Result<T, String>,
        now: Instant,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.place == *place) else {
            return false;
        };
        entry.asking = false;
        match &outcome {
            Ok(_) => {
                entry.failures = 0;
                entry.due = now + RESYNC;
            }
            Err(_) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << entry.failures.min(16));
                entry.failures += 1;
                entry.due = now + pause.min(RESYNC);
            }
        }
        let changed = entry.outcome.as_ref() != Some(&outcome);
        entry.outcome = Some(outcome);
        changed
    }

    /// What one said; `None` if it was not asked yet.
    pub(super) fn outcome(&self, name: &str) -> Option<&Result<T, String>> {
        self.entries.get(name)?.outcome.as_ref()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.asking).map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &mut Schedule<u8, u8>, now: Instant) -> usize {
        schedule.start_due(now).len()
    }

    #[test]
    fn one_that_fails_is_asked_less_and_less_often_and_one_that_answers_regularly() {
        let mut schedule: Schedule<u8, u8> = Schedule::default();
        let mut now = Instant::now();
        schedule.want("a", 1, now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(due(&mut schedule, now), 1);
            assert_eq!(due(&mut schedule, now), 0, "it is being asked");
            schedule.finished("a", &1, Err("no".into()), now);
            let next = schedule.next().unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses[11], RESYNC);
        assert_eq!(due(&mut schedule, now), 1);
        assert!(schedule.finished("a", &1, Ok(7), now));
        assert_eq!(schedule.next(), Some(now + RESYNC));
        schedule.doubt("a", now);
        assert_eq!(schedule.start_due(now), [("a".into(), 1, Some(7))]);
        assert!(!schedule.finished("a", &1, Ok(7), now), "nothing new");
    }

    #[test]
    fn another_place_is_asked_at_once_and_an_answer_from_the_old_one_is_ignored() {
        let mut schedule: Schedule<u8, u8> = Schedule::default();
        let now = Instant::now();
        schedule.want("a", 1, now);
        assert_eq!(due(&mut schedule, now), 1);
        schedule.want("a", 2, now);
        assert_eq!(due(&mut schedule, now), 1);
        assert!(!schedule.finished("a", &1, Ok(1), now));
        assert_eq!(schedule.outcome("a"), None);
        assert!(schedule.finished("a", &2, Ok(2), now));
        assert_eq!(schedule.outcome("a"), Some(&Ok(2)));
        schedule.keep_only(|_| false);
        assert_eq!(schedule.next(), None);
    }
}

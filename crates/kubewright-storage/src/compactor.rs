//! When to compact by time: what kube-apiserver does every five minutes, as a decision without a clock.
//!
//! Revisions come in at each tick of the caller's timer, and the revision to compact goes out: the one seen at the
//! tick before, so that every state stays readable for at least one interval.

/// Decides what to compact at each tick of an interval.
#[derive(Debug, Default)]
pub struct Compactor {
    last_seen: Option<u64>,
    last_due: Option<u64>,
}

impl Compactor {
    /// A compactor that has seen nothing: its first tick compacts nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the store's newest revision and returns the one to compact now, if it is a new one. The store may answer
    /// that it was compacted already, by its own [`crate::Retention`]: that is no fault.
    pub fn tick(&mut self, newest: u64) -> Option<u64> {
        let due = self.last_seen.replace(newest)?;
        (self.last_due.replace(due) != Some(due)).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_stays_readable_for_one_interval() {
        let mut compactor = Compactor::new();
        assert_eq!(compactor.tick(10), None);
        assert_eq!(compactor.tick(25), Some(10));
        assert_eq!(compactor.tick(25), Some(25));
    }

    #[test]
    fn an_idle_store_is_not_compacted_again() {
        let mut compactor = Compactor::new();
        compactor.tick(10);
        assert_eq!(compactor.tick(10), Some(10));
        assert_eq!(compactor.tick(10), None);
    }
}

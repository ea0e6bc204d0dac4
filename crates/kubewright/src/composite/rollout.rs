//! How changes of children reach the cluster: what a rollout does with each of them for now. Pure.

/// How changes of children reach the cluster: Metacontroller's update strategies. New children are always made at once,
/// and those that are no longer wished for always go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollout {
    /// All are changed at once. `InPlace` in Metacontroller.
    #[default]
    AllAtOnce,
    /// Children are changed one after another: so many at most may be changed and not ready at a time.
    /// `RollingInPlace` in Metacontroller.
    Rolling {
        /// Children that may be not ready because of a change; at least 1.
        max_unavailable: usize,
    },
    /// Children that are to change are deleted at once, and made anew when they are gone: for what can't be changed.
    Recreate,
    /// The same one after another: so many at most may be away or not ready at a time.
    RollingRecreate {
        /// Children that may be away or not ready because of a change; at least 1.
        max_unavailable: usize,
    },
    /// Children are made and deleted, and never changed: a change applies to those made from then on.
    OnDelete,
}

/// A wished-for child as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) exists: bool,
    pub(crate) ready: bool,
    /// Whether it is to change.
    pub(crate) changes: bool,
}

/// What is to be done about a wished-for child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is to be as it is wished for.
    Apply,
    /// It stays as it is for now.
    Leave,
    /// It is deleted, to be made anew.
    Recreate,
}

impl Rollout {
    /// What is to be done about each of the children. One that is not ready already may change: it can't become less
    /// available.
    pub(crate) fn steps(self, children: &[Seen]) -> Vec<Step> {
        let (change, mut left) = match self {
            Rollout::AllAtOnce => (Step::Apply, usize::MAX),
            Rollout::Recreate => (Step::Recreate, usize::MAX),
            Rollout::Rolling { max_unavailable } => (Step::Apply, max_unavailable.max(1)),
            Rollout::RollingRecreate { max_unavailable } => (Step::Recreate, max_unavailable.max(1)),
            Rollout::OnDelete => {
                let step = |child: &Seen| if child.exists { Step::Leave } else { Step::Apply };
                return children.iter().map(step).collect();
            }
        };
        left = left.saturating_sub(children.iter().filter(|child| !child.ready).count());
        let step = |child: &Seen| match (child.exists && child.changes, child.ready) {
            (false, _) => Step::Apply,
            (true, false) => change,
            (true, true) if left == 0 => Step::Leave,
            (true, true) => {
                left -= 1;
                change
            }
        };
        children.iter().map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use Step::{Apply, Leave, Recreate};

    use super::*;

    const UP: Seen = Seen { exists: true, ready: true, changes: false };
    const DOWN: Seen = Seen { ready: false, ..UP };
    const TO_CHANGE: Seen = Seen { changes: true, ..UP };
    const DOWN_TO_CHANGE: Seen = Seen { changes: true, ..DOWN };
    const MISSING: Seen = Seen { exists: false, ready: false, changes: true };

    #[test]
    fn a_rolling_change_takes_down_no_more_than_it_may() {
        let rolling = Rollout::Rolling { max_unavailable: 1 };
        assert_eq!(rolling.steps(&[TO_CHANGE, TO_CHANGE, UP]), [Apply, Leave, Apply]);
        // One is down, for whatever reason: nothing else may go down, but what is down may change.
        assert_eq!(rolling.steps(&[TO_CHANGE, DOWN]), [Leave, Apply]);
        assert_eq!(rolling.steps(&[TO_CHANGE, DOWN_TO_CHANGE]), [Leave, Apply]);
        assert_eq!(Rollout::AllAtOnce.steps(&[TO_CHANGE, DOWN_TO_CHANGE]), [Apply, Apply]);
        assert_eq!(Rollout::Rolling { max_unavailable: 0 }.steps(&[TO_CHANGE]), [Apply]);
    }

    #[test]
    fn what_is_recreated_one_by_one_is_back_and_ready_before_the_next_goes() {
        let rolling = Rollout::RollingRecreate { max_unavailable: 1 };
        assert_eq!(rolling.steps(&[TO_CHANGE, TO_CHANGE]), [Recreate, Leave]);
        assert_eq!(rolling.steps(&[MISSING, TO_CHANGE]), [Apply, Leave]);
        assert_eq!(rolling.steps(&[DOWN, TO_CHANGE]), [Apply, Leave]);
        assert_eq!(rolling.steps(&[UP, TO_CHANGE]), [Apply, Recreate]);
        let two = Rollout::RollingRecreate { max_unavailable: 2 };
        assert_eq!(two.steps(&[DOWN, TO_CHANGE, TO_CHANGE]), [Apply, Recreate, Leave]);
        assert_eq!(Rollout::Recreate.steps(&[TO_CHANGE, UP, MISSING]), [Recreate, Apply, Apply]);
    }

    #[test]
    fn what_changes_on_delete_is_left_alone_while_it_is_there() {
        assert_eq!(Rollout::OnDelete.steps(&[TO_CHANGE, UP, MISSING]), [Leave, Leave, Apply]);
    }
}

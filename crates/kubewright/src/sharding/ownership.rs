//! Which objects this process may work on, and where it does so now: shared by the driver, which gives and
//! takes slots, and the controllers, which enter one for every reconciliation. Both look under one lock, so
//! that a slot is either entered or withdrawn first.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::table::{SLOTS, Slots, slot_of};

struct State {
    active: Slots,
    running: [u32; SLOTS as usize],
}

/// The slots of this process.
pub(crate) struct Ownership {
    state: Mutex<State>,
    changes: watch::Sender<Slots>,
    ended: Notify,
}

impl Ownership {
    /// Of nothing.
    pub(crate) fn new() -> Arc<Ownership> {
        let state = Mutex::new(State { active: 0, running: [0; SLOTS as usize] });
        Arc::new(Ownership { state, changes: watch::channel(0).0, ended: Notify::new() })
    }

    /// From now on work may begin in these slots and in no others.
    pub(crate) fn give(&self, slots: Slots) {
        self.state.lock().active = slots;
        self.changes.send_if_modified(|before| std::mem::replace(before, slots) != slots);
    }

    /// The slots, as they change.
    pub(crate) fn changes(&self) -> watch::Receiver<Slots> {
        self.changes.subscribe()
    }

    /// The slots in which something is under way.
    pub(crate) fn busy(&self) -> Slots {
        let state = self.state.lock();
        (0..SLOTS).filter(|slot| state.running[*slot as usize] > 0).fold(0, |all, slot| all | 1 << slot)
    }

    /// Waits until nothing is under way in these slots.
    pub(crate) async fn idle(&self, slots: Slots) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.busy() & slots == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Begins work on an object, if it is this process's to do.
    pub(crate) fn enter(self: &Arc<Self>, uid: &str) -> Option<Busy> {
        let slot = slot_of(uid);
        let mut state = self.state.lock();
        if state.active & slot == 0 {
            return None;
        }
        let index = slot.trailing_zeros() as usize;
        state.running[index] += 1;
        Some(Busy { ownership: Arc::clone(self), index })
    }
}

/// Work under way in a slot, until dropped.
pub(crate) struct Busy {
    ownership: Arc<Ownership>,
    index: usize,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.ownership.state.lock().running[self.index] -= 1;
        self.ownership.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawn_slot_is_busy_until_its_work_has_ended() {
        let ownership = Ownership::new();
        assert!(ownership.enter("a").is_none());
        ownership.give(Slots::MAX);
        let (first, second) = (ownership.enter("a").unwrap(), ownership.enter("a").unwrap());
        ownership.give(0);
        assert!(ownership.enter("a").is_none());
        drop(first);
        assert_eq!(ownership.busy(), slot_of("a"));
        drop(second);
        assert_eq!(ownership.busy(), 0);
    }
}

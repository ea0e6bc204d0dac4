//! A replica's share of a kind, where the informer follows no more than that: what the server is asked for, and what is
//! left out here because the server sends it all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::watch;

use super::object::Cached;
use crate::sharding::{Ownership, Slots, selector, slot_of};

/// The share that an informer follows.
pub(super) struct Share {
    ownership: Arc<Ownership>,
    /// What is followed now: what is owned, until work on what was lost has ended.
    slots: AtomicU64,
    /// The server does not take the parameter.
    refused: AtomicBool,
    /// Objects that the server sent although they are another's.
    left_out: AtomicU64,
}

impl Share {
    pub(super) fn new(ownership: &Arc<Ownership>) -> Share {
        Share {
            ownership: Arc::clone(ownership),
            slots: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            left_out: AtomicU64::new(0),
        }
    }

    pub(super) fn slots(&self) -> Slots {
        self.slots.load(Ordering::Acquire)
    }

    pub(super) fn set_slots(&self, slots: Slots) {
        self.slots.store(slots, Ordering::Release);
    }

    /// The slots that are owned, as they change.
    pub(super) fn changes(&self) -> watch::Receiver<Slots> {
        self.ownership.changes()
    }

    /// Waits until nothing is under way in these slots.
    pub(super) async fn idle(&self, slots: Slots) {
        self.ownership.idle(slots).await;
    }

    /// The parameter of a request; none where everything is wanted, or the server refused it.
    pub(super) fn query(&self) -> Option<String> {
        let slots = self.slots();
        if slots == Slots::MAX || self.refused.load(Ordering::Relaxed) {
            return None;
        }
        let text = selector(slots)?.to_string();
        Some(format!("&shardSelector={}", utf8_percent_encode(&text, NON_ALPHANUMERIC)))
    }

    /// The server refuses the parameter.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether an object belongs to the share.
    pub(super) fn takes(&self, object: &Cached) -> bool {
        self.slots() & slot_of(object.uid()) != 0
    }

    /// An object of another's share was left out. Whether it was the first.
    pub(super) fn leave_out(&self) -> bool {
        self.left_out.fetch_add(1, Ordering::Relaxed) == 0
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::kind::Kind;

    #[test]
    fn the_server_is_asked_for_the_ranges_of_the_slots() {
        let share = Share::new(&Ownership::new());
        assert_eq!(share.query(), None);
        share.set_slots(0b11);
        let query = share.query().unwrap();
        let text = percent_encoding::percent_decode_str(&query).decode_utf8().unwrap().into_owned();
        assert_eq!(
            text,
            "&shardSelector=shardRange(object.metadata.uid, '0x0000000000000000', '0x0800000000000000')"
        );
        share.set_slots(Slots::MAX);
        assert_eq!(share.query(), None);
        share.set_slots(1);
        share.refuse();
        assert_eq!(share.query(), None);
    }

    #[test]
    fn what_is_anothers_is_told_by_its_uid() {
        let share = Share::new(&Ownership::new());
        let pod = Cached::read(br#"{"metadata":{"name":"p","uid":"a"}}"#, &Kind::of::<Pod>()).unwrap();
        share.set_slots(slot_of("a"));
        assert!(share.takes(&pod));
        share.set_slots(!slot_of("a"));
        assert!(!share.takes(&pod) && share.leave_out() && !share.leave_out());
        assert_eq!(share.left_out(), 2);
    }
}

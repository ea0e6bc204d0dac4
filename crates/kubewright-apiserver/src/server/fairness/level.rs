//! A priority level: so many requests at a time, and queues for those that have to wait.
//!
//! Pure: requests are tickets. A flow is dealt a hand of queues and its requests wait in the shortest of them; free places
//! go to the queues in turn, so that a flow with many requests takes nothing from the others.

use std::collections::VecDeque;

/// What becomes of a request that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It starts.
    Start,
    /// It waits until its ticket comes up.
    Wait,
    /// There is no place even to wait.
    Refuse,
}

/// How a level is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// How many requests run at a time.
    pub seats: usize,
    /// How many queues there are; none where requests do not wait.
    pub queues: usize,
    /// How many of them a flow is dealt.
    pub hand: usize,
    /// How many requests wait in one.
    pub length: usize,
}

/// The state of a level.
#[derive(Debug)]
pub(super) struct Level {
    shape: Shape,
    executing: usize,
    waiting: usize,
    queues: Vec<VecDeque<u64>>,
    turn: usize,
}

impl Level {
    pub fn new(shape: Shape) -> Self {
        let mut level = Self { shape, executing: 0, waiting: 0, queues: Vec::new(), turn: 0 };
        level.reshape(shape);
        level
    }

    /// Another set-up. Those who wait go on waiting where they are.
    pub fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
        let wanted = shape.queues.max(self.queues.len());
        self.queues.resize_with(wanted, VecDeque::new);
    }

    /// A request of a flow comes.
    pub fn offer(&mut self, ticket: u64, flow: u64) -> Offer {
        if self.executing < self.shape.seats && self.waiting == 0 {
            self.executing += 1;
            return Offer::Start;
        }
        let hand = deal(flow, self.shape.queues, self.shape.hand);
        let Some(shortest) = hand.into_iter().min_by_key(|queue| self.queues[*queue].len()) else {
            return Offer::Refuse;
        };
        if self.queues[shortest].len() >= self.shape.length {
            return Offer::Refuse;
        }
        self.queues[shortest].push_back(ticket);
        self.waiting += 1;
        Offer::Wait
    }

    /// A request has ended: its place is free.
    pub fn finish(&mut self) {
        self.executing = self.executing.saturating_sub(1);
    }

    /// The ticket that starts now, if somebody waits and there is a place.
    pub fn next(&mut self) -> Option<u64> {
        if self.executing >= self.shape.seats || self.waiting == 0 {
            return None;
        }
        let count = self.queues.len();
        let at = (0..count).map(|n| (self.turn + n) % count).find(|at| !self.queues[*at].is_empty())?;
        let ticket = self.queues[at].pop_front()?;
        self.turn = (at + 1) % count;
        self.waiting -= 1;
        self.executing += 1;
        Some(ticket)
    }

    /// A request no longer waits. False where its ticket has come up already.
    pub fn give_up(&mut self, ticket: u64) -> bool {
        for queue in &mut self.queues {
            if let Some(at) = queue.iter().position(|waiting| *waiting == ticket) {
                queue.remove(at);
                self.waiting -= 1;
                return true;
            }
        }
        false
    }

    /// Requests that run, and that wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.executing, self.waiting)
    }
}

/// `hand` different numbers below `count`, the same for the same flow (shuffle sharding).
fn deal(flow: u64, count: usize, hand: usize) -> Vec<usize> {
    let mut left = flow;
    let mut dealt: Vec<usize> = Vec::with_capacity(hand.min(count));
    for n in 0..hand.min(count) {
        let cards = (count - n) as u64;
        let mut card = (left % cards) as usize;
        left /= cards;
        // The card's number among those that are left.
        let mut sorted = dealt.clone();
        sorted.sort_unstable();
        for taken in sorted {
            if card >= taken {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn level(seats: usize, queues: usize, length: usize) -> Level {
        Level::new(Shape { seats, queues, hand: 1, length })
    }

    #[test]
    fn so_many_run_the_next_wait_and_the_rest_are_refused() {
        let mut level = level(1, 1, 1);
        assert_eq!(level.offer(1, 0), Offer::Start);
        assert_eq!(level.offer(2, 0), Offer::Wait);
        assert_eq!(level.offer(3, 0), Offer::Refuse);
        assert_eq!(level.next(), None);
        level.finish();
        assert_eq!(level.next(), Some(2));
        level.finish();
        assert_eq!(level.counts(), (0, 0));
    }

    #[test]
    fn without_queues_nobody_waits() {
        let mut level = level(1, 0, 0);
        assert_eq!(level.offer(1, 0), Offer::Start);
        assert_eq!(level.offer(2, 0), Offer::Refuse);
    }

    #[test]
    fn a_quiet_flow_is_next_however_long_the_queue_of_a_loud_one_is() {
        let mut level = level(1, 2, 100);
        assert_eq!(level.offer(0, 0), Offer::Start);
        for ticket in 1..50 {
            assert_eq!(level.offer(ticket, 0), Offer::Wait);
        }
        assert_eq!(level.offer(99, 1), Offer::Wait);
        let mut order = Vec::new();
        for _ in 0..2 {
            level.finish();
            order.extend(level.next());
        }
        assert!(order.contains(&99), "{order:?}");
    }

    #[test]
    fn who_gives_up_makes_room() {
        let mut level = level(1, 1, 1);
        level.offer(1, 0);
        level.offer(2, 0);
        assert!(level.give_up(2));
        assert!(!level.give_up(2));
        assert_eq!(level.offer(3, 0), Offer::Wait);
    }

    proptest! {
        #[test]
        fn a_hand_has_no_card_twice(flow: u64, count in 1usize..200, hand in 1usize..10) {
            let dealt = deal(flow, count, hand);
            let mut sorted = dealt.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), hand.min(count));
            prop_assert!(dealt.iter().all(|card| *card < count));
        }

        #[test]
        fn nobody_is_lost_and_never_more_run_than_there_are_seats(
            steps in proptest::collection::vec((0u8..4, any::<u64>()), 1..200)
        ) {
            let mut level = Level::new(Shape { seats: 3, queues: 4, hand: 2, length: 5 });
            let (mut running, mut waiting) = (0usize, std::collections::BTreeSet::new());
            for (ticket, (step, flow)) in steps.into_iter().enumerate() {
                let ticket = ticket as u64;
                match step {
                    0 | 1 => match level.offer(ticket, flow) {
                        Offer::Start => running += 1,
                        Offer::Wait => { waiting.insert(ticket); }
                        Offer::Refuse => {}
                    },
                    2 if running > 0 => { level.finish(); running -= 1; }
                    3 => if let Some(first) = waiting.pop_first() {
                        prop_assert!(level.give_up(first));
                    },
                    _ => {}
                }
                while let Some(started) = level.next() {
                    prop_assert!(waiting.remove(&started));
                    running += 1;
                }
                prop_assert!(running <= 3);
                prop_assert_eq!(level.counts(), (running, waiting.len()));
                prop_assert!(running == 3 || waiting.is_empty());
            }
        }
    }
}

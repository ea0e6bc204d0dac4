//! The shell as it is, in every order in which the threads that add, take and finish may meet. A wake-up that gets lost
//! leaves nobody who can go on, which ends the test.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::FutureExt;

use super::shell::{Parts, SharedQueue};
use super::stage::{Thread, block, explore, me, point, spawn, unblock};
use super::{Outcome, Priority, Queue, Taken};

/// What `tokio::sync::Notify` promises of `notify_one` with a single task that waits: a wake-up that finds nobody is
/// kept for the next, and there is never more than one. What happens under a lock is one step.
#[derive(Default)]
struct Steps {
    signal: Mutex<Signal>,
    /// Keeps no wake-up, as a wrong choice of primitive would.
    forgets: bool,
}

#[derive(Default)]
struct Signal {
    kept: bool,
    waits: Option<usize>,
}

impl Parts for Steps {
    type Lock<T> = Mutex<T>;

    fn lock<T>(value: T) -> Mutex<T> {
        Mutex::new(value)
    }

    fn with<T, O>(lock: &Mutex<T>, body: impl FnOnce(&mut T) -> O) -> O {
        point();
        body(&mut lock.try_lock().expect("one thread runs at a time"))
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wake(&self) {
        point();
        let mut signal = self.signal.lock().unwrap();
        signal.kept = signal.waits.is_some() || !self.forgets;
        signal.waits.take().into_iter().for_each(unblock);
    }

    async fn wait(&self, until: Option<Instant>) {
        assert_eq!(until, None, "nothing here waits for a time");
        point();
        while !std::mem::take(&mut self.signal.lock().unwrap().kept) {
            self.signal.lock().unwrap().waits = Some(me());
            block();
        }
    }
}

type Shared = SharedQueue<usize, (), Steps>;

fn shared(forgets: bool) -> Arc<Shared> {
    let parts = Steps { forgets, ..Steps::default() };
    Arc::new(SharedQueue::on(parts, Queue::new(Queue::<usize, ()>::BACKOFF)))
}

fn take(queue: &Shared) -> Taken<usize, ()> {
    queue.take().now_or_never().expect("waiting blocks the thread")
}

/// What there is to know of a key, as in an informer's store: written before the key is added.
type State = Arc<AtomicUsize>;

fn adder(queue: &Arc<Shared>, state: &State, key: usize) -> Thread {
    let (queue, state) = (Arc::clone(queue), Arc::clone(state));
    spawn(move || {
        state.fetch_add(1, Ordering::Release);
        queue.add(key, Priority::LIVE, ());
    })
}

/// Two add a key each; the taker goes on until it had both.
fn two_adders_and_a_taker(forgets: bool) {
    let (queue, states) = (shared(forgets), [State::default(), State::default()]);
    let adders = [adder(&queue, &states[0], 0), adder(&queue, &states[1], 1)];
    let mut seen = [0; 2];
    while seen != [1, 1] {
        let taken = take(&queue);
        seen[taken.key] = states[taken.key].load(Ordering::Acquire);
        queue.done(&taken.key, Outcome::Done, ());
    }
    adders.into_iter().for_each(Thread::join);
    assert!(queue.read(|queue, _| queue.is_empty()));
}

#[test]
fn no_order_of_two_adders_and_a_taker_loses_a_wake_up() {
    let orders = explore(3, || two_adders_and_a_taker(false));
    assert!(orders > 500, "{orders}");
}

#[test]
#[should_panic(expected = "a wake-up was lost")]
fn a_wake_up_that_is_not_kept_is_lost_in_one_of_the_orders() {
    explore(3, || two_adders_and_a_taker(true));
}

#[test]
fn a_key_that_two_add_while_it_is_worked_on_runs_again_with_the_latest_and_never_twice_at_once() {
    let orders = explore(2, || {
        let (queue, state) = (shared(false), State::default());
        let busy = Arc::new(AtomicBool::new(false));
        let work = |queue: &Shared, state: &State, busy: &AtomicBool, key: usize| {
            assert!(!busy.swap(true, Ordering::AcqRel), "the key runs twice at once");
            let seen = state.load(Ordering::Acquire);
            busy.store(false, Ordering::Release);
            queue.done(&key, Outcome::Done, ());
            seen
        };
        queue.add(0, Priority::LOW, ());
        let first = take(&queue);
        let worker = spawn({
            let (queue, state, busy) = (Arc::clone(&queue), Arc::clone(&state), Arc::clone(&busy));
            move || {
                work(&queue, &state, &busy, first.key);
            }
        });
        let adders = [adder(&queue, &state, 0), adder(&queue, &state, 0)];
        // The second of the adders leads to a run after it, whatever happened before.
        while work(&queue, &state, &busy, take(&queue).key) < 2 {}
        adders.into_iter().for_each(Thread::join);
        worker.join();
        // The state may have been seen before the key was added for it.
        while let Some(taken) = queue.try_take() {
            assert_eq!(work(&queue, &state, &busy, taken.key), 2);
        }
        assert!(queue.read(|queue, _| queue.is_empty()));
    });
    assert!(orders > 500, "{orders}");
}

//! Where the streams of a connection of HTTP/2 run.
//!
//! A request is a task of its own, so that the requests of one connection use all cores. Once it has become a
//! [`Standing`] answer, a stream that mostly waits for events, it moves into the task of its connection: a change then
//! wakes one task however many watchers the connection has, and what they say goes out together.
//!
//! [`Streams`] is the executor that hyper gets, [`Gathered`] what the connection's task polls. What never happens: a
//! stream that is not woken is polled, or one that panics takes others with it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::task::coop::unconstrained;

/// Marks an answer (in its extensions) that goes on for long and does little at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many streams have their turn before the connection writes what they have said: enough to fill records of TLS,
/// few enough for the client to read the first while the last are written.
const TURN: usize = 32;

thread_local! {
    /// Whether the stream that is being polled has become a standing answer.
    static SETTLED: Cell<bool> = const { Cell::new(false) };
}

/// The stream that is being polled has become a standing answer.
pub(super) fn settle() {
    SETTLED.set(true);
}

/// Runs streams; cloning shares the gathering.
#[derive(Clone)]
pub(super) struct Streams(Arc<Door>);

/// The standing streams of one connection. With it they end.
pub(super) struct Gathered {
    door: Arc<Door>,
    seats: Vec<Seat>,
    /// Indices of empty seats.
    empty: Vec<usize>,
    /// Indices of those whose turn it is.
    turn: Vec<usize>,
}

/// A place for a stream, and the bell that wakes whoever sits there.
struct Seat {
    stream: Option<Stream>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    seat: usize,
    rung: AtomicBool,
    door: Arc<Door>,
}

/// What comes in for the connection's task.
struct Door(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Indices of seats whose bell was rung.
    rung: Vec<usize>,
    /// Streams without a seat.
    arrivals: Vec<Stream>,
    /// The task, while it sleeps.
    host: Option<Waker>,
    /// Nobody takes in streams any more.
    closed: bool,
}

/// An executor and the streams that it gathers.
pub(super) fn gather() -> (Streams, Gathered) {
    let door = Arc::new(Door(Mutex::default()));
    let gathered =
        Gathered { door: Arc::clone(&door), seats: Vec::new(), empty: Vec::new(), turn: Vec::new() };
    (Streams(door), gathered)
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut stream: Option<Stream> = Some(Box::pin(AssertUnwindSafe(stream).catch_unwind().map(|_| ())));
        let door = Arc::clone(&self.0);
        tokio::spawn(poll_fn(move |cx| {
            let Some(running) = &mut stream else { return Poll::Ready(()) };
            SETTLED.set(false);
            if running.as_mut().poll(cx).is_pending() {
                if !SETTLED.take() {
                    return Poll::Pending;
                }
                door.tell(|waiting| {
                    if !waiting.closed {
                        waiting.arrivals.extend(stream.take());
                    }
                });
                // One that came too late ends here.
                stream = None;
            }
            Poll::Ready(())
        }));
    }
}

impl Door {
    /// Changes what waits, and wakes the task if it sleeps.
    fn tell(&self, change: impl FnOnce(&mut Waiting)) {
        let host = {
            let mut waiting = self.0.lock();
            change(&mut waiting);
            waiting.host.take()
        };
        if let Some(host) = host {
            host.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.door.tell(|waiting| waiting.rung.push(self.seat));
        }
    }
}

impl Gathered {
    /// Lets a turn of those that have something to do do it. Says whether others have something to do, too; where
    /// nobody has, the caller's task is woken when somebody does.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> bool {
        let arrivals = {
            let mut waiting = self.door.0.lock();
            let turn = waiting.rung.len().min(TURN);
            self.turn.extend(waiting.rung.drain(..turn));
            std::mem::take(&mut waiting.arrivals)
        };
        for stream in arrivals {
            let seat = self.seat(stream);
            self.turn.push(seat);
        }
        while let Some(seat) = self.turn.pop() {
            self.poll_seat(seat);
        }
        let mut waiting = self.door.0.lock();
        let more = !waiting.rung.is_empty() || !waiting.arrivals.is_empty();
        if !more {
            waiting.host = Some(cx.waker().clone());
        }
        more
    }

    fn seat(&mut self, stream: Stream) -> usize {
        if let Some(index) = self.empty.pop() {
            self.seats[index].stream = Some(stream);
            return index;
        }
        let index = self.seats.len();
        let bell = Arc::new(Bell { seat: index, rung: AtomicBool::new(false), door: Arc::clone(&self.door) });
        let waker = Waker::from(Arc::clone(&bell));
        self.seats.push(Seat { stream: Some(stream), bell, waker });
        index
    }

    fn poll_seat(&mut self, index: usize) {
        let Some(seat) = self.seats.get_mut(index) else { return };
        seat.bell.rung.store(false, Ordering::Release);
        // Somebody may ring for who sat here before.
        let Some(stream) = &mut seat.stream else { return };
        // Each has its turn once: a budget that all share would make the last of them wait for nothing.
        let ended = pin!(unconstrained(stream)).poll(&mut Context::from_waker(&seat.waker));
        if ended.is_ready() {
            seat.stream = None;
            self.empty.push(index);
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let left = {
            let mut waiting = self.door.0.lock();
            waiting.closed = true;
            waiting.host = None;
            std::mem::take(&mut waiting.arrivals)
        };
        drop(left);
        self.seats.clear();
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor as _;
    use tokio::sync::{mpsc, watch};

    use super::*;

    /// A stream that settles at once and says the number of each change of `source`.
    async fn says(number: usize, mut source: watch::Receiver<u32>, said: mpsc::UnboundedSender<usize>) {
        settle();
        while source.changed().await.is_ok() {
            assert!(*source.borrow_and_update() != 13, "a stream panics");
            said.send(number).unwrap();
        }
    }

    /// Lets tasks run until `count` streams have arrived.
    async fn arrived(gathered: &Gathered, count: usize) {
        while gathered.door.0.lock().arrivals.len() < count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stream_that_settles_goes_on_where_it_is_gathered() {
        let (streams, mut gathered) = gather();
        let (source, (said, mut heard)) = (watch::Sender::new(0), mpsc::unbounded_channel());
        streams.execute(says(7, source.subscribe(), said));
        arrived(&gathered, 1).await;
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(!gathered.poll_turn(cx), "it waits");
        source.send_replace(1);
        tokio::task::yield_now().await;
        assert!(heard.try_recv().is_err(), "nobody but the host polls it");
        gathered.poll_turn(cx);
        assert_eq!(heard.try_recv(), Ok(7));
    }

    #[tokio::test]
    async fn a_request_that_does_not_settle_stays_a_task() {
        let (streams, gathered) = gather();
        let (source, (said, mut heard)) = (watch::Sender::new(0), mpsc::unbounded_channel());
        let mut changes = source.subscribe();
        streams.execute(async move {
            changes.changed().await.unwrap();
            said.send(()).unwrap();
        });
        source.send_replace(1);
        assert_eq!(heard.recv().await, Some(()));
        assert!(gathered.seats.is_empty());
    }

    #[tokio::test]
    async fn one_change_wakes_the_host_once_and_all_have_their_turn() {
        let (streams, mut gathered) = gather();
        let (source, (said, mut heard)) = (watch::Sender::new(0), mpsc::unbounded_channel());
        for number in 0..TURN + 1 {
            streams.execute(says(number, source.subscribe(), said.clone()));
        }
        arrived(&gathered, TURN + 1).await;
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = &mut Context::from_waker(&waker);
        assert!(!gathered.poll_turn(cx));
        source.send_replace(1);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(gathered.poll_turn(cx), "one is left for the next turn");
        assert!(!gathered.poll_turn(cx));
        let mut all: Vec<usize> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..TURN + 1).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_stream_that_panics_ends_alone_and_its_seat_is_taken_again() {
        let (streams, mut gathered) = gather();
        let (doomed, (said, mut heard)) = (watch::Sender::new(0), mpsc::unbounded_channel());
        let source = watch::Sender::new(0);
        streams.execute(says(1, doomed.subscribe(), said.clone()));
        streams.execute(says(2, source.subscribe(), said.clone()));
        arrived(&gathered, 2).await;
        let cx = &mut Context::from_waker(Waker::noop());
        gathered.poll_turn(cx);
        doomed.send_replace(13);
        source.send_replace(1);
        gathered.poll_turn(cx);
        assert_eq!(heard.try_recv(), Ok(2));
        streams.execute(says(3, source.subscribe(), said));
        arrived(&gathered, 1).await;
        gathered.poll_turn(cx);
        assert_eq!(gathered.seats.len(), 2);
        source.send_replace(2);
        gathered.poll_turn(cx);
        let mut both = [heard.try_recv().unwrap(), heard.try_recv().unwrap()];
        both.sort_unstable();
        assert_eq!(both, [2, 3]);
    }

    #[tokio::test]
    async fn the_streams_of_a_connection_end_with_it() {
        let (streams, mut gathered) = gather();
        let (source, (said, mut heard)) = (watch::Sender::new(0), mpsc::unbounded_channel());
        streams.execute(says(1, source.subscribe(), said.clone()));
        arrived(&gathered, 1).await;
        gathered.poll_turn(&mut Context::from_waker(Waker::noop()));
        drop(gathered);
        assert_eq!(source.receiver_count(), 0);
        streams.execute(says(2, source.subscribe(), said));
        assert_eq!(heard.recv().await, None, "one that comes too late ends, too");
    }

    #[derive(Default)]
    struct Wakes(std::sync::atomic::AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

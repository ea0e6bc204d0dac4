//! Threads of which one runs at a time, for tests: whenever they reach a point at which the order matters, who goes on
//! is a choice, and a body is run again until every choice was made. (loom and shuttle do more than this, but would
//! have the dependencies of the whole workspace built with other features.)

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// One run of a body, and the choices made in it.
struct Play {
    threads: Vec<Status>,
    /// Who runs.
    current: usize,
    /// How often a thread that could go on may still be interrupted.
    preemptions: usize,
    /// Choices: which, of how many.
    choices: Vec<(usize, usize)>,
    made: usize,
    /// A thread panicked, or nobody can go on.
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    Blocked,
    /// Ready once that thread has ended.
    Joins(usize),
    Ended,
}

#[derive(Clone)]
struct Stage(Arc<(Mutex<Play>, Condvar)>);

thread_local! {
    static HERE: RefCell<Option<(Stage, usize)>> = const { RefCell::new(None) };
}

/// Runs a body in every order of its threads that interrupts them no more often than this; how many there were.
///
/// # Panics
/// When a thread does, or when nobody can go on.
pub(super) fn explore(preemptions: usize, body: impl Fn()) -> usize {
    let mut choices: Vec<(usize, usize)> = Vec::new();
    for runs in 1.. {
        let threads = vec![Status::Ready];
        let play = Play { threads, current: 0, preemptions, choices, made: 0, over: false };
        let stage = Stage(Arc::new((Mutex::new(play), Condvar::new())));
        HERE.set(Some((stage.clone(), 0)));
        let result = catch_unwind(AssertUnwindSafe(&body));
        HERE.set(None);
        if let Err(panic) = result {
            stage.end();
            resume_unwind(panic);
        }
        choices = std::mem::take(&mut stage.play().choices);
        while choices.pop_if(|(which, of)| *which + 1 == *of).is_some() {}
        match choices.last_mut() {
            Some((which, _)) => *which += 1,
            None => return runs,
        }
    }
    unreachable!("runs are counted without end")
}

/// Others may go on here instead.
pub(super) fn point() {
    go_on(Status::Ready);
}

/// Goes on only once somebody called [`unblock`] for the thread. For any thread but this one.
pub(super) fn block() {
    go_on(Status::Blocked);
}

/// Which thread this is.
pub(super) fn me() -> usize {
    HERE.with_borrow(|here| here.as_ref().map_or(0, |(_, me)| *me))
}

/// A blocked thread may go on.
pub(super) fn unblock(thread: usize) {
    let Some((stage, _)) = HERE.with_borrow(Clone::clone) else { return };
    stage.play().threads[thread] = Status::Ready;
}

/// A thread beside this one.
pub(super) struct Thread(usize, JoinHandle<()>);

pub(super) fn spawn(body: impl FnOnce() + Send + 'static) -> Thread {
    let (stage, _) = HERE.with_borrow(Clone::clone).expect("only on a stage");
    let number = {
        let mut play = stage.play();
        play.threads.push(Status::Ready);
        play.threads.len() - 1
    };
    let handle = std::thread::spawn(move || {
        HERE.set(Some((stage.clone(), number)));
        stage.wait(number);
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => go_on(Status::Ended),
            Err(panic) => {
                stage.end();
                resume_unwind(panic);
            }
        }
    });
    Thread(number, handle)
}

impl Thread {
    /// Lets it come to its end.
    pub(super) fn join(self) {
        go_on(Status::Joins(self.0));
        self.1.join().expect("it ended well");
    }
}

fn go_on(status: Status) {
    let Some((stage, me)) = HERE.with_borrow(Clone::clone) else { return };
    {
        let mut play = stage.play();
        play.threads[me] = status;
        match play.choose(me) {
            Some(next) => play.current = next,
            None => play.over = true,
        }
        stage.0.1.notify_all();
    }
    if status != Status::Ended {
        stage.wait(me);
    }
}

impl Stage {
    fn play(&self) -> MutexGuard<'_, Play> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.play().over = true;
        self.0.1.notify_all();
    }

    /// Waits for the turn of a thread.
    fn wait(&self, thread: usize) {
        let mut play = self.play();
        while play.current != thread && !play.over {
            play = self.0.1.wait(play).unwrap_or_else(PoisonError::into_inner);
        }
        assert!(!play.over, "nobody can go on: a wake-up was lost");
    }
}

impl Play {
    /// Who goes on: this thread first, if it can.
    fn choose(&mut self, me: usize) -> Option<usize> {
        let can = |thread: usize| match self.threads[thread] {
            Status::Ready => true,
            Status::Joins(other) => self.threads[other] == Status::Ended,
            Status::Blocked | Status::Ended => false,
        };
        let goes_on = can(me);
        let others = (0..self.threads.len()).filter(|other| *other != me && can(*other));
        let candidates: Vec<usize> = match goes_on {
            true if self.preemptions == 0 => vec![me],
            true => std::iter::once(me).chain(others).collect(),
            false => others.collect(),
        };
        if candidates.len() > 1 && self.made == self.choices.len() {
            self.choices.push((0, candidates.len()));
        }
        let which = if candidates.len() > 1 { self.choices[self.made].0 } else { 0 };
        self.made += usize::from(candidates.len() > 1);
        self.preemptions -= usize::from(goes_on && which > 0);
        candidates.get(which).copied()
    }
}

//! Whether a connection is in use: from the arrival of a request until its answer has been made, and while a stream goes
//! on. One that has not been in use for a while may be closed.
//!
//! [`Activity`] counts and remembers when it last changed; who closes connections is the listener.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ServerBody;

/// What goes on on a connection. Cloning shares it.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

struct State {
    running: usize,
    since: Instant,
}

/// Something goes on as long as this is there.
pub(super) struct Busy(Activity);

impl Activity {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { running: 0, since: Instant::now() })))
    }

    /// Something begins.
    pub fn begin(&self) -> Busy {
        self.0.lock().running += 1;
        Busy(self.clone())
    }

    /// Resolves when nothing has gone on for so long.
    pub async fn idle(&self, time: Duration) {
        loop {
            let since = {
                let state = self.0.lock();
                if state.running == 0 { state.since } else { Instant::now() }
            };
            if since.elapsed() >= time {
                return;
            }
            tokio::time::sleep_until(since + time).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.running -= 1;
        state.since = Instant::now();
    }
}

impl Busy {
    /// A body that goes on is something that goes on; a buffer is only to be taken.
    pub fn until_the_end_of(self, body: ServerBody) -> ServerBody {
        match body {
            ServerBody::Stream(chunks) => ServerBody::stream(chunks.map(move |chunk| {
                let _busy = &self;
                chunk
            })),
            buffer => buffer,
        }
    }
}

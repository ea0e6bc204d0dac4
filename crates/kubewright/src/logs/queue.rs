//! Log lines on their way out: a bounded queue to a thread that writes them, so that nobody who logs waits for a slow
//! reader of stderr. What does not fit is dropped, counted, and told of once there is room again. A line is never cut.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait. A second of very talkative logs; a pod has more memory than that.
const ROOM: usize = 4 << 20;

/// Lines that wait, in order.
#[derive(Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Dropped since that was told last.
    dropped: u64,
    /// Whether what was taken is not written yet.
    writing: bool,
}

impl Lines {
    /// Takes a line in, if it fits. An empty queue takes a line of any length.
    fn push(&mut self, line: &[u8], room: usize) -> bool {
        if self.bytes > 0 && self.bytes + line.len() > room {
            self.dropped += 1;
            return false;
        }
        self.bytes += line.len();
        self.waiting.push_back(line.to_vec());
        true
    }

    /// Everything that waits, to be written now, and how many were dropped since the last time.
    fn take(&mut self) -> (VecDeque<Vec<u8>>, u64) {
        self.bytes = 0;
        self.writing = true;
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.dropped))
    }
}

/// The way to the thread that writes. Clones share it.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Shared>);

struct Shared {
    room: usize,
    lines: Mutex<Lines>,
    filled: Condvar,
    written: Condvar,
    dropped: AtomicU64,
}

impl Queue {
    /// A queue to this output, and the thread that writes there as long as the process lives. `tell` is called on that
    /// thread with the number of lines that were dropped; what it logs goes the same way.
    pub(crate) fn to(
        out: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> std::io::Result<Queue> {
        Queue::with_room(ROOM, out, tell)
    }

    fn with_room(
        room: usize,
        mut out: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> std::io::Result<Queue> {
        let shared = Shared {
            room,
            lines: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
        };
        let queue = Queue(Arc::new(shared));
        let shared = Arc::clone(&queue.0);
        std::thread::Builder::new().name("logs".into()).spawn(move || {
            loop {
                let (lines, dropped) = {
                    let mut lines = shared.lines.lock();
                    while lines.waiting.is_empty() && lines.dropped == 0 {
                        shared.filled.wait(&mut lines);
                    }
                    lines.take()
                };
                for line in lines {
                    // There is nobody to tell of a stderr that is gone.
                    let _ = out.write_all(&line);
                }
                let _ = out.flush();
                if dropped > 0 {
                    tell(dropped);
                }
                shared.lines.lock().writing = false;
                shared.written.notify_all();
            }
        })?;
        Ok(queue)
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything logged so far is written, for so long.
    pub(crate) fn flush(&self, limit: Duration) {
        let deadline = std::time::Instant::now() + limit;
        let mut lines = self.0.lines.lock();
        while lines.writing || !lines.waiting.is_empty() {
            if self.0.written.wait_until(&mut lines, deadline).timed_out() {
                return;
            }
        }
    }

    fn push(&self, line: &[u8]) {
        if !self.0.lines.lock().push(line, self.0.room) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.0.filled.notify_one();
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// A line that is being logged: the formatter writes it in one go.
pub(crate) struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Writes when it is let.
    struct Slow {
        reached: mpsc::Sender<()>,
        go: mpsc::Receiver<()>,
        out: Arc<Mutex<String>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let _ = self.reached.send(());
            let _ = self.go.recv();
            self.out.lock().push_str(&String::from_utf8_lossy(line));
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_and_what_did_not_fit_is_counted_and_told() {
        let (reached, is_reached) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let (told, hear) = mpsc::channel();
        let out = Arc::new(Mutex::new(String::new()));
        let slow = Slow { reached, go: gone, out: Arc::clone(&out) };
        let queue = Queue::with_room(8, slow, move |dropped| told.send(dropped).unwrap()).unwrap();
        queue.push(b"one\n");
        // It is being written, and holds up nobody.
        is_reached.recv().unwrap();
        for line in ["two\n", "3\n", "a line too many\n", "4\n", "and another\n"] {
            queue.push(line.as_bytes());
        }
        assert_eq!(queue.dropped(), 2);
        drop(go);
        assert_eq!(hear.recv().unwrap(), 2);
        queue.flush(Duration::from_secs(60));
        assert_eq!(*out.lock(), "one\ntwo\n3\n4\n");
        queue.push(b"there is room again\n");
        queue.flush(Duration::from_secs(60));
        assert!(out.lock().ends_with("4\nthere is room again\n"));
        assert_eq!(queue.dropped(), 2);
    }
}

//! How urgent an item is: a number, as in controller-runtime's priority queue.

use std::fmt;

/// How urgent an item of a queue is; the greater goes first. Lower ones still get every ninth turn, so that none
/// starves.
///
/// What a priority means is up to the controller. The runtime itself knows two: [`LIVE`](Self::LIVE) for what happens
/// and [`LOW`](Self::LOW) for what was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub i32);

impl Priority {
    /// Something happened just now: 0, as in controller-runtime.
    pub const LIVE: Priority = Priority(0);
    /// Found by a list: nothing happened just now. -100, as in controller-runtime.
    pub const LOW: Priority = Priority(-100);
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

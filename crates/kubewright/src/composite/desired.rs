//! What a composite wants. A plain value.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::context::Children;
use crate::kind::Object;

/// What is wanted: children, a status, and when to look again.
#[derive(Debug, Default)]
pub struct Desired {
    pub(super) children: Children,
    pub(super) status: Option<Result<Value, serde_json::Error>>,
    pub(super) resync: Option<Duration>,
    pub(super) finalized: bool,
}

impl Desired {
    /// Nothing: children that are there go.
    pub fn new() -> Desired {
        Desired::default()
    }

    /// Adds a child.
    #[must_use]
    pub fn with<K: Object>(mut self, child: K) -> Desired {
        self.children.push(child);
        self
    }

    /// Adds children.
    #[must_use]
    pub fn with_all<K: Object>(self, children: impl IntoIterator<Item = K>) -> Desired {
        children.into_iter().fold(self, Desired::with)
    }

    /// The parent's status; fields that it leaves out go.
    #[must_use]
    pub fn status(mut self, status: impl Serialize) -> Desired {
        self.status = Some(serde_json::to_value(status));
        self
    }

    /// Looks again after this time even if nothing changes.
    #[must_use]
    pub fn resync_after(mut self, time: Duration) -> Desired {
        self.resync = Some(time);
        self
    }

    /// Says, in [`Composite::finalize`](super::Composite::finalize), that nothing is left to be done and the parent may go.
    #[must_use]
    pub fn finalized(mut self) -> Desired {
        self.finalized = true;
        self
    }
}

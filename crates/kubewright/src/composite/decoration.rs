//! What a decorator wants of an object. A plain value.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::context::{Children, Marks};
use crate::kind::Object;

/// What is wanted of an object that is somebody else's: attachments, labels, annotations and a part of its status, and
/// when to look again.
#[derive(Debug, Default)]
pub struct Decoration {
    pub(super) attachments: Children,
    pub(super) marks: Marks,
    pub(super) status: Option<Result<Value, serde_json::Error>>,
    pub(super) resync: Option<Duration>,
    pub(super) finalized: bool,
}

impl Decoration {
    /// Nothing: attachments that are there go, and so do labels and annotations that were set.
    pub fn new() -> Decoration {
        Decoration::default()
    }

    /// Attaches an object: it is owned by the decorated one, and is deleted when it is attached no more.
    #[must_use]
    pub fn attach<K: Object>(mut self, attachment: K) -> Decoration {
        self.attachments.push(attachment);
        self
    }

    /// Attaches objects.
    #[must_use]
    pub fn attach_all<K: Object>(self, attachments: impl IntoIterator<Item = K>) -> Decoration {
        attachments.into_iter().fold(self, Decoration::attach)
    }

    /// Sets a label. One that is set no more goes.
    #[must_use]
    pub fn label(mut self, name: &str, value: impl Into<String>) -> Decoration {
        self.marks.labels.insert(name.into(), Some(value.into()));
        self
    }

    /// Takes a label away, whoever set it.
    #[must_use]
    pub fn without_label(mut self, name: &str) -> Decoration {
        self.marks.labels.insert(name.into(), None);
        self
    }

    /// Sets an annotation. One that is set no more goes.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: impl Into<String>) -> Decoration {
        self.marks.annotations.insert(name.into(), Some(value.into()));
        self
    }

    /// Takes an annotation away, whoever set it.
    #[must_use]
    pub fn without_annotation(mut self, name: &str) -> Decoration {
        self.marks.annotations.insert(name.into(), None);
        self
    }

    /// Fields of the object's status. Those that others report stay; the object's own controller may report otherwise.
    #[must_use]
    pub fn status(mut self, status: impl Serialize) -> Decoration {
        self.status = Some(serde_json::to_value(status));
        self
    }

    /// Looks again after this time even if nothing changes.
    #[must_use]
    pub fn resync_after(mut self, time: Duration) -> Decoration {
        self.resync = Some(time);
        self
    }

    /// Says, in [`Decorator::finalize`](super::Decorator::finalize), that nothing is left to be done for the object.
    #[must_use]
    pub fn finalized(mut self) -> Decoration {
        self.finalized = true;
        self
    }
}

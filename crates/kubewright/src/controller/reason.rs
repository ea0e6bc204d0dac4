//! Why an object is reconciled, in words. Nothing is decided by it.

use std::fmt;
use std::sync::Arc;

use super::Trigger;
use crate::cache::{Delta, What};
use crate::kind::Key;

/// Why an object is reconciled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An object was found by a list.
    Listed(Arc<str>, Key),
    /// An object appeared.
    Added(Arc<str>, Key),
    /// An object changed.
    Updated(Arc<str>, Key),
    /// An object is gone.
    Deleted(Arc<str>, Key),
    /// Something outside of the cluster said so; see [`External`](super::External).
    External(String),
    /// The last reconciliation asked to run again.
    Requeued,
    /// The last reconciliation failed.
    Retried,
}

impl Reason {
    pub(crate) fn of(delta: &Delta, trigger: &Trigger) -> Reason {
        let kind = Arc::clone(trigger.name());
        let key = delta.object.key().clone();
        match delta.what {
            What::Added | What::Updated if delta.initial => Reason::Listed(kind, key),
            What::Added => Reason::Added(kind, key),
            What::Updated => Reason::Updated(kind, key),
            What::Deleted => Reason::Deleted(kind, key),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Listed(kind, key) => write!(f, "{kind} {key} listed"),
            Reason::Added(kind, key) => write!(f, "{kind} {key} added"),
            Reason::Updated(kind, key) => write!(f, "{kind} {key} updated"),
            Reason::Deleted(kind, key) => write!(f, "{kind} {key} deleted"),
            Reason::External(why) => f.write_str(why),
            Reason::Requeued => f.write_str("requeued"),
            Reason::Retried => f.write_str("retried"),
        }
    }
}

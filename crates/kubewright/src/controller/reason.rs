//! Why an object is reconciled, in words. Nothing is decided by it.

use std::fmt;

use super::Trigger;
use crate::cache::{Delta, What};
use crate::kind::Key;

/// Why an object is reconciled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An object was found by a list.
    Listed(String, Key),
    /// An object appeared.
    Added(String, Key),
    /// An object changed.
    Updated(String, Key),
    /// An object is gone.
    Deleted(String, Key),
    /// Something outside of the cluster said so; see [`External`](super::External).
    External(String),
    /// The last reconciliation asked to run again.
    Requeued,
    /// The last reconciliation failed.
    Retried,
}

impl Reason {
    pub(crate) fn of(delta: &Delta, trigger: &Trigger) -> Reason {
        let kind = match trigger.cluster() {
            None => trigger.kind().kind.clone(),
            Some(cluster) => format!("{cluster}: {}", trigger.kind().kind),
        };
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

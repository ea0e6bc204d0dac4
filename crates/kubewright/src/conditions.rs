//! Status conditions: set by type, with a transition time that changes only when the status does. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition is to say; the time of its last transition is worked out.
///
/// ```
/// use kubewright::conditions::{NewCondition, is_true, set};
///
/// let mut conditions = Vec::new(); // usually `status.conditions` of the object as it is
/// let now = jiff::Timestamp::UNIX_EPOCH;
/// let ready = NewCondition::yes("Ready", "AllRunning", "3 of 3 pods run").observed(Some(4));
/// assert!(set(&mut conditions, ready.clone(), now));
/// assert!(!set(&mut conditions, ready, now), "nothing changed");
/// assert!(is_true(&conditions, "Ready"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    kind: String,
    status: &'static str,
    reason: String,
    message: String,
    generation: Option<i64>,
}

impl NewCondition {
    fn new(kind: &str, status: &'static str, reason: &str, message: impl Into<String>) -> NewCondition {
        NewCondition {
            kind: kind.into(),
            status,
            reason: reason.into(),
            message: message.into(),
            generation: None,
        }
    }

    /// It is so. The reason is one UpperCamelCase word for machines, the message a sentence for people.
    pub fn yes(kind: &str, reason: &str, message: impl Into<String>) -> NewCondition {
        NewCondition::new(kind, "True", reason, message)
    }

    /// It is not so.
    pub fn no(kind: &str, reason: &str, message: impl Into<String>) -> NewCondition {
        NewCondition::new(kind, "False", reason, message)
    }

    /// Nobody knows yet.
    pub fn unknown(kind: &str, reason: &str, message: impl Into<String>) -> NewCondition {
        NewCondition::new(kind, "Unknown", reason, message)
    }

    /// The generation of the object that this was found for: `object.metadata.generation`.
    #[must_use]
    pub fn observed(mut self, generation: Option<i64>) -> NewCondition {
        self.generation = generation;
        self
    }
}

/// Sets a condition by its type, as `meta.SetStatusCondition` does: the transition time stays unless the
/// status changes. Says whether anything changed.
pub fn set(conditions: &mut Vec<Condition>, new: NewCondition, now: Timestamp) -> bool {
    let mut wanted = Condition {
        type_: new.kind,
        status: new.status.into(),
        reason: new.reason,
        message: new.message,
        observed_generation: new.generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == wanted.type_) {
        Some(known) => {
            if known.status == wanted.status {
                wanted.last_transition_time = known.last_transition_time.clone();
            }
            let changed = *known != wanted;
            *known = wanted;
            changed
        }
        None => {
            conditions.push(wanted);
            true
        }
    }
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a condition is there and true.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

/// Takes a condition away. Says whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, kind: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.len() != before
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_transition_time_changes_with_the_status_alone() {
        let (start, later) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + Duration::from_secs(60));
        let mut conditions = Vec::new();
        assert!(set(
            &mut conditions,
            NewCondition::no("Ready", "Starting", "0 of 3").observed(Some(1)),
            start
        ));
        assert!(set(
            &mut conditions,
            NewCondition::no("Ready", "Starting", "1 of 3").observed(Some(1)),
            later
        ));
        assert_eq!((conditions[0].last_transition_time.0, &*conditions[0].message), (start, "1 of 3"));
        assert!(set(
            &mut conditions,
            NewCondition::yes("Ready", "Running", "3 of 3").observed(Some(2)),
            later
        ));
        assert_eq!(
            (conditions[0].last_transition_time.0, conditions[0].observed_generation),
            (later, Some(2))
        );
        assert!(set(&mut conditions, NewCondition::unknown("Synced", "Asking", ""), later));
        assert_eq!(
            (conditions.len(), is_true(&conditions, "Ready"), is_true(&conditions, "Synced")),
            (2, true, false)
        );
        assert!(remove(&mut conditions, "Synced") && !remove(&mut conditions, "Synced"));
    }
}

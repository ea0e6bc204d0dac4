//! Which changes count: conditions that triggers have, and how they combine. Pure.

use std::fmt;
use std::ops::Not;
use std::sync::Arc;

use kubewright_machinery::selector::LabelSelector;

use crate::cache::{Cached, Delta, SelectError, What};

/// A condition on changes. Nothing is filtered unless one is set.
///
/// ```
/// use std::sync::Arc;
///
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use kubewright::cache::{Cached, Delta, What};
/// use kubewright::{Kind, Predicate};
///
/// // What people change, but in what is marked as left alone.
/// let wanted = Predicate::ignoring_status().and(!Predicate::labels("example.com/ignore=true")?);
///
/// let state = |label: &str| {
///     let text = format!(r#"{{"metadata":{{"name":"a","generation":1,"labels":{{"example.com/ignore":"{label}"}}}}}}"#);
///     Cached::read(text.as_bytes(), &Kind::of::<ConfigMap>()).map(Arc::new)
/// };
/// let change = |before, after| Delta { what: What::Updated, object: after, before: Some(before), initial: false };
/// assert!(!wanted.passes(&change(state("false")?, state("false")?))); // nothing changed
/// assert!(!wanted.passes(&change(state("no")?, state("true")?))); // to be left alone
/// assert!(wanted.passes(&change(state("no")?, state("false")?)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Predicate(Arc<dyn Fn(&Delta) -> bool + Send + Sync>);

impl Predicate {
    /// A condition of one's own.
    pub fn new(passes: impl Fn(&Delta) -> bool + Send + Sync + 'static) -> Predicate {
        Predicate(Arc::new(passes))
    }

    /// Updates that changed `metadata.generation`: the spec, and the mark of deletion, but no status.
    pub fn generation_changed() -> Predicate {
        Predicate::on_update(|before, now| before.generation() != now.generation())
    }

    /// Updates that changed labels.
    pub fn labels_changed() -> Predicate {
        Predicate::on_update(|before, now| {
            before.label_bytes() != now.label_bytes() && before.labels() != now.labels()
        })
    }

    /// Updates that changed annotations.
    pub fn annotations_changed() -> Predicate {
        Predicate::on_update(|before, now| {
            before.annotation_bytes() != now.annotation_bytes() && before.annotations() != now.annotations()
        })
    }

    /// Updates that changed more than the status: the generation, labels or annotations, or in kinds without a
    /// generation anything. Metacontroller's `ignoreStatusChanges`.
    pub fn ignoring_status() -> Predicate {
        let spec = Predicate::on_update(|before, now| {
            let deleted = before.is_deleting() != now.is_deleting();
            deleted || before.generation() != now.generation() || now.generation() == 0
        });
        spec.or(Predicate::labels_changed()).or(Predicate::annotations_changed())
    }

    /// Changes of objects that a label selector such as `app=web,tier in (a, b)` selects, as they are after the change.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn labels(selector: &str) -> Result<Predicate, SelectError> {
        let parsed = LabelSelector::parse(selector)
            .map_err(|error| SelectError::Labels { selector: selector.into(), message: error.to_string() })?;
        Ok(Predicate::object(move |object| {
            let labels = Some(object.label_bytes()).filter(|bytes| !bytes.is_empty());
            parsed.matches_json(labels)
        }))
    }

    /// Changes of objects that are so, as they are after the change.
    pub fn object(is: impl Fn(&Cached) -> bool + Send + Sync + 'static) -> Predicate {
        Predicate::new(move |delta| is(&delta.object))
    }

    fn on_update(changed: impl Fn(&Cached, &Cached) -> bool + Send + Sync + 'static) -> Predicate {
        Predicate::new(move |delta| match (delta.what, &delta.before) {
            (What::Updated, Some(before)) => changed(before, &delta.object),
            _ => true,
        })
    }

    /// Either condition.
    #[must_use]
    pub fn or(self, other: Predicate) -> Predicate {
        Predicate::new(move |delta| self.passes(delta) || other.passes(delta))
    }

    /// Both conditions.
    #[must_use]
    pub fn and(self, other: Predicate) -> Predicate {
        Predicate::new(move |delta| self.passes(delta) && other.passes(delta))
    }

    /// Whether a change passes.
    pub fn passes(&self, delta: &Delta) -> bool {
        (self.0)(delta)
    }
}

impl Not for Predicate {
    type Output = Predicate;

    /// The opposite: `!Predicate::generation_changed()`.
    fn not(self) -> Predicate {
        Predicate::new(move |delta| !self.passes(delta))
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Predicate")
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::kind::Kind;

    fn pod(generation: i64, more: &str) -> Arc<Cached> {
        let text = format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","generation":{generation}{more}}},"status":{{"phase":"Running"}}}}"#
        );
        Arc::new(Cached::read(text.as_bytes(), &Kind::of::<Pod>()).unwrap())
    }

    fn update(before: Arc<Cached>, object: Arc<Cached>) -> Delta {
        Delta { what: What::Updated, object, before: Some(before), initial: false }
    }

    #[test]
    fn predicates_filter_updates_only() {
        let generation = Predicate::generation_changed();
        assert!(!generation.passes(&update(pod(1, ""), pod(1, ""))));
        assert!(generation.passes(&update(pod(1, ""), pod(2, ""))));
        let added = Delta { what: What::Added, object: pod(1, ""), before: None, initial: false };
        assert!(generation.passes(&added));
        let either = Predicate::labels_changed().or(Predicate::generation_changed());
        assert!(either.passes(&update(pod(1, ""), pod(2, ""))));
        let both = Predicate::generation_changed().and(!Predicate::labels_changed());
        assert!(both.passes(&update(pod(1, ""), pod(2, ""))));
        assert!(!both.passes(&update(pod(1, ""), pod(1, ""))));
    }

    #[test]
    fn a_change_of_the_status_alone_can_be_ignored() {
        let more = Predicate::ignoring_status();
        assert!(!more.passes(&update(pod(1, ""), pod(1, ""))));
        assert!(more.passes(&update(pod(1, ""), pod(2, ""))));
        assert!(more.passes(&update(pod(1, ""), pod(1, r#","labels":{"a":"b"}"#))));
        assert!(more.passes(&update(pod(1, ""), pod(1, r#","annotations":{"a":"b"}"#))));
        // A kind without a generation does not tell.
        assert!(more.passes(&update(pod(0, ""), pod(0, ""))));
    }

    #[test]
    fn objects_are_chosen_by_labels_or_a_function_as_they_are_after_a_change() {
        let web = || pod(1, r#","labels":{"app":"web"}"#);
        let (none, other) = (pod(1, ""), pod(1, r#","labels":{"app":"db"}"#));
        let chosen = Predicate::labels("app in (web)").unwrap();
        assert!(chosen.passes(&update(Arc::clone(&none), web())));
        assert!(!chosen.passes(&update(web(), other)) && !chosen.passes(&update(web(), none)));
        assert!(chosen.passes(&Delta { what: What::Deleted, object: web(), before: None, initial: false }));
        assert!(Predicate::labels("app in web").unwrap_err().to_string().contains("app in web"));
        let old = Predicate::object(|object| object.generation() > 1);
        assert!(old.passes(&update(pod(1, ""), pod(2, ""))) && !old.passes(&update(pod(2, ""), pod(1, ""))));
    }
}

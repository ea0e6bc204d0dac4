//! The children an owner is to have, and what became of them: plain values. How they are applied is said beside.

mod apply;
mod owner;

use std::sync::Arc;

use serde_json::Value;

use super::ready::is_ready;
use crate::cache::Cached;
use crate::composite::Rollout;
use crate::kind::{Kind, Object};

/// Children of several kinds. What is not among them goes, in every kind the controller owns.
#[derive(Debug, Default)]
pub struct Children {
    children: Vec<(Kind, Result<Value, serde_json::Error>)>,
    kinds: Option<Vec<Kind>>,
    rollout: Rollout,
    rollouts: Vec<(Kind, Rollout)>,
    /// The decorator whose attachments they are; none for children of the owner's own controller.
    decorator: Option<String>,
}

impl Children {
    /// No children yet.
    pub fn new() -> Children {
        Children::default()
    }

    /// Adds a child.
    #[must_use]
    pub fn with<K: Object>(mut self, child: K) -> Children {
        self.push(child);
        self
    }

    /// How changes of children that exist reach them; all at once by default.
    #[must_use]
    pub fn rollout(mut self, rollout: Rollout) -> Children {
        self.rollout = rollout;
        self
    }

    /// The same for children of one kind.
    #[must_use]
    pub fn rollout_of<K: Object>(mut self, rollout: Rollout) -> Children {
        self.rollouts.push((Kind::of::<K>(), rollout));
        self
    }

    /// Each kind's own.
    pub(crate) fn rollouts(mut self, of: impl Fn(&Kind) -> Rollout) -> Children {
        let mut kinds: Vec<&Kind> = self.children.iter().map(|(kind, _)| kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        self.rollouts = kinds.into_iter().map(|kind| (kind.clone(), of(kind))).collect();
        self
    }

    /// Attachments of a decorator.
    pub(crate) fn attached_by(mut self, decorator: &str) -> Children {
        self.decorator = Some(decorator.into());
        self
    }

    fn rollout_for(&self, kind: &Kind) -> Rollout {
        let own = self.rollouts.iter().rev().find(|(known, _)| known == kind);
        own.map_or(self.rollout, |(_, rollout)| *rollout)
    }

    /// Adds a child.
    pub fn push<K: Object>(&mut self, child: K) {
        self.children.push((Kind::of::<K>(), serde_json::to_value(child)));
    }
}

/// What children can be given as: anything that yields objects of one kind, or [`Children`].
pub trait IntoChildren {
    /// The children and the kinds to prune.
    fn into_children(self) -> Children;
}

impl IntoChildren for Children {
    fn into_children(self) -> Children {
        self
    }
}

impl<I> IntoChildren for I
where
    I: IntoIterator,
    I::Item: Object,
{
    fn into_children(self) -> Children {
        let mut children = Children { kinds: Some(vec![Kind::of::<I::Item>()]), ..Children::default() };
        self.into_iter().for_each(|child| children.push(child));
        children
    }
}

/// What became of an owner's children.
#[derive(Debug, Default)]
pub struct ChildrenReport {
    children: Vec<Arc<Cached>>,
    written: usize,
    pruned: usize,
    recreated: usize,
}

impl ChildrenReport {
    /// How many of the wished-for children are ready; see each kind's conditions and replica counts.
    pub fn ready(&self) -> i32 {
        i32::try_from(self.children.iter().filter(|child| is_ready(child)).count()).unwrap_or(i32::MAX)
    }

    /// How many children are wished for and exist.
    pub fn total(&self) -> i32 {
        i32::try_from(self.children.len()).unwrap_or(i32::MAX)
    }

    /// How many had to be written.
    pub fn written(&self) -> usize {
        self.written
    }

    /// How many were deleted because nobody wishes for them.
    pub fn pruned(&self) -> usize {
        self.pruned
    }

    /// How many were deleted to be made anew, as a [`Rollout`] wants it.
    pub fn recreated(&self) -> usize {
        self.recreated
    }

    /// The children as they are now.
    pub fn objects(&self) -> &[Arc<Cached>] {
        &self.children
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};

    use super::*;

    #[test]
    fn each_kind_may_have_its_rollout() {
        let other = Kind::of::<ConfigMap>();
        let children = Children::new().rollout(Rollout::OnDelete).rollout_of::<Pod>(Rollout::Recreate);
        assert_eq!(children.rollout_for(&Kind::of::<Pod>()), Rollout::Recreate);
        assert_eq!(children.rollout_for(&other), Rollout::OnDelete);
    }

    #[test]
    fn children_of_one_kind_prune_that_kind_and_children_of_many_prune_all() {
        let one = [Pod::default()].into_children();
        assert_eq!(one.kinds, Some(vec![Kind::of::<Pod>()]));
        let many = Children::new().with(Pod::default());
        assert!(many.into_children().kinds.is_none());
    }
}

//! What a pure controller sees beside its object. Everything is of the cache; nothing here asks a server.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Related, Relations};
use crate::Result;
use crate::cache::{Cached, DecodeError};
use crate::context::{Context, View, is_ready};
use crate::kind::{Key, Kind, Object};

/// What is observed: the children that the object has (attachments, for a [`Decorator`](super::Decorator)), and what
/// relates to it.
pub struct Observed<'a> {
    children: BTreeMap<(Kind, Key), Arc<Cached>>,
    related: &'a [Related],
    view: &'a View,
}

impl<'a> Observed<'a> {
    /// What is observed of an object, once the cache shows this process's own writes. `decorator` is whose attachments
    /// the children are, if not those of the object's own controller. From now on changes of what the rules select have
    /// the object looked at again.
    pub(super) async fn of<K: Object>(
        object: &K,
        decorator: Option<&str>,
        related: &'a [Related],
        relations: &Relations,
        cx: &'a Context,
    ) -> Result<Observed<'a>> {
        relations.relate(cx.key(), related)?;
        cx.caught_up(related.iter().flat_map(Related::kinds).collect()).await?;
        let children = cx.children_of(object, decorator).await?;
        Ok(Observed { children, related, view: cx.view() })
    }
}

impl Observed<'_> {
    /// A child by name (for one of the cluster), or by namespace and name.
    ///
    /// # Errors
    /// When it can't be decoded.
    pub fn child<K: Object>(&self, key: impl Into<Key>) -> Result<Option<K>, DecodeError> {
        self.children.get(&(Kind::of::<K>(), key.into())).map(|child| child.decode()).transpose()
    }

    /// The children of a kind, by key.
    ///
    /// # Errors
    /// When one can't be decoded.
    pub fn children<K: Object>(&self) -> Result<Vec<K>, DecodeError> {
        let kind = Kind::of::<K>();
        let of_kind = self.children.iter().filter(|((known, _), _)| *known == kind);
        of_kind.map(|(_, child)| child.decode()).collect()
    }

    /// How many children of all kinds there are.
    pub fn count(&self) -> usize {
        self.children.len()
    }

    /// How many of them are ready, by their conditions and replica counts.
    pub fn ready(&self) -> usize {
        self.children.values().filter(|child| is_ready(child)).count()
    }

    /// The related objects of a kind, by key: those that one of the rules selects which the controller gave for this
    /// object.
    ///
    /// # Errors
    /// When the kind is not declared with [`Controller::relates`](crate::Controller::relates), a selector is none, or
    /// an object can't be decoded.
    pub fn related<K: Object>(&self) -> Result<Vec<Arc<K>>> {
        let kind = Kind::of::<K>();
        let mut found: BTreeMap<Key, Arc<Cached>> = BTreeMap::new();
        for rule in self.related.iter().filter(|rule| *rule.kind() == kind) {
            found.extend(rule.select(self.view)?.into_iter().map(|object| (object.key().clone(), object)));
        }
        found.values().map(|object| Ok(object.typed()?)).collect()
    }

    /// The cached objects of all kinds that the controller declares to read.
    pub fn view(&self) -> &View {
        self.view
    }
}

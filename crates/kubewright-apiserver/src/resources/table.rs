//! Everything that is served, as one immutable table.
//!
//! A request takes a snapshot and sees one consistent set of resources, discovery and OpenAPI. Publishing replaces the
//! whole; resources that did not change keep their `Arc`, which is how watches tell that theirs still holds.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use kubewright_machinery::fieldset::FieldManager;
use parking_lot::RwLock;

use super::Resource;
use crate::aggregation::Remote;

/// All resources by (group, version, plural).
#[derive(Debug, Default)]
pub struct Table {
    resources: Vec<Arc<Resource>>,
    index: HashMap<Box<str>, HashMap<Box<str>, Vec<usize>>>,
    remotes: Vec<Arc<Remote>>,
    serial: u64,
    managers: FieldManagers,
}

/// The field managers that writes have needed, by resource and subresource: they know all versions of a kind, so that
/// they hold as long as the table.
#[derive(Default)]
struct FieldManagers(RwLock<HashMap<(usize, Option<usize>), Kept>>);

/// A field manager with its resource, which is kept so that its address stays its own.
type Kept = (Arc<Resource>, Arc<FieldManager>);

impl fmt::Debug for FieldManagers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldManagers({})", self.0.read().len())
    }
}

impl Table {
    /// A table; where two resources have the same (group, version, plural), the first one stands.
    pub fn new(resources: impl IntoIterator<Item = Arc<Resource>>, serial: u64) -> Self {
        let mut table = Self { serial, ..Self::default() };
        for resource in resources {
            if table.lookup(&resource.group, &resource.version, &resource.plural).is_none() {
                let at = table.resources.len();
                let group = table.index.entry(resource.group.clone()).or_default();
                group.entry(resource.version.clone()).or_default().push(at);
                table.resources.push(resource);
            }
        }
        table
    }

    /// The same table with other group versions that are served elsewhere.
    pub fn with_remotes(mut self, remotes: Vec<Arc<Remote>>) -> Self {
        self.remotes = remotes;
        self
    }

    /// The group versions that are served elsewhere.
    pub fn remotes(&self) -> &[Arc<Remote>] {
        &self.remotes
    }

    /// The group version that is served elsewhere, if it is.
    pub fn remote(&self, group: &str, version: &str) -> Option<&Arc<Remote>> {
        self.remotes.iter().find(|remote| *remote.group == *group && *remote.version == *version)
    }

    /// One resource.
    pub fn lookup(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let candidates = self.index.get(group)?.get(version)?;
        candidates.iter().map(|i| &self.resources[*i]).find(|r| &*r.plural == plural)
    }

    /// The resource of a kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let candidates = self.index.get(group)?.get(version)?;
        candidates.iter().map(|i| &self.resources[*i]).find(|r| &*r.kind == kind)
    }

    /// Any version of a resource: the first one published.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| &*r.group == group && &*r.plural == plural)
    }

    /// Whether the group is served, in any version.
    pub fn has_group(&self, group: &str) -> bool {
        self.index.contains_key(group)
    }

    /// Whether the group is served, and only by definitions of custom resources.
    pub fn is_defined(&self, group: &str) -> bool {
        let versions = self.index.get(group).into_iter().flatten();
        let mut resources = versions.flat_map(|(_, places)| places).map(|i| &self.resources[*i]).peekable();
        resources.peek().is_some() && resources.all(|resource| resource.custom)
    }

    /// Whether the group is served in that version.
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.index.get(group).is_some_and(|versions| versions.contains_key(version))
    }

    /// All of them, in the order of publication.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The field manager of a resource's endpoint; `make` makes it for the first write.
    pub(crate) fn field_manager(
        &self,
        resource: &Arc<Resource>,
        subresource: Option<usize>,
        make: impl FnOnce(&Self) -> FieldManager,
    ) -> Arc<FieldManager> {
        let key = (Arc::as_ptr(resource) as usize, subresource);
        if let Some((_, manager)) = self.managers.0.read().get(&key) {
            return Arc::clone(manager);
        }
        let manager = Arc::new(make(self));
        self.managers.0.write().insert(key, (Arc::clone(resource), Arc::clone(&manager)));
        manager
    }

    /// A number that grows with each publication.
    pub fn serial(&self) -> u64 {
        self.serial
    }
}

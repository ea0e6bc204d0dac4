//! What a write does to the owners of fields, and what an apply does to the object.
//!
//! An apply merges the configuration over the live object, removes what the manager applied before and nobody
//! applies or owns any more, and conflicts when that changes what others own. Any other write takes what it
//! changes. Field sets of other versions are compared with the objects converted to those versions; a version
//! that is not there any more drops its entries. Nothing here knows `metadata.managedFields` or the clock; see
//! [`super::manager`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::conflict::{Conflict, Conflicts};
use super::managers::{ManagerId, Managers, Owned};
use super::path::Path;
use super::set::{Matcher, Set};
use super::typed::{Comparison, Duplicates, FieldErrors, ObjectType};
use super::value;

/// Conversion between the versions of a kind.
pub trait Converter: Send + Sync {
    /// The object in another version, `apiVersion` included.
    ///
    /// # Errors
    /// [`ConvertError::MissingVersion`] for a version that the kind has not; anything else as
    /// [`ConvertError::Failed`].
    fn convert(&self, object: &Value, to_version: &str) -> Result<Value, ConvertError>;
}

/// The converter of kinds with a single version.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleVersion;

impl Converter for SingleVersion {
    fn convert(&self, object: &Value, to_version: &str) -> Result<Value, ConvertError> {
        if version_of(object) == to_version {
            return Ok(object.clone());
        }
        Err(ConvertError::MissingVersion(to_version.into()))
    }
}

/// The converter of kinds whose versions differ in name only.
#[derive(Clone, Copy, Debug, Default)]
pub struct SameInAllVersions;

impl Converter for SameInAllVersions {
    fn convert(&self, object: &Value, to_version: &str) -> Result<Value, ConvertError> {
        let mut object = object.clone();
        if let Value::Object(fields) = &mut object {
            fields.insert("apiVersion".into(), to_version.into());
        }
        Ok(object)
    }
}

/// A conversion that failed.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The kind has no such version.
    #[error("no corresponding type for {0}")]
    MissingVersion(String),
    /// The conversion itself failed.
    #[error("{0}")]
    Failed(String),
    /// What came out does not fit the schema of its version.
    #[error(transparent)]
    Invalid(#[from] FieldErrors),
}

/// Which fields of a version are left out of all ownership: a strategy's reset fields.
#[derive(Clone, Debug)]
pub enum FieldFilter {
    /// These fields and all below them do not count.
    Exclude(Set),
    /// Only fields that begin with one of these patterns count.
    Include(Vec<Vec<Matcher>>),
}

impl FieldFilter {
    fn apply(&self, set: &Set) -> Set {
        match self {
            Self::Exclude(fields) => set.recursive_difference(fields),
            Self::Include(patterns) => set.matching(&patterns.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        }
    }
}

/// An update of owners that failed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Others own what the apply changes.
    #[error(transparent)]
    Conflict(#[from] Conflicts),
    /// The configuration does not go over the live object.
    #[error("failed to merge config: {0}")]
    Merge(#[source] FieldErrors),
    /// An object could not be brought to the version of an entry.
    #[error("failed to convert {what}: {source}")]
    Convert {
        /// Which object.
        what: &'static str,
        /// Why not.
        source: ConvertError,
    },
}

/// The `apiVersion` of an object; empty without.
pub(super) fn version_of(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

/// The types, conversions and filters of a kind.
pub(super) struct Updater<'a> {
    pub types: &'a BTreeMap<String, ObjectType>,
    pub converter: &'a dyn Converter,
    pub filters: &'a BTreeMap<String, FieldFilter>,
}

/// An object in the version of an entry.
type Versioned<'t, 'v> = (&'t ObjectType, Cow<'v, Value>);

impl<'a> Updater<'a> {
    /// The object in a version; none where the kind has not that version.
    pub fn at<'v>(
        &self,
        object: &'v Value,
        version: &str,
    ) -> Result<Option<Versioned<'a, 'v>>, ConvertError> {
        let Some(ty) = self.types.get(version) else { return Ok(None) };
        if version_of(object) == version {
            return Ok(Some((ty, Cow::Borrowed(object))));
        }
        match self.converter.convert(object, version) {
            Ok(converted) => {
                ty.validate(&converted, Duplicates::Refused)?;
                Ok(Some((ty, Cow::Owned(converted))))
            }
            Err(ConvertError::MissingVersion(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn filter(&self, version: &str, set: Set) -> Set {
        match self.filters.get(version) {
            Some(filter) => filter.apply(&set),
            None => set,
        }
    }

    /// Entries as today's schemas would have them. Entries of versions that are gone are dropped.
    fn reconcile(&self, managers: Managers) -> Managers {
        let Ok(managers) = managers.rewrite(|_, owned| {
            let Some(ty) = self.types.get(&owned.api_version) else { return Ok(None) };
            Ok::<_, std::convert::Infallible>(Some(match ty.reconcile(&owned.set) {
                Some(set) => Owned { set: Arc::new(set), ..owned },
                None => owned,
            }))
        });
        managers
    }

    /// Takes changed and removed fields from everybody but `writer`.
    fn disown(
        &self,
        old: &Value,
        new: &Value,
        version: &str,
        managers: Managers,
        writer: &ManagerId,
        force: bool,
    ) -> Result<(Managers, Arc<Comparison>), UpdateError> {
        let compare = |version: &str, ty: &ObjectType, old: &Value, new: &Value| {
            Arc::new(ty.compare(old, new).map(|set| self.filter(version, set)))
        };
        let own = match self.types.get(version) {
            Some(ty) => compare(version, ty, old, new),
            None => Arc::default(),
        };
        let mut changes: BTreeMap<String, Option<(Arc<Comparison>, Set)>> = BTreeMap::new();
        let taken = own.modified.union(&own.added);
        changes.insert(version.into(), Some((Arc::clone(&own), taken)));
        let mut conflicts = Vec::new();
        let managers = managers.rewrite(|id, owned| {
            if id == writer {
                return Ok::<_, UpdateError>((!owned.set.is_empty()).then_some(owned));
            }
            if !changes.contains_key(&owned.api_version) {
                let convert = |what, object| {
                    self.at(object, &owned.api_version)
                        .map_err(|source| UpdateError::Convert { what, source })
                };
                let versions = match (convert("old object", old)?, convert("new object", new)?) {
                    (Some((ty, old)), Some((_, new))) => {
                        let found = compare(&owned.api_version, ty, &old, &new);
                        let taken = found.modified.union(&found.added);
                        Some((found, taken))
                    }
                    _ => None,
                };
                changes.insert(owned.api_version.clone(), versions);
            }
            let Some(Some((found, taken))) = changes.get(&owned.api_version) else { return Ok(None) };
            if found.is_same() {
                return Ok((!owned.set.is_empty()).then_some(owned));
            }
            let lost = owned.set.intersection(taken);
            lost.for_each(|path| conflicts.push(Conflict { manager: id.clone(), path: Path(path.to_vec()) }));
            let kept = owned.set.difference(&lost).difference(&found.removed);
            Ok((!kept.is_empty()).then(|| Owned { set: Arc::new(kept), ..owned }))
        })?;
        if !force && !conflicts.is_empty() {
            return Err(Conflicts(conflicts).into());
        }
        Ok((managers, own))
    }

    /// The owners after a write that is no apply: `writer` owns what it changed beside what it owned.
    pub fn update(
        &self,
        old: &Value,
        new: &Value,
        version: &str,
        managers: Managers,
        writer: &ManagerId,
    ) -> Result<Managers, UpdateError> {
        let managers = self.reconcile(managers);
        let (mut managers, found) = self.disown(old, new, version, managers, writer, true)?;
        let before = managers.remove(writer);
        let time = before.as_ref().and_then(|owned| owned.time);
        let kept = before.map(|owned| owned.set.difference(&found.removed)).unwrap_or_default();
        let set = self.filter(version, kept.union(&found.modified).union(&found.added));
        managers.set(writer.clone(), Owned { set: Arc::new(set), api_version: version.into(), time });
        Ok(managers)
    }

    /// The object and the owners after an apply. No object when it is the live one.
    ///
    /// `live` and `config` are of `version` and were validated.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        version: &str,
        managers: Managers,
        applier: &ManagerId,
        force: bool,
    ) -> Result<(Option<Value>, Managers), UpdateError> {
        let Some(ty) = self.types.get(version) else {
            let source = ConvertError::MissingVersion(version.into());
            return Err(UpdateError::Convert { what: "config", source });
        };
        let mut managers = self.reconcile(managers);
        let merged = ty.merge(live, config).map_err(UpdateError::Merge)?;
        let last = managers.remove(applier);
        let set = Arc::new(self.filter(version, ty.field_set(config)));
        let time = last.as_ref().and_then(|owned| owned.time);
        managers.insert_as_is(applier.clone(), Owned { set, api_version: version.into(), time });
        let new = match last {
            Some(last) => self.prune(merged, &managers, applier, version, &last)?,
            None => merged,
        };
        let (managers, _) = self.disown(live, &new, version, managers, applier, force)?;
        let changed = !value::equal(live, &new);
        Ok((changed.then_some(new), managers))
    }

    /// Removes what the applier applied before, applies no more, and nobody else owns.
    fn prune(
        &self,
        merged: Value,
        managers: &Managers,
        applier: &ManagerId,
        version: &str,
        last: &Owned,
    ) -> Result<Value, UpdateError> {
        let now = managers.get(applier).map(|owned| &*owned.set);
        // Nothing was dropped: nothing can be left over.
        if last.set.is_empty()
            || (last.api_version == version && now.is_some_and(|now| last.set.is_subset(now)))
        {
            return Ok(merged);
        }
        let at = |what, object| {
            self.at(object, &last.api_version).map_err(|source| UpdateError::Convert { what, source })
        };
        let Some((ty, merged_then)) = at("merged object to last applied version", &merged)? else {
            return Ok(merged);
        };
        let last_set = ty.with_named_fields(&last.set);
        let pruned = ty.remove(&merged_then, &last_set);
        let pruned = self.add_back(&merged_then, pruned, &last.api_version, managers)?;
        let Some((_, pruned)) = at("pruned object to last applied version", &pruned)? else {
            return Ok(merged_then.into_owned());
        };
        // What is gone although the applier never owned it comes back.
        let there = ty.with_named_fields(&ty.field_set(&merged_then));
        let left = ty.with_named_fields(&ty.field_set(&pruned));
        let gone = there.difference(&left).intersection(&last_set);
        let result = ty.remove(&merged_then, &gone);
        let back = self
            .at(&result, version)
            .map_err(|source| UpdateError::Convert { what: "pruned object", source })?;
        match back {
            Some((_, Cow::Owned(result))) => Ok(result),
            Some((_, Cow::Borrowed(_))) => Ok(result),
            None => {
                let source = ConvertError::MissingVersion(version.into());
                Err(UpdateError::Convert { what: "pruned object", source })
            }
        }
    }

    /// Puts back what was pruned and somebody owns.
    fn add_back(
        &self,
        merged: &Value,
        pruned: Value,
        first: &str,
        managers: &Managers,
    ) -> Result<Value, UpdateError> {
        let mut owned: BTreeMap<&str, Set> = BTreeMap::new();
        for (_, entry) in managers.iter() {
            let set = owned.entry(&entry.api_version).or_default();
            *set = set.union(&entry.set);
        }
        let mut merged = Cow::Borrowed(merged);
        let mut pruned = pruned;
        // The version that was pruned comes first: what its conversion needs may have been pruned.
        let others = owned.keys().copied().filter(|version| *version != first);
        let versions: Vec<_> = owned.contains_key(first).then_some(first).into_iter().chain(others).collect();
        for version in versions {
            let (ty, converted) = match self.at(&merged, version) {
                Ok(Some((ty, Cow::Owned(object)))) => (ty, Some(object)),
                Ok(Some((ty, Cow::Borrowed(_)))) => (ty, None),
                Ok(None) => continue,
                Err(source) => return Err(UpdateError::Convert { what: "merged object", source }),
            };
            let merged_there = converted.map_or(merged, Cow::Owned);
            let left = match self.at(&pruned, version) {
                Ok(Some((_, object))) => ty.with_named_fields(&ty.field_set(&object)),
                Ok(None) => {
                    merged = merged_there;
                    continue;
                }
                Err(source) => return Err(UpdateError::Convert { what: "pruned object", source }),
            };
            let there = ty.with_named_fields(&ty.field_set(&merged_there));
            let keep = left.union(&ty.with_named_fields(&owned[version]));
            pruned = ty.remove(&merged_there, &there.difference(&keep));
            merged = merged_there;
        }
        Ok(pruned)
    }
}

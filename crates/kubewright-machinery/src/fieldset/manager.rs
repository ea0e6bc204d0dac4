//! [`FieldManager`]: server-side apply and the bookkeeping of every other write, on whole objects.
//!
//! # How a server uses it
//!
//! One `FieldManager` per kind, served version and subresource, built when the kind is registered. In the
//! handlers, with objects as JSON values in the version of the request:
//!
//! - **create**: `new` defaulted → `update(None, new, manager, now)` → admission → strategy → validate → store.
//! - **update, and patches other than apply**: compute the new object, defaulted →
//!   `update(Some(live), new, manager, now)` → admission → strategy → validate →
//!   [`managers::keep_times`](super::managers::keep_times) → equal to live? then nothing is stored.
//! - **apply**: `apply(live, patch, manager, force, now)` (no live object: the apply creates, 201) → prune and
//!   drop nulls as the kind's decoding does → default → admission → strategy → validate →
//!   [`managers::keep_times`](super::managers::keep_times) → equal to live? then nothing is stored.
//!
//! Owners are settled before admission and strategies run, once: what those set is nobody's. Should admission
//! leave `managedFields` that [`Managers::of`](super::Managers::of) cannot read, put those from before it back.
//!
//! The live object must be defaulted too (as reads return it), so that defaults are nobody's. A result of
//! `apply` can contain nulls where the patch has them or where a list or map lost its last owned item: kinds
//! that do not keep nulls drop them. Dry runs call the same functions and do not store.
//!
//! Requests on a subresource pass `subresource`; `resetFields` of strategies are filters per version, so that
//! `status` in a write of the main resource (and everything else in a write of `/status`) is never owned.
//! `/scale` works on another object than it stores: see [`super::scale`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::apply::{ConvertError, Converter, FieldFilter, SingleVersion, UpdateError, Updater, version_of};
use super::conflict::Conflicts;
use super::last_applied;
use super::managers::{BEFORE_FIRST_APPLY, DecodeError, ManagerId, Managers, Operation, Owned, is_reset};
use super::path::Path;
use super::set::Set;
use super::typed::{Duplicates, FieldErrors, ObjectType};
use crate::schema::SchemaRef;
use crate::status::Status;

/// Fields that nobody owns: the server sets them, or they name the object.
static NEVER_OWNED: LazyLock<Set> = LazyLock::new(|| {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut paths: Vec<_> = metadata.iter().map(|name| Path::fields(&["metadata", name])).collect();
    paths.extend(["apiVersion", "kind", "metadata"].map(|name| Path::fields(&[name])));
    Set::of(&paths)
});

/// The manager during a write: what it takes is told apart from what its manager had.
const CURRENT_OPERATION: &str = "current-operation";

/// An apply that was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that the apply would change (409).
    #[error(transparent)]
    Conflict(#[from] Conflicts),
    /// The patch is of another kind or version than the request (400).
    #[error("invalid object type: {0}")]
    ObjectType(String),
    /// The patch has `metadata.managedFields` (400).
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsInPatch,
    /// The live object's `managedFields` cannot be read (500).
    #[error("failed to decode managed fields: {0}")]
    LiveManagedFields(#[from] DecodeError),
    /// The patch does not fit the schema (500).
    #[error("failed to create typed patch object ({object}): {source}")]
    Patch {
        /// `namespace/name; group/version, Kind=kind`.
        object: String,
        /// What does not fit.
        source: FieldErrors,
    },
    /// The live object does not fit the schema (500).
    #[error("failed to create typed live object ({object}): {source}")]
    Live {
        /// `namespace/name; group/version, Kind=kind`.
        object: String,
        /// What does not fit.
        source: FieldErrors,
    },
    /// The live object cannot be converted to the version of the request (500).
    #[error("failed to convert live object ({object}) to proper version: {source}")]
    ConvertLive {
        /// `namespace/name; group/version, Kind=kind`.
        object: String,
        /// Why not.
        source: ConvertError,
    },
    /// The owners of what was there before the first apply could not be told (500).
    #[error("failed to create manager for existing fields: {0}")]
    Existing(#[source] Box<ApplyError>),
    /// The owners or the object could not be worked out (500).
    #[error("{0}")]
    Update(#[source] UpdateError),
}

impl From<UpdateError> for ApplyError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Conflict(conflicts) => Self::Conflict(conflicts),
            error => Self::Update(error),
        }
    }
}

impl ApplyError {
    /// What the API answers.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Conflict(conflicts) => conflicts.to_status(),
            Self::ObjectType(_) | Self::ManagedFieldsInPatch => Status::bad_request(self.to_string()),
            error => Status::failure(500, "", error.to_string()),
        }
    }
}

/// Owners of fields of one kind's objects, as requests of one version and subresource change them.
#[derive(Clone)]
pub struct FieldManager {
    api_version: String,
    kind: String,
    subresource: String,
    types: Arc<BTreeMap<String, ObjectType>>,
    converter: Arc<dyn Converter>,
    filters: Arc<BTreeMap<String, FieldFilter>>,
}

impl FieldManager {
    /// A manager for requests on `kind` in `api_version`. `versions` has the schema of every served version of the
    /// kind, with `api_version` among them; entries of other versions are dropped from objects.
    pub fn new(
        api_version: &str,
        kind: &str,
        versions: impl IntoIterator<Item = (String, SchemaRef)>,
        converter: Arc<dyn Converter>,
    ) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
            subresource: String::new(),
            types: Arc::new(
                versions.into_iter().map(|(version, schema)| (version, ObjectType::new(schema))).collect(),
            ),
            converter,
            filters: Arc::default(),
        }
    }

    /// A manager for a kind with one version.
    pub fn single(api_version: &str, kind: &str, schema: SchemaRef) -> Self {
        Self::new(api_version, kind, [(api_version.to_string(), schema)], Arc::new(SingleVersion))
    }

    /// For requests on a subresource; entries carry its name and ignore `managedFields` that requests send.
    #[must_use]
    pub fn on_subresource(mut self, subresource: &str) -> Self {
        self.subresource = subresource.into();
        self
    }

    /// With fields that these requests never own, per apiVersion.
    #[must_use]
    pub fn with_filters(mut self, filters: impl IntoIterator<Item = (String, FieldFilter)>) -> Self {
        self.filters = Arc::new(filters.into_iter().collect());
        self
    }

    /// With the same fields reset in every version: `&["status"]` is the field, `&["spec", "replicas"]` a path.
    #[must_use]
    pub fn with_reset_fields(self, paths: &[&[&str]]) -> Self {
        let versions: Vec<_> = self.types.keys().cloned().collect();
        self.reset_in(versions, paths)
    }

    /// With fields reset in the version of the requests only, as for custom resources (but not for their status): what
    /// managers of other versions own of these fields is taken from them by a write that leaves the fields out.
    #[must_use]
    pub fn with_reset_fields_of_version(self, paths: &[&[&str]]) -> Self {
        let version = self.api_version.clone();
        self.reset_in(vec![version], paths)
    }

    fn reset_in(self, versions: Vec<String>, paths: &[&[&str]]) -> Self {
        let set = Set::of(&paths.iter().map(|path| Path::fields(path)).collect::<Vec<_>>());
        self.with_filters(versions.into_iter().map(|version| (version, FieldFilter::Exclude(set.clone()))))
    }

    /// Applies `patch` to `live` (none: the apply creates). The result is the whole object with its new
    /// `metadata.managedFields`; it equals `live` but for those when the apply changes nothing. `manager` is
    /// `fieldManager` of the request; `force` takes what others own.
    ///
    /// `live` may be of another version than the request's; the result is of the request's.
    ///
    /// # Errors
    /// [`ApplyError`]; [`ApplyError::to_status`] is the answer.
    pub fn apply(
        &self,
        live: Option<&Value>,
        patch: &Value,
        manager: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<Value, ApplyError> {
        let empty = self.before(&Value::Null);
        let live = live.unwrap_or(&empty);
        let managers = Managers::of(live)?;
        let kind = patch.get("kind").and_then(Value::as_str).unwrap_or_default();
        if version_of(patch) != self.api_version || kind != self.kind {
            return Err(ApplyError::ObjectType(type_text(patch)));
        }
        if patch.pointer("/metadata/managedFields").is_some_and(Value::is_array) {
            return Err(ApplyError::ManagedFieldsInPatch);
        }
        let is_kubectl = manager == last_applied::KUBECTL;
        let (mut object, managers) =
            match self.apply_tracked(live, patch, managers.clone(), manager, force, now) {
                Err(ApplyError::Conflict(conflicts)) if is_kubectl => {
                    // What only differs because a client-side apply wrote it is not in conflict.
                    let Some(allowed) = self.owned_by_client_side_apply(live) else {
                        return Err(conflicts.into());
                    };
                    let left: Vec<_> =
                        conflicts.0.into_iter().filter(|conflict| !allowed.has(&conflict.path.0)).collect();
                    if !left.is_empty() {
                        return Err(Conflicts(left).into());
                    }
                    self.apply_tracked(live, patch, managers, manager, true, now)?
                }
                done => done?,
            };
        if is_kubectl {
            last_applied::follow(&mut object, patch);
        }
        managers.store(&mut object);
        Ok(object)
    }

    /// Records a write that is no apply: `new` is what will be stored, after patching and defaulting, `live` what
    /// is stored (none for a create). The manager owns what differs. `managedFields` that `new` brings replace
    /// the live ones when they can be read (and `[]` or `[{}]` forget them all), except on subresources.
    ///
    /// Never fails: where owners cannot be worked out, as of an object that does not fit its schema, nobody owns
    /// anything any more, so that no wrong owners are kept.
    pub fn update(&self, live: Option<&Value>, mut new: Value, manager: &str, now: Timestamp) -> Value {
        let before = live.is_none().then(|| self.before(&new));
        let Some(live) = live.or(before.as_ref()) else { return new };
        let managers = self.managers_before(live, &new);
        Managers::new().store(&mut new);
        if let Ok(managers) = self.update_untracked(live, &new, managers, manager, now) {
            managers.store(&mut new);
        }
        new
    }

    /// What was there before an object was created.
    fn before(&self, object: &Value) -> Value {
        let before = self.types.get(&self.api_version).and_then(|ty| ty.before(object));
        let mut fields = match before {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        fields.insert("apiVersion".into(), self.api_version.as_str().into());
        fields.insert("kind".into(), self.kind.as_str().into());
        Value::Object(fields)
    }

    fn updater(&self) -> Updater<'_> {
        Updater { types: &self.types, converter: &*self.converter, filters: &self.filters }
    }

    fn id(&self, manager: &str, operation: Operation) -> ManagerId {
        ManagerId::new(manager, operation, &self.api_version, &self.subresource)
    }

    fn managers_before(&self, live: &Value, new: &Value) -> Managers {
        let of_live = || Managers::of(live).unwrap_or_default();
        if !self.subresource.is_empty() {
            return of_live();
        }
        if is_reset(new.pointer("/metadata/managedFields")) {
            return Managers::new();
        }
        // Clients that do not know managedFields must not lose them for others.
        Managers::of(new).ok().filter(|managers| !managers.is_empty()).unwrap_or_else(of_live)
    }

    /// An object in the version of the requests, validated as a stored one.
    fn live<'v>(&self, object: &'v Value) -> Result<Cow<'v, Value>, ApplyError> {
        let fail = |source| ApplyError::ConvertLive { object: describe(object), source };
        let (ty, versioned) = self
            .updater()
            .at(object, &self.api_version)
            .map_err(fail)?
            .ok_or_else(|| fail(ConvertError::MissingVersion(self.api_version.clone())))?;
        ty.validate(&versioned, Duplicates::Allowed)
            .map_err(|source| ApplyError::Live { object: describe(&versioned), source })?;
        Ok(versioned)
    }

    fn update_untracked(
        &self,
        live: &Value,
        new: &Value,
        managers: Managers,
        manager: &str,
        now: Timestamp,
    ) -> Result<Managers, ApplyError> {
        let is_create = live.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().is_empty();
        if managers.is_empty() && !is_create {
            return Ok(managers);
        }
        self.update_tracked(live, new, managers, manager, now)
    }

    fn update_tracked(
        &self,
        live: &Value,
        new: &Value,
        managers: Managers,
        manager: &str,
        now: Timestamp,
    ) -> Result<Managers, ApplyError> {
        let (live, new) = (self.live(live)?, self.live(new)?);
        let current = ManagerId {
            manager: CURRENT_OPERATION.into(),
            operation: Operation::Update,
            api_version: String::new(),
            subresource: String::new(),
        };
        let mut managers = self.updater().update(&live, &new, &self.api_version, managers, &current)?;
        strip(&mut managers, &current);
        if let Some(taken) = managers.remove(&current) {
            let id = self.id(manager, Operation::Update);
            let set = match managers.get(&id) {
                Some(before) => Arc::new(before.set.union(&taken.set)),
                None => taken.set,
            };
            managers.set(id, Owned { set, api_version: taken.api_version, time: Some(now) });
        }
        managers.cap();
        Ok(managers)
    }

    fn apply_tracked(
        &self,
        live: &Value,
        patch: &Value,
        mut managers: Managers,
        manager: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<(Value, Managers), ApplyError> {
        if managers.is_empty() {
            managers = self
                .update_tracked(&self.before(live), live, managers, BEFORE_FIRST_APPLY, now)
                .map_err(|error| ApplyError::Existing(Box::new(error)))?;
        }
        if let Some(ty) = self.types.get(&self.api_version) {
            ty.validate(patch, Duplicates::Refused)
                .map_err(|source| ApplyError::Patch { object: describe(patch), source })?;
        }
        let live = self.live(live)?;
        let id = self.id(manager, Operation::Apply);
        let (object, mut managers) =
            self.updater().apply(&live, patch, &self.api_version, managers, &id, force)?;
        strip(&mut managers, &id);
        let object = match object {
            Some(object) => {
                if let Some(time) = managers.time_mut(&id) {
                    *time = Some(now);
                }
                object
            }
            None => live.into_owned(),
        };
        Ok((object, managers))
    }

    /// The fields of the live object that are as the last client-side apply wrote them.
    fn owned_by_client_side_apply(&self, live: &Value) -> Option<Set> {
        let config = last_applied::of(live)?;
        if version_of(&config) != self.api_version {
            return None;
        }
        let (ty, live) = self.updater().at(live, &self.api_version).ok()??;
        ty.validate(&live, Duplicates::Refused).ok()?;
        ty.validate(&config, Duplicates::Refused).ok()?;
        let differs = ty.compare(&config, &live);
        let set = ty.field_set(&config);
        Some(set.difference(&differs.modified).difference(&differs.added).difference(&differs.removed))
    }
}

/// Takes what nobody owns out of an entry.
fn strip(managers: &mut Managers, id: &ManagerId) {
    if let Some(owned) = managers.remove(id) {
        let set = Arc::new(owned.set.difference(&NEVER_OWNED));
        managers.set(id.clone(), Owned { set, ..owned });
    }
}

/// `group/version, Kind=kind` of an object; the core group is empty.
fn type_text(object: &Value) -> String {
    let version = version_of(object);
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{slash}{version}, Kind={kind}")
}

/// `namespace/name; group/version, Kind=kind` of an object.
fn describe(object: &Value) -> String {
    let metadata = |field: &str| {
        object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
    };
    format!("{}/{}; {}", metadata("namespace"), metadata("name"), type_text(object))
}

//! The objects that a server finds, or puts, into its store when it starts.
//!
//! They flow straight into the store, in the form that a write through the API would have given them: no request is made,
//! nobody is asked.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use kubewright_machinery::fieldset::{FieldManager, SameInAllVersions};
use kubewright_machinery::status::Status;
use kubewright_machinery::{meta, time};
use kubewright_storage::{Entry, Expect, StoreError};
use serde_json::Value;

use crate::admission::Operation;
use crate::authn::UserInfo;
use crate::resources::{Generation, Resource, WriteContext, splice};
use crate::server::Core;

/// Who the objects say wrote them.
const MANAGER: &str = "kube-apiserver";

/// Why a cluster could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store refused a read or write.
    #[error("{kind} {name:?} cannot be stored")]
    Store {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        source: StoreError,
    },
    /// The kind's own rules refused an object, such as a service whose address is taken.
    #[error("{kind} {name:?} is refused")]
    Refused {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        source: Status,
    },
}

/// What went wrong with one object.
enum Trouble {
    Store(StoreError),
    Refused(Status),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Trouble {
    fn of(self, resource: &Resource, object: &Value) -> BootstrapError {
        let (kind, name) = (resource.kind.to_string(), meta::name(object).to_string());
        match self {
            Self::Store(source) => BootstrapError::Store { kind, name, source },
            Self::Refused(source) => BootstrapError::Refused { kind, name, source },
        }
    }
}

/// What a stored object has to become, given what is expected: (stored, expected). `None` when it may stay as it is.
pub type Refresh = fn(&Value, &Value) -> Option<Value>;

/// Writes the objects that are not there, in order, and refreshes those that are. Kinds that the server does not serve
/// are left out.
///
/// # Errors
/// When the store fails.
pub async fn install(core: &Core, objects: &[Value], refreshed: Refresh) -> Result<(), BootstrapError> {
    let table = core.table();
    let mut managers: HashMap<String, FieldManager> = HashMap::new();
    for object in objects {
        let api_version = meta::api_version(object);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let Some(resource) = table.by_kind(group, version, meta::kind(object)) else { continue };
        let manager = managers.entry(resource.qualified()).or_insert_with(|| {
            let versions = [(resource.api_version(), resource.schema.clone())];
            FieldManager::new(&resource.api_version(), &resource.kind, versions, Arc::new(SameInAllVersions))
                .with_reset_fields(resource.strategy.reset_fields())
        });
        ensure(core, resource, manager, object, refreshed).await.map_err(|t| t.of(resource, object))?;
    }
    Ok(())
}

async fn ensure(
    core: &Core,
    resource: &Arc<Resource>,
    manager: &FieldManager,
    expected: &Value,
    refreshed: Refresh,
) -> Result<(), Trouble> {
    let Some(storage) = resource.storage() else { return Ok(()) };
    let mut key = storage.prefix.to_string();
    for part in [meta::namespace(expected), "/", meta::name(expected)] {
        if part != "/" || !key.ends_with('/') {
            key.push_str(part);
        }
    }
    if let Some(entry) = core.store().get(&key, None).await? {
        return Ok(refresh(core, manager, &key, Some(entry), expected, refreshed).await?);
    }
    let mut new = expected.clone();
    resource.default(&mut new);
    let mut new = manager.update(None, new, MANAGER, core.now());
    meta::set(&mut new, "uid", core.uid());
    meta::set(&mut new, "creationTimestamp", time::format(core.now()));
    if resource.rules.generation != Generation::None {
        meta::set(&mut new, "generation", 1);
    }
    let namespace = meta::namespace(&new).to_string();
    let user = UserInfo::server();
    let cx = WriteContext {
        core,
        resource,
        subresource: None,
        operation: Operation::Create,
        namespace: &namespace,
        name: "",
        user: &user,
        dry_run: false,
        options: &Value::Null,
        now: core.now(),
    };
    let reservation = resource.strategy.reserve(&cx, &mut new, None).await.map_err(Trouble::Refused)?;
    resource.strategy.prepare_create(&cx, &mut new);
    keep_status(&mut new, expected, core.now());
    match core.store().put(&key, splice::at_rest(&new), Expect::Absent).await {
        Ok(_) => {
            if let Some(reservation) = reservation {
                reservation.commit();
            }
            Ok(())
        }
        Err(StoreError::Conflict { current }) => {
            Ok(refresh(core, manager, &key, current, expected, refreshed).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// A status that is known from the start is there from the start; its conditions became true now.
fn keep_status(new: &mut Value, expected: &Value, now: Timestamp) {
    let Some(conditions) = expected.pointer("/status/conditions").and_then(Value::as_array) else { return };
    let mut conditions = conditions.clone();
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        condition.entry("lastTransitionTime").or_insert_with(|| time::format(now).into());
    }
    if let Some(object) = new.as_object_mut()
        && let Some(status) = object.entry("status").or_insert_with(|| serde_json::json!({})).as_object_mut()
    {
        status.insert("conditions".into(), Value::Array(conditions));
    }
}

/// Brings an object that is there up to date, where its kind is kept so.
async fn refresh(
    core: &Core,
    manager: &FieldManager,
    key: &str,
    mut current: Option<Entry>,
    expected: &Value,
    refreshed: Refresh,
) -> Result<(), StoreError> {
    // Somebody else may write in between: look again, but not for ever.
    for _ in 0..5 {
        if current.is_none() {
            current = core.store().get(key, None).await?;
        }
        let Some(entry) = current.take() else { return Ok(()) };
        let Ok(stored) = splice::decode(&entry.value, entry.revision) else { return Ok(()) };
        let Some(next) = refreshed(&stored, expected) else { return Ok(()) };
        let mut next = manager.update(Some(&stored), next, MANAGER, core.now());
        meta::remove(&mut next, "resourceVersion");
        match core.store().put(key, splice::at_rest(&next), Expect::Revision(entry.revision)).await {
            Err(StoreError::Conflict { current: newer }) => current = newer,
            done => return done.map(drop),
        }
    }
    Ok(())
}

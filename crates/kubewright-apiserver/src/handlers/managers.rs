//! Owners of fields (`metadata.managedFields`) on the way of a write.

use std::sync::Arc;

use jiff::Timestamp;
use kubewright_machinery::fieldset::{self, FieldManager, SameInAllVersions};
use serde_json::Value;

use super::Call;
use crate::resources::Table;

/// The field manager for writes through this endpoint.
pub(super) fn of(call: &Call) -> Arc<FieldManager> {
    call.core.table().field_manager(&call.resource, call.subresource, |table| made(call, table))
}

fn made(call: &Call, table: &Table) -> FieldManager {
    let resource = &call.resource;
    let versions = table
        .resources()
        .iter()
        .filter(|r| r.group == resource.group && r.plural == resource.plural)
        .map(|r| (r.api_version(), r.schema.clone()));
    let api_version = resource.api_version();
    let manager = FieldManager::new(&api_version, &resource.kind, versions, Arc::new(SameInAllVersions));
    match call.subresource() {
        None if resource.custom => manager.with_reset_fields_of_version(resource.strategy.reset_fields()),
        None => manager.with_reset_fields(resource.strategy.reset_fields()),
        Some(sub) => {
            let manager = manager.on_subresource(&sub.name);
            match &sub.action {
                crate::resources::SubresourceAction::Update(strategy) => {
                    manager.with_reset_fields(strategy.reset_fields())
                }
                _ => manager,
            }
        }
    }
}

/// Records a write that is no apply.
pub(super) fn update(call: &Call, live: Option<&Value>, new: Value, manager: &str, now: Timestamp) -> Value {
    if !call.resource.rules.managed_fields {
        return new;
    }
    of(call).update(live, new, manager, now)
}

/// Forgets changes of times alone, so that the write is none.
pub(super) fn keep_times(old: &Value, new: &mut Value) {
    fieldset::keep_times(old, new);
}

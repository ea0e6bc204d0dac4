//! Other versions of what is written: which there are, and an object in one of them (`matchPolicy: Equivalent`).

use std::sync::Arc;

use kubewright_machinery::status::Status;
use kubewright_machinery::{decode, meta, schema};
use serde_json::Value;

use crate::admission::Attributes;
use crate::resources::{Resource, SubresourceAction};

/// The resources under which the same objects are served otherwise, with the same subresource.
pub(super) fn equivalents(attributes: &Attributes<'_>) -> Vec<Arc<Resource>> {
    let resource = attributes.resource;
    let Some(storage) = resource.storage() else { return Vec::new() };
    let table = attributes.core.table();
    let same = |other: &&Arc<Resource>| {
        other.storage().is_some_and(|s| s.prefix == storage.prefix)
            && (&other.group, &other.version) != (&resource.group, &resource.version)
            && attributes.subresource.is_none_or(|sub| other.subresources.iter().any(|s| s.name == sub.name))
    };
    table.resources().iter().filter(same).cloned().collect()
}

/// Whether what is written is the object itself, whose versions differ, and not something of a kind of its own.
fn is_parent(attributes: &Attributes<'_>) -> bool {
    attributes.subresource.is_none_or(|sub| matches!(sub.action, SubresourceAction::Update(_)))
}

/// The object of a resource as another one serves it.
pub(super) async fn convert(
    attributes: &Attributes<'_>,
    object: &Value,
    from: &Resource,
    to: &Resource,
) -> Result<Value, Status> {
    let mut object = object.clone();
    if !is_parent(attributes) || meta::api_version(&object) == to.api_version() {
        return Ok(object);
    }
    if let Some(converter) = from.storage().and_then(|s| s.converter.as_ref()) {
        converter.to_stored(&mut object).await?;
    }
    if let Some(converter) = to.storage().and_then(|s| s.converter.as_ref()) {
        converter.to_served(std::slice::from_mut(&mut object)).await?;
    }
    if meta::api_version(&object) != to.api_version()
        && let Some(fields) = object.as_object_mut()
    {
        fields.insert("apiVersion".into(), to.api_version().into());
    }
    Ok(object)
}

/// What a patch made of an object, decoded again as its kind and defaulted.
///
/// # Errors
/// 500 where it is no such object any more, as the real server answers it whatever the failure policy is.
pub(super) fn decoded(
    attributes: &Attributes<'_>,
    resource: &Resource,
    patched: Value,
) -> Result<Value, Status> {
    if !patched.is_object() || meta::kind(&patched).is_empty() {
        return Err(Status::internal(format!("Object 'Kind' is missing in '{patched}'")));
    }
    if !is_parent(attributes) {
        return Ok(patched);
    }
    let mut object = if resource.custom {
        let mut object = patched;
        schema::prune::prune(&mut object, &resource.schema, true);
        object
    } else {
        if meta::kind(&patched) != &*resource.kind || meta::api_version(&patched) != resource.api_version() {
            return Err(Status::internal(format!(
                "the patched object is a {} of {}, not a {} of {}",
                meta::kind(&patched),
                meta::api_version(&patched),
                resource.kind,
                resource.api_version()
            )));
        }
        decode::value_as(patched, &resource.schema).map_err(Status::internal)?.value
    };
    resource.default(&mut object);
    Ok(object)
}

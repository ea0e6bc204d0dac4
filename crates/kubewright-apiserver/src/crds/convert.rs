//! Between what is stored of a custom resource and what a version serves: older schemas, other versions.
//!
//! A stored object is brought into the shape of the version it was stored in (pruned, defaulted), then converted, then
//! pruned by the version asked for. Defaults of that other version are for requests, not for reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use kubewright_machinery::crd::Conversion;
use kubewright_machinery::field::Path;
use kubewright_machinery::meta;
use kubewright_machinery::schema::{Schema, SchemaRef, default, embedded, prune};
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::registry::Registry;
use super::webhook;
use crate::BoxFuture;
use crate::resources::Converter;

/// All versions of a custom resource.
pub(super) struct Family {
    /// Name of the definition.
    pub name: String,
    pub kind: String,
    /// By apiVersion, also of versions that are not served.
    pub schemas: BTreeMap<String, SchemaRef>,
    /// apiVersion at rest.
    pub storage: String,
    pub conversion: Conversion,
    pub registry: Weak<Registry>,
}

impl Family {
    fn schema(&self, api_version: &str) -> Result<&Schema, Status> {
        self.schemas.get(api_version).map(|schema| &**schema).ok_or_else(|| {
            let why = format!("request to convert CR from an invalid group/version: {api_version}");
            Status::failure(500, "", why)
        })
    }

    /// Converts objects of any of the versions to one, in place.
    async fn convert(&self, objects: &mut [&mut Value], api_version: &str) -> Result<(), Status> {
        let mut others: Vec<&mut Value> =
            objects.iter_mut().map(|o| &mut **o).filter(|o| meta::api_version(o) != api_version).collect();
        if others.is_empty() {
            return Ok(());
        }
        match &self.conversion {
            Conversion::None => {
                for object in &mut others {
                    if let Some(fields) = object.as_object_mut() {
                        fields.insert("apiVersion".into(), api_version.into());
                    }
                }
            }
            Conversion::Webhook { client, review_versions } => {
                let registry = self.registry.upgrade();
                let registry = registry.ok_or_else(|| Status::internal("the server is going down"))?;
                let from = meta::api_version(others[0]).to_string();
                let converted =
                    webhook::convert(&registry, client, review_versions, &others, api_version, &self.kind)
                        .await;
                let converted = converted.map_err(|error| {
                    tracing::debug!(definition = self.name, %error, "a conversion failed");
                    let why = format!("conversion webhook for {from}, Kind={} failed: {error}", self.kind);
                    Status::failure(500, "", why)
                })?;
                for (object, converted) in others.iter_mut().zip(converted) {
                    **object = converted;
                }
            }
        }
        let schema = self.schema(api_version)?;
        for object in others {
            prune::prune(object, schema, true);
        }
        Ok(())
    }
}

/// Converts to and from one served version.
pub(super) struct VersionConverter {
    family: Arc<Family>,
    api_version: String,
}

impl VersionConverter {
    pub(super) fn new(family: Arc<Family>, api_version: String) -> Self {
        Self { family, api_version }
    }
}

impl Converter for VersionConverter {
    fn to_served<'a>(&'a self, objects: &'a mut [Value]) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            for object in objects.iter_mut() {
                let stored = meta::api_version(object).to_string();
                let schema = self.family.schema(&stored)?;
                // What older schemas let in is dropped without a word.
                let shaped = embedded::coerce(object, schema, true, true, &Path::ROOT);
                shaped.map_err(|error| Status::internal(&error))?;
                prune::prune(object, schema, true);
                default::apply(object, schema);
            }
            let mut all: Vec<&mut Value> = objects.iter_mut().collect();
            self.family.convert(&mut all, &self.api_version).await
        })
    }

    fn to_stored<'a>(&'a self, object: &'a mut Value) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let storage = &self.family.storage;
            self.family.convert(&mut [&mut *object], storage).await?;
            // Whatever the storage version defaults is stored, so that reads in that version need no second look.
            default::apply(object, self.family.schema(storage)?);
            Ok(())
        })
    }
}

//! CustomResourceDefinitions (apiextensions.k8s.io), and the custom resources they define.
//!
//! A definition is an object like any other; its strategy (`definition`) lets the `registry` know of every write.
//! The registry grants names, establishes, publishes resources (`kind`) into the server's table, and ends what is
//! deleted. The answer to a write of a definition waits for that, so that whoever reads `Established` finds the
//! resource, its discovery and its OpenAPI document. Custom resources themselves are served by the handlers of every
//! other kind: under a `strategy` that is made of the definition's facts.

use std::sync::Arc;

use kubewright_machinery::schema::SchemaRef;

use crate::discovery;
use crate::outbound::{Https, Outbound};
use crate::resources::{Resource, Subresource, WriteRules};

mod columns;
mod convert;
mod definition;
mod instances;
mod kind;
mod registry;
mod strategy;
mod webhook;

pub(crate) use columns::PrinterColumns;
use registry::Registry;

/// The group of definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
/// The version of definitions that is served.
pub const VERSION: &str = "v1";
/// Plural name of definitions.
pub const PLURAL: &str = "customresourcedefinitions";
/// Keeps a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

const KIND: &str = "CustomResourceDefinition";

/// What a definition makes the server serve, for kinds that are known from the start and have no object for their
/// definition: one resource for each served version. Names count as accepted where `status` says so.
pub(crate) fn served(definition: &serde_json::Value) -> Vec<Arc<Resource>> {
    let definition = kubewright_machinery::crd::Definition::parse(definition);
    kind::resources(&definition, 0, &Arc::default(), &std::sync::Weak::new())
}

/// The resource of definitions, with its controllers. `schema` is the type of a CustomResourceDefinition; conversion
/// webhooks are called over HTTPS. One server, one such resource: it holds what that server serves.
pub fn resource(schema: SchemaRef) -> Resource {
    resource_calling(schema, Arc::new(Https))
}

/// As [`resource`], with another way to call conversion webhooks.
pub fn resource_calling(schema: SchemaRef, outbound: Arc<dyn Outbound>) -> Resource {
    let registry = Arc::new(Registry::new(schema.clone(), outbound));
    let strategy = Arc::new(definition::StatusStrategy::new(Arc::clone(&registry)));
    let status = Subresource::status(GROUP, VERSION, KIND, strategy);
    Resource {
        short_names: vec!["crd".into(), "crds".into()],
        categories: vec!["api-extensions".into()],
        // A real server still stores definitions in the version that they had first, and this is how it shows.
        storage_version_hash: discovery::storage_version_hash(GROUP, "v1beta1", KIND),
        schema,
        strategy: Arc::new(definition::DefinitionStrategy::new(registry)),
        subresources: vec![status],
        rules: WriteRules {
            unconditional_update: false,
            // The cleanup finalizer comes first, whatever the request says of dependents.
            garbage_collected: false,
            // The name is judged together with what it must be made of.
            name: |_, _| Vec::new(),
            ..WriteRules::default()
        },
        ..Resource::stored(GROUP, VERSION, KIND, PLURAL, false)
    }
}

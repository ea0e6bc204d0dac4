//! The aggregation layer (apiregistration.k8s.io): APIServices, local and remote.
//!
//! For every group version that this server serves there is an APIService object that says so (`registry`). One that
//! names a service stands for a group version of another server: requests to it are passed on (`proxy`) while it is
//! available; its condition Available says why it is not. Whether it answers is asked now and then (`schedule`,
//! `probe`), and what it says of itself becomes part of discovery and OpenAPI (`remote`). A table holds all of that:
//! a request sees one state of it.

use std::sync::Arc;

use kubewright_machinery::schema::SchemaRef;

use crate::request::RequestInfo;
use crate::resources::{MetaChecks, Resource, Subresource, Table, WriteRules};

mod availability;
mod columns;
mod discovery;
mod headers;
mod probe;
mod proxy;
mod registry;
mod remote;
mod schedule;
mod service;
mod upstream;

pub(crate) use proxy::forward;
use registry::Registry;
pub use remote::{Backend, Document, Facts, Remote};
pub(crate) use upstream::Upstreams;

/// The group of APIServices.
pub const GROUP: &str = "apiregistration.k8s.io";
/// Plural name of APIServices.
pub const PLURAL: &str = "apiservices";

const VERSION: &str = "v1";
const KIND: &str = "APIService";

/// The resource of APIServices, with its controllers. `schema` is the type of an APIService. One server, one such
/// resource.
pub fn resource(schema: SchemaRef) -> Resource {
    let registry = Arc::new(Registry::new(schema.clone()));
    let strategy = Arc::new(service::StatusStrategy);
    let status = Subresource::status(GROUP, VERSION, KIND, strategy);
    Resource {
        categories: vec!["api-extensions".into()],
        storage_version_hash: crate::discovery::storage_version_hash(GROUP, VERSION, KIND),
        schema,
        strategy: Arc::new(service::ServiceStrategy::new(registry)),
        columns: Arc::new(columns::ServiceColumns),
        subresources: vec![status],
        rules: WriteRules {
            unconditional_update: false,
            // The name is judged together with what it must be made of.
            name: |_, _| Vec::new(),
            meta_checks: MetaChecks::Full,
            ..WriteRules::default()
        },
        ..Resource::stored(GROUP, VERSION, KIND, PLURAL, false)
    }
}

/// The remote group version that a request is for, if it is for one.
pub(crate) fn remote_of<'t>(table: &'t Table, info: &RequestInfo) -> Option<&'t Arc<Remote>> {
    if table.remotes().is_empty() {
        return None;
    }
    if info.is_resource {
        return table.remote(&info.group, &info.version);
    }
    match info.path.trim_matches('/').split('/').collect::<Vec<_>>().as_slice() {
        ["apis", group, version] => table.remote(group, version),
        ["api", version] => table.remote("", version),
        ["openapi", "v3", path @ ..] if !path.is_empty() => remote_document(table, path),
        _ => None,
    }
}

/// The remote group version that has a document of OpenAPI v3; what this server serves itself comes first.
fn remote_document<'t>(table: &'t Table, path: &[&str]) -> Option<&'t Arc<Remote>> {
    let joined = path.join("/");
    let has = |remote: &&Arc<Remote>| remote.has_openapi(&joined);
    match path {
        ["apis", group] if table.has_group(group) => None,
        ["apis", group] => table.remotes().iter().filter(|remote| *remote.group == **group).find(has),
        ["apis", group, version] => table.remote(group, version).filter(has),
        ["api", version] => table.remote("", version).filter(has),
        _ => None,
    }
}

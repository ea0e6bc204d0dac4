//! The aggregation layer (apiregistration.k8s.io): APIServices, local and remote.
//!
//! For every group version that this server serves there is an APIService object that says so (`registry`). One that
//! names a service stands for a group version of another server: discovery lists it, requests to it are answered by
//! `serve`, and its condition Available says why it does not answer. Passing requests on is not done here yet: a
//! remote group version is never available.

use std::sync::Arc;

use http::HeaderValue;
use kubewright_machinery::schema::SchemaRef;

use crate::request::RequestInfo;
use crate::resources::{
    MetaChecks, Resource, Subresource, SubresourceAction, Table, Verb, Verbs, WriteRules,
};
use crate::server::{Response, respond};

mod availability;
mod columns;
mod registry;
mod service;

use registry::Registry;

/// The group of APIServices.
pub const GROUP: &str = "apiregistration.k8s.io";
/// Plural name of APIServices.
pub const PLURAL: &str = "apiservices";

const VERSION: &str = "v1";
const KIND: &str = "APIService";

/// A group version that another server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// API group.
    pub group: Box<str>,
    /// API version.
    pub version: Box<str>,
    /// `groupPriorityMinimum`.
    pub group_priority: i64,
    /// `versionPriority`.
    pub version_priority: i64,
}

/// The resource of APIServices, with its controllers. `schema` is the type of an APIService. One server, one such
/// resource.
pub fn resource(schema: SchemaRef) -> Resource {
    let registry = Arc::new(Registry::new(schema.clone()));
    let status = Subresource {
        name: "status".into(),
        group: GROUP.into(),
        version: VERSION.into(),
        kind: KIND.into(),
        schema: None,
        verbs: Verbs::of(&[Verb::Get, Verb::Patch, Verb::Update]),
        action: SubresourceAction::Update(Arc::new(service::StatusStrategy)),
    };
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
        _ => None,
    }
}

/// Answers a request to a remote group version.
pub(crate) fn serve(remote: &Remote) -> Response {
    tracing::debug!(group = &*remote.group, version = &*remote.version, "the remote server is not available");
    let mut response = respond::text(503, "service unavailable\n");
    response.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

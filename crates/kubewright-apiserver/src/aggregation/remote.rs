//! A group version of another server: where it is, whether it answers, and what it says of itself. Values only.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

/// A group version that another server serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// API group.
    pub group: Box<str>,
    /// API version.
    pub version: Box<str>,
    /// `groupPriorityMinimum`.
    pub group_priority: i64,
    /// `versionPriority`.
    pub version_priority: i64,
    /// Who serves it.
    pub backend: Backend,
    /// Whether requests are passed on: its condition Available.
    pub available: bool,
    /// What the server said when it was last asked; absent while it is not available.
    pub facts: Option<Arc<Facts>>,
}

/// The service behind an APIService, and how it is trusted. Equal backends share connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Namespace of the service.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its port.
    pub port: u16,
    /// PEM certificates of authorities in base64; empty for those of the system.
    pub ca_bundle: Box<str>,
    /// Whether any certificate will do.
    pub insecure: bool,
}

/// What a server says of a group version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The resources (`APIVersionDiscovery`).
    pub discovery: Document<Value>,
    /// Documents of OpenAPI v3: path below `/openapi/v3/` to URL.
    pub openapi: BTreeMap<Box<str>, Box<str>>,
    /// Swagger 2.0 of everything that the server serves, as JSON text; empty where it has none.
    pub swagger: Document<Bytes>,
}

/// Something fetched, with the entity tag that the server gave it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document<T> {
    /// Empty for none.
    pub etag: Box<str>,
    /// The content.
    pub content: T,
}

impl Remote {
    /// The remote group version of an APIService that names a service.
    pub(super) fn of(object: &Value, available: bool, facts: Option<Arc<Facts>>) -> Self {
        let spec = &object["spec"];
        let text = |key: &str| spec[key].as_str().unwrap_or_default().into();
        let number = |key: &str| spec[key].as_i64().unwrap_or(0);
        Self {
            group: text("group"),
            version: text("version"),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            backend: Backend::of(spec),
            available,
            facts: facts.filter(|_| available),
        }
    }

    /// The path of its own, such as `/apis/example.com/v1`.
    pub(super) fn path(&self) -> String {
        match &*self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// Whether it answers for a document of OpenAPI v3, such as `apis/example.com/v1`.
    pub(crate) fn has_openapi(&self, path: &str) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.openapi.contains_key(path))
    }
}

impl Backend {
    /// Of the spec of an APIService.
    pub(super) fn of(spec: &Value) -> Self {
        let text = |key: &str| spec["service"][key].as_str().unwrap_or_default().into();
        let port = spec["service"]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        Self {
            namespace: text("namespace"),
            name: text("name"),
            port: port.unwrap_or(443),
            ca_bundle: spec["caBundle"].as_str().unwrap_or_default().into(),
            insecure: spec["insecureSkipTLSVerify"].as_bool().unwrap_or(false),
        }
    }

    /// The name that its certificate has to be for.
    pub(super) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

//! What is served: resources as data, and the seams that kinds implement.
//!
//! A [`Resource`] is one (group, version, plural) as it is served. The [`Table`] of all of them is immutable and
//! swapped as a whole; a request takes one snapshot. Nothing here reads a request.

use std::sync::Arc;

use kubewright_machinery::schema::{self, SchemaRef, canonical};
use kubewright_machinery::status::Status;
use kubewright_storage::Store;
use serde_json::Value;

use crate::BoxFuture;

mod columns;
mod reader;
mod rules;
pub mod splice;
mod strategy;
mod subresource;
mod table;
mod verbs;

pub use columns::{Column, Columns, NameAndAge};
pub use reader::{Reader, Snapshot};
pub use rules::{Generation, MetaChecks, NameCheck, Propagation, WriteRules};
pub use strategy::{NoStrategy, Reservation, Strategy, WriteContext};
pub use subresource::{Action, Answer, Connect, RequestBody, ScaleFacts, Subresource, SubresourceAction};
pub use table::Table;
pub use verbs::{Verb, Verbs};

/// One (group, version, plural) as served. Immutable and shared.
#[derive(Clone)]
pub struct Resource {
    /// API group; empty for core.
    pub group: Box<str>,
    /// API version, such as `v1`.
    pub version: Box<str>,
    /// Kind of the objects.
    pub kind: Box<str>,
    /// Plural name: the path segment.
    pub plural: Box<str>,
    /// Singular name, as discovery says it.
    pub singular: Box<str>,
    /// Kind of the list, such as `ConfigMapList`.
    pub list_kind: Box<str>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Short names of discovery.
    pub short_names: Vec<Box<str>>,
    /// Categories of discovery.
    pub categories: Vec<Box<str>>,
    /// What can be done with it.
    pub verbs: Verbs,
    /// `storageVersionHash` of discovery; empty for virtual ones.
    pub storage_version_hash: Box<str>,
    /// Facts about the type of the objects.
    pub schema: SchemaRef,
    /// Where objects are.
    pub backing: Backing,
    /// Rules of the kind that are code.
    pub strategy: Arc<dyn Strategy>,
    /// Table columns.
    pub columns: Arc<dyn Columns>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// Rules of the kind that are data.
    pub rules: WriteRules,
    /// The warning that every use of a deprecated version answers with.
    pub deprecation: Option<Box<str>>,
    /// Whether it is a custom resource: its lists keep kind and apiVersion in the items, strategic merge is refused.
    pub custom: bool,
}

/// Where the objects of a resource are.
#[derive(Clone)]
pub enum Backing {
    /// In the store.
    Stored(Storage),
    /// Nowhere: computed when asked, such as reviews.
    Virtual(Arc<dyn Virtual>),
}

/// How the objects of a resource are stored. Versions of one kind share the prefix and differ in the converter.
#[derive(Clone)]
pub struct Storage {
    /// Key prefix with a slash at the end, see [`Storage::prefix_of`].
    pub prefix: Box<str>,
    /// apiVersion at rest, such as `apps/v1`.
    pub api_version: Box<str>,
    /// Needed where stored and served form may differ.
    pub converter: Option<Arc<dyn Converter>>,
    /// Entries written at or before this revision go through the converter when read, although they are in the served
    /// version: they were written under an older schema. 0 for built-in kinds.
    pub settled: u64,
    /// Where the objects are kept, if not in the server's own store: another engine, or a source of the kind's own. Its
    /// revisions are its own.
    pub store: Option<Arc<dyn Store>>,
}

impl Storage {
    /// Where a group's resource is stored: `/registry/GROUP/PLURAL/`, with `core` for the core group.
    pub fn prefix_of(group: &str, plural: &str) -> String {
        let group = if group.is_empty() { "core" } else { group };
        format!("/registry/{group}/{plural}/")
    }

    /// A built-in kind that is stored in the version it is served in.
    pub fn same(group: &str, version: &str, plural: &str) -> Self {
        let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
        Self {
            prefix: Self::prefix_of(group, plural).into(),
            api_version: api_version.into(),
            converter: None,
            settled: 0,
            store: None,
        }
    }
}

/// Between the stored and the served form of a kind: another version, or an older schema.
pub trait Converter: Send + Sync {
    /// From what was stored (in whatever version) to the served version, in place. Also where defaults apply on read.
    fn to_served<'a>(&'a self, objects: &'a mut [Value]) -> BoxFuture<'a, Result<(), Status>>;

    /// From the served version to the storage version, in place. Called for writes where the two differ.
    fn to_stored<'a>(&'a self, object: &'a mut Value) -> BoxFuture<'a, Result<(), Status>>;
}

/// A resource that is computed. A verb that is not in [`Resource::verbs`] is never called.
pub trait Virtual: Send + Sync {
    /// Answers a create with the object to return (201).
    fn create<'a>(&'a self, cx: &'a WriteContext<'a>, object: Value) -> BoxFuture<'a, Result<Value, Status>> {
        let _ = (cx, object);
        crate::ready(Err(Status::failure(405, "MethodNotAllowed", "create is not supported")))
    }

    /// One object.
    fn get<'a>(&'a self, cx: &'a WriteContext<'a>) -> BoxFuture<'a, Result<Value, Status>> {
        let status = Status::not_found(&cx.resource.group, &cx.resource.plural, cx.name);
        crate::ready(Err(status))
    }

    /// All objects.
    fn list<'a>(&'a self, cx: &'a WriteContext<'a>) -> BoxFuture<'a, Result<Vec<Value>, Status>> {
        let _ = cx;
        crate::ready(Ok(Vec::new()))
    }
}

impl Resource {
    /// A stored resource with all verbs and the plainest rules; the caller changes fields as needed.
    pub fn stored(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            list_kind: format!("{kind}List").into(),
            namespaced,
            short_names: Vec::new(),
            categories: Vec::new(),
            verbs: Verbs::ALL,
            storage_version_hash: Box::default(),
            schema: SchemaRef::default(),
            backing: Backing::Stored(Storage::same(group, version, plural)),
            strategy: Arc::new(NoStrategy),
            columns: Arc::new(NameAndAge),
            subresources: Vec::new(),
            rules: WriteRules::default(),
            deprecation: None,
            custom: false,
        }
    }

    /// Brings a decoded object to the form of its kind: the defaults of the schema, then those of the strategy. Objects
    /// of built-in kinds become canonical; custom ones keep what they say.
    pub fn default(&self, object: &mut Value) {
        if self.custom {
            schema::default::apply(object, &self.schema);
            return self.strategy.default(object);
        }
        let empty = canonical::complete(object, &self.schema);
        self.strategy.default(object);
        if empty {
            canonical::omit_empty(object, &self.schema);
        }
    }

    /// What a valid object is as it will be read: a custom one may hold nulls that validation let pass, for they are
    /// of no type, but that are no values either.
    pub fn forget_nulls(&self, object: &mut Value) {
        if self.custom {
            schema::default::forget_nulls(object, &self.schema);
        }
    }

    /// A computed resource with the verb create only, such as a review.
    pub fn computed(
        group: &str,
        version: &str,
        kind: &str,
        plural: &str,
        namespaced: bool,
        answers: Arc<dyn Virtual>,
    ) -> Self {
        Self {
            verbs: Verbs::of(&[Verb::Create]),
            backing: Backing::Virtual(answers),
            ..Self::stored(group, version, kind, plural, namespaced)
        }
    }

    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `plural.group`, as messages have it.
    pub fn qualified(&self) -> String {
        kubewright_machinery::status::qualified(&self.group, &self.plural)
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| &*s.name == name)
    }

    /// How it is stored; `None` when it is computed.
    pub fn storage(&self) -> Option<&Storage> {
        match &self.backing {
            Backing::Stored(storage) => Some(storage),
            Backing::Virtual(_) => None,
        }
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({}/{} {})", self.group, self.version, self.plural)
    }
}

//! A kind as its author describes it, made into a resource that the server serves.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kubewright_machinery::crd;
use kubewright_storage::{Store, WatchLog};
use parking_lot::{Mutex, RwLock};
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::engine::Engine;
use super::rules::{Ruled, Rules};
use super::source::{Changes, Feed, OnJson, Rows, Sink, Source, Writes};
use super::{Error, shape};
use crate::crds;
use crate::resources::{Backing, Resource, Storage, Strategy, Verb, Verbs};

/// A kind of an aggregated API server. Namespaced, without a status of its own and kept in the server's store, unless
/// said otherwise.
pub struct Kind {
    group: String,
    version: String,
    kind: String,
    plural: String,
    namespaced: bool,
    schema: Value,
    short_names: Vec<String>,
    categories: Vec<String>,
    columns: Vec<Value>,
    status: bool,
    rules: Option<Wrap>,
    kept: Kept,
}

/// Puts rules on top of a strategy.
type Wrap = Box<dyn FnOnce(Arc<dyn Strategy>) -> Arc<dyn Strategy> + Send>;

/// Where the objects are.
enum Kept {
    ByServer,
    In(Arc<dyn Store>),
    BySource(Box<dyn Rows>, Option<Box<dyn Writes>>, Option<Box<dyn Feed>>),
}

/// A kind that is served.
pub(super) struct Served {
    pub resource: Arc<Resource>,
    pub engine: Option<Arc<Engine>>,
}

impl Kind {
    /// A kind whose fields, besides apiVersion, kind and metadata, are those of `T`.
    pub fn new<T: JsonSchema>(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self::described(group, version, kind, plural, shape::of::<T>())
    }

    /// The same with a schema (OpenAPI v3, structural, as that of a CustomResourceDefinition) in place of a Rust type.
    pub fn with_schema(group: &str, version: &str, kind: &str, plural: &str, schema: Value) -> Self {
        Self::described(group, version, kind, plural, shape::complete(schema))
    }

    fn described(group: &str, version: &str, kind: &str, plural: &str, schema: Value) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced: true,
            schema,
            short_names: Vec::new(),
            categories: Vec::new(),
            columns: Vec::new(),
            status: false,
            rules: None,
            kept: Kept::ByServer,
        }
    }

    /// Objects live in no namespace.
    #[must_use]
    pub fn cluster_scoped(mut self) -> Self {
        self.namespaced = false;
        self
    }

    /// One more short name.
    #[must_use]
    pub fn short_name(mut self, name: &str) -> Self {
        self.short_names.push(name.into());
        self
    }

    /// One more category, such as `all`.
    #[must_use]
    pub fn category(mut self, name: &str) -> Self {
        self.categories.push(name.into());
        self
    }

    /// One more column of what kubectl prints: a header, an OpenAPI type (or `date`) and where the value is, such as
    /// `.spec.size`. Without any there is the age.
    #[must_use]
    pub fn column(mut self, name: &str, ty: &str, json_path: &str) -> Self {
        self.columns.push(json!({"name": name, "type": ty, "jsonPath": json_path}));
        self
    }

    /// `status` is written through the subresource of that name, and only there.
    #[must_use]
    pub fn status(mut self) -> Self {
        self.status = true;
        self
    }

    /// What must hold beyond the schema.
    #[must_use]
    pub fn rules<R: Rules>(mut self, rules: R) -> Self {
        self.rules = Some(Box::new(move |inner| Arc::new(Ruled { inner, rules })));
        self
    }

    /// Objects are kept in a store of their own: any engine.
    #[must_use]
    pub fn stored_in(mut self, store: Arc<dyn Store>) -> Self {
        self.kept = Kept::In(store);
        self
    }

    /// Objects are read from a source: get and list are served.
    #[must_use]
    pub fn read_from<S: Source>(mut self, source: &Arc<S>) -> Self {
        let rows = Box::new(OnJson(Arc::clone(source)));
        self.kept = match self.kept {
            Kept::BySource(_, writes, feed) => Kept::BySource(rows, writes, feed),
            _ => Kept::BySource(rows, None, None),
        };
        self
    }

    /// Objects are read from, and written to, a source: create, update, patch, apply and delete are served too.
    #[must_use]
    pub fn kept_by<S: Sink>(self, source: &Arc<S>) -> Self {
        let mut this = self.read_from(source);
        if let Kept::BySource(_, writes, _) = &mut this.kept {
            *writes = Some(Box::new(OnJson(Arc::clone(source))));
        }
        this
    }

    /// The source tells of changes: watch is served too.
    #[must_use]
    pub fn watched_by<S: Changes>(self, source: &Arc<S>) -> Self {
        let mut this = match self.kept {
            Kept::BySource(..) => self,
            _ => self.read_from(source),
        };
        if let Kept::BySource(_, _, feed) = &mut this.kept {
            *feed = Some(Box::new(OnJson(Arc::clone(source))));
        }
        this
    }

    /// The kind in the form of a definition, which is checked like one.
    fn definition(&self) -> Value {
        let singular = self.kind.to_lowercase();
        let names = json!({
            "plural": self.plural, "singular": singular, "kind": self.kind, "listKind": format!("{}List", self.kind),
            "shortNames": self.short_names, "categories": self.categories,
        });
        let mut version = json!({
            "name": self.version, "served": true, "storage": true, "schema": {"openAPIV3Schema": self.schema},
        });
        if !self.columns.is_empty() {
            version["additionalPrinterColumns"] = json!(self.columns);
        }
        if self.status {
            version["subresources"] = json!({"status": {}});
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{}", self.plural, self.group)},
            "spec": {
                "group": self.group, "scope": if self.namespaced { "Namespaced" } else { "Cluster" }, "names": names,
                "versions": [version],
            },
            "status": {"acceptedNames": names},
        })
    }

    /// What is served.
    pub(super) fn served(self) -> Result<Served, Error> {
        let mut definition = self.definition();
        crd::default(&mut definition);
        let faults = crd::validate::create(&definition);
        if !faults.is_empty() {
            let faults = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(Error::Kind { kind: self.kind, faults });
        }
        let made = crds::served(&definition).into_iter().next();
        let Some(made) = made else {
            return Err(Error::Kind { kind: self.kind, faults: "it has no version".into() });
        };
        let mut resource = Resource::clone(&made);
        if let Some(rules) = self.rules {
            resource.strategy = rules(resource.strategy);
        }
        let engine = match self.kept {
            Kept::ByServer => None,
            Kept::In(store) => {
                keep_in(&mut resource, store);
                None
            }
            Kept::BySource(rows, writes, feed) => {
                resource.verbs = verbs(writes.is_some(), feed.is_some());
                if writes.is_none() {
                    resource.subresources.clear();
                }
                let engine = Arc::new(Engine {
                    prefix: Storage::prefix_of(&resource.group, &resource.plural).into(),
                    kind: resource.kind.clone(),
                    api_version: resource.api_version().into(),
                    namespaced: resource.namespaced,
                    rows,
                    writes,
                    feed,
                    newest: AtomicU64::new(1),
                    log: RwLock::new(Arc::new(WatchLog::new(1))),
                    known: Mutex::default(),
                });
                keep_in(&mut resource, Arc::clone(&engine) as _);
                Some(engine)
            }
        };
        Ok(Served { resource: Arc::new(resource), engine })
    }
}

fn keep_in(resource: &mut Resource, store: Arc<dyn Store>) {
    if let Backing::Stored(storage) = &mut resource.backing {
        storage.store = Some(store);
    }
}

/// What can be done with objects of a source.
fn verbs(written: bool, watched: bool) -> Verbs {
    let mut verbs = vec![Verb::Get, Verb::List];
    if watched {
        verbs.push(Verb::Watch);
    }
    if written {
        verbs.extend([Verb::Create, Verb::Update, Verb::Patch, Verb::Delete, Verb::DeleteCollection]);
    }
    Verbs::of(&verbs)
}

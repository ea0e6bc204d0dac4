//! How writes of the built-in kinds behave: one row of facts and functions a kind, and what kinds have in common.
//!
//! [`Builtin`] is the [`Strategy`] of every main endpoint, [`Part`] that of subresources which change a part of
//! the same object (status, approval, …). What a kind does beyond lives in its [`Row`]. What must be unique in the
//! cluster is set aside by an [`Allocator`].

use std::borrow::Cow;
use std::sync::Arc;

use kubewright_apiserver::resources::{Reservation, Strategy, WriteContext};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::field;
use kubewright_machinery::schema::SchemaRef;
use kubewright_machinery::schema::canonical::{forget_empty, insert_default};
use kubewright_machinery::status::Status;
use serde_json::Value;

use crate::fields::{at, carry};
use crate::validation;

pub(crate) mod certificates;
pub(crate) mod core;
mod gates;
pub(crate) mod pods;
pub(crate) mod rbac;
pub(crate) mod service_allocator;
pub(crate) mod services;
pub(crate) mod workloads;

/// What distinguishes one kind. All functions are of the object (and the old one) alone.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Defaults beyond the schema's.
    pub default: fn(&mut Value),
    /// Drops or sets what creators may not decide, after status was reset.
    pub prepare_create: fn(&WriteContext<'_>, &mut Value),
    /// The same for changes: (new, old).
    pub prepare_update: fn(&WriteContext<'_>, &mut Value, &Value),
    /// Changes that go with a new status: (new, old).
    pub prepare_status: fn(&WriteContext<'_>, &mut Value, &Value),
    /// Warnings: (new, old).
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Warnings for a change through /status: (new, old).
    pub status_warnings: fn(&Value, &Value) -> Vec<String>,
    /// Brings a new object that is valid to the form in which it is stored.
    pub settle: fn(&mut Value),
    /// Selectable fields as JSON paths.
    pub fields: &'static [&'static str],
    /// Value of a selectable field that is not at its path.
    pub field: fn(&Value, &str) -> Option<String>,
    /// What of the metadata /status changes.
    pub status_metadata: StatusMetadata,
    /// What server-side apply must not own through the main endpoint, besides status.
    pub reset: &'static [&'static [&'static str]],
    /// Whether creators may set status (where the API has no status subresource, or takes both).
    pub status_on_create: bool,
    /// How long a deleted object goes on: see [`Strategy::grace_period`].
    pub grace_period: fn(&Value, Option<i64>) -> Option<i64>,
    /// Whether something besides finalizers keeps a deleted object.
    pub held: fn(&Value) -> bool,
    /// Changes that go with deletionTimestamp.
    pub mark_deleting: fn(&WriteContext<'_>, &mut Value),
    /// Said when a deletion leaves it to the kind what becomes of dependents.
    pub delete_warning: Option<&'static str>,
    /// Whether the object may be deleted.
    pub allow_delete: fn(&WriteContext<'_>, &Value) -> Result<(), Status>,
}

/// Sets aside what a kind needs to be unique in the cluster, such as addresses.
pub(crate) trait Allocator: Send + Sync {
    /// Fills in and reserves; `old` is `None` on create.
    fn reserve<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>, Status>>;

    /// Gives back what a deleted object had.
    fn release<'a>(&'a self, cx: &'a WriteContext<'a>, object: &'a Value) -> BoxFuture<'a, ()>;
}

/// What of the metadata a write to /status changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusMetadata {
    /// All that a client may change.
    Free,
    /// All but labels.
    KeepLabels,
    /// Nothing.
    Keep,
}

impl Row {
    /// A kind without rules.
    pub(crate) const PLAIN: Row = Row {
        default: |_| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _, _| {},
        prepare_status: |_, _, _| {},
        warnings: |_, _| Vec::new(),
        status_warnings: |_, _| Vec::new(),
        settle: |_| {},
        fields: &[],
        field: |_, _| None,
        status_metadata: StatusMetadata::Free,
        reset: &[],
        status_on_create: false,
        grace_period: |_, _| None,
        held: |_| false,
        mark_deleting: |_, _| {},
        delete_warning: None,
        allow_delete: |_, _| Ok(()),
    };
}

/// The strategy of a kind's main endpoint.
pub(crate) struct Builtin {
    schema: SchemaRef,
    row: Row,
    has_status: bool,
    fields: Vec<Box<str>>,
    allocator: Option<Arc<dyn Allocator>>,
}

impl Builtin {
    /// `has_status` says whether the kind has a status subresource, so that its main endpoint leaves status alone.
    pub(crate) fn new(
        schema: SchemaRef,
        row: Row,
        has_status: bool,
        allocator: Option<Arc<dyn Allocator>>,
    ) -> Self {
        let fields = row.fields.iter().map(|f| (*f).into()).collect();
        Self { schema, row, has_status, fields, allocator }
    }
}

impl Strategy for Builtin {
    fn default(&self, object: &mut Value) {
        (self.row.default)(object);
    }

    fn prepare_create(&self, cx: &WriteContext<'_>, object: &mut Value) {
        if self.has_status && !self.row.status_on_create {
            reset_status(object, &self.schema);
        }
        (self.row.prepare_create)(cx, object);
    }

    fn settle(&self, object: &mut Value) {
        (self.row.settle)(object);
        forget_empty(object, &self.schema);
    }

    fn validate_create(&self, cx: &WriteContext<'_>, object: &Value) -> Vec<field::Error> {
        validation::create(&cx.resource.group, &cx.resource.kind, object)
    }

    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        if self.has_status {
            carry(object, old, "status");
        }
        (self.row.prepare_update)(cx, object, old);
        forget_empty(object, &self.schema);
    }

    fn validate_update(&self, cx: &WriteContext<'_>, object: &Value, old: &Value) -> Vec<field::Error> {
        validation::update(&cx.resource.group, &cx.resource.kind, object, old)
    }

    fn warnings(&self, _cx: &WriteContext<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        (self.row.warnings)(object, old)
    }

    fn selectable_fields(&self) -> &[Box<str>] {
        &self.fields
    }

    fn field<'v>(&self, object: &'v Value, name: &str) -> Option<Cow<'v, str>> {
        select(&self.row, object, name)
    }

    fn reset_fields(&self) -> &[&[&str]] {
        match (self.row.reset, self.has_status) {
            ([], true) => &[&["status"]],
            (reset, _) => reset,
        }
    }

    fn reserve<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>, Status>> {
        match &self.allocator {
            Some(allocator) => allocator.reserve(cx, object, old),
            None => ready(Ok(None)),
        }
    }

    fn grace_period(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        (self.row.grace_period)(object, requested)
    }

    fn held(&self, object: &Value) -> bool {
        (self.row.held)(object)
    }

    fn mark_deleting(&self, cx: &WriteContext<'_>, object: &mut Value) {
        (self.row.mark_deleting)(cx, object);
    }

    fn allow_delete(&self, cx: &WriteContext<'_>, object: &Value) -> Result<(), Status> {
        (self.row.allow_delete)(cx, object)
    }

    fn delete_warning(&self) -> Option<&str> {
        self.row.delete_warning
    }

    fn deleted<'a>(&'a self, cx: &'a WriteContext<'a>, object: &'a Value) -> BoxFuture<'a, ()> {
        match &self.allocator {
            Some(allocator) => allocator.release(cx, object),
            None => ready(()),
        }
    }
}

/// The value of a selectable field: what the row computes, or what is at the path.
fn select<'v>(row: &Row, object: &'v Value, name: &str) -> Option<Cow<'v, str>> {
    if !row.fields.contains(&name) {
        return None;
    }
    if let Some(computed) = (row.field)(object, name) {
        return Some(computed.into());
    }
    let mut value = object;
    for step in name.split('.') {
        value = value.get(step).unwrap_or(&Value::Null);
    }
    Some(match value {
        Value::String(s) => s.as_str().into(),
        Value::Null => "".into(),
        other => other.to_string().into(),
    })
}

/// Status as a new object has it.
pub(crate) fn reset_status(object: &mut Value, schema: &SchemaRef) {
    let Some(object) = object.as_object_mut() else { return };
    object.remove("status");
    if let Some(field) = schema.properties.get("status") {
        insert_default(object, "status", field);
    }
}

/// Which part of the object a subresource writes.
#[derive(Clone, Copy)]
pub(crate) enum PartOf {
    /// `status`.
    Status,
    /// What the row's `prepare_status` lets through: it gets the object as sent and the old one.
    Other,
}

/// The strategy of a subresource that changes a part of the object.
pub(crate) struct Part {
    schema: SchemaRef,
    row: Row,
    part: PartOf,
}

impl Part {
    /// /status.
    pub(crate) fn status(schema: SchemaRef, row: Row) -> Self {
        Self { schema, row, part: PartOf::Status }
    }

    /// Another subresource; its own row says what it prepares and validates.
    pub(crate) fn other(schema: SchemaRef, row: Row) -> Self {
        Self { schema, row, part: PartOf::Other }
    }
}

impl Strategy for Part {
    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        if let PartOf::Status = self.part {
            let status = object.get("status").cloned();
            keep_all_but_metadata(object, old);
            if let (Some(object), Some(status)) = (object.as_object_mut(), status) {
                object.insert("status".into(), status);
            }
            keep_metadata(object, old, self.row.status_metadata);
        }
        (self.row.prepare_status)(cx, object, old);
        forget_empty(object, &self.schema);
    }

    fn held(&self, object: &Value) -> bool {
        (self.row.held)(object)
    }

    fn validate_update(&self, cx: &WriteContext<'_>, object: &Value, old: &Value) -> Vec<field::Error> {
        let subresource = cx.subresource.map_or("", |s| &s.name);
        validation::update_subresource(&cx.resource.group, &cx.resource.kind, subresource, object, old)
    }

    fn warnings(&self, _cx: &WriteContext<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        match (self.part, old) {
            (PartOf::Status, Some(old)) => (self.row.status_warnings)(object, old),
            _ => Vec::new(),
        }
    }

    fn reset_fields(&self) -> &[&[&str]] {
        match self.part {
            PartOf::Status => match self.row.status_metadata {
                StatusMetadata::Keep => &[
                    &["spec"],
                    &["metadata", "labels"],
                    &["metadata", "annotations"],
                    &["metadata", "finalizers"],
                ],
                StatusMetadata::KeepLabels => &[&["spec"], &["metadata", "labels"]],
                StatusMetadata::Free => &[&["spec"]],
            },
            PartOf::Other => &[],
        }
    }
}

/// Everything as it was, except metadata.
pub(crate) fn keep_all_but_metadata(object: &mut Value, old: &Value) {
    let metadata = object.get("metadata").cloned().unwrap_or(Value::Null);
    let mut kept = old.as_object().cloned().unwrap_or_default();
    for name in ["kind", "apiVersion"] {
        if let Some(value) = object.get(name) {
            kept.insert(name.into(), value.clone());
        }
    }
    kept.insert("metadata".into(), metadata);
    *object = Value::Object(kept);
}

/// Metadata that the subresource does not change, as it was.
fn keep_metadata(object: &mut Value, old: &Value, keep: StatusMetadata) {
    let names: &[&str] = match keep {
        StatusMetadata::Free => return,
        StatusMetadata::KeepLabels => &["labels"],
        StatusMetadata::Keep => &[
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
        ],
    };
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return };
    for name in names {
        match at(old, &["metadata", name]) {
            Value::Null => {
                metadata.remove(*name);
            }
            value => {
                metadata.insert((*name).into(), value.clone());
            }
        }
    }
}

/// Sets `metadata.generation`.
pub(crate) fn set_generation(object: &mut Value, generation: i64) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.insert("generation".into(), generation.into());
    }
}

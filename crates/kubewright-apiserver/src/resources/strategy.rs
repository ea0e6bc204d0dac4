//! The rules of a kind that are code: the [`Strategy`] seam.
//!
//! The way of a write: decode → schema defaults → [`Strategy::default`] → mutating admission →
//! [`Strategy::reserve`] → [`Strategy::prepare_create`] / [`Strategy::prepare_update`] → validation → validating
//! admission → store. Metadata that the server owns (uid, creationTimestamp, managedFields, generation by the rules)
//! is the handlers' work; strategies never see a request.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use kubewright_machinery::field;
use kubewright_machinery::status::Status;
use kubewright_storage::StoreError;
use serde_json::Value;

use super::{Resource, Subresource};
use crate::admission::Operation;
use crate::authn::UserInfo;
use crate::server::Core;
use crate::{BoxFuture, ready};

/// What a write is about.
pub struct WriteContext<'a> {
    /// The server.
    pub core: &'a Core,
    /// The resource.
    pub resource: &'a Arc<Resource>,
    /// The subresource, if one is written to.
    pub subresource: Option<&'a Subresource>,
    /// What is done.
    pub operation: Operation,
    /// Namespace; empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Name in the URL; empty on create.
    pub name: &'a str,
    /// Who writes.
    pub user: &'a UserInfo,
    /// Nothing will be persisted.
    pub dry_run: bool,
    /// The options of the request (CreateOptions, …) as an object.
    pub options: &'a Value,
    /// The time of the write.
    pub now: Timestamp,
}

/// What was set aside for a write (addresses, ports). Dropped without [`Reservation::commit`], it is given back.
pub trait Reservation: Send {
    /// The write happened.
    fn commit(self: Box<Self>);
}

/// Rules of a kind. All methods have defaults; most kinds need few.
pub trait Strategy: Send + Sync {
    /// Defaults that depend on other fields, after the schema's static ones. Runs on every decoded write and after
    /// mutating admission. `old` is not known here: a default is a function of the object. Empty lists and maps are
    /// still told from absent ones.
    fn default(&self, object: &mut Value) {
        let _ = object;
    }

    /// Drops or sets what a creator may not decide, such as status.
    fn prepare_create(&self, cx: &WriteContext<'_>, object: &mut Value) {
        let _ = (cx, object);
    }

    /// What is wrong with a new object. Metadata rules (name, labels, owner references, …) were checked and come first.
    fn validate_create(&self, cx: &WriteContext<'_>, object: &Value) -> Vec<field::Error> {
        let _ = (cx, object);
        Vec::new()
    }

    /// Brings a new object that is valid to the form it is stored in: what is told apart up to here, such as an empty
    /// list from none, may be one thing from then on.
    fn settle(&self, object: &mut Value) {
        let _ = object;
    }

    /// Puts back what this endpoint does not change, such as status on the main one.
    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        let _ = (cx, object, old);
    }

    /// What is wrong with a change. Metadata rules were checked and come first.
    fn validate_update(&self, cx: &WriteContext<'_>, object: &Value, old: &Value) -> Vec<field::Error> {
        let _ = (cx, object, old);
        Vec::new()
    }

    /// `Warning` headers for what is allowed but unwise. `old` is `None` on create.
    fn warnings(&self, cx: &WriteContext<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        let _ = (cx, object, old);
        Vec::new()
    }

    /// Fields that field selectors may name besides `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &[Box<str>] {
        &[]
    }

    /// The value of a selectable field; absent values select as the empty string.
    fn field<'v>(&self, object: &'v Value, name: &str) -> Option<Cow<'v, str>> {
        let _ = (object, name);
        None
    }

    /// What is said of a field that the kind does not select by.
    fn unknown_field(&self, kind: &str, field: &str) -> String {
        let _ = kind;
        if self.selectable_fields().is_empty() {
            format!(
                "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                field::quote(field)
            )
        } else {
            format!("field label not supported: {field}")
        }
    }

    /// Paths that server-side apply must not own through this endpoint, such as `["status"]` on the main one.
    fn reset_fields(&self) -> &[&[&str]] {
        &[]
    }

    /// Sets aside what must be unique in the cluster and fills it in. `old` is `None` on create.
    fn reserve<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>, Status>> {
        let _ = (cx, object, old);
        ready(Ok(None))
    }

    /// How long the object goes on after a deletion was asked for: `None` goes at once, `Some(seconds)` is marked
    /// first; `Some(0)` is marked and goes at once. `requested` is gracePeriodSeconds of the request.
    fn grace_period(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let _ = (object, requested);
        None
    }

    /// Whether something besides `metadata.finalizers` keeps a deleted object, such as a namespace's spec.finalizers.
    fn held(&self, object: &Value) -> bool {
        let _ = object;
        false
    }

    /// Changes that go with setting deletionTimestamp, such as a namespace's phase.
    fn mark_deleting(&self, cx: &WriteContext<'_>, object: &mut Value) {
        let _ = (cx, object);
    }

    /// Said when a deletion leaves it to the kind what becomes of dependents.
    fn delete_warning(&self) -> Option<&str> {
        None
    }

    /// Whether the object may be deleted at all.
    fn allow_delete(&self, cx: &WriteContext<'_>, object: &Value) -> Result<(), Status> {
        let _ = (cx, object);
        Ok(())
    }

    /// The server starts. Runs once, before anybody is answered.
    fn start<'a>(&'a self, core: &'a Arc<Core>) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = core;
        ready(Ok(()))
    }

    /// The object was stored, also as one that is marked for deletion. The answer waits for what is done here.
    fn written<'a>(&'a self, core: &'a Core, object: &'a Value) -> BoxFuture<'a, ()> {
        let _ = (core, object);
        ready(())
    }

    /// The object is gone from the store: give back what it had reserved.
    fn deleted<'a>(&'a self, cx: &'a WriteContext<'a>, object: &'a Value) -> BoxFuture<'a, ()> {
        let _ = (cx, object);
        ready(())
    }
}

/// A kind without rules of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStrategy;

impl Strategy for NoStrategy {}

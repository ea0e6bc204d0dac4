//! Objects walked together with what is known of their type.
//!
//! An [`ObjectType`] wraps the schema of one version of a kind; its operations are those of server-side
//! apply: validate, take the field set, merge, compare, remove and extract, and adapt a set to a changed
//! schema. Values are borrowed and copied only where a result needs them. Every value is validated before
//! anything else walks it: validation also bounds its depth.

mod compare;
mod merge;
mod reconcile;
mod remove;
mod set_of;
#[cfg(test)]
mod testing;
mod ty;
mod validate;
mod zero;

use serde_json::Value;

pub use compare::Comparison;
#[cfg(test)]
pub(super) use testing::{crd, schema_of, ty};
use ty::Ty;
pub use validate::{Duplicates, FieldError, FieldErrors};

use super::set::Set;
use crate::schema::SchemaRef;

/// The type of the objects of one version of a kind.
///
/// `apiVersion`, `kind` and `metadata` are those of every Kubernetes object, whatever the schema says of them.
/// Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct ObjectType {
    schema: SchemaRef,
}

impl ObjectType {
    /// The type of a schema's objects.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }

    fn root(&self) -> Ty<'_> {
        Ty::root(&self.schema)
    }

    /// Checks that an object has only fields that the schema declares, of its types, with list items that can be
    /// told apart.
    ///
    /// # Errors
    /// Every fault in the order of the walk; of several unknown fields in one map only the first.
    pub fn validate(&self, object: &Value, duplicates: Duplicates) -> Result<(), FieldErrors> {
        validate::validate(self.root(), object, duplicates)
    }

    /// What was there before `object` was created: nothing for custom resources, and the fields that a built-in kind
    /// always writes, empty, where `object` has them.
    pub fn before(&self, object: &Value) -> Option<Value> {
        zero::zero(&self.schema, object)
    }

    /// The fields that an object sets: leaves, atomic lists and maps, empty maps, nulls, items of lists, and keys
    /// of maps. Fields with others below them are no members; items and keys are.
    pub fn field_set(&self, object: &Value) -> Set {
        set_of::set_of(self.root(), object)
    }

    /// Puts `applied` over `live`: nothing of `live` goes away, leaves of `applied` win, items of lists and maps
    /// come together. Items stand in the order of `applied`, those only in `live` in their order among them.
    ///
    /// # Errors
    /// When items of a list can't be told apart; cannot be for values that [`ObjectType::validate`] passed.
    pub fn merge(&self, live: &Value, applied: &Value) -> Result<Value, FieldErrors> {
        merge::merge(self.root(), live, applied)
    }

    /// What differs between two objects.
    pub fn compare(&self, old: &Value, new: &Value) -> Comparison {
        compare::compare(self.root(), old, new)
    }

    /// The object without the fields of a set, and without what is below them.
    pub fn remove(&self, object: &Value, fields: &Set) -> Value {
        remove::remove(self.root(), object, fields)
    }

    /// The object with the fields of a set only; with `keys`, items keep the fields that identify them.
    pub fn extract(&self, object: &Value, fields: &Set, keys: bool) -> Value {
        remove::extract(self.root(), object, fields, keys)
    }

    /// The set with those named fields added that have members below them: `a` for `a.b.c`, but not the items and
    /// keys in between.
    pub fn with_named_fields(&self, set: &Set) -> Set {
        reconcile::with_named_fields(Some(self.root()), set)
    }

    /// The set as this schema would have it: what became atomic since is owned as a whole. None when nothing
    /// changes. What became granular stays owned as a whole until it is applied again.
    pub fn reconcile(&self, set: &Set) -> Option<Set> {
        reconcile::reconcile(self.root(), set)
    }
}

//! The rules of a custom resource, made of its definition's facts: one strategy for the object, one for its status.
//!
//! Decoding, pruning and defaulting follow the resource's schema as for every kind; here is what is judged and kept
//! beyond that. Rules in CEL are not evaluated.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use kubewright_machinery::crd::{Scale, instance, jsonpath::JsonPath};
use kubewright_machinery::field::{self, Path, quote};
use kubewright_machinery::schema::SchemaRef;
use kubewright_machinery::status::Status;
use kubewright_machinery::{meta, names};
use serde_json::Value;

use super::registry::Registry;
use crate::resources::{Reservation, Strategy, WriteContext};
use crate::{BoxFuture, ready};

/// What is known of one version of a custom resource.
pub(super) struct Facts {
    pub kind: String,
    pub api_version: String,
    pub schema: SchemaRef,
    pub scale: Option<Scale>,
    /// Whether `/status` is a subresource.
    pub status: bool,
    /// Names of selectable fields, and where they are.
    pub selectable: Vec<Box<str>>,
    pub paths: Vec<JsonPath>,
    /// Set when the definition is being deleted.
    pub terminating: Arc<AtomicBool>,
    pub registry: Weak<Registry>,
}

impl Facts {
    /// Kind and apiVersion must be those of the resource; nothing else is judged where they are not.
    fn type_faults(&self, object: &Value) -> Vec<field::Error> {
        let pairs = [
            ("kind", meta::kind(object), &self.kind),
            ("apiVersion", meta::api_version(object), &self.api_version),
        ];
        pairs
            .into_iter()
            .filter(|(_, found, wanted)| found != wanted)
            .map(|(field, found, wanted)| {
                field::Error::invalid(&Path::new(field), found, format!("must be {wanted}"))
            })
            .collect()
    }
}

/// The object.
pub(super) struct Main(pub Arc<Facts>);

/// `/status`.
pub(super) struct StatusOnly(pub Arc<Facts>);

impl Strategy for Main {
    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        if self.0.status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<field::Error> {
        let mistyped = self.0.type_faults(object);
        if !mistyped.is_empty() {
            return mistyped;
        }
        instance::create(&self.0.schema, self.0.scale.as_ref(), object, Vec::new())
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        if !self.0.status {
            return;
        }
        let Some(fields) = object.as_object_mut() else { return };
        match old.get("status") {
            Some(status) => drop(fields.insert("status".into(), status.clone())),
            None => drop(fields.remove("status")),
        }
    }

    fn validate_update(&self, _cx: &WriteContext<'_>, object: &Value, old: &Value) -> Vec<field::Error> {
        let mistyped = self.0.type_faults(object);
        if !mistyped.is_empty() {
            return mistyped;
        }
        instance::update(&self.0.schema, self.0.scale.as_ref(), object, old, Vec::new())
    }

    fn warnings(&self, _cx: &WriteContext<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut added: Vec<&str> = meta::finalizers(object)
            .filter(|finalizer| old.is_none_or(|old| !meta::has_finalizer(old, finalizer)))
            .collect();
        added.sort_unstable();
        added.dedup();
        added.into_iter().flat_map(finalizer_warnings).collect()
    }

    fn selectable_fields(&self) -> &[Box<str>] {
        &self.0.selectable
    }

    fn field<'v>(&self, object: &'v Value, name: &str) -> Option<Cow<'v, str>> {
        let at = self.0.selectable.iter().position(|known| **known == *name)?;
        let found = self.0.paths[at].find(object);
        Some(match found.as_deref().and_then(<[_]>::first) {
            None | Some(Value::Null) => "".into(),
            Some(Value::String(text)) => text.as_str().into(),
            Some(Value::Number(number)) => field::number(number).into(),
            Some(other) => other.to_string().into(),
        })
    }

    fn reset_fields(&self) -> &[&[&str]] {
        if self.0.status { &[&["status"]] } else { &[] }
    }

    fn reserve<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>, Status>> {
        if old.is_none() && self.0.terminating.load(Ordering::Acquire) {
            let why = "create not allowed while custom resource definition is terminating";
            let (group, plural) = (&cx.resource.group, &cx.resource.plural);
            return ready(Err(Status::forbidden(group, plural, meta::name(object), why)));
        }
        ready(Ok(None))
    }

    fn deleted<'a>(&'a self, cx: &'a WriteContext<'a>, _object: &'a Value) -> BoxFuture<'a, ()> {
        gone(&self.0, cx)
    }
}

/// The last object of a definition that is being deleted takes the definition with it.
fn gone<'a>(facts: &Facts, cx: &'a WriteContext<'a>) -> BoxFuture<'a, ()> {
    match facts.registry.upgrade() {
        Some(registry) if facts.terminating.load(Ordering::Acquire) => {
            Box::pin(async move { registry.settle_or_log(cx.core).await })
        }
        _ => ready(()),
    }
}

impl Strategy for StatusOnly {
    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        let status = object.get_mut("status").map(Value::take);
        let owners = meta::get(object, "managedFields").cloned();
        *object = old.clone();
        match owners {
            Some(owners) => meta::set(object, "managedFields", owners),
            None => drop(meta::remove(object, "managedFields")),
        }
        let Some(fields) = object.as_object_mut() else { return };
        match status {
            Some(status) => drop(fields.insert("status".into(), status)),
            None => drop(fields.remove("status")),
        }
    }

    fn validate_update(&self, _cx: &WriteContext<'_>, object: &Value, old: &Value) -> Vec<field::Error> {
        let mistyped = self.0.type_faults(object);
        if !mistyped.is_empty() {
            return mistyped;
        }
        instance::status_update(&self.0.schema, self.0.scale.as_ref(), object, old, Vec::new())
    }

    fn reset_fields(&self) -> &[&[&str]] {
        &[&["metadata"], &["spec"]]
    }

    fn deleted<'a>(&'a self, cx: &'a WriteContext<'a>, _object: &'a Value) -> BoxFuture<'a, ()> {
        gone(&self.0, cx)
    }
}

/// What is unwise about a finalizer's name.
fn finalizer_warnings(finalizer: &str) -> Vec<String> {
    let at = format!("metadata.finalizers: {}", quote(finalizer));
    let mut warnings: Vec<String> =
        names::is_qualified_name(finalizer).into_iter().map(|fault| format!("{at}: {fault}")).collect();
    let standard = matches!(finalizer, meta::ORPHAN_FINALIZER | meta::FOREGROUND_FINALIZER | "kubernetes");
    if !finalizer.contains('/') && !standard {
        let path = if finalizer.contains('.') { " including a path (/)" } else { "" };
        warnings.push(format!(
            "{at}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer \
             writers"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_without_a_domain_are_warned_of() {
        assert!(finalizer_warnings("example.com/x").is_empty());
        assert!(finalizer_warnings("orphan").is_empty());
        assert_eq!(finalizer_warnings("example.com").len(), 1);
        assert!(finalizer_warnings("x")[0].contains("prefer a domain-qualified finalizer name to avoid"));
    }
}

//! Objects as `meta.k8s.io` Tables and PartialObjectMetadata.
//!
//! Served objects flow in as values, one document comes out. Which columns there are is the resource's matter.

use std::sync::Arc;

use jiff::Timestamp;
use kubewright_machinery::crd;
use kubewright_machinery::status::Status;
use serde_json::{Map, Value, json};

use crate::crds::PrinterColumns;
use crate::resources::{Column, Columns, Resource};

/// What the rows of a Table carry besides cells (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Their metadata.
    #[default]
    Metadata,
    /// The whole objects.
    Object,
}

impl Include {
    /// Reads the parameter.
    pub fn parse(text: Option<&str>) -> Result<Self, Status> {
        match text {
            None | Some("" | "Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            Some(other) => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', \
                 'Object', 'None', or empty",
                json!(other)
            ))),
        }
    }
}

/// How tables are made for one request.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// v1beta1 in place of v1.
    pub beta: bool,
    /// What rows carry.
    pub include: Include,
    /// The time, for ages.
    pub now: Timestamp,
}

fn api_version(beta: bool) -> &'static str {
    if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
}

/// A Table of served objects. `metadata` is the list's; `columns` says whether to describe them (a watch does it once).
pub fn table(
    resource: &Resource,
    form: Form,
    metadata: Value,
    objects: impl IntoIterator<Item = Value>,
    columns: bool,
) -> Value {
    let rows: Vec<Value> = objects.into_iter().map(|object| row(resource, form, object)).collect();
    let definitions = match columns {
        true => Value::from(resource.columns.columns().iter().map(definition).collect::<Vec<_>>()),
        false => Value::Null,
    };
    json!({
        "kind": "Table",
        "apiVersion": api_version(form.beta),
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": if rows.is_empty() && resource.columns.rows_may_be_null() { Value::Null } else { rows.into() },
    })
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.ty,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn row(resource: &Resource, form: Form, object: Value) -> Value {
    let cells = resource.columns.cells(&object, form.now);
    let conditions = resource.columns.conditions(&object);
    let object = match form.include {
        Include::None => Value::Null,
        Include::Metadata => partial(object, form.beta),
        Include::Object => object,
    };
    let mut row = json!({ "cells": cells, "object": object });
    if !conditions.is_empty() {
        row["conditions"] = Value::Array(conditions);
    }
    row
}

/// The columns of an `autoscaling/v1` Scale. Those of custom resources describe themselves in other words.
pub fn scale_columns(custom: bool) -> Arc<dyn Columns> {
    let column = |name: &str, ty: &str, description: &str, path: &str| crd::Column {
        name: name.into(),
        ty: ty.into(),
        description: description.into(),
        json_path: path.into(),
        ..crd::Column::default()
    };
    let (wanted, observed) = match custom {
        true => ("Number of desired replicas", "Number of actual replicas"),
        false => (
            "replicas is the desired number of instances for the scaled object.",
            "replicas is the actual number of observed instances of the scaled object.",
        ),
    };
    Arc::new(PrinterColumns::new(&[
        column("Desired", "integer", wanted, ".spec.replicas"),
        column("Available", "integer", observed, ".status.replicas"),
        column("Age", "date", crd::columns::AGE_DOC, ".metadata.creationTimestamp"),
    ]))
}

/// The PartialObjectMetadata of an object.
pub fn partial(mut object: Value, beta: bool) -> Value {
    let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_else(|| Value::Object(Map::new()));
    json!({ "kind": "PartialObjectMetadata", "apiVersion": api_version(beta), "metadata": metadata })
}

/// The PartialObjectMetadataList of objects.
pub fn partial_list(objects: impl IntoIterator<Item = Value>, metadata: Value, beta: bool) -> Value {
    let items: Vec<Value> = objects.into_iter().map(|object| partial(object, beta)).collect();
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": api_version(beta),
        "metadata": metadata,
        "items": items,
    })
}

//! What the kinds of core/v1 do with writes, besides pods and services.

use kubewright_apiserver::resources::WriteContext;
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use super::{Row, gates};
use crate::defaults::{cluster, core as defaults, storage};
use crate::fields::{at, carry, items, object_mut, text};
use crate::initial::SYSTEM_PRIORITY_CLASSES;
use crate::warnings;

pub(crate) const NAMESPACE: Row = Row {
    default: defaults::namespace,
    prepare_create: |_, namespace| {
        // A generated name is known only now.
        defaults::namespace(namespace);
        if let Some(namespace) = namespace.as_object_mut() {
            namespace.insert("status".into(), json!({"phase": "Active"}));
        }
        if let Some(spec) = object_mut(namespace, &["spec"]) {
            let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
            if let Some(list) = finalizers.as_array_mut()
                && !list.iter().any(|f| f == "kubernetes")
            {
                list.push("kubernetes".into());
            }
        }
    },
    prepare_update: |_, namespace, old| {
        let finalizers = at(old, &["spec", "finalizers"]);
        if let Some(spec) = object_mut(namespace, &["spec"]) {
            match finalizers {
                Value::Null => spec.remove("finalizers"),
                finalizers => spec.insert("finalizers".into(), finalizers.clone()),
            };
        }
    },
    fields: &["status.phase"],
    held: |namespace| !items(namespace, &["spec", "finalizers"]).is_empty(),
    mark_deleting: |_, namespace| {
        if let Some(status) = object_mut(namespace, &["status"]) {
            status.insert("phase".into(), "Terminating".into());
        }
    },
    ..Row::PLAIN
};

/// /finalize: everything but status.
pub(crate) const NAMESPACE_FINALIZE: Row =
    Row { prepare_status: |_, namespace, old| carry(namespace, old, "status"), ..NAMESPACE };

pub(crate) const NODE: Row = Row {
    default: |node| {
        defaults::node(node);
        if let Some(spec) = object_mut(node, &["spec"]) {
            super::pods::first_of(spec, "podCIDR", "podCIDRs", |cidr| cidr, |item| item);
        }
    },
    prepare_create: |_, node| {
        // DynamicKubeletConfig is no more.
        gates::field(node, None, &["spec"], "configSource");
        gates::field(node, None, &["status"], "config");
    },
    prepare_update: |_, node, old| gates::field(node, Some(old), &["spec"], "configSource"),
    prepare_status: |_, node, old| gates::field(node, Some(old), &["status"], "config"),
    warnings: warnings::node,
    fields: &["spec.unschedulable"],
    field: |node, _| Some(at(node, &["spec", "unschedulable"]).as_bool().unwrap_or_default().to_string()),
    status_on_create: true,
    ..Row::PLAIN
};

/// The two classes of the system stay.
pub(crate) const PRIORITY_CLASS: Row = Row {
    default: cluster::priority_class,
    allow_delete: |cx, class| {
        let name = text(class, &["metadata", "name"]);
        if !SYSTEM_PRIORITY_CLASSES.contains(&name) {
            return Ok(());
        }
        let (group, plural) = (&cx.resource.group, &cx.resource.plural);
        Err(Status::forbidden(group, plural, name, "this is a system priority class and cannot be deleted"))
    },
    ..Row::PLAIN
};

pub(crate) const SECRET: Row =
    Row { default: defaults::secret, warnings: warnings::secret, fields: &["type"], ..Row::PLAIN };

pub(crate) const EVENT: Row = Row {
    fields: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    field: |event, field| match field {
        "source" => Some(event_source(event)),
        _ => None,
    },
    ..Row::PLAIN
};

/// The source of an event: its component, or the newer reporting component.
fn event_source(event: &Value) -> String {
    let component = at(event, &["source", "component"]).as_str().unwrap_or_default();
    let component = if component.is_empty() {
        at(event, &["reportingComponent"]).as_str().unwrap_or_default()
    } else {
        component
    };
    component.to_string()
}

/// events.k8s.io/v1 selects by fields under their newer names.
pub(crate) const EVENT_NEW: Row = Row {
    fields: &[
        "reason",
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reportingController",
        "type",
    ],
    ..Row::PLAIN
};

pub(crate) const REPLICATION_CONTROLLER: Row = Row {
    default: defaults::replication_controller,
    prepare_create: |_, o| gates::pod_spec(o, None, &["spec", "template", "spec"]),
    prepare_update: |_, o, old| gates::pod_spec(o, Some(old), &["spec", "template", "spec"]),
    warnings: warnings::controller,
    fields: &["status.replicas"],
    ..Row::PLAIN
};

pub(crate) const POD_TEMPLATE: Row = Row {
    default: defaults::pod_template,
    prepare_create: |_, o| gates::pod_spec(o, None, &["template", "spec"]),
    prepare_update: |_, o, old| gates::pod_spec(o, Some(old), &["template", "spec"]),
    warnings: warnings::pod_template,
    ..Row::PLAIN
};
pub(crate) const LIMIT_RANGE: Row = Row { default: defaults::limit_range, ..Row::PLAIN };
pub(crate) const RESOURCE_QUOTA: Row = Row { default: defaults::resource_quota, ..Row::PLAIN };

pub(crate) const PERSISTENT_VOLUME: Row = Row {
    default: storage::persistent_volume,
    warnings: warnings::persistent_volume,
    prepare_create: |cx, volume| {
        if let Some(status) = object_mut(volume, &["status"]) {
            status.insert("phase".into(), "Pending".into());
            status.insert("lastPhaseTransitionTime".into(), now(cx).into());
        }
    },
    prepare_status: |cx, volume, old| {
        // The time of a phase change is the server's, unless the writer states another one.
        let changed = at(volume, &["status", "phase"]) != at(old, &["status", "phase"]);
        let stated = at(volume, &["status", "lastPhaseTransitionTime"])
            != at(old, &["status", "lastPhaseTransitionTime"]);
        let Some(status) = object_mut(volume, &["status"]) else { return };
        let unset = status.get("lastPhaseTransitionTime").is_none_or(Value::is_null);
        if changed && (!stated || unset) {
            status.insert("lastPhaseTransitionTime".into(), now(cx).into());
        } else if unset && let time @ Value::String(_) = at(old, &["status", "lastPhaseTransitionTime"]) {
            status.insert("lastPhaseTransitionTime".into(), time.clone());
        }
    },
    ..Row::PLAIN
};

/// The time of a write as `metav1.Time` has it.
pub(crate) fn now(cx: &WriteContext<'_>) -> String {
    kubewright_machinery::time::format(cx.now)
}

pub(crate) const PERSISTENT_VOLUME_CLAIM: Row = Row {
    default: storage::persistent_volume_claim,
    warnings: warnings::claim,
    prepare_create: |_, claim| {
        if let Some(status) = object_mut(claim, &["status"]) {
            status.insert("phase".into(), "Pending".into());
        }
        gates::data_sources(claim, None);
    },
    prepare_update: |_, claim, old| gates::data_sources(claim, Some(old)),
    ..Row::PLAIN
};

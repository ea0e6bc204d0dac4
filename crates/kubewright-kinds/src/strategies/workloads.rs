//! What the kinds of apps, batch, autoscaling, policy, networking and discovery do with writes.

use kubewright_apiserver::resources::WriteContext;
use serde_json::{Value, json};

use super::{Row, StatusMetadata, gates, set_generation, without_bookkeeping};
use crate::defaults::{batch, networking, storage, workloads as defaults};
use crate::fields::{flag, int, member_made, object_mut, text};
use crate::warnings;

/// Where the spec of the pods is.
const TEMPLATE: &[&str] = &["spec", "template", "spec"];
const JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template", "spec"];
const ROLLING_UPDATE: &[&str] = &["spec", "updateStrategy", "rollingUpdate"];

pub(crate) const DEPLOYMENT: Row = Row {
    default: defaults::deployment,
    prepare_create: |_, o| gates::pod_spec(o, None, TEMPLATE),
    prepare_update: |_, o, old| gates::pod_spec(o, Some(old), TEMPLATE),
    warnings: warnings::named_template,
    status_metadata: StatusMetadata::KeepLabels,
    ..Row::PLAIN
};
pub(crate) const REPLICA_SET: Row = Row {
    default: defaults::replica_set,
    prepare_create: |_, o| gates::pod_spec(o, None, TEMPLATE),
    prepare_update: |_, o, old| gates::pod_spec(o, Some(old), TEMPLATE),
    warnings: warnings::named_template,
    fields: &["status.replicas"],
    ..Row::PLAIN
};
pub(crate) const STATEFUL_SET: Row = Row {
    default: defaults::stateful_set,
    prepare_create: |_, set| {
        gates::field(set, None, ROLLING_UPDATE, "maxUnavailable");
        gates::pod_spec(set, None, TEMPLATE);
    },
    prepare_update: |_, set, old| {
        gates::field(set, Some(old), ROLLING_UPDATE, "maxUnavailable");
        gates::pod_spec(set, Some(old), TEMPLATE);
    },
    warnings: warnings::stateful_set,
    ..Row::PLAIN
};
pub(crate) const DAEMON_SET: Row = Row {
    default: defaults::daemon_set,
    prepare_create: |_, o| gates::pod_spec(o, None, TEMPLATE),
    prepare_update: |_, o, old| gates::pod_spec(o, Some(old), TEMPLATE),
    warnings: warnings::daemon_set,
    ..Row::PLAIN
};
pub(crate) const CRON_JOB: Row = Row {
    default: batch::cron_job,
    prepare_create: |_, o| gates::pod_spec(o, None, JOB_TEMPLATE),
    prepare_update: |_, o, old| gates::pod_spec(o, Some(old), JOB_TEMPLATE),
    warnings: warnings::cron_job,
    ..Row::PLAIN
};
pub(crate) const AUTOSCALER: Row = Row { default: defaults::autoscaler, ..Row::PLAIN };
pub(crate) const AUTOSCALER_V1: Row = Row { default: defaults::autoscaler_v1, ..Row::PLAIN };
pub(crate) const NETWORK_POLICY: Row =
    Row { default: networking::network_policy, warnings: warnings::network_policy, ..Row::PLAIN };
pub(crate) const INGRESS_CLASS: Row = Row { default: networking::ingress_class, ..Row::PLAIN };

pub(crate) const JOB: Row = Row {
    default: batch::job,
    warnings: warnings::job,
    delete_warning: Some(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set \
         propagationPolicy=Orphan to suppress this warning",
    ),
    prepare_create: |_, job| {
        generate_selector(job);
        // What was generated is seen by the defaults that follow from the template.
        batch::job(job);
        gates::pod_spec(job, None, TEMPLATE);
    },
    prepare_update: |_, o, old| gates::pod_spec(o, Some(old), TEMPLATE),
    fields: &["status.successful"],
    field: |job, _| Some(int(job, &["status", "succeeded"]).unwrap_or_default().to_string()),
    ..Row::PLAIN
};

/// A job without a selector of its own selects its pods by its uid.
fn generate_selector(job: &mut Value) {
    if flag(job, &["spec", "manualSelector"]) {
        return;
    }
    let uid = text(job, &["metadata", "uid"]).to_string();
    let name = text(job, &["metadata", "name"]).to_string();
    let Some(spec) = object_mut(job, &["spec"]) else { return };
    if let Some(template) = member_made(spec, "template")
        && let Some(labels) = member_made(template, "metadata").and_then(|m| member_made(m, "labels"))
    {
        // The names without a prefix are the old ones.
        for prefix in ["", "batch.kubernetes.io/"] {
            for (key, value) in [("controller-uid", &uid), ("job-name", &name)] {
                labels.entry(format!("{prefix}{key}")).or_insert_with(|| json!(value));
            }
        }
    }
    if let Some(selector) = member_made(spec, "selector")
        && let Some(labels) = member_made(selector, "matchLabels")
    {
        labels.entry("batch.kubernetes.io/controller-uid").or_insert_with(|| json!(uid));
    }
}

/// Any change of a slice counts, metadata included.
pub(crate) const ENDPOINT_SLICE: Row = Row {
    default: networking::endpoint_slice,
    warnings: warnings::endpoint_slice,
    prepare_update: |_: &WriteContext<'_>, slice, old| {
        let generation = int(old, &["metadata", "generation"]).unwrap_or_default();
        let changed = without_bookkeeping(slice) != without_bookkeeping(old);
        set_generation(slice, if changed { generation + 1 } else { generation });
    },
    ..Row::PLAIN
};

pub(crate) const VOLUME_ATTACHMENT: Row = Row { status_metadata: StatusMetadata::Keep, ..Row::PLAIN };

/// A driver's generation counts changes of the fields that may change.
pub(crate) const CSI_DRIVER: Row = Row {
    default: storage::csi_driver,
    prepare_create: |_, driver| gates::field(driver, None, &["spec"], "preventPodSchedulingIfMissing"),
    prepare_update: |_, driver, old| {
        gates::field(driver, Some(old), &["spec"], "preventPodSchedulingIfMissing");
        if driver.get("spec") != old.get("spec") {
            set_generation(driver, int(old, &["metadata", "generation"]).unwrap_or_default() + 1);
        }
    },
    ..Row::PLAIN
};

//! What the kinds of apps, batch, autoscaling, policy, networking and discovery do with writes.

use kubewright_apiserver::resources::WriteContext;
use serde_json::{Value, json};

use super::{Row, StatusMetadata, gates, set_generation};
use crate::defaults::{batch, networking, storage, workloads as defaults};
use crate::fields::{at, flag, int, items_mut, member_made, object_mut, text};
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
    default: |set| {
        defaults::daemon_set(set);
        if let Some(metadata) = object_mut(set, &["metadata"])
            && let Some(annotations) = member_made(metadata, "annotations")
        {
            annotations.entry(TEMPLATE_GENERATION).or_insert_with(|| "0".into());
        }
    },
    prepare_create: |_, o| {
        gates::pod_spec(o, None, TEMPLATE);
        let stated = template_generation(o);
        set_template_generation(o, stated.max(1));
    },
    prepare_update: |_, o, old| {
        gates::pod_spec(o, Some(old), TEMPLATE);
        let changed = at(o, &["spec", "template"]) != at(old, &["spec", "template"]);
        set_template_generation(o, template_generation(old) + i64::from(changed));
    },
    warnings: warnings::daemon_set,
    ..Row::PLAIN
};

/// How often the template of a DaemonSet changed: a field of old versions of the API, which apps/v1 shows as an
/// annotation that only the server writes.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(set: &Value) -> i64 {
    text(set, &["metadata", "annotations", TEMPLATE_GENERATION]).parse().unwrap_or_default()
}

fn set_template_generation(set: &mut Value, generation: i64) {
    if let Some(metadata) = object_mut(set, &["metadata"])
        && let Some(annotations) = member_made(metadata, "annotations")
    {
        annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
    }
}

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

/// Changes of labels count too, those of other metadata do not.
pub(crate) const ENDPOINT_SLICE: Row = Row {
    default: networking::endpoint_slice,
    warnings: warnings::endpoint_slice,
    prepare_create: |_, slice| forget_topology(slice),
    prepare_update: |_: &WriteContext<'_>, slice, old| {
        const LABELS: &[&str] = &["metadata", "labels"];
        let generation = int(old, &["metadata", "generation"]).unwrap_or_default();
        let changed =
            without_metadata(slice) != without_metadata(old) || at(slice, LABELS) != at(old, LABELS);
        set_generation(slice, if changed { generation + 1 } else { generation });
        forget_topology(slice);
    },
    ..Row::PLAIN
};

fn without_metadata(object: &Value) -> Vec<(&String, &Value)> {
    object.as_object().into_iter().flatten().filter(|(name, _)| *name != "metadata").collect()
}

/// What v1beta1 said of where an endpoint is: v1 only shows it.
fn forget_topology(slice: &mut Value) {
    let Some(slice) = slice.as_object_mut() else { return };
    for endpoint in items_mut(slice, "endpoints") {
        endpoint.remove("deprecatedTopology");
    }
}

/// How a lease is handed over is chosen by a feature that is off (CoordinatedLeaderElection).
pub(crate) const LEASE: Row = Row {
    prepare_create: |_, lease| LEASE_GATED.iter().for_each(|name| gates::field(lease, None, &["spec"], name)),
    prepare_update: |_, lease, old| {
        LEASE_GATED.iter().for_each(|name| gates::field(lease, Some(old), &["spec"], name));
    },
    ..Row::PLAIN
};
const LEASE_GATED: [&str; 2] = ["strategy", "preferredHolder"];

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

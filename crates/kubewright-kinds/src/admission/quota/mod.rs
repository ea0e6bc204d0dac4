//! ResourceQuota: writes are charged to the quotas of their namespace, and refused where they do not fit.
//!
//! New usage is put into `status.used` of the quotas by compare-and-swap before the write itself happens, as the last
//! thing of admission; tried again with the newest quota when somebody else was faster. What a write that fails
//! after all was charged is given back by whoever recounts usage (the quota controller), as is what is deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::resources::{Backing, Storage, SubresourceAction, splice};
use kubewright_apiserver::server::Core;
use kubewright_machinery::fieldset::{FieldManager, SameInAllVersions};
use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use kubewright_storage::{Expect, StoreError};

use self::check::{Charge, Charged, check};
use self::meter::Meter;
use super::amounts::written;
use crate::fields::{member_made, object_mut};

mod check;
mod meter;
mod scopes;

/// The plugin `ResourceQuota`.
pub struct ResourceQuota;

const PLURAL: &str = "resourcequotas";

/// Resources that are never charged.
fn is_free(a: &Attributes<'_>) -> bool {
    matches!(a.resource.backing, Backing::Virtual(_))
        || matches!(
            (&*a.resource.group, &*a.resource.plural),
            ("", "namespaces" | "events" | "bindings" | "componentstatuses") | ("events.k8s.io", "events")
        )
}

impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if attributes.namespace.is_empty() || is_free(attributes) {
                return Ok(());
            }
            let meter = Meter::of(&attributes.resource.group, &attributes.resource.plural);
            if !meter.handles(attributes.operation, attributes.subresource_name()) {
                return Ok(());
            }
            let Some(object) = &attributes.object else { return Ok(()) };
            let write = Charged {
                meter: &meter,
                object,
                old: attributes.old.as_deref(),
                reports: attributes.subresource_name() == "status",
                now: attributes.now,
            };
            // Quotas that are charged already are not charged again.
            let mut open: Option<BTreeSet<String>> = None;
            loop {
                let mut quotas = super::list(attributes, "", PLURAL, attributes.namespace).await?;
                if let Some(open) = &open {
                    quotas.retain(|q| open.contains(meta::name(q)));
                }
                let charges = check(&quotas, &write).map_err(|why| attributes.forbidden(why))?;
                if charges.is_empty() || attributes.dry_run {
                    return Ok(());
                }
                let mut missed = BTreeSet::new();
                for charge in &charges {
                    if !put(attributes, charge).await? {
                        missed.insert(meta::name(&charge.quota).to_string());
                    }
                }
                if missed.is_empty() {
                    return Ok(());
                }
                open = Some(missed);
            }
        })
    }
}

/// Writes new usage; false when the quota was changed or deleted in between.
async fn put(a: &Attributes<'_>, charge: &Charge) -> Result<bool, Status> {
    let old = &charge.quota;
    let revision: u64 = meta::resource_version(old).parse().map_err(Status::internal)?;
    let mut quota = (**old).clone();
    if let Some(status) = object_mut(&mut quota, &[]).and_then(|q| member_made(q, "status")) {
        status.insert("used".into(), written(&charge.used));
    }
    if let Some(manager) = status_manager(a.core) {
        quota = manager.update(Some(old), quota, "kube-apiserver", a.now);
    }
    let key = format!("{}{}/{}", Storage::prefix_of("", PLURAL), a.namespace, meta::name(old));
    match a.core.store().put(&key, splice::at_rest(&quota), Expect::Revision(revision)).await {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict { .. } | StoreError::NotFound) => Ok(false),
        Err(error) => Err(super::unreadable(error)),
    }
}

/// Who owns what of a quota's status, as for requests on the subresource.
fn status_manager(core: &Core) -> Option<FieldManager> {
    let table = core.table();
    let resource = table.any_version("", PLURAL)?;
    let version = resource.api_version();
    let schemas = [(version.clone(), resource.schema.clone())];
    let manager = FieldManager::new(&version, &resource.kind, schemas, Arc::new(SameInAllVersions));
    let manager = manager.on_subresource("status");
    match &resource.subresource("status")?.action {
        SubresourceAction::Update(strategy) => Some(manager.with_reset_fields(strategy.reset_fields())),
        _ => Some(manager),
    }
}

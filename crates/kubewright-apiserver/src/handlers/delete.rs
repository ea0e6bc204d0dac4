//! DELETE: at once, gracefully, or marked until the last finalizer is gone.

use std::sync::Arc;

use jiff::Timestamp;
use kubewright_machinery::decode;
use kubewright_machinery::gvk::GroupVersion;
use kubewright_machinery::status::{Details, Status};
use kubewright_machinery::{meta, time};
use kubewright_storage::{Entry, Expect, StoreError};
use serde_json::{Value, json};

use super::{Call, body, read_body, store_failure};
use crate::admission::{Operation, Phase};
use crate::request::negotiate::Endpoint;
use crate::request::{DeleteOptions, Input, Transform};
use crate::resources::{Propagation, RequestBody, WriteContext, splice};
use crate::server::{Response, respond};

/// What came of a deletion.
pub(super) struct Deleted {
    /// Whether the object is gone.
    pub gone: bool,
    /// The object, where it goes on or the kind returns it.
    pub object: Value,
    /// Whether the answer is the object (else a Status that names it).
    pub returned: bool,
}

/// DELETE on one object.
pub(super) async fn delete(call: &Call, body: RequestBody) -> Result<Response, Status> {
    let mut output = call.output(Endpoint::Object)?;
    let options = options(call, body).await?;
    if options.propagation.is_none()
        && options.orphan_dependents.is_none()
        && let Some(warning) = call.resource.strategy.delete_warning()
    {
        call.warn(warning.to_string());
    }
    let deleted = delete_one(call, &call.info.name, &options).await?;
    let code = if !deleted.gone && options.orphan_dependents == Some(false) { 202 } else { 200 };
    if deleted.returned {
        return call.answer(code, output, deleted.object);
    }
    output.transform = Transform::None;
    Ok(respond::value(code, output, &success(call, &deleted.object)))
}

/// The Status that names what was deleted.
fn success(call: &Call, object: &Value) -> Value {
    let details = Details {
        name: meta::name(object).to_string(),
        group: call.resource.group.to_string(),
        kind: call.resource.plural.to_string(),
        uid: meta::uid(object).to_string(),
        ..Details::default()
    };
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    status["details"] = serde_json::to_value(details).unwrap_or_default();
    status
}

/// DeleteOptions of the body, or of the query where there is no body.
pub(super) async fn options(call: &Call, body: RequestBody) -> Result<DeleteOptions, Status> {
    let body = read_body(body).await?;
    if body.is_empty() {
        return DeleteOptions::from_query(&call.info.query);
    }
    let bad = |message: String| Status::bad_request(message);
    let value = match call.input()? {
        Input::Json => decode::json(&body).map_err(|error| bad(body::no_kind(error)))?.value,
        Input::Yaml => decode::yaml(&body).map_err(|error| bad(error.to_string()))?.value,
        Input::Decoder(decoder) => {
            let kind = GroupVersion::new("", "v1").with_kind("DeleteOptions");
            decoder.decode(&body, &kind).map_err(|fault| bad(fault.error))?
        }
    };
    body::interpret(&value).map_err(bad)?;
    let (kind, api_version) = (meta::kind(&value), meta::api_version(&value));
    if !matches!(kind, "" | "DeleteOptions") {
        // Other kinds that are the same in all groups are known there, but are no options.
        return Err(Status::bad_request(match kind {
            "CreateOptions" | "UpdateOptions" | "PatchOptions" | "GetOptions" | "Status" => {
                format!("converting (v1.{kind}) to (v1.DeleteOptions): unknown conversion")
            }
            _ => format!(
                "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \
                 \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
            ),
        }));
    }
    check_types(&value).map_err(bad)?;
    call.note_sent(&value);
    DeleteOptions::from_body(&value)
}

/// Whether the fields of DeleteOptions are of their types; what a decoder says if not.
fn check_types(options: &Value) -> Result<(), String> {
    type Check = fn(&Value) -> bool;
    let fields: [(&str, &str, &str, Check); 8] = [
        ("DeleteOptions", "/gracePeriodSeconds", "int64", Value::is_i64),
        ("DeleteOptions", "/preconditions", "v1.Preconditions", Value::is_object),
        ("Preconditions", "/preconditions/uid", "types.UID", Value::is_string),
        ("Preconditions", "/preconditions/resourceVersion", "string", Value::is_string),
        ("DeleteOptions", "/orphanDependents", "bool", Value::is_boolean),
        ("DeleteOptions", "/propagationPolicy", "v1.DeletionPropagation", Value::is_string),
        ("DeleteOptions", "/dryRun", "[]string", Value::is_array),
        ("DeleteOptions", "/ignoreStoreReadErrorWithClusterBreakingPotential", "bool", Value::is_boolean),
    ];
    let refuse = |found: &Value, of: &str, pointer: &str, ty: &str| {
        let found = match found {
            Value::Number(number) if ty == "int64" => format!("number {number}"),
            found => decode::json_type(found).to_string(),
        };
        let field = pointer[1..].replace('/', ".");
        Err(format!("json: cannot unmarshal {found} into Go struct field {of}.{field} of type {ty}"))
    };
    for (of, pointer, ty, is) in fields {
        match options.pointer(pointer) {
            Some(found) if !found.is_null() && !is(found) => return refuse(found, of, pointer, ty),
            _ => {}
        }
    }
    let stages = options.get("dryRun").and_then(Value::as_array).into_iter().flatten();
    match stages.into_iter().find(|stage| !stage.is_string() && !stage.is_null()) {
        Some(stage) => refuse(stage, "DeleteOptions", "/dryRun", "string"),
        None => Ok(()),
    }
}

/// What is to be stored, or done, for a deletion.
enum Step {
    /// Take it out of the store.
    Remove,
    /// Store it as it is now, and take it out right after if `then_remove`.
    Mark { then_remove: bool },
    /// It is being deleted already and nothing is to be changed.
    Pending,
    /// Nothing to do but to show it: something else will take it away.
    Show,
}

/// Deletes one object.
pub(super) async fn delete_one(call: &Call, name: &str, options: &DeleteOptions) -> Result<Deleted, Status> {
    let key = call.key(call.namespace(), name)?;
    loop {
        let entry = call.store().get(&key, None).await.map_err(|e| store_failure(&e))?;
        let entry = entry.ok_or_else(|| call.not_found(name))?;
        if let Some(deleted) = try_delete(call, &key, name, entry, options).await? {
            return Ok(deleted);
        }
    }
}

/// `None` when the object changed in between.
async fn try_delete(
    call: &Call,
    key: &str,
    name: &str,
    entry: Entry,
    options: &DeleteOptions,
) -> Result<Option<Deleted>, Status> {
    let now = call.core.now();
    let strategy = &call.resource.strategy;
    let options_object = options.to_object();
    let cx = WriteContext {
        core: &call.core,
        resource: &call.resource,
        subresource: None,
        operation: Operation::Delete,
        namespace: call.namespace(),
        name,
        user: &call.user,
        dry_run: options.dry_run,
        options: &options_object,
        now,
    };
    let old = Arc::new(call.decode_one(&entry.value, entry.revision).await?);
    check_preconditions(call, name, options, &old)?;
    strategy.allow_delete(&cx, &old)?;
    let mut object = Value::clone(&old);
    let step = step(call, &cx, options, &mut object, now);
    let returned = call.resource.rules.delete_returns_object;
    if matches!(step, Step::Pending) {
        return Ok(Some(Deleted { gone: false, object, returned }));
    }
    call.admit(&cx, None, Some(&old), &[Phase::Mutate, Phase::Validate]).await?;
    let remove_after = match step {
        Step::Show => return Ok(Some(Deleted { gone: false, object, returned: true })),
        Step::Remove => None,
        Step::Mark { then_remove } => {
            let marked = mark(call, key, &entry, &mut object, options.dry_run).await?;
            let Some(revision) = marked else { return Ok(None) };
            if !then_remove {
                if !options.dry_run {
                    strategy.written(&call.core, &object).await;
                }
                return Ok(Some(Deleted { gone: false, object, returned: true }));
            }
            if options.dry_run {
                return Ok(Some(Deleted { gone: true, object, returned: true }));
            }
            Some(revision)
        }
        Step::Pending => unreachable!("answered above"),
    };
    if !options.dry_run {
        let expect = Expect::Revision(remove_after.unwrap_or(entry.revision));
        match call.store().delete(key, expect).await {
            Ok(gone) => {
                // The answer carries the revision of the deletion, as the event does.
                meta::set(&mut object, "resourceVersion", gone.revision.to_string());
                strategy.deleted(&cx, &object).await;
            }
            Err(StoreError::NotFound) if remove_after.is_some() => {}
            Err(StoreError::NotFound) => return Err(call.not_found(name)),
            Err(StoreError::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(store_failure(&error)),
        }
    }
    Ok(Some(Deleted { gone: true, object, returned }))
}

/// Decides, and changes the object accordingly.
fn step(
    call: &Call,
    cx: &WriteContext<'_>,
    options: &DeleteOptions,
    object: &mut Value,
    now: Timestamp,
) -> Step {
    let strategy = &call.resource.strategy;
    if strategy.held(object) {
        if meta::is_deleting(object) {
            return Step::Show;
        }
        set_finalizers(call, options, object);
        meta::set(object, "deletionTimestamp", time::format(now));
        strategy.mark_deleting(cx, object);
        return Step::Mark { then_remove: false };
    }
    let graceful = match graceful(cx, options, object, now) {
        Graceful::Pending => return Step::Pending,
        Graceful::Marked(seconds) => Some(seconds),
        Graceful::No => None,
    };
    let finalizers_changed = set_finalizers(call, options, object);
    let pending = meta::finalizers(object).next().is_some();
    match graceful {
        Some(seconds) => Step::Mark { then_remove: !pending && seconds == 0 },
        None if pending => {
            if !meta::is_deleting(object) {
                bump_generation(object);
                meta::set(object, "deletionTimestamp", time::format(now));
                strategy.mark_deleting(cx, object);
            } else if later(object, now) {
                meta::set(object, "deletionTimestamp", time::format(now));
            }
            meta::set(object, "deletionGracePeriodSeconds", 0);
            Step::Mark { then_remove: false }
        }
        None => {
            let _ = finalizers_changed;
            Step::Remove
        }
    }
}

enum Graceful {
    No,
    Marked(i64),
    Pending,
}

/// Sets deletionTimestamp and grace period of kinds that go gracefully. A repeated deletion can only shorten it.
fn graceful(cx: &WriteContext<'_>, options: &DeleteOptions, object: &mut Value, now: Timestamp) -> Graceful {
    let strategy = &cx.resource.strategy;
    let Some(seconds) = strategy.grace_period(object, options.grace_period) else { return Graceful::No };
    if !meta::is_deleting(object) {
        let at = now.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
        meta::set(object, "deletionTimestamp", time::format(at));
        meta::set(object, "deletionGracePeriodSeconds", seconds);
        bump_generation(object);
        strategy.mark_deleting(cx, object);
        return Graceful::Marked(seconds);
    }
    let current = meta::deletion_grace_period_seconds(object).unwrap_or(0);
    if current == 0 {
        return Graceful::No;
    }
    let Some(mut period) = options.grace_period.filter(|period| *period < current) else {
        return Graceful::Pending;
    };
    let deleted = meta::deletion_timestamp(object).and_then(|t| time::parse(t).ok()).unwrap_or(now);
    let shorter = jiff::SignedDuration::from_secs(period - current);
    let mut at = deleted.saturating_add(shorter).unwrap_or(now);
    if at < now {
        at = now;
        if period != 0 {
            period = 1;
        }
    }
    meta::set(object, "deletionTimestamp", time::format(at));
    meta::set(object, "deletionGracePeriodSeconds", period);
    Graceful::Marked(period)
}

fn later(object: &Value, now: Timestamp) -> bool {
    meta::deletion_timestamp(object).and_then(|t| time::parse(t).ok()).is_some_and(|at| at > now)
}

fn bump_generation(object: &mut Value) {
    let generation = meta::generation(object);
    if generation > 0 {
        meta::set(object, "generation", generation + 1);
    }
}

/// Puts the garbage collector's finalizers as the options, the object or the kind want them.
fn set_finalizers(call: &Call, options: &DeleteOptions, object: &mut Value) -> bool {
    let rules = &call.resource.rules;
    if !rules.garbage_collected {
        return false;
    }
    let by_object = meta::finalizers(object).find_map(|finalizer| match finalizer {
        meta::ORPHAN_FINALIZER => Some(Propagation::Orphan),
        meta::FOREGROUND_FINALIZER => Some(Propagation::Foreground),
        _ => None,
    });
    let by_options = match options.orphan_dependents {
        Some(true) => Some(Propagation::Orphan),
        Some(false) => Some(Propagation::Background),
        None => options.propagation,
    };
    let policy = by_options.or(by_object).unwrap_or(rules.default_propagation);
    let before: Vec<String> = meta::finalizers(object).map(str::to_string).collect();
    meta::remove_finalizer(object, meta::ORPHAN_FINALIZER);
    meta::remove_finalizer(object, meta::FOREGROUND_FINALIZER);
    match policy {
        Propagation::Orphan => drop(meta::add_finalizer(object, meta::ORPHAN_FINALIZER)),
        Propagation::Foreground => drop(meta::add_finalizer(object, meta::FOREGROUND_FINALIZER)),
        Propagation::Background => {}
    }
    !meta::finalizers(object).eq(before.iter().map(String::as_str))
}

fn check_preconditions(
    call: &Call,
    name: &str,
    options: &DeleteOptions,
    object: &Value,
) -> Result<(), Status> {
    let refuse = |why: String| Err(Status::conflict(&call.resource.group, &call.resource.kind, name, why));
    if let Some(asked) = &options.uid
        && asked != meta::uid(object)
    {
        return refuse(format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            meta::uid(object)
        ));
    }
    if let Some(asked) = &options.resource_version
        && asked != meta::resource_version(object)
    {
        return refuse(format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({}). The \
             object might have been modified",
            meta::resource_version(object)
        ));
    }
    Ok(())
}

/// Stores the marked object; gives its revision, or `None` when it changed in between.
async fn mark(
    call: &Call,
    key: &str,
    entry: &Entry,
    object: &mut Value,
    dry_run: bool,
) -> Result<Option<u64>, Status> {
    if dry_run {
        return Ok(Some(entry.revision));
    }
    let storage = call.storage()?;
    let bytes = match &storage.converter {
        Some(converter) if *storage.api_version != *meta::api_version(object) => {
            let mut stored = object.clone();
            converter.to_stored(&mut stored).await?;
            splice::at_rest(&stored)
        }
        _ => splice::at_rest(object),
    };
    if bytes == entry.value {
        return Ok(Some(entry.revision));
    }
    match call.store().put(key, bytes, Expect::Revision(entry.revision)).await {
        Ok(revision) => {
            meta::set(object, "resourceVersion", revision.to_string());
            Ok(Some(revision))
        }
        Err(StoreError::Conflict { .. }) => Ok(None),
        Err(error) => Err(store_failure(&error)),
    }
}

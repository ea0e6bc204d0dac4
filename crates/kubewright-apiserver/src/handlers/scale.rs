//! `/scale`: a view of an object as `autoscaling/v1` Scale, and writes through it.

use std::collections::BTreeMap;

use kubewright_machinery::field::{self, Path};
use kubewright_machinery::fieldset::{self, FieldManager, Managers};
use kubewright_machinery::meta;
use kubewright_machinery::schema::{Schema, SchemaRef, Type};
use kubewright_machinery::selector::LabelSelector;
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use super::body::{self, Expected};
use super::patch::{self, Patch};
use super::write::{Change, Writer};
use super::{Call, metadata, read_body, store_failure};
use crate::request::negotiate::Endpoint;
use crate::request::params::WriteKind;
use crate::request::{Output, WriteOptions};
use crate::resources::{RequestBody, ScaleFacts, Verb};
use crate::server::Response;

/// The replicas of a Scale whose object has none: whoever writes it back unchanged wrote nothing.
const UNSET: i64 = i32::MIN as i64;

/// A write of a Scale.
pub(super) struct Edit {
    facts: ScaleFacts,
    schema: SchemaRef,
    how: How,
}

enum How {
    Replace(Value),
    Patch(Patch),
}

/// Answers GET, PUT and PATCH.
pub(super) async fn serve(
    call: &Call,
    facts: &ScaleFacts,
    verb: Verb,
    body: RequestBody,
) -> Result<Response, Status> {
    let schema = schema();
    let expected =
        Expected { group: "autoscaling", version: "v1", kind: "Scale", schema: Some(&schema), custom: false };
    let (output, options, faults, how) = match verb {
        Verb::Get => {
            let output = output(call)?;
            let key = call.key(call.namespace(), &call.info.name)?;
            let entry = call.store().get(&key, None).await.map_err(|e| store_failure(&e))?;
            let entry = entry.ok_or_else(|| call.not_found(&call.info.name))?;
            let object = call.decode_one(&entry.value, entry.revision).await?;
            if replicas(facts, &object).is_none() {
                return Err(Status::internal(format!(
                    "the spec replicas field {} does not exist",
                    field::quote(&facts.spec_replicas)
                )));
            }
            return call.answer(200, output, shown(view(call, facts, &object)?));
        }
        Verb::Update => {
            let output = output(call)?;
            let body = read_body(body).await?;
            let options = WriteOptions::parse(&call.info.query, WriteKind::Update)?;
            let input = call.input()?;
            let scale = body::object(call, &body, &input, options.field_validation, &expected);
            let mut scale = scale.map_err(|status| undecodable(call, status))?;
            metadata::ensure_namespace(&mut scale, call.namespace())?;
            metadata::check_name(&scale, &call.info.name)?;
            (output, options, Vec::new(), How::Replace(scale))
        }
        _ => {
            let (output, options, read) = patch::read(call, body).await?;
            (output, options, read.strict, How::Patch(read.patch))
        }
    };
    let mut writer = Writer::new(call, options);
    writer.patch_faults = faults;
    let edit = Edit { facts: facts.clone(), schema: schema.clone(), how };
    let written = writer.update(Change::Scale(Box::new(edit))).await?;
    call.answer(200, output, shown(view(call, facts, &written.object)?))
}

/// What a body is refused with that is no Scale. Beside custom resources the real server cannot even say what it
/// expected.
fn undecodable(call: &Call, status: Status) -> Status {
    if !call.resource.custom || status.code != 400 {
        return status;
    }
    Status::bad_request(
        "no kind is registered for the type v1.Scale in scheme \
         \"k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go:781\"",
    )
}

/// A Scale as clients see it: without owners.
fn shown(mut scale: Value) -> Value {
    meta::remove(&mut scale, "managedFields");
    scale
}

fn output(call: &Call) -> Result<Output, Status> {
    call.output(Endpoint::Object)
}

/// What is known of the type Scale.
fn schema() -> SchemaRef {
    let node = |ty: Type| Schema { ty: Some(ty), ..Schema::default() };
    let integer = || Schema { format: Some("int32".into()), ..node(Type::Integer) };
    let object = |fields: Vec<(&str, Schema)>| Schema {
        properties: fields.into_iter().map(|(name, s)| (name.into(), s.into())).collect(),
        ..node(Type::Object)
    };
    object(vec![
        ("apiVersion", node(Type::String)),
        ("kind", node(Type::String)),
        ("metadata", Schema { preserve_unknown_fields: true, ..Schema::default() }),
        ("spec", object(vec![("replicas", integer())])),
        ("status", object(vec![("replicas", integer()), ("selector", node(Type::String))])),
    ])
    .into()
}

fn steps(path: &str) -> Vec<&str> {
    path.trim_start_matches('.').split('.').filter(|s| !s.is_empty()).collect()
}

fn at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    let steps = steps(path);
    if steps.is_empty() {
        return None;
    }
    steps.into_iter().try_fold(object, |value, step| value.get(step))
}

fn replicas_paths(call: &Call, facts: &ScaleFacts) -> BTreeMap<String, Option<fieldset::Path>> {
    BTreeMap::from([(
        call.resource.api_version(),
        Some(fieldset::Path::fields(&steps(&facts.spec_replicas))),
    )])
}

/// A LabelSelector, or the plain map of labels that ReplicationControllers select by.
fn selector(object: &Value) -> Result<LabelSelector, kubewright_machinery::selector::label::Error> {
    match object.as_object() {
        Some(labels) if !labels.is_empty() && labels.values().all(Value::is_string) => {
            let pairs = labels.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
            Ok(LabelSelector::from_labels(pairs))
        }
        _ => LabelSelector::from_value(Some(object)),
    }
}

/// The replicas wanted, where the object says so.
fn replicas(facts: &ScaleFacts, object: &Value) -> Option<i64> {
    at(object, &facts.spec_replicas).and_then(Value::as_i64)
}

/// The Scale of an object.
fn view(call: &Call, facts: &ScaleFacts, object: &Value) -> Result<Value, Status> {
    let replicas = replicas(facts, object).unwrap_or(0);
    let observed = at(object, &facts.status_replicas).and_then(Value::as_i64).unwrap_or(0);
    let selector = match at(object, &facts.selector) {
        Some(Value::String(text)) => text.clone(),
        Some(object) => selector(object).map_err(Status::internal)?.to_string(),
        None => String::new(),
    };
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta::get(object, key) {
            metadata[key] = value.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": { "replicas": observed },
    });
    if replicas != 0 {
        scale["spec"]["replicas"] = json!(replicas);
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    if let Ok(managers) = Managers::of(object) {
        fieldset::scale::to_scale(&managers, &replicas_paths(call, facts)).store(&mut scale);
    }
    Ok(scale)
}

impl Edit {
    /// The object after the write, with its managedFields.
    pub fn apply(&self, writer: &Writer<'_>, old: &Value) -> Result<Value, Status> {
        let call = writer.call;
        let mut before = view(call, &self.facts, old)?;
        if replicas(&self.facts, old).is_none() {
            before["spec"]["replicas"] = json!(UNSET);
        }
        let fields =
            FieldManager::single("autoscaling/v1", "Scale", self.schema.clone()).on_subresource("scale");
        let manager = writer.options.manager(call.user_agent());
        let update = |before: &Value, mut scale: Value| {
            if !call.resource.custom {
                return fields.update(Some(before), scale, &manager, writer.now);
            }
            // A custom resource's definition does not describe Scales, so that nobody owns the replicas after this.
            meta::remove(&mut scale, "managedFields");
            scale
        };
        let scale = match &self.how {
            How::Replace(scale) => {
                if !meta::uid(scale).is_empty() && meta::uid(scale) != meta::uid(old) {
                    return Err(call.other_uid(meta::uid(scale), meta::uid(old))?);
                }
                update(&before, scale.clone())
            }
            // A custom resource's definition does not describe Scales: nobody can own fields of one.
            How::Patch(Patch::Apply(_)) if call.resource.custom => {
                if meta::get(&before, "managedFields").is_none() {
                    let why = "failed to create manager for existing fields: failed to convert live object (/; \
                               autoscaling/v1, Kind=Scale) to proper version: request to convert CR to an invalid \
                               group/version: autoscaling/v1";
                    return Err(Status::failure(500, "", why));
                }
                let why = format!(
                    "failed to create typed patch object ({}/{}; autoscaling/v1, Kind=Scale): no corresponding type \
                     for autoscaling/v1, Kind=Scale",
                    call.namespace(),
                    call.info.name
                );
                return Err(Status::failure(500, "", why));
            }
            How::Patch(Patch::Apply(patch)) => {
                let options = &writer.options;
                fields
                    .apply(Some(&before), patch, &options.field_manager, options.force, writer.now)
                    .map_err(|e| e.to_status())?
            }
            How::Patch(patch) => {
                let expected = Expected {
                    group: "autoscaling",
                    version: "v1",
                    kind: "Scale",
                    schema: Some(&self.schema),
                    custom: false,
                };
                let scale = patch.change(writer, &before, &expected, &self.schema)?;
                update(&before, scale)
            }
        };
        metadata::check_name(&scale, &call.info.name)?;
        let replicas = at(&scale, ".spec.replicas").and_then(Value::as_i64).unwrap_or(0);
        if replicas == UNSET {
            return Err(Status::bad_request(format!(
                "the spec replicas field {} cannot be empty",
                field::quote(&self.facts.spec_replicas)
            )));
        }
        // Custom resources are judged by their schema.
        if replicas < 0 && !call.resource.custom {
            let spec = Path::new("spec");
            let error = field::Error::invalid(
                &spec.child("replicas"),
                replicas,
                "must be greater than or equal to 0",
            );
            return Err(Status::invalid("autoscaling", "Scale", &call.info.name, &[error]));
        }
        let mut object = old.clone();
        let path = steps(&self.facts.spec_replicas);
        set(&mut object, &path, json!(replicas));
        match meta::get(&scale, "resourceVersion") {
            Some(version) => meta::set(&mut object, "resourceVersion", version.clone()),
            // Custom resources allow no unconditional update, but Scales without a version mean the newest object.
            None if call.resource.custom => {}
            None => drop(meta::remove(&mut object, "resourceVersion")),
        }
        if let (Ok(owners), Ok(owners_of_scale)) = (Managers::of(old), Managers::of(&scale)) {
            let api_version = call.resource.api_version();
            let paths = replicas_paths(call, &self.facts);
            fieldset::scale::from_scale(&owners, &owners_of_scale, &paths, &api_version).store(&mut object);
        }
        Ok(object)
    }
}

fn set(object: &mut Value, path: &[&str], value: Value) {
    let mut place = object;
    for step in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*step];
    }
    *place = value;
}

//! What is no storage of objects: computed resources (reviews), subresources that do something, connections.

use std::sync::Arc;

use kubewright_machinery::meta;
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

use super::body::{self, Expected};
use super::{Call, managers, metadata, read_body};
use crate::admission::{Operation, Phase};
use crate::request::negotiate::{self, Endpoint};
use crate::request::params::WriteKind;
use crate::request::{Transform, WriteOptions};
use crate::resources::{Action, Connect, RequestBody, Verb, Virtual, WriteContext};
use crate::server::{Response, respond};
use crate::tables;

fn context<'a>(call: &'a Call, options: &'a Value, operation: Operation, dry_run: bool) -> WriteContext<'a> {
    WriteContext {
        core: &call.core,
        resource: &call.resource,
        subresource: call.subresource(),
        operation,
        namespace: call.namespace(),
        name: &call.info.name,
        user: &call.user,
        dry_run,
        options,
        now: call.core.now(),
    }
}

/// Runs all of admission over what is asked for; gives it back as plugins made it.
async fn admit(cx: &WriteContext<'_>, call: &Call, object: Value) -> Result<Value, Status> {
    call.admit_object(cx, object, None, &[Phase::Mutate, Phase::Validate]).await
}

/// A request to a computed resource.
pub(super) async fn computed(
    call: &Call,
    answers: Arc<dyn Virtual>,
    body: RequestBody,
) -> Result<Response, Status> {
    let verbs = call.resource.verbs;
    let named = call.info.has_name_in_path();
    match (call.parts.method.as_str(), named) {
        ("POST", false) if verbs.has(Verb::Create) => {
            let output = call.output(Endpoint::Plain)?;
            let input = call.input()?;
            let body = read_body(body).await?;
            let options = WriteOptions::parse(&call.info.query, WriteKind::Create)?;
            let expected = Expected::of(&call.resource);
            let mut object = body::object(call, &body, &input, options.field_validation, &expected)?;
            call.resource.default(&mut object);
            call.note_sent(&object);
            metadata::ensure_namespace(&mut object, call.namespace())?;
            let manager = options.manager(call.user_agent());
            let object = managers::update(call, None, object, &manager, call.core.now());
            let as_object = options.to_object("CreateOptions");
            let cx = context(call, &as_object, Operation::Create, options.dry_run);
            let object = admit(&cx, call, object).await?;
            let answer = answers.create(&cx, object).await?;
            Ok(respond::value(201, output, &answer))
        }
        ("GET" | "HEAD", true) if verbs.has(Verb::Get) => {
            let output = call.output(Endpoint::Object)?;
            let cx = context(call, &Value::Null, Operation::Connect, false);
            let object = answers.get(&cx).await?;
            call.answer(200, output, object)
        }
        ("GET" | "HEAD", false) if verbs.has(Verb::List) => {
            let output = call.output(Endpoint::List)?;
            let cx = context(call, &Value::Null, Operation::Connect, false);
            let objects = answers.list(&cx).await?;
            let document = match output.transform {
                Transform::Table { beta } => {
                    tables::table(&call.resource, call.table_form(beta)?, json!({}), objects, true)
                }
                Transform::PartialList { beta } => tables::partial_list(objects, json!({}), beta),
                Transform::Partial { .. } => return Err(Status::not_acceptable(&negotiate::SUPPORTED)),
                Transform::None => json!({
                    "kind": call.resource.list_kind,
                    "apiVersion": call.resource.api_version(),
                    "metadata": {},
                    "items": objects,
                }),
            };
            Ok(respond::value(200, output, &document))
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// POST on a subresource that does something.
pub(super) async fn run(call: &Call, action: Arc<dyn Action>, body: RequestBody) -> Result<Response, Status> {
    let sub = call.subresource().ok_or_else(Status::path_not_found)?;
    let output = call.output(Endpoint::Plain)?;
    let input = call.input()?;
    let body = read_body(body).await?;
    let options = WriteOptions::parse(&call.info.query, WriteKind::Create)?;
    let table = call.core.table();
    let schema = sub
        .schema
        .as_ref()
        .or_else(|| table.by_kind(&sub.group, &sub.version, &sub.kind).map(|resource| &resource.schema));
    let expected =
        Expected { group: &sub.group, version: &sub.version, kind: &sub.kind, schema, custom: false };
    let mut object = body::object(call, &body, &input, options.field_validation, &expected)?;
    call.note_sent(&object);
    metadata::ensure_namespace(&mut object, call.namespace())?;
    if meta::name(&object).is_empty() {
        meta::set(&mut object, "name", call.info.name.as_str());
    } else if !action.takes_any_name() {
        metadata::check_name(&object, &call.info.name)?;
    }
    let as_object = options.to_object("CreateOptions");
    let cx = context(call, &as_object, Operation::Create, options.dry_run);
    let object = admit(&cx, call, object).await?;
    let answer = action.run(&cx, object).await?;
    Ok(respond::value(answer.code, output, &answer.body))
}

/// A subresource that takes over the connection.
pub(super) async fn connect(
    call: &Call,
    connect: Arc<dyn Connect>,
    body: RequestBody,
) -> Result<Response, Status> {
    let sub = call.subresource().ok_or_else(Status::path_not_found)?;
    let verb = match call.parts.method.as_str() {
        "GET" | "HEAD" => Verb::Get,
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        _ => return Err(Status::method_not_allowed()),
    };
    if !sub.verbs.has(verb) {
        return Err(Status::method_not_allowed());
    }
    let path = call.info.parts.get(3..).unwrap_or_default().join("/");
    let cx = context(call, &Value::Null, Operation::Connect, false);
    if let Some(asked) = connect.options(&cx, &path, &call.info.query) {
        admit(&cx, call, asked).await?;
    }
    let request = http::Request::from_parts(call.parts.clone(), body);
    connect.connect(&cx, &path, request).await
}

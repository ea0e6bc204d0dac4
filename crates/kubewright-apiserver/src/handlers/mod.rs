//! The verbs: what happens once it is known who asks and that it may.
//!
//! [`dispatch`] finds the resource in the request's table snapshot, checks that the path and method fit it, and hands
//! a [`Call`] to one handler. Reads copy bytes; writes decode once and go through one function ([`write`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http::request::Parts;
use http_body_util::BodyExt;
use kubewright_machinery::status::{Details, Status};
use kubewright_storage::{Store, StoreError};
use parking_lot::Mutex;
use serde_json::Value;

use crate::audit::Trail;
use crate::authn::UserInfo;
use crate::request::negotiate::{self, Endpoint};
use crate::request::params::number_fault;
use crate::request::{Input, Output, RequestInfo, Transform};
use crate::resources::splice::{self, Head};
use crate::resources::{
    Backing, RequestBody, Resource, Storage, Subresource, SubresourceAction, Table, Verb,
};
use crate::server::{Core, Response, respond};
use crate::tables::{self, Include};

mod action;
mod admit;
mod body;
mod delete;
mod deletecollection;
mod get;
mod list;
mod managers;
mod metadata;
mod patch;
mod scale;
mod select;
mod watch;
mod write;

/// Limit on the body of a request, as etcd's and the real server's.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// How much of a body beyond that is read and thrown away before the answer.
const MAX_DISCARD: usize = 16 << 20;
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a read waits for a revision that has not happened yet.
const REVISION_WAIT: Duration = Duration::from_secs(3);

/// One request to one resource.
pub(crate) struct Call {
    pub core: Arc<Core>,
    pub resource: Arc<Resource>,
    /// Index into the resource's subresources.
    pub subresource: Option<usize>,
    pub info: RequestInfo,
    pub user: Arc<UserInfo>,
    pub parts: Parts,
    /// `Warning` headers of the answer, each text once.
    pub warnings: Mutex<Vec<String>>,
    /// The beginning of objects as served.
    pub head: Head,
}

/// Finds what serves the request and lets it.
pub(crate) async fn dispatch(
    core: &Arc<Core>,
    table: Arc<Table>,
    user: Arc<UserInfo>,
    info: RequestInfo,
    parts: Parts,
    body: RequestBody,
) -> Response {
    if !table.has_version(&info.group, &info.version)
        && !info.group.is_empty()
        && !table.has_group(&info.group)
    {
        return respond::not_found_text();
    }
    let (resource, subresource) = match serving(&table, &info, &parts.method) {
        Ok(found) => found,
        Err(Unserved::Unknown) => return respond::not_found_text(),
        Err(Unserved::Refused(status)) => return respond::failure(&parts.headers, &info.query, &status),
    };
    let head = Head::new(&resource.kind, &resource.api_version());
    let call = Call {
        core: Arc::clone(core),
        resource,
        subresource,
        info,
        user,
        parts,
        warnings: Mutex::default(),
        head,
    };
    if let Some(text) = &call.resource.deprecation {
        call.warn(text.to_string());
        if let Some(trail) = call.trail() {
            trail.annotate("k8s.io/deprecated", "true");
        }
    }
    let mut response = match call.route(body).await {
        Ok(response) => response,
        Err(status) => respond::failure(&call.parts.headers, &call.info.query, &status),
    };
    for warning in call.warnings.lock().iter() {
        if let Some(header) = respond::warning(warning) {
            response.headers_mut().append(http::header::WARNING, header);
        }
    }
    response
}

/// Why nothing serves a request.
enum Unserved {
    /// Nobody knows the path: definitions leave what is not theirs to a page of text.
    Unknown,
    /// The path is known, but not for this.
    Refused(Status),
}

/// The resource of a request, and the place of its subresource there.
fn serving(
    table: &Table,
    info: &RequestInfo,
    method: &Method,
) -> Result<(Arc<Resource>, Option<usize>), Unserved> {
    let not_found = || Unserved::Refused(Status::path_not_found());
    let Some(resource) = table.lookup(&info.group, &info.version, &info.resource).cloned() else {
        return Err(if table.is_defined(&info.group) { Unserved::Unknown } else { not_found() });
    };
    let subresource = |missing: &dyn Fn() -> Unserved| match &*info.subresource {
        "" => Ok(None),
        name => resource.subresources.iter().position(|s| &*s.name == name).map(Some).ok_or_else(missing),
    };
    if resource.custom {
        let everywhere = matches!(&*info.verb, "list" | "watch");
        if resource.namespaced == info.namespace.is_empty() && !(resource.namespaced && everywhere) {
            return Err(Unserved::Unknown);
        }
        let of_object =
            || Unserved::Refused(Status::not_found(&resource.group, &resource.plural, &info.name));
        let found = subresource(&of_object)?;
        return Ok((resource, found));
    }
    let found = subresource(&not_found)?;
    if resource.namespaced != info.in_namespace {
        // Namespaced collections can be read over all namespaces; everything else needs its scope.
        if info.in_namespace || info.has_name_in_path() {
            return Err(not_found());
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Unserved::Refused(Status::method_not_allowed()));
        }
    }
    Ok((resource, found))
}

impl Call {
    async fn route(&self, body: RequestBody) -> Result<Response, Status> {
        let method = &self.parts.method;
        let named = self.info.has_name_in_path();
        if let Some(sub) = self.subresource() {
            return self.route_subresource(sub, body).await;
        }
        if let Backing::Virtual(answers) = &self.resource.backing {
            // What can only be created has no path for single ones.
            if named && !self.resource.verbs.has(Verb::Get) {
                return Err(Status::path_not_found());
            }
            return action::computed(self, Arc::clone(answers), body).await;
        }
        if self.resource.custom {
            return self.route_custom(body).await;
        }
        let verbs = self.resource.verbs;
        let require = |verb: Verb| if verbs.has(verb) { Ok(()) } else { Err(Status::method_not_allowed()) };
        match (method.as_str(), named) {
            ("GET" | "HEAD", _) if self.info.watch_path => {
                require(Verb::Watch)?;
                watch::watch(self).await
            }
            ("GET" | "HEAD", true) => {
                require(Verb::Get)?;
                get::get(self).await
            }
            ("GET" | "HEAD", false) if self.info.verb == "watch" => {
                require(Verb::Watch)?;
                watch::watch(self).await
            }
            ("GET" | "HEAD", false) => {
                require(Verb::List)?;
                list::list(self).await
            }
            ("POST", false) => {
                require(Verb::Create)?;
                write::create(self, body).await
            }
            ("PUT", true) => {
                require(Verb::Update)?;
                write::replace(self, body).await
            }
            ("PATCH", true) => {
                require(Verb::Patch)?;
                patch::patch(self, body).await
            }
            ("DELETE", true) => {
                require(Verb::Delete)?;
                delete::delete(self, body).await
            }
            ("DELETE", false) => {
                require(Verb::DeleteCollection)?;
                deletecollection::delete_collection(self, body).await
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// Custom resources are served by the verb alone: a create may name an object in its path, and what has no name
    /// there is told so.
    async fn route_custom(&self, body: RequestBody) -> Result<Response, Status> {
        let named = || match &*self.info.name {
            "" => Err(Status::bad_request("name must be provided")),
            _ => Ok(()),
        };
        // Definitions have every verb; kinds of an aggregated server may not.
        if Verb::EVERY.iter().any(|verb| verb.as_str() == &*self.info.verb && !self.resource.verbs.has(*verb))
        {
            return Err(self.not_supported());
        }
        match &*self.info.verb {
            "get" => get::get(self).await,
            "list" => list::list(self).await,
            "watch" => watch::watch(self).await,
            "create" => write::create(self, body).await,
            "update" => {
                named()?;
                write::replace(self, body).await
            }
            "patch" => {
                named()?;
                patch::patch(self, body).await
            }
            "delete" => delete::delete(self, body).await,
            "deletecollection" => deletecollection::delete_collection(self, body).await,
            _ => Err(self.not_supported()),
        }
    }

    /// 405 for a method that neither the kind nor this subresource has.
    fn not_supported(&self) -> Status {
        match self.resource.custom {
            true => {
                Status::method_not_supported(&self.resource.group, &self.resource.plural, &self.info.verb)
            }
            false => Status::method_not_allowed(),
        }
    }

    async fn route_subresource(&self, sub: &Subresource, body: RequestBody) -> Result<Response, Status> {
        let method = self.parts.method.as_str();
        if let SubresourceAction::Connect(connect) = &sub.action {
            return action::connect(self, Arc::clone(connect), body).await;
        }
        // Only connections have paths below them; definitions do not look.
        if self.info.parts.len() > 3 && !self.resource.custom {
            return Err(Status::path_not_found());
        }
        let verb = match method {
            "GET" | "HEAD" => Verb::Get,
            "POST" => Verb::Create,
            "PUT" => Verb::Update,
            "PATCH" => Verb::Patch,
            _ => return Err(self.not_supported()),
        };
        if !sub.verbs.has(verb) {
            return Err(self.not_supported());
        }
        match (&sub.action, verb) {
            (SubresourceAction::Action(action), Verb::Create) => {
                action::run(self, Arc::clone(action), body).await
            }
            (SubresourceAction::Scale(facts), _) => scale::serve(self, facts, verb, body).await,
            (SubresourceAction::Update(_), Verb::Get) => get::get(self).await,
            (SubresourceAction::Update(_), Verb::Update) => write::replace(self, body).await,
            (SubresourceAction::Update(_), Verb::Patch) => patch::patch(self, body).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// The same request for something that outlives it.
    pub fn detached(&self) -> Call {
        Call {
            core: Arc::clone(&self.core),
            resource: Arc::clone(&self.resource),
            subresource: self.subresource,
            info: self.info.clone(),
            user: Arc::clone(&self.user),
            parts: self.parts.clone(),
            warnings: Mutex::default(),
            head: self.head.clone(),
        }
    }

    /// The subresource asked for.
    pub fn subresource(&self) -> Option<&Subresource> {
        self.subresource.map(|i| &self.resource.subresources[i])
    }

    /// The form of the answer that the client asks for.
    pub fn output(&self, endpoint: Endpoint) -> Result<Output, Status> {
        let negotiate = if self.resource.custom { negotiate::custom_output } else { negotiate::output };
        negotiate(&self.parts.headers, &self.info.query, endpoint)
    }

    /// How the body is written.
    pub fn input(&self) -> Result<Input, Status> {
        Input::of(&self.parts.headers, &self.core.config().body_decoders)
    }

    /// What is written down about the request, where it is audited.
    pub fn trail(&self) -> Option<&Trail> {
        self.parts.extensions.get::<Arc<Trail>>().map(|trail| &**trail)
    }

    /// Writes down what was sent, where the request is audited.
    pub fn note_sent(&self, object: &Value) {
        if let Some(trail) = self.trail() {
            trail.sent(object);
        }
    }

    /// Adds a `Warning` header, each text once.
    pub fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// How the objects are stored. Virtual resources never get here.
    pub fn storage(&self) -> Result<&Storage, Status> {
        self.resource.storage().ok_or_else(Status::method_not_allowed)
    }

    /// Where the objects are kept: the server's store, unless the kind has one of its own.
    pub fn store(&self) -> &Arc<dyn Store> {
        let own = self.resource.storage().and_then(|storage| storage.store.as_ref());
        own.unwrap_or_else(|| self.core.store())
    }

    /// The namespace of the objects: empty for cluster-scoped ones, even where the path names a namespace.
    pub fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.info.namespace } else { "" }
    }

    /// The store key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> Result<String, Status> {
        let mut key = String::from(&*self.storage()?.prefix);
        if !namespace.is_empty() {
            key.push_str(namespace);
            key.push('/');
        }
        key.push_str(name);
        Ok(key)
    }

    /// Namespace and name of a key of this resource.
    pub fn split_key<'k>(&self, key: &'k str) -> (&'k str, &'k str) {
        let rest = self.resource.storage().and_then(|s| key.strip_prefix(&*s.prefix)).unwrap_or(key);
        if self.resource.namespaced { rest.split_once('/').unwrap_or(("", rest)) } else { ("", rest) }
    }

    /// Whether bytes at rest are just what is served, but for the revision.
    pub fn is_served_form(&self, at_rest: &[u8], revision: u64) -> bool {
        let settled = self.resource.storage().map_or(0, |s| s.settled);
        revision > settled && self.head.matches(at_rest)
    }

    /// Objects at rest as values in the served version, in order.
    pub async fn decode(&self, entries: &[(&Bytes, u64)]) -> Result<Vec<Value>, Status> {
        let mut out = Vec::with_capacity(entries.len());
        let mut foreign = Vec::new();
        for (i, (bytes, revision)) in entries.iter().enumerate() {
            let object = splice::decode(bytes, *revision).map_err(Status::internal)?;
            if !self.is_served_form(bytes, *revision) {
                foreign.push(i);
            }
            out.push(object);
        }
        if let Some(converter) = self.resource.storage().and_then(|s| s.converter.as_ref())
            && !foreign.is_empty()
        {
            let mut converted: Vec<Value> = foreign.iter().map(|i| out[*i].take()).collect();
            converter.to_served(&mut converted).await?;
            for (i, object) in foreign.into_iter().zip(converted) {
                out[i] = object;
            }
        }
        Ok(out)
    }

    /// One object at rest as a value in the served version.
    pub async fn decode_one(&self, bytes: &Bytes, revision: u64) -> Result<Value, Status> {
        let mut objects = self.decode(&[(bytes, revision)]).await?;
        objects.pop().ok_or_else(|| Status::internal("the converter lost an object"))
    }

    /// 404 for this request's object.
    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, name)
    }

    /// 409 for this request's object.
    pub fn conflict(&self, name: &str, why: impl std::fmt::Display) -> Status {
        Status::conflict(&self.resource.group, &self.resource.plural, name, why)
    }

    /// 409 for an object that has another uid than the one asked for.
    pub fn other_uid(&self, asked: &str, found: &str) -> Result<Status, Status> {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
             failed: UID in precondition: {asked}, UID in object meta: {found}",
            self.key(self.namespace(), &self.info.name)?
        );
        Ok(self.conflict(&self.info.name, why))
    }

    /// The User-Agent.
    pub fn user_agent(&self) -> &str {
        let header = self.parts.headers.get(http::header::USER_AGENT);
        header.and_then(|h| h.to_str().ok()).unwrap_or_default()
    }

    /// How tables are made for this request.
    pub fn table_form(&self, beta: bool) -> Result<tables::Form, Status> {
        let include = Include::parse(self.info.query.get("includeObject"))?;
        Ok(tables::Form { beta, include, now: self.core.now() })
    }

    /// Answers with one object in the form the client asked for.
    pub fn answer(&self, code: u16, output: Output, object: Value) -> Result<Response, Status> {
        let document = match output.transform {
            Transform::None => object,
            Transform::Table { beta } => {
                let version = object["metadata"]["resourceVersion"].clone();
                let metadata = match version {
                    Value::Null => serde_json::json!({}),
                    version => serde_json::json!({ "resourceVersion": version }),
                };
                let form = self.table_form(beta)?;
                match self.subresource().map(|s| &s.action) {
                    // What is shown is another kind, with columns of its own.
                    Some(SubresourceAction::Scale(_)) => {
                        let columns = tables::scale_columns(self.resource.custom);
                        let shown = Resource { columns, ..Resource::clone(&self.resource) };
                        tables::table(&shown, form, metadata, [object], true)
                    }
                    _ => tables::table(&self.resource, form, metadata, [object], true),
                }
            }
            Transform::Partial { beta } => tables::partial(object, beta),
            Transform::PartialList { .. } if self.resource.custom => {
                return Err(Status::failure(500, "", "content is not a list"));
            }
            Transform::PartialList { .. } => {
                return Err(Status::failure(
                    406,
                    "NotAcceptable",
                    "you requested PartialObjectMetadataList, but the requested object is not a list",
                ));
            }
        };
        Ok(respond::value(code, output, &document))
    }
}

/// Reads the body, up to its limit and not for ever.
pub(crate) async fn read_body(body: RequestBody) -> Result<Bytes, Status> {
    match tokio::time::timeout(BODY_TIMEOUT, collect(body)).await {
        Ok(body) => body,
        Err(_) => Err(Status::timeout("request did not complete within the allotted timeout", 0)),
    }
}

/// Takes in what is left of a refused body, up to a limit, and throws it away: a client that is still sending when the
/// connection closes never sees the answer.
async fn discard(body: &mut RequestBody) {
    let mut left = MAX_DISCARD;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

async fn collect(body: RequestBody) -> Result<Bytes, Status> {
    let too_large = || {
        Status::failure(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {MAX_BODY}"),
        )
    };
    let mut body = body;
    if http_body::Body::size_hint(&body).lower() > MAX_BODY as u64 {
        discard(&mut body).await;
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Status::bad_request(format!("the body cannot be read: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        match (&first, &mut rest) {
            (None, _) => first = Some(data),
            (Some(head), None) => {
                let mut joined = BytesMut::with_capacity((head.len() + data.len()) * 2);
                joined.extend_from_slice(head);
                joined.extend_from_slice(&data);
                rest = Some(joined);
            }
            (Some(_), Some(joined)) => joined.extend_from_slice(&data),
        }
        if first.as_ref().map_or(0, Bytes::len).max(rest.as_ref().map_or(0, BytesMut::len)) > MAX_BODY {
            discard(&mut body).await;
            return Err(too_large());
        }
    }
    Ok(rest.map(BytesMut::freeze).or(first).unwrap_or_default())
}

/// A failure of the store that is nobody's fault.
pub(crate) fn store_failure(error: &StoreError) -> Status {
    tracing::error!(%error, source = ?std::error::Error::source(error), "the store failed");
    Status::internal(error)
}

/// 504 for a revision that has not happened.
pub(crate) fn too_large_version(asked: u64, current: u64) -> Status {
    let mut status = Status::timeout(format!("Too large resource version: {asked}, current: {current}"), 1);
    let cause = kubewright_machinery::status::Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
    details.causes.push(cause);
    status
}

/// Waits until the store has reached the revision, but not for long.
pub(crate) async fn wait_for(store: &Arc<dyn Store>, revision: u64) -> Result<(), Status> {
    let current = store.revision().await.map_err(|e| store_failure(&e))?;
    if current >= revision {
        return Ok(());
    }
    match tokio::time::timeout(REVISION_WAIT, store.wait_for(revision)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(store_failure(&error)),
        Err(_) => {
            let current = store.revision().await.map_err(|e| store_failure(&e))?;
            Err(too_large_version(revision, current))
        }
    }
}

/// What a resourceVersion that is no number is called.
pub(crate) fn parse_revision(text: &str) -> Result<u64, String> {
    match text {
        "" | "0" => Ok(0),
        text => text.parse().map_err(|error| {
            let quoted = kubewright_machinery::field::quote(text);
            let why = number_fault(&error);
            format!("resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: {why}")
        }),
    }
}

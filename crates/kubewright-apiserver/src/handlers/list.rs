//! LIST: a range of the store, copied into one document.
//!
//! A list of whole objects is written from bytes at rest, in chunks as the client reads them; nothing is parsed unless
//! a selector or a transformation asks for it.

use bytes::{BufMut, Bytes, BytesMut};
use kubewright_machinery::names;
use kubewright_machinery::status::Status;
use kubewright_storage::{Entry, Range, StoreError};
use serde_json::{Value, json};

use super::get::is_plain;
use super::select::{Selection, traits};
use super::{Call, parse_revision, store_failure, too_large_version, wait_for};
use crate::request::negotiate::Endpoint;
use crate::request::params::VersionMatch;
use crate::request::{ListOptions, Output, Token, Transform};
use crate::resources::splice::{self, Head};
use crate::server::{Response, ServerBody, respond};
use crate::tables;

/// What a list found.
pub(super) struct Listed {
    /// The objects at rest, in order of their keys.
    pub entries: Vec<Entry>,
    /// As of this revision.
    pub revision: u64,
    /// Where the next page begins.
    pub next: Option<Token>,
    /// How many follow, where that is known.
    pub remaining: Option<u64>,
}

/// Why there is no list.
pub(super) enum Refused {
    /// Any failure.
    Status(Status),
    /// The token's revision is gone; this one goes on at the newest state.
    Expired(Token),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Refused::Status(status)
    }
}

/// Answers with the list.
pub(super) async fn list(call: &Call) -> Result<Response, Status> {
    let output = call.output(Endpoint::List)?;
    let options = ListOptions::parse(&call.info.query, false)?;
    let selection = Selection::new(&call.resource, &options)?;
    let listed = match find(call, &options, &selection).await {
        Ok(listed) => listed,
        Err(Refused::Status(status)) => return Err(status),
        Err(Refused::Expired(token)) => return Ok(expired(call, &token)),
    };
    // What is stored in the one version that there is, is served as it is: no need to look at every object beforehand.
    let same = call.storage()?.converter.is_none();
    let ready = || listed.entries.iter().all(|e| call.is_served_form(&e.value, e.revision));
    if is_plain(output) && (same || ready()) {
        let metadata = metadata(call, &listed);
        return Ok(respond::with(200, respond::JSON, document(call, &metadata, listed.entries)));
    }
    let stored: Vec<(&Bytes, u64)> = listed.entries.iter().map(|e| (&e.value, e.revision)).collect();
    let objects = call.decode(&stored).await?;
    answer(call, output, &listed, objects)
}

/// Answers with a list in the form the client asked for.
pub(super) fn answer(
    call: &Call,
    output: Output,
    listed: &Listed,
    mut objects: Vec<Value>,
) -> Result<Response, Status> {
    let mut metadata = metadata(call, listed);
    if output.transform != Transform::None && metadata["continue"] == "" {
        metadata.as_object_mut().and_then(|fields| fields.remove("continue"));
    }
    let document = match output.transform {
        Transform::None => {
            if !call.resource.custom {
                for fields in objects.iter_mut().filter_map(Value::as_object_mut) {
                    fields.remove("kind");
                    fields.remove("apiVersion");
                }
            }
            json!({
                "kind": call.resource.list_kind,
                "apiVersion": call.resource.api_version(),
                "metadata": metadata,
                "items": objects,
            })
        }
        Transform::Table { beta } => {
            tables::table(&call.resource, call.table_form(beta)?, metadata, objects, true)
        }
        Transform::PartialList { beta } => tables::partial_list(objects, metadata, beta),
        Transform::Partial { .. } => {
            let mut message =
                "you requested PartialObjectMetadata, but the requested object is a list".to_string();
            if call.resource.custom {
                message.push_str(" (*unstructured.UnstructuredList)");
            }
            return Err(Status::failure(406, "NotAcceptable", message));
        }
    };
    Ok(respond::value(200, output, &document))
}

/// The metadata of the list.
pub(super) fn metadata(call: &Call, listed: &Listed) -> Value {
    let mut metadata = json!({ "resourceVersion": listed.revision.to_string() });
    if let Some(token) = &listed.next {
        metadata["continue"] = json!(token.encode());
        if let Some(remaining) = listed.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    } else if call.resource.custom {
        // Lists of custom resources write it out even when it is empty.
        metadata["continue"] = json!("");
    }
    metadata
}

/// 410 with a token that goes on at the newest state.
fn expired(call: &Call, token: &Token) -> Response {
    let status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let mut object = respond::status_object(&status);
    object["metadata"]["continue"] = json!(token.encode());
    let output = call.output(Endpoint::Plain).unwrap_or_default();
    respond::value(status.code, output, &object)
}

/// Finds the objects of a request.
pub(super) async fn find(
    call: &Call,
    options: &ListOptions,
    selection: &Selection,
) -> Result<Listed, Refused> {
    let store = call.store();
    let mut prefix = call.storage()?.prefix.to_string();
    let mut namespace = call.namespace();
    if namespace.is_empty() && call.resource.namespaced {
        let selected = selection.single_namespace().unwrap_or_default();
        if !selected.is_empty() && names::is_dns1123_label(selected).is_empty() {
            namespace = selected;
        }
    }
    if !namespace.is_empty() {
        prefix.push_str(namespace);
        prefix.push('/');
    }

    let asked = parse_revision(&options.resource_version)
        .map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
    let mut token = None;
    let mut at = None;
    if !options.continue_token.is_empty() {
        let found = Token::decode(&options.continue_token)?;
        if asked > 0 {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(message).into());
        }
        at = found.revision;
        token = Some(found);
    } else if asked > 0 {
        wait_for(call.store(), asked).await?;
        match options.version_match {
            Some(VersionMatch::Exact) => at = Some(asked),
            // A page at a revision without further words has always meant exactly that revision.
            None if options.limit > 0 => at = Some(asked),
            _ => {}
        }
    }

    if let Some(name) = selection.single_name()
        && token.is_none()
        && (!call.resource.namespaced || !namespace.is_empty())
    {
        return single(call, selection, &format!("{prefix}{name}"), name.is_empty(), at).await;
    }

    let everything = selection.is_everything();
    let mut range = Range::all(prefix.as_str());
    range.after = token.as_ref().map(|t| format!("{prefix}{}", t.after));
    let mut entries = Vec::new();
    loop {
        // With a selector more has to be looked at than is returned.
        range.limit = match (options.limit, everything) {
            (0, _) => 0,
            (limit, true) => limit,
            (limit, false) => limit.clamp(500, 10_000),
        };
        let page = match store.range(range.clone(), at).await {
            Ok(page) => page,
            Err(StoreError::Compacted { .. }) => {
                return Err(match token {
                    Some(token) => Refused::Expired(Token { revision: None, ..token }),
                    None => Status::expired("The resourceVersion for the provided list is too old.").into(),
                });
            }
            Err(StoreError::Future { current }) => {
                return Err(too_large_version(at.unwrap_or(0), current).into());
            }
            Err(error) => return Err(store_failure(&error).into()),
        };
        let revision = page.revision;
        if everything {
            let next = page
                .more
                .then(|| page.entries.last())
                .flatten()
                .map(|last| Token { revision: Some(revision), after: last.key[prefix.len()..].to_string() });
            let remaining = next.as_ref().map(|_| page.remaining);
            return Ok(Listed { entries: page.entries, revision, next, remaining });
        }
        // The following pages show the same state.
        at = Some(revision);
        let last_key = page.entries.last().map(|e| e.key.to_string());
        let count = page.entries.len();
        for (i, entry) in page.entries.into_iter().enumerate() {
            if !takes(call, selection, &entry).await? {
                continue;
            }
            let after = entry.key[prefix.len()..].to_string();
            entries.push(entry);
            if options.limit > 0 && entries.len() == options.limit && (page.more || i + 1 < count) {
                let next = Some(Token { revision: Some(revision), after });
                return Ok(Listed { entries, revision, next, remaining: None });
            }
        }
        if !page.more {
            return Ok(Listed { entries, revision, next: None, remaining: None });
        }
        range.after = last_key;
    }
}

/// A list that can hold one object at most.
async fn single(
    call: &Call,
    selection: &Selection,
    key: &str,
    nothing: bool,
    at: Option<u64>,
) -> Result<Listed, Refused> {
    let store = call.store();
    let revision = match at {
        Some(revision) => revision,
        None => store.revision().await.map_err(|e| store_failure(&e))?,
    };
    let entry = if nothing { Ok(None) } else { store.get(key, at).await };
    let entry = match entry {
        Ok(entry) => entry,
        Err(StoreError::Compacted { .. }) => {
            return Err(Status::expired("The resourceVersion for the provided list is too old.").into());
        }
        Err(error) => return Err(store_failure(&error).into()),
    };
    let mut entries = Vec::new();
    if let Some(entry) = entry
        && takes(call, selection, &entry).await?
    {
        entries.push(entry);
    }
    let revision = entries.iter().map(|e| e.revision).max().unwrap_or(0).max(revision);
    Ok(Listed { entries, revision, next: None, remaining: None })
}

/// Whether a stored object is selected.
pub(super) async fn takes(call: &Call, selection: &Selection, entry: &Entry) -> Result<bool, Status> {
    if selection.is_everything() {
        return Ok(true);
    }
    let object = match selection.is_deep() {
        true => Some(call.decode_one(&entry.value, entry.revision).await?),
        false => None,
    };
    Ok(selection.takes(&traits(call, &entry.key, &entry.value, object.as_ref())))
}

/// Up to here a list is one buffer.
const ONE_BUFFER: usize = 256 * 1024;
/// Size of the chunks of a larger list: they are still in the processor's cache when they are encrypted.
const CHUNK: usize = 64 * 1024;

fn document(call: &Call, metadata: &Value, entries: Vec<Entry>) -> ServerBody {
    let start = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
        json!(call.resource.list_kind),
        json!(call.resource.api_version()),
    );
    let size: usize = entries.iter().map(|e| call.head.copied_len(&e.value) + 1).sum();
    let mut writer = Writer {
        head: call.head.clone(),
        typed: call.resource.custom,
        entries: entries.into_iter(),
        first: true,
    };
    if size <= ONE_BUFFER {
        let mut out = BytesMut::with_capacity(start.len() + size + 8);
        out.put_slice(start.as_bytes());
        writer.fill(&mut out, usize::MAX);
        out.put_slice(b"]}\n");
        return out.freeze().into();
    }
    let mut start = Some(start);
    let mut ended = false;
    ServerBody::stream(futures::stream::poll_fn(move |_| {
        if ended {
            return std::task::Poll::Ready(None);
        }
        let mut out = BytesMut::with_capacity(CHUNK + CHUNK / 4);
        if let Some(start) = start.take() {
            out.put_slice(start.as_bytes());
        }
        if writer.fill(&mut out, CHUNK) {
            out.put_slice(b"]}\n");
            ended = true;
        }
        std::task::Poll::Ready(Some(Ok(out.freeze())))
    }))
}

/// Writes items one after the other.
struct Writer {
    head: Head,
    typed: bool,
    entries: std::vec::IntoIter<Entry>,
    first: bool,
}

impl Writer {
    /// Writes items until the buffer holds `until` bytes; true when that was the last one.
    fn fill(&mut self, out: &mut BytesMut, until: usize) -> bool {
        while out.len() < until {
            let Some(entry) = self.entries.next() else { return true };
            if !self.first {
                out.put_u8(b',');
            }
            self.first = false;
            if self.head.matches(&entry.value) {
                self.head.copy(out, &entry.value, entry.revision, self.typed);
            } else {
                out.put_slice(&self.foreign(&entry));
            }
        }
        false
    }

    /// An object that somebody else has put into the store, in another order of fields.
    fn foreign(&self, entry: &Entry) -> Vec<u8> {
        let mut object = splice::decode(&entry.value, entry.revision).unwrap_or_else(|_| json!({}));
        if let Some(fields) = object.as_object_mut().filter(|_| !self.typed) {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        object.to_string().into_bytes()
    }
}

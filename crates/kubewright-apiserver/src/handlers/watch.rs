//! WATCH: the state first where that was asked for, then every change, each as one JSON line.
//!
//! A change is encoded once, for the first watcher that needs it, and shared through the memo of the log's event.
//! Whether a watcher gets it is judged for each watcher on traits that are kept with the event. The stream is pulled by
//! the client; one that does not read falls out of the log and ends with 410.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kubewright_machinery::status::Status;
use kubewright_storage::{Entry, Event, EventKind, StoreError, Watch};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::list::{self, Refused};
use super::select::{Selection, Traits, traits};
use super::{Call, parse_revision, store_failure, wait_for};
use crate::request::negotiate::{self, Encoding, Endpoint};
use crate::request::params::VersionMatch;
use crate::request::{ListOptions, Output, Transform};
use crate::server::{Response, ServerBody, respond};
use crate::tables;

/// How often bookmarks come.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// How long before the end of a watch the last bookmark comes, so that the client can go on from there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// Answers with the stream of events.
pub(super) async fn watch(call: &Call) -> Result<Response, Status> {
    let mut output = negotiate::output(&call.parts.headers, &call.info.query, Endpoint::List)?;
    if let Transform::PartialList { .. } = output.transform {
        return Err(Status::not_acceptable(&negotiate::SUPPORTED));
    }
    output.pretty = false;
    let mut options = ListOptions::parse(&call.info.query, true)?;
    if call.info.has_name_in_path() {
        options.fields = named(&options, &call.info.name)?;
    }
    let selection = Selection::new(&call.resource, &options)?;
    let asked = parse_revision(&options.resource_version).map_err(|why| Status::failure(500, "", why))?;
    let table_form = match output.transform {
        Transform::Table { beta } => Some(call.table_form(beta)?),
        _ => None,
    };
    if output.encoding == Encoding::Yaml {
        // There are no frames in it.
        return Err(Status::not_acceptable(&negotiate::STREAMS));
    }

    let timeout = match options.timeout_seconds.and_then(|s| u64::try_from(s).ok()) {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => {
            let fraction = f64::from(u32::from_le_bytes(call.core.random())) / f64::from(u32::MAX);
            call.core.config().min_watch_timeout.mul_f64(1.0 + fraction)
        }
    };

    let mut prefix = call.storage()?.prefix.to_string();
    let namespace = match call.namespace() {
        "" if call.resource.namespaced => selection.single_namespace().unwrap_or_default(),
        namespace => namespace,
    };
    if !namespace.is_empty() {
        prefix.push_str(namespace);
        prefix.push('/');
    }

    let mut stream = Stream {
        call: call.detached(),
        selection,
        output,
        table_form,
        columns_sent: false,
        initial: VecDeque::new(),
        initial_bookmark: None,
        watch: None,
        failure: None,
        bookmarks: options.bookmarks,
        next_bookmark: next_bookmark(Instant::now(), Instant::now() + timeout),
        deadline: Instant::now() + timeout,
        publications: call.core.publications(),
        last_revision: 0,
        ended: false,
    };
    stream.publications.mark_unchanged();
    if let Err(status) = stream.start(&options, &prefix, asked).await {
        stream.failure = Some(status);
    }
    let body = futures::stream::unfold(stream, |mut stream| async move {
        let frame = stream.next().await?;
        Some((Ok(frame), stream))
    });
    Ok(respond::with(200, respond::JSON, ServerBody::stream(body)))
}

/// The field selector of a watch whose path names an object.
fn named(options: &ListOptions, name: &str) -> Result<kubewright_machinery::selector::FieldSelector, Status> {
    if options.fields.is_empty() {
        return Ok(kubewright_machinery::selector::FieldSelector::equal("metadata.name", name));
    }
    if options.fields.exact_value("metadata.name") != Some(name) {
        return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
    }
    Ok(options.fields.clone())
}

/// When the next bookmark is due.
fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let regular = now + BOOKMARK_INTERVAL;
    match deadline.checked_sub(LAST_BOOKMARK) {
        Some(last) if last < regular && last > now => last,
        _ => regular,
    }
}

/// One watcher.
struct Stream {
    call: Call,
    selection: Selection,
    output: Output,
    table_form: Option<tables::Form>,
    columns_sent: bool,
    initial: VecDeque<Entry>,
    /// Owed after the initial events: the revision they show.
    initial_bookmark: Option<u64>,
    watch: Option<Watch>,
    failure: Option<Status>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    publications: tokio::sync::watch::Receiver<u64>,
    last_revision: u64,
    ended: bool,
}

impl Stream {
    /// Finds the initial events and where to go on after them.
    async fn start(&mut self, options: &ListOptions, prefix: &str, asked: u64) -> Result<(), Status> {
        let store = Arc::clone(self.call.store());
        let after = match options.send_initial_events {
            Some(true) => {
                if asked > 0 {
                    wait_for(self.call.store(), asked).await?;
                }
                let everything = options.without_version();
                let listed = match list::find(&self.call, &everything, &self.selection).await {
                    Ok(listed) => listed,
                    Err(Refused::Status(status)) => return Err(status),
                    Err(Refused::Expired(_)) => {
                        return Err(Status::internal("a list without a token expired"));
                    }
                };
                self.initial = listed.entries.into();
                if options.wants_initial_bookmark {
                    self.initial_bookmark = Some(listed.revision);
                }
                listed.revision
            }
            _ if asked > 0 => asked,
            _ => store.revision().await.map_err(|e| store_failure(&e))?,
        };
        debug_assert!(options.version_match != Some(VersionMatch::Exact), "refused when options were read");
        self.last_revision = after;
        match store.watch(prefix, after) {
            Ok(watch) => {
                self.watch = Some(watch);
                Ok(())
            }
            Err(error) => Err(watch_failure(&error, after)),
        }
    }

    /// The next line; `None` when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(entry) = self.initial.pop_front() {
            match self.initial_frame(&entry).await {
                Ok(frame) => return Some(frame),
                Err(status) => return Some(self.end_with(&status)),
            }
        }
        if let Some(status) = self.failure.take() {
            return Some(self.end_with(&status));
        }
        if let Some(revision) = self.initial_bookmark.take() {
            return Some(self.bookmark(revision, true));
        }
        loop {
            let watch = self.watch.as_mut()?;
            let event = match watch.try_next() {
                Some(event) => Some(event),
                None => {
                    let tick =
                        if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
                    tokio::select! {
                        biased;
                        event = watch.next() => match event {
                            Some(event) => Some(event),
                            None => return None,
                        },
                        changed = self.publications.changed() => {
                            if changed.is_err() || !self.still_served() {
                                return None;
                            }
                            continue;
                        }
                        () = tokio::time::sleep_until(tick) => None,
                    }
                }
            };
            match event {
                Some(Ok(event)) => {
                    self.last_revision = event.revision;
                    match self.frame(&event).await {
                        Ok(Some(frame)) => return Some(frame),
                        Ok(None) => {}
                        Err(status) => return Some(self.end_with(&status)),
                    }
                }
                Some(Err(error)) => {
                    let status = watch_failure(&error, self.last_revision);
                    return Some(self.end_with(&status));
                }
                None if Instant::now() >= self.deadline => return None,
                None => {
                    self.next_bookmark = next_bookmark(Instant::now(), self.deadline);
                    let revision = self.watch.as_ref()?.revision();
                    return Some(self.bookmark(revision, false));
                }
            }
        }
    }

    /// Whether the resource is what it was when the watch began.
    fn still_served(&self) -> bool {
        let resource = &self.call.resource;
        let table = self.call.core.table();
        let current = table.lookup(&resource.group, &resource.version, &resource.plural);
        !self.call.core.is_stopping() && current.is_some_and(|now| Arc::ptr_eq(now, resource))
    }

    fn end_with(&mut self, status: &Status) -> Bytes {
        self.ended = true;
        self.initial.clear();
        line("ERROR", respond::status_object(status).to_string().as_bytes())
    }

    fn bookmark(&self, revision: u64, initial: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let resource = &self.call.resource;
        let object = match self.output.transform {
            Transform::Partial { beta } => tables::partial(json!({ "metadata": metadata }), beta),
            Transform::Table { beta } => {
                let object = json!({
                    "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata,
                });
                match self.table_form {
                    Some(form) => {
                        let form = tables::Form { beta, ..form };
                        let version = json!({ "resourceVersion": revision.to_string() });
                        tables::table(resource, form, version, [object], false)
                    }
                    None => object,
                }
            }
            _ => json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata }),
        };
        line("BOOKMARK", object.to_string().as_bytes())
    }

    async fn initial_frame(&mut self, entry: &Entry) -> Result<Bytes, Status> {
        if self.output.transform == Transform::None && self.call.is_served_form(&entry.value, entry.revision)
        {
            return Ok(spliced(&self.call, "ADDED", &entry.value, entry.revision));
        }
        let object = self.call.decode_one(&entry.value, entry.revision).await?;
        Ok(self.transformed("ADDED", object))
    }

    fn transformed(&mut self, kind: &str, object: Value) -> Bytes {
        let object = match (self.output.transform, self.table_form) {
            (Transform::Table { .. }, Some(form)) => {
                let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                tables::table(&self.call.resource, form, metadata, [object], columns)
            }
            (Transform::Partial { beta }, _) => tables::partial(object, beta),
            _ => object,
        };
        line(kind, object.to_string().as_bytes())
    }

    /// The line for a change, or none where it does not concern this watcher.
    async fn frame(&mut self, event: &Event) -> Result<Option<Bytes>, Status> {
        let encoded = self.encoded(event).await?;
        let (before, after) = if self.selection.is_everything() {
            (event.previous.is_some(), event.kind != EventKind::Delete)
        } else {
            let traits = self.traits(event, &encoded).await?;
            let before = traits.1.as_ref().is_some_and(|t| self.selection.takes(t));
            (before, event.kind != EventKind::Delete && self.selection.takes(&traits.0))
        };
        let change = match (before, after) {
            (false, true) => Change::Added,
            (true, true) => Change::Modified,
            (true, false) if event.kind == EventKind::Delete => Change::Deleted,
            (true, false) => Change::Left,
            (false, false) => return Ok(None),
        };
        let bytes = match change {
            Change::Left => event.previous.as_ref().unwrap_or(&event.value),
            _ => &event.value,
        };
        let converted = match change {
            Change::Left => encoded.converted.as_ref().map(|(_, previous)| previous),
            _ => encoded.converted.as_ref().map(|(value, _)| value),
        };
        if self.output.transform != Transform::None {
            let object = match converted {
                Some(object) => object.clone(),
                None => crate::resources::splice::decode(bytes, event.revision).map_err(Status::internal)?,
            };
            return Ok(Some(self.transformed(change.name(), object)));
        }
        let frame = encoded.frames[change as usize].get_or_init(|| match converted {
            Some(object) => line(change.name(), object.to_string().as_bytes()),
            None => spliced(&self.call, change.name(), bytes, event.revision),
        });
        Ok(Some(frame.clone()))
    }

    /// What is kept with the event for watchers of this version.
    async fn encoded(&self, event: &Event) -> Result<Arc<Encoded>, Status> {
        let memo = event.memo(Memo::default);
        let settled = self.call.resource.storage().map_or(0, |s| s.settled);
        let same = |variant: &&(Form, Arc<Encoded>)| {
            variant.0.settled == settled
                && *variant.0.version == *self.call.resource.version
                && *variant.0.group == *self.call.resource.group
        };
        if let Some((_, encoded)) = memo.variants.lock().iter().find(same) {
            return Ok(Arc::clone(encoded));
        }
        let served = |bytes: &Bytes, revision| self.call.is_served_form(bytes, revision);
        let written = event.previous_revision.unwrap_or(event.revision);
        let value_written = if event.kind == EventKind::Delete { written } else { event.revision };
        let ready = served(&event.value, value_written)
            && event.previous.as_ref().is_none_or(|previous| served(previous, written));
        let converted = if ready {
            None
        } else {
            let previous = event.previous.as_ref().unwrap_or(&event.value);
            let mut objects = self.call.decode(&[(&event.value, value_written), (previous, written)]).await?;
            // Both carry the revision of the change.
            for object in &mut objects {
                object["metadata"]["resourceVersion"] = json!(event.revision.to_string());
            }
            let previous = objects.pop().unwrap_or_default();
            Some((objects.pop().unwrap_or_default(), previous))
        };
        let encoded = Arc::new(Encoded { converted, frames: Default::default(), traits: OnceLock::new() });
        let form = Form {
            group: self.call.resource.group.clone(),
            version: self.call.resource.version.clone(),
            settled,
        };
        memo.variants.lock().push((form, Arc::clone(&encoded)));
        Ok(encoded)
    }

    /// What selections look at, before and after the change.
    async fn traits(
        &self,
        event: &Event,
        encoded: &Encoded,
    ) -> Result<Arc<(Traits, Option<Traits>)>, Status> {
        if let Some(kept) = encoded.traits.get() {
            return Ok(Arc::clone(kept));
        }
        let deep = !self.call.resource.strategy.selectable_fields().is_empty();
        let of = |bytes: &Bytes, converted: Option<&Value>| -> Traits {
            let decoded = match converted {
                None if deep => crate::resources::splice::decode(bytes, event.revision).ok(),
                _ => None,
            };
            traits(&self.call, &event.key, bytes, converted.or(decoded.as_ref()).filter(|_| deep))
        };
        let value = of(&event.value, encoded.converted.as_ref().map(|c| &c.0));
        let previous = event.previous.as_ref().map(|p| of(p, encoded.converted.as_ref().map(|c| &c.1)));
        Ok(Arc::clone(encoded.traits.get_or_init(|| Arc::new((value, previous)))))
    }
}

/// What becomes of an object in the eyes of one watcher.
#[derive(Clone, Copy, Debug)]
enum Change {
    Added,
    Modified,
    Deleted,
    /// It goes on, but is no longer selected.
    Left,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted | Change::Left => "DELETED",
        }
    }
}

/// What watchers keep with an event: one entry a served form.
#[derive(Default)]
struct Memo {
    variants: Mutex<Vec<(Form, Arc<Encoded>)>>,
}

/// A served form.
struct Form {
    group: Box<str>,
    version: Box<str>,
    settled: u64,
}

/// An event in one served form.
struct Encoded {
    /// The value and the one before, where they are not served as they are stored.
    converted: Option<(Value, Value)>,
    /// The line of each [`Change`].
    frames: [OnceLock<Bytes>; 4],
    traits: OnceLock<Arc<(Traits, Option<Traits>)>>,
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}

fn spliced(call: &Call, kind: &str, at_rest: &[u8], revision: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(call.head.copied_len(at_rest) + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    call.head.copy(&mut out, at_rest, revision, true);
    out.put_slice(b"}\n");
    out.freeze()
}

fn watch_failure(error: &StoreError, after: u64) -> Status {
    match error {
        StoreError::Compacted { revision } => {
            Status::expired(format!("too old resource version: {after} ({revision})"))
        }
        error => store_failure(error),
    }
}

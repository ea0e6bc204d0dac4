//! What one watcher sees of a change: whether it concerns the watcher, and the line for it.
//!
//! A change is encoded once, for the first watcher that needs it, and shared through the memo of the log's event.
//! Whether a watcher gets it is judged for each watcher on traits that are kept with the event. Nothing here waits,
//! except for the converter of objects that are not stored as they are served.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use kubewright_machinery::status::Status;
use kubewright_storage::{Entry, Event, EventKind};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::super::Call;
use super::super::select::{Selection, Traits, traits};
use crate::request::{Output, Transform};
use crate::server::respond;
use crate::tables;

/// One watcher's request: what it selects and the form it wants.
pub(super) struct View {
    pub call: Call,
    pub selection: Selection,
    pub output: Output,
    pub table_form: Option<tables::Form>,
}

impl View {
    /// The line that ends a watch.
    pub fn error(&self, status: &Status) -> Bytes {
        line("ERROR", respond::status_object(status).to_string().as_bytes())
    }

    /// The line that promises a revision; `initial` says that it ends the initial events.
    pub fn bookmark(&self, revision: u64, initial: bool) -> Bytes {
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

    /// The line for an object that is there already, or none where it has to be decoded for that.
    pub fn present(&self, entry: &Entry) -> Option<Bytes> {
        let as_it_is = self.output.transform == Transform::None
            && self.call.is_served_form(&entry.value, entry.revision);
        as_it_is.then(|| spliced(&self.call, "ADDED", &entry.value, entry.revision))
    }

    /// The line for an object that was decoded. `columns` asks for the columns of a table.
    pub fn transformed(&self, kind: &str, object: Value, columns: bool) -> Bytes {
        let object = match (self.output.transform, self.table_form) {
            (Transform::Table { .. }, Some(form)) => {
                let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                tables::table(&self.call.resource, form, metadata, [object], columns)
            }
            (Transform::Partial { beta }, _) => tables::partial(object, beta),
            _ => object,
        };
        line(kind, object.to_string().as_bytes())
    }

    /// The line for a change, or none where it does not concern this watcher.
    pub fn change(&self, event: &Event, encoded: &Encoded, columns: bool) -> Result<Option<Bytes>, Status> {
        let (before, after) = if self.selection.is_everything() {
            (event.previous.is_some(), event.kind != EventKind::Delete)
        } else {
            let traits = self.traits(event, encoded);
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
            return Ok(Some(self.transformed(change.name(), object, columns)));
        }
        let frame = encoded.frames[change as usize].get_or_init(|| match converted {
            Some(object) => line(change.name(), object.to_string().as_bytes()),
            None => spliced(&self.call, change.name(), bytes, event.revision),
        });
        Ok(Some(frame.clone()))
    }

    /// What is kept with the event for watchers of this version, unless it has to be converted first.
    pub fn encoded(&self, event: &Event) -> Option<Arc<Encoded>> {
        let memo = event.memo(Memo::default);
        if let Some((_, encoded)) = memo.variants.lock().iter().find(|(form, _)| form.is_of(&self.call)) {
            return Some(Arc::clone(encoded));
        }
        let served = |bytes: &Bytes, revision| self.call.is_served_form(bytes, revision);
        let (value_written, written) = written(event);
        let ready = served(&event.value, value_written)
            && event.previous.as_ref().is_none_or(|previous| served(previous, written));
        ready.then(|| self.keep(event, None))
    }

    /// [`View::encoded`] after a conversion.
    pub async fn convert(&self, event: &Event) -> Result<Arc<Encoded>, Status> {
        let (value_written, written) = written(event);
        let previous = event.previous.as_ref().unwrap_or(&event.value);
        let mut objects = self.call.decode(&[(&event.value, value_written), (previous, written)]).await?;
        // Both carry the revision of the change.
        for object in &mut objects {
            object["metadata"]["resourceVersion"] = json!(event.revision.to_string());
        }
        let previous = objects.pop().unwrap_or_default();
        Ok(self.keep(event, Some((objects.pop().unwrap_or_default(), previous))))
    }

    fn keep(&self, event: &Event, converted: Option<(Value, Value)>) -> Arc<Encoded> {
        let encoded = Arc::new(Encoded { converted, frames: Default::default(), traits: OnceLock::new() });
        let variant = (Form::of(&self.call), Arc::clone(&encoded));
        event.memo(Memo::default).variants.lock().push(variant);
        encoded
    }

    /// What selections look at, before and after the change.
    fn traits(&self, event: &Event, encoded: &Encoded) -> Arc<(Traits, Option<Traits>)> {
        if let Some(kept) = encoded.traits.get() {
            return Arc::clone(kept);
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
        Arc::clone(encoded.traits.get_or_init(|| Arc::new((value, previous))))
    }
}

/// The revisions that wrote an event's value and the value before.
fn written(event: &Event) -> (u64, u64) {
    let written = event.previous_revision.unwrap_or(event.revision);
    (if event.kind == EventKind::Delete { written } else { event.revision }, written)
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

impl Form {
    fn of(call: &Call) -> Self {
        Self {
            group: call.resource.group.clone(),
            version: call.resource.version.clone(),
            settled: Self::settled(call),
        }
    }

    fn is_of(&self, call: &Call) -> bool {
        self.settled == Self::settled(call)
            && *self.version == *call.resource.version
            && *self.group == *call.resource.group
    }

    fn settled(call: &Call) -> u64 {
        call.resource.storage().map_or(0, |s| s.settled)
    }
}

/// An event in one served form.
pub(super) struct Encoded {
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

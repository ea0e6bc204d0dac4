//! Events for people (events.k8s.io/v1): recorded without waiting, written by one task in the
//! background, repeated ones counted as a series in one object. A full queue drops events and says so.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::kind::{Key, Kind, Object};

/// Events waiting to be written.
const WAITING: usize = 1024;
/// Within this time the same event again is a repetition, as in client-go's recorder.
const SERIES: Duration = Duration::from_secs(6 * 60);
/// Longest note the API takes.
const NOTE: usize = 1024;

/// Something worth telling people about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    warning: bool,
    reason: String,
    action: String,
    note: String,
    related: Option<Regarding>,
    annotations: BTreeMap<String, String>,
}

impl Event {
    /// Something went as it should. The reason is one UpperCamelCase word for machines, such as `Created`,
    /// the action what was being done, such as `Create`, the note a sentence for people.
    pub fn normal(reason: &str, action: &str, note: impl Into<String>) -> Event {
        Event {
            warning: false,
            reason: reason.into(),
            action: action.into(),
            note: note.into(),
            related: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Something did not.
    pub fn warning(reason: &str, action: &str, note: impl Into<String>) -> Event {
        Event { warning: true, ..Event::normal(reason, action, note) }
    }

    /// A second object that it is about, such as the child that was made.
    #[must_use]
    pub fn related<K: Object>(mut self, object: &K) -> Event {
        self.related = Some(Regarding::of(object));
        self
    }

    /// Something to tell other programs.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: impl Into<String>) -> Event {
        self.annotations.insert(name.into(), value.into());
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Regarding {
    kind: Kind,
    key: Key,
    uid: String,
}

impl Regarding {
    fn of<K: Object>(object: &K) -> Regarding {
        let uid = object.meta().uid.clone().unwrap_or_default();
        Regarding { kind: Kind::of::<K>(), key: Key::of(object), uid }
    }

    /// As an ObjectReference.
    fn reference(&self) -> Value {
        json!({
            "apiVersion": self.kind.api_version(),
            "kind": self.kind.kind,
            "name": self.key.name(),
            "namespace": self.key.namespace().unwrap_or_default(),
            "uid": self.uid,
        })
    }
}

/// Takes events and hands them to the background task.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<(Regarding, Event)>,
}

impl Recorder {
    /// A recorder and the task that writes, which ends when the last recorder is dropped.
    pub(crate) fn new(
        client: kube::Client,
        controller: &str,
    ) -> (Recorder, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let writer = Writer {
            client,
            controller: controller.into(),
            instance: instance(controller),
            series: HashMap::new(),
        };
        (Recorder { sender }, writer.run(receiver))
    }

    pub(crate) fn record<K: Object>(&self, object: &K, event: Event) {
        if let Err(error) = self.sender.try_send((Regarding::of(object), event)) {
            tracing::warn!(%error, "an event is dropped");
        }
    }
}

fn instance(controller: &str) -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
    let mut instance = format!("{controller}-{host}");
    instance.truncate(instance.char_indices().nth(128).map_or(instance.len(), |(end, _)| end));
    instance
}

struct Series {
    name: String,
    count: u32,
    last: Instant,
}

struct Writer {
    client: kube::Client,
    controller: String,
    instance: String,
    series: HashMap<(Regarding, Event), Series>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<(Regarding, Event)>) {
        while let Some((regarding, event)) = receiver.recv().await {
            let request = self.request(regarding, event, Instant::now(), Timestamp::now());
            let sent = match request {
                Ok(request) => {
                    self.client.request_text(request).await.map(drop).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = sent {
                tracing::warn!(error, "an event can't be written");
            }
        }
    }

    /// A new event, or one more of a series.
    fn request(
        &mut self,
        regarding: Regarding,
        event: Event,
        now: Instant,
        time: Timestamp,
    ) -> Result<Request<Vec<u8>>, http::Error> {
        self.series.retain(|_, series| now.saturating_duration_since(series.last) < SERIES);
        let namespace = regarding.key.namespace().unwrap_or("default").to_owned();
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let stamp = micro(time);
        let slot = (regarding, event);
        if let Some(series) = self.series.get_mut(&slot) {
            series.count += 1;
            series.last = now;
            let patch = json!({"series": {"count": series.count, "lastObservedTime": stamp}});
            return json_request(
                http::Method::PATCH,
                &format!("{path}/{}", series.name),
                "application/merge-patch+json",
                &patch,
            );
        }
        let (regarding, event) = &slot;
        let name = format!("{}.{:x}", cut(regarding.key.name(), 200), time.as_nanosecond());
        let mut note = event.note.clone();
        note.truncate(cut(&note, NOTE).len());
        let mut body = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": stamp,
            "reportingController": self.controller,
            "reportingInstance": self.instance,
            "action": event.action,
            "reason": event.reason,
            "type": if event.warning { "Warning" } else { "Normal" },
            "note": note,
            "regarding": regarding.reference(),
        });
        if let Some(related) = &event.related {
            body["related"] = related.reference();
        }
        if !event.annotations.is_empty() {
            body["metadata"]["annotations"] = json!(event.annotations);
        }
        let request = json_request(http::Method::POST, &path, "application/json", &body);
        self.series.insert(slot, Series { name, count: 1, last: now });
        request
    }
}

fn json_request(
    method: http::Method,
    path: &str,
    content_type: &str,
    body: &Value,
) -> Result<Request<Vec<u8>>, http::Error> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, "application/json")
        .body(body.to_string().into_bytes())
}

/// The start of a text, at most so many bytes, cut between characters.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    &text[..end]
}

/// A time as MicroTime: six digits after the point.
fn micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    fn writer() -> Writer {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        Writer {
            client: kube::Client::new(service, "default"),
            controller: "op".into(),
            instance: "op-0".into(),
            series: HashMap::new(),
        }
    }

    fn regarding() -> Regarding {
        Regarding { kind: Kind::of::<Node>(), key: "n1".into(), uid: "u".into() }
    }

    #[tokio::test]
    async fn a_repeated_event_becomes_a_series_of_the_first() {
        let mut writer = writer();
        let (now, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let event = Event::warning("Failed", "Create", "it failed");
        let first = writer.request(regarding(), event.clone(), now, time).unwrap();
        assert_eq!(
            (first.method(), first.uri().path()),
            (&http::Method::POST, "/apis/events.k8s.io/v1/namespaces/default/events")
        );
        let body: Value = serde_json::from_slice(first.body()).unwrap();
        assert_eq!(
            (&body["type"], &body["eventTime"]),
            (&json!("Warning"), &json!("1970-01-01T00:00:00.000000Z"))
        );
        let second = writer.request(regarding(), event.clone(), now, time).unwrap();
        assert_eq!(second.method(), http::Method::PATCH);
        let body: Value = serde_json::from_slice(second.body()).unwrap();
        assert_eq!(body["series"]["count"], 2);
        let later = writer.request(regarding(), event, now + SERIES, time).unwrap();
        assert_eq!(later.method(), http::Method::POST);
    }

    #[tokio::test]
    async fn an_event_may_name_a_second_object_and_have_annotations() {
        let mut writer = writer();
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n2", "uid": "v"}})).unwrap();
        let event =
            Event::normal("Moved", "Move", "moved").related(&node).annotation("example.com/why", "full");
        let request = writer.request(regarding(), event, Instant::now(), Timestamp::UNIX_EPOCH).unwrap();
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let related = json!({"apiVersion": "v1", "kind": "Node", "name": "n2", "namespace": "", "uid": "v"});
        assert_eq!(body["related"], related);
        assert_eq!(body["metadata"]["annotations"], json!({"example.com/why": "full"}));
        // About another object it is another event.
        let other = Event::normal("Moved", "Move", "moved");
        let request = writer.request(regarding(), other, Instant::now(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(request.method(), http::Method::POST);
    }

    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("abc", 9), "abc");
    }
}

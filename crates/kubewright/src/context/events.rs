//! Events for people (events.k8s.io/v1): recorded without waiting, written by one task in the
//! background, repeated ones counted as a series in one object. A full queue drops events and says so.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use http::{Request, request};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::requests::json_request;
use crate::kind::{Key, Kind, Object};
use crate::{Error, Result};

/// Events waiting to be written.
const WAITING: usize = 1024;
/// Within this time the same event again is a repetition, as in client-go's recorder.
const SERIES: Duration = Duration::from_secs(6 * 60);
/// How long writing one event may take: the others wait behind it.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest note the API takes.
const NOTE: usize = 1024;

/// Something worth telling people about an object.
///
/// ```
/// use kubewright::Event;
///
/// let scaled = Event::normal("Scaled", "Scale", "from 2 to 3 replicas");
/// let failed = Event::warning("Unreachable", "Sync", "the bucket can't be reached").annotation("example.com/try", "3");
/// assert_ne!(scaled, failed);
/// ```
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
            limit: LIMIT,
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
    /// What is written, and may be repeated.
    series: HashMap<(Regarding, Event), Series>,
    limit: Duration,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<(Regarding, Event)>) {
        while let Some((regarding, event)) = receiver.recv().await {
            let (limit, slot) = (self.limit, (regarding, event));
            let writing = self.write(slot, Instant::now(), Timestamp::now());
            match tokio::time::timeout(limit, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = error.chain(), "an event can't be written"),
                Err(_) => tracing::warn!(?limit, "an event is dropped: the API server does not answer"),
            }
        }
    }

    /// Writes a new event, or one more of a series.
    async fn write(&mut self, slot: (Regarding, Event), now: Instant, time: Timestamp) -> Result<()> {
        self.series.retain(|_, series| now.saturating_duration_since(series.last) < SERIES);
        let namespace = slot.0.key.namespace().unwrap_or("default");
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        if let Some(series) = self.series.get_mut(&slot) {
            series.count += 1;
            series.last = now;
            let patch = json!({"series": {"count": series.count, "lastObservedTime": micro(time)}});
            let path = format!("{path}/{}", series.name);
            match self.send(Request::patch(path), "application/merge-patch+json", &patch).await {
                Err(error) if error.status().is_some_and(|status| status.code == 404) => {}
                sent => return sent,
            }
            // It was deleted or has expired, so this one is the first of another series.
            self.series.remove(&slot);
        }
        let name = format!("{}.{:x}", cut(slot.0.key.name(), 200), time.as_nanosecond());
        let body = self.body(&slot, namespace, &name, time);
        self.send(Request::post(path), "application/json", &body).await?;
        // Only what is there can be repeated.
        self.series.insert(slot, Series { name, count: 1, last: now });
        Ok(())
    }

    fn body(
        &self,
        (regarding, event): &(Regarding, Event),
        namespace: &str,
        name: &str,
        time: Timestamp,
    ) -> Value {
        let mut body = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": micro(time),
            "reportingController": self.controller,
            "reportingInstance": self.instance,
            "action": event.action,
            "reason": event.reason,
            "type": if event.warning { "Warning" } else { "Normal" },
            "note": cut(&event.note, NOTE),
            "regarding": regarding.reference(),
        });
        if let Some(related) = &event.related {
            body["related"] = related.reference();
        }
        if !event.annotations.is_empty() {
            body["metadata"]["annotations"] = json!(event.annotations);
        }
        body
    }

    async fn send(&self, request: request::Builder, content_type: &str, body: &Value) -> Result<()> {
        let request = json_request(request, content_type, body)?;
        self.client.request_text(request).await.map(drop).map_err(Error::from)
    }
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
    use std::collections::VecDeque;
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use k8s_openapi::api::core::v1::Node;
    use kube::client::Body;
    use parking_lot::Mutex;

    use super::*;

    /// Stands for a request that is never answered.
    const SILENCE: u16 = 0;

    /// A writer to a server that answers with these codes, in order; and what it was sent.
    fn writer(answers: &[u16]) -> (Writer, mpsc::UnboundedReceiver<(String, Value)>) {
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let (sent, receiver) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (answers, sent) = (Arc::clone(&answers), sent.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                // The test may be over.
                let _ = sent.send((
                    format!("{} {}", parts.method, parts.uri),
                    serde_json::from_slice(&body).unwrap_or_default(),
                ));
                let code = answers.lock().pop_front().unwrap();
                if code == SILENCE {
                    std::future::pending::<()>().await;
                }
                let body = json!({"kind": "Status", "status": "Failure", "code": code, "message": ""});
                let answer = http::Response::builder().status(code);
                answer.body(Body::from(body.to_string().into_bytes())).map_err(tower::BoxError::from)
            }
        });
        let writer = Writer {
            client: kube::Client::new(service, "default"),
            controller: "op".into(),
            instance: "op-0".into(),
            series: HashMap::new(),
            limit: Duration::from_millis(300),
        };
        (writer, receiver)
    }

    fn regarding() -> Regarding {
        Regarding { kind: Kind::of::<Node>(), key: "n1".into(), uid: "u".into() }
    }

    fn failed() -> (Regarding, Event) {
        (regarding(), Event::warning("Failed", "Create", "it failed"))
    }

    const PATH: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

    #[tokio::test]
    async fn a_repeated_event_becomes_a_series_of_the_first() {
        let (mut writer, mut sent) = writer(&[201, 200, 201]);
        let (now, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        for now in [now, now, now + SERIES] {
            writer.write(failed(), now, time).await.unwrap();
        }
        let (line, body) = sent.recv().await.unwrap();
        assert_eq!(line, format!("POST {PATH}"));
        assert_eq!(
            (&body["type"], &body["eventTime"]),
            (&json!("Warning"), &json!("1970-01-01T00:00:00.000000Z"))
        );
        let (line, body) = sent.recv().await.unwrap();
        assert_eq!(line, format!("PATCH {PATH}/n1.0"));
        assert_eq!(body["series"]["count"], 2);
        assert_eq!(sent.recv().await.unwrap().0, format!("POST {PATH}"));
    }

    #[tokio::test]
    async fn an_event_that_was_not_written_is_no_series_to_add_to() {
        let (mut writer, mut sent) = writer(&[500, 201, 200]);
        let (now, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        writer.write(failed(), now, time).await.unwrap_err();
        for _ in 0..2 {
            writer.write(failed(), now, time).await.unwrap();
        }
        for method in ["POST", "POST", "PATCH"] {
            assert!(sent.recv().await.unwrap().0.starts_with(method));
        }
    }

    #[tokio::test]
    async fn an_event_that_is_gone_is_written_anew() {
        let (mut writer, mut sent) = writer(&[201, 404, 201, 200]);
        let (now, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        for _ in 0..3 {
            writer.write(failed(), now, time).await.unwrap();
        }
        for method in ["POST", "PATCH", "POST", "PATCH"] {
            assert!(sent.recv().await.unwrap().0.starts_with(method));
        }
    }

    #[tokio::test]
    async fn an_event_that_is_never_answered_holds_up_no_other() {
        let (writer, mut sent) = writer(&[SILENCE, 201]);
        let (sender, receiver) = mpsc::channel(2);
        for note in ["first", "second"] {
            sender.send((regarding(), Event::normal("Made", "Make", note))).await.unwrap();
        }
        drop(sender);
        writer.run(receiver).await;
        for note in ["first", "second"] {
            assert_eq!(sent.recv().await.unwrap().1["note"], note);
        }
    }

    #[tokio::test]
    async fn an_event_may_name_a_second_object_and_have_annotations() {
        let (mut writer, mut sent) = writer(&[201, 201]);
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n2", "uid": "v"}})).unwrap();
        let event =
            Event::normal("Moved", "Move", "moved").related(&node).annotation("example.com/why", "full");
        writer.write((regarding(), event), Instant::now(), Timestamp::UNIX_EPOCH).await.unwrap();
        let (_, body) = sent.recv().await.unwrap();
        let related = json!({"apiVersion": "v1", "kind": "Node", "name": "n2", "namespace": "", "uid": "v"});
        assert_eq!(body["related"], related);
        assert_eq!(body["metadata"]["annotations"], json!({"example.com/why": "full"}));
        // About another object it is another event.
        let other = Event::normal("Moved", "Move", "moved");
        writer.write((regarding(), other), Instant::now(), Timestamp::UNIX_EPOCH).await.unwrap();
        assert!(sent.recv().await.unwrap().0.starts_with("POST"));
    }

    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("abc", 9), "abc");
    }
}

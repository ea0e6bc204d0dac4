//! Room for requests: API Priority and Fairness, and plain limits where a server has no FlowSchemas.
//!
//! A request whose sender is known comes in; a [`Seat`] comes out that is held until its answer begins, or the request is
//! refused. FlowSchemas and PriorityLevelConfigurations are read from the store and followed; each level has its share of
//! the seats for itself and lends none.

mod level;
mod schema;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use kubewright_machinery::meta;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;

use super::Limits;
use crate::authn::{MASTERS, UserInfo};
use crate::request::RequestInfo;
use crate::resources::{Reader, Snapshot};

use level::{Level, Offer, Shape};
use schema::Schema;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// No request waits longer than this for a seat, nor longer than a quarter of the time that it may take.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The level of what no schema takes, where nobody has made another one of that name.
const CATCH_ALL: &str = "catch-all";

/// A place among the requests in flight; dropped, it goes to the next.
#[derive(Debug)]
pub(crate) struct Seat {
    gate: Option<Arc<Gate>>,
    /// What the headers of the answer say.
    pub matched: Option<Matched>,
}

/// By which schema a request was classified to which level: their uids, as headers show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Matched {
    pub schema: HeaderValue,
    pub level: HeaderValue,
}

/// There is no room.
#[derive(Debug)]
pub(crate) struct NoRoom {
    pub matched: Option<Matched>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.leave();
        }
    }
}

/// All room that a server has.
pub(crate) struct Fairness {
    limits: Limits,
    reading: Arc<Gate>,
    writing: Arc<Gate>,
    compiled: Mutex<Option<Arc<Compiled>>>,
}

/// Schemas and levels, as they were at one moment.
struct Compiled {
    serials: [u64; 2],
    schemas: Vec<Schema>,
    levels: HashMap<String, Arc<Priority>>,
}

/// One priority level.
struct Priority {
    uid: HeaderValue,
    /// `None` where its requests are exempt.
    gate: Option<Arc<Gate>>,
}

impl Fairness {
    pub fn new(limits: Limits) -> Self {
        let plain = |seats| Arc::new(Gate::new(Shape { seats, queues: 0, hand: 0, length: 0 }));
        Self {
            reading: plain(limits.max_requests_in_flight),
            writing: plain(limits.max_mutating_requests_in_flight),
            compiled: Mutex::default(),
            limits,
        }
    }

    /// A seat for a request, once there is one.
    pub async fn enter(&self, reader: &Reader, user: &UserInfo, info: &RequestInfo) -> Result<Seat, NoRoom> {
        if self.limits.fairness {
            // Masters are exempt whatever else changes: they need not look for changes.
            let known = self.compiled.lock().clone().filter(|_| user.in_group(MASTERS));
            let compiled = match known {
                Some(known) => Some(known),
                None => self.compiled(reader).await,
            };
            if let Some(compiled) = compiled {
                return self.seat(&compiled, user, info).await;
            }
        }
        let is_read = matches!(&*info.verb, "get" | "list" | "watch");
        let gate = if is_read { &self.reading } else { &self.writing };
        match gate.enter(0, Duration::ZERO).await {
            true => Ok(Seat { gate: Some(Arc::clone(gate)), matched: None }),
            // Who may do everything always gets an answer.
            false if user.in_group(MASTERS) => Ok(Seat { gate: None, matched: None }),
            false => Err(NoRoom { matched: None }),
        }
    }

    async fn seat(&self, compiled: &Compiled, user: &UserInfo, info: &RequestInfo) -> Result<Seat, NoRoom> {
        let found = compiled.schemas.iter().find(|schema| schema.takes(user, info));
        let level = found.map_or(CATCH_ALL, |schema| &schema.level);
        let Some(priority) = compiled.levels.get(level) else {
            return Ok(Seat { gate: None, matched: None });
        };
        let matched = found.map(|s| Matched { schema: s.uid.clone(), level: priority.uid.clone() });
        let Some(gate) = &priority.gate else { return Ok(Seat { gate: None, matched }) };
        let flow = found.map_or(0, |schema| schema.flow(user, info));
        let wait = (self.limits.request_timeout / 4).min(MAX_WAIT);
        match gate.enter(flow, wait).await {
            true => Ok(Seat { gate: Some(Arc::clone(gate)), matched }),
            false => Err(NoRoom { matched }),
        }
    }

    /// Schemas and levels as they are now; `None` where there are none.
    async fn compiled(&self, reader: &Reader) -> Option<Arc<Compiled>> {
        let schemas = reader.snapshot(GROUP, "flowschemas").await.ok()?;
        if schemas.objects.is_empty() {
            return None;
        }
        let levels = reader.snapshot(GROUP, "prioritylevelconfigurations").await.ok()?;
        let mut kept = self.compiled.lock();
        let serials = [schemas.serial, levels.serial];
        if let Some(compiled) = kept.as_ref().filter(|compiled| compiled.serials == serials) {
            return Some(Arc::clone(compiled));
        }
        let compiled = Arc::new(self.compile(serials, &schemas, &levels, kept.as_deref()));
        *kept = Some(Arc::clone(&compiled));
        Some(compiled)
    }

    fn compile(
        &self,
        serials: [u64; 2],
        schemas: &Snapshot,
        levels: &Snapshot,
        before: Option<&Compiled>,
    ) -> Compiled {
        let shares = |object: &Value| {
            let limited = &object["spec"]["limited"]["nominalConcurrencyShares"];
            let exempt = &object["spec"]["exempt"]["nominalConcurrencyShares"];
            limited.as_u64().or_else(|| exempt.as_u64()).unwrap_or(if is_exempt(object) { 0 } else { 30 })
        };
        let total: u64 = levels.objects.values().map(|object| shares(object)).sum();
        let seats = self.limits.max_requests_in_flight + self.limits.max_mutating_requests_in_flight;
        let mut by_name = HashMap::new();
        for object in levels.objects.values() {
            let name = meta::name(object).to_string();
            let gate = (!is_exempt(object)).then(|| {
                let share = (seats as u64 * shares(object)).div_ceil(total.max(1));
                // However small its share is, a level that runs nothing would be of no use.
                let shape = shape(object, usize::try_from(share).unwrap_or(usize::MAX).max(1));
                match before.and_then(|before| before.levels.get(&name)?.gate.clone()) {
                    Some(gate) => {
                        gate.reshape(shape);
                        gate
                    }
                    None => Arc::new(Gate::new(shape)),
                }
            });
            by_name.insert(name, Arc::new(Priority { uid: uid(object), gate }));
        }
        let mut schemas: Vec<Schema> = schemas.objects.values().map(|object| Schema::read(object)).collect();
        // A schema of a level that is not there takes nothing.
        schemas.retain(|schema| by_name.contains_key(&schema.level));
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Compiled { serials, schemas, levels: by_name }
    }

    /// Level, requests that run and requests that wait, for metrics.
    pub fn counts(&self) -> Vec<(String, usize, usize)> {
        let compiled = self.compiled.lock().clone();
        let of = |(name, priority): (&String, &Arc<Priority>)| {
            let (running, waiting) = priority.gate.as_ref()?.state.lock().level.counts();
            Some((name.clone(), running, waiting))
        };
        let mut counts: Vec<_> = compiled.iter().flat_map(|c| c.levels.iter()).filter_map(of).collect();
        counts.sort();
        counts
    }
}

/// The uid of an object.
fn uid(object: &Value) -> HeaderValue {
    HeaderValue::from_str(meta::uid(object)).unwrap_or(HeaderValue::from_static(""))
}

fn is_exempt(object: &Value) -> bool {
    object["spec"]["type"] == "Exempt"
}

fn shape(object: &Value, seats: usize) -> Shape {
    let response = &object["spec"]["limited"]["limitResponse"];
    if response["type"] != "Queue" {
        return Shape { seats, queues: 0, hand: 0, length: 0 };
    }
    let number = |field: &str, default: usize| {
        let given = response["queuing"][field].as_u64().filter(|n| *n > 0);
        given.and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    };
    Shape {
        seats,
        queues: number("queues", 64).min(10_000),
        hand: number("handSize", 8),
        length: number("queueLengthLimit", 50),
    }
}

/// The door of a level.
#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    tickets: AtomicU64,
}

#[derive(Debug)]
struct State {
    level: Level,
    waiting: HashMap<u64, oneshot::Sender<()>>,
}

impl Gate {
    fn new(shape: Shape) -> Self {
        let state = State { level: Level::new(shape), waiting: HashMap::new() };
        Self { state: Mutex::new(state), tickets: AtomicU64::new(0) }
    }

    fn reshape(&self, shape: Shape) {
        let mut state = self.state.lock();
        state.level.reshape(shape);
        state.let_in();
    }

    /// Waits for a place, but not longer than this. False where there is none.
    async fn enter(&self, flow: u64, wait: Duration) -> bool {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let called = {
            let mut state = self.state.lock();
            match state.level.offer(ticket, flow) {
                Offer::Start => return true,
                Offer::Refuse => return false,
                Offer::Wait => {
                    let (call, called) = oneshot::channel();
                    state.waiting.insert(ticket, call);
                    called
                }
            }
        };
        let mut line = InLine { gate: self, ticket, in_line: true };
        // An error would mean that the gate is gone, and with it the seats.
        let came_up = tokio::time::timeout(wait, called).await.is_ok();
        // It may have come up at the last moment.
        line.in_line = false;
        came_up || !self.give_up(ticket)
    }

    fn give_up(&self, ticket: u64) -> bool {
        let mut state = self.state.lock();
        state.waiting.remove(&ticket);
        state.level.give_up(ticket)
    }

    fn leave(&self) {
        let mut state = self.state.lock();
        state.level.finish();
        state.let_in();
    }
}

impl State {
    fn let_in(&mut self) {
        while let Some(ticket) = self.level.next() {
            // Who is not there any more to hear it gives the place back when its wait is dropped.
            if let Some(call) = self.waiting.remove(&ticket) {
                let _ = call.send(());
            }
        }
    }
}

/// Somebody who waits. Dropped, they wait no longer, and a place that was given to them meanwhile is free again.
struct InLine<'g> {
    gate: &'g Gate,
    ticket: u64,
    in_line: bool,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if self.in_line && !self.gate.give_up(self.ticket) {
            self.gate.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::Method;
    use kubewright_storage::MemoryStore;
    use serde_json::json;

    use super::*;

    fn limits() -> Limits {
        Limits { max_requests_in_flight: 1, max_mutating_requests_in_flight: 1, ..Limits::default() }
    }

    fn snapshot(objects: &[Value]) -> Snapshot {
        let objects: BTreeMap<Box<str>, Arc<Value>> =
            objects.iter().map(|o| (meta::name(o).into(), Arc::new(o.clone()))).collect();
        Snapshot { serial: 1, objects: Arc::new(objects) }
    }

    fn schema(name: &str, level: &str, precedence: i64, group: &str) -> Value {
        json!({
            "metadata": {"name": name, "uid": format!("{name}-uid")},
            "spec": {
                "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [{
                    "subjects": [{"kind": "Group", "group": {"name": group}}],
                    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                }],
            },
        })
    }

    fn level(name: &str, response: Value) -> Value {
        json!({
            "metadata": {"name": name, "uid": format!("{name}-uid")},
            "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": response}},
        })
    }

    fn fairness(limits: Limits) -> (Fairness, Compiled) {
        let fairness = Fairness::new(limits);
        let exempt = json!({"metadata": {"name": "exempt", "uid": "e"}, "spec": {"type": "Exempt"}});
        let queue = json!({"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}});
        let schemas = [
            schema("masters", "exempt", 1, MASTERS),
            schema("waits", "queueing", 2, "patient"),
            schema("rest", "rejecting", 3, "*"),
            schema("dangling", "nowhere", 0, "*"),
        ];
        let levels = [exempt, level("queueing", queue), level("rejecting", json!({"type": "Reject"}))];
        let compiled = fairness.compile([1, 1], &snapshot(&schemas), &snapshot(&levels), None);
        (fairness, compiled)
    }

    fn request() -> RequestInfo {
        RequestInfo::new(&Method::GET, &"/metrics".parse().unwrap())
    }

    #[tokio::test]
    async fn a_full_level_refuses_and_other_levels_do_not_notice() {
        let (fairness, compiled) = fairness(limits());
        let (plain, master) = (UserInfo::new("a", &[]), UserInfo::new("m", &[MASTERS]));
        let first = fairness.seat(&compiled, &plain, &request()).await.unwrap();
        assert_eq!(
            first.matched,
            Some(Matched {
                schema: HeaderValue::from_static("rest-uid"),
                level: HeaderValue::from_static("rejecting-uid"),
            })
        );
        assert!(fairness.seat(&compiled, &plain, &request()).await.is_err());
        assert!(fairness.seat(&compiled, &master, &request()).await.is_ok());
        let patient = UserInfo::new("p", &["patient"]);
        assert!(fairness.seat(&compiled, &patient, &request()).await.is_ok());
        drop(first);
        assert!(fairness.seat(&compiled, &plain, &request()).await.is_ok());
    }

    #[tokio::test]
    async fn a_request_waits_for_a_seat() {
        let (fairness, compiled) = fairness(limits());
        let patient = UserInfo::new("p", &["patient"]);
        let request = request();
        let first = fairness.seat(&compiled, &patient, &request).await.unwrap();
        let mut second = Box::pin(fairness.seat(&compiled, &patient, &request));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(fairness.seat(&compiled, &patient, &request).await.is_err(), "the queue is full");
        drop(first);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn a_request_is_refused_when_no_seat_comes_in_time() {
        let (fairness, compiled) = fairness(Limits { request_timeout: Duration::ZERO, ..limits() });
        let patient = UserInfo::new("p", &["patient"]);
        let request = request();
        let first = fairness.seat(&compiled, &patient, &request).await.unwrap();
        assert!(fairness.seat(&compiled, &patient, &request).await.is_err());
        drop(first);
        assert!(fairness.seat(&compiled, &patient, &request).await.is_ok());
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_takes_no_seat_with_them() {
        let (fairness, compiled) = fairness(limits());
        let patient = UserInfo::new("p", &["patient"]);
        let request = request();
        for woken in [false, true] {
            let first = fairness.seat(&compiled, &patient, &request).await.unwrap();
            let mut second = Box::pin(fairness.seat(&compiled, &patient, &request));
            assert!(futures::poll!(&mut second).is_pending());
            if woken {
                drop(first);
                drop(second);
            } else {
                drop(second);
                drop(first);
            }
        }
        assert!(fairness.seat(&compiled, &patient, &request).await.is_ok());
    }

    #[tokio::test]
    async fn without_schemas_reads_and_writes_have_limits_of_their_own() {
        let fairness = Fairness::new(limits());
        let reader = Reader::new(Arc::new(MemoryStore::default()));
        let user = UserInfo::new("a", &[]);
        let read = request();
        let write = RequestInfo::new(&Method::POST, &"/api/v1/namespaces".parse().unwrap());
        let _one = fairness.enter(&reader, &user, &read).await.unwrap();
        assert!(fairness.enter(&reader, &user, &read).await.is_err());
        assert!(fairness.enter(&reader, &user, &write).await.is_ok());
        assert!(fairness.enter(&reader, &UserInfo::server(), &read).await.is_ok());
    }
}

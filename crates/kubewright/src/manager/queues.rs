//! What is in the queues of a manager's controllers, told to people who wonder what it is busy with: where each object
//! stands, since when, why, and how often it has failed.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::controller::Reason;
use crate::kind::Key;
use crate::queue::{Looked, SharedQueue, Stands};

/// Objects of a queue that are told; of further ones only how many there are.
const TOLD: usize = 200;

type Shared = Arc<SharedQueue<Key, Reason>>;

/// The queues, by controller.
#[derive(Default)]
pub(super) struct Queues(Mutex<Vec<(String, Shared)>>);

impl Queues {
    /// Tells of this queue too.
    pub(super) fn watch(&self, controller: &str, queue: Shared) {
        self.0.lock().push((controller.to_owned(), queue));
    }

    /// All of it, as JSON. Those that fail most come first, then those that run, are ready and wait, each for longest.
    pub(super) fn text(&self) -> String {
        let queues = self.0.lock();
        let controllers = queues.iter().map(|(controller, queue)| {
            queue.read(|queue, now| {
                let mut items: Vec<Looked<'_, Key, Reason>> = queue.look(now).collect();
                let counts = count(&items);
                items.sort_by_key(|item| {
                    (std::cmp::Reverse(item.failures), order(item.stands), item.key.clone())
                });
                let told: Vec<Value> = items.iter().take(TOLD).map(tell).collect();
                json!({
                    "controller": controller,
                    "running": counts[0], "ready": counts[1], "waiting": counts[2],
                    "objects": told, "more": items.len().saturating_sub(TOLD),
                })
            })
        });
        let whole = json!({"controllers": controllers.collect::<Vec<_>>()});
        serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
    }
}

/// How many run, are ready and wait.
fn count(items: &[Looked<'_, Key, Reason>]) -> [usize; 3] {
    let mut counts = [0; 3];
    for item in items {
        counts[usize::from(order(item.stands).0)] += 1;
    }
    counts
}

/// First what runs, then what is ready, each by how long; then what waits, by how soon.
fn order(stands: Stands) -> (u8, i128) {
    match stands {
        Stands::Running(time) => (0, -signed(time)),
        Stands::Ready(time) => (1, -signed(time)),
        Stands::Waiting(time) => (2, signed(time)),
    }
}

fn signed(time: std::time::Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

fn tell(item: &Looked<'_, Key, Reason>) -> Value {
    let (state, time) = match item.stands {
        Stands::Running(time) => ("running", time),
        Stands::Ready(time) => ("ready", time),
        Stands::Waiting(time) => ("waiting", time),
    };
    let mut told = json!({
        "object": item.key.to_string(),
        "state": state,
        "seconds": (time.as_secs_f64() * 1000.0).round() / 1000.0,
        "priority": item.priority.to_string(),
        "failures": item.failures,
        "why": item.reasons.first().iter().map(Reason::to_string).collect::<Vec<_>>(),
        "reasons": item.reasons.count(),
    });
    if let Some(tenant) = item.tenant {
        told["tenant"] = tenant.into();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Outcome, Priority, Queue};

    #[test]
    fn queues_tell_what_fails_and_what_it_waits_for() {
        let queues = Queues::default();
        let queue = Arc::new(SharedQueue::new(Queue::new(Queue::<Key, Reason>::BACKOFF)));
        queues.watch("web", Arc::clone(&queue));
        let added = |name: &str| Reason::Added("Pod".into(), Key::new("n", name));
        queue.add(Key::new("n", "bad"), Priority::LIVE, added("bad"));
        queue.try_take().unwrap();
        queue.done(&Key::new("n", "bad"), Outcome::Failed, Reason::Retried);
        for number in 0..TOLD {
            queue.add(Key::new("n", &format!("p{number}")), Priority::LIVE, added("p"));
        }
        let told: Value = serde_json::from_str(&queues.text()).unwrap();
        let web = &told["controllers"][0];
        assert_eq!(
            (&web["controller"], &web["running"], &web["more"]),
            (&json!("web"), &json!(0), &json!(1))
        );
        let bad = &web["objects"][0];
        assert_eq!((&bad["object"], &bad["failures"]), (&json!("n/bad"), &json!(1)));
        assert_eq!(bad["why"], json!(["retried"]));
        assert_eq!(web["objects"][1]["why"], json!(["Pod n/p added"]));
        assert_eq!(web["ready"].as_u64().unwrap() + web["waiting"].as_u64().unwrap(), TOLD as u64 + 1);
    }
}

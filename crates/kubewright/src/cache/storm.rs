//! A thousand watches of one server in storms, on a clock of the test's own: the server throttles everybody at once,
//! and forgets its history for everybody at once. Nobody may be lost, nothing may be missed, and nobody may return in
//! step with all others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use super::backoff::Jitter;
use super::frame::{Frame, parse};
use super::watch::{Effect, Failure, Step, Watch, WatchState};
use crate::kind::Kind;

const WATCHES: usize = 1000;
const TICK: Duration = Duration::from_millis(10);

/// One collection: its objects by name with their revisions, and what happened to them.
#[derive(Default)]
struct Collection {
    objects: BTreeMap<u8, u64>,
    history: Vec<(u64, u8, bool)>,
}

struct Server {
    revision: u64,
    /// History up to this revision is forgotten.
    forgotten: u64,
    collections: Vec<Collection>,
    /// So long, everybody is told to come back after this time.
    throttles: Option<Duration>,
}

/// One watch, and what its cache holds.
struct Client {
    watch: Watch,
    open: bool,
    cache: BTreeMap<u8, u64>,
    listing: BTreeMap<u8, u64>,
    not_before: Instant,
    lists: u32,
}

fn event(what: &str, name: u8, revision: u64) -> Frame {
    let text = format!(
        r#"{{"type":"{what}","object":{{"metadata":{{"name":"o{name}","uid":"{name}","resourceVersion":"{revision}"}}}}}}"#
    );
    parse(text.as_bytes(), &Kind::of::<Pod>()).unwrap()
}

impl Client {
    fn frame(&mut self, frame: &Frame, name: u8, now: Instant) {
        let revision = match frame {
            Frame::Put(object) => object.resource_version(),
            _ => 0,
        };
        match self.watch.frame(frame, now) {
            Effect::Put { initial: true } => {
                self.listing.insert(name, revision);
            }
            Effect::Put { initial: false } => {
                self.cache.insert(name, revision);
            }
            Effect::Delete => {
                self.cache.remove(&name);
            }
            Effect::Synced(_) => self.cache = std::mem::take(&mut self.listing),
            Effect::Close => self.open = false,
            Effect::Reached(_) | Effect::Skip => {}
        }
    }

    /// Does what the watch wants done now. Whether that was a request.
    fn step(&mut self, server: &Server, index: usize, now: Instant) -> bool {
        let step = match self.watch.step(now) {
            Step::Pause(_) => return false,
            _ if self.open => return false,
            step => step,
        };
        assert!(now >= self.not_before, "the server said when to come back");
        if let Some(after) = server.throttles {
            self.not_before = now + after;
            self.watch.fail(Failure::of_status(429, "", Some(after), false), now);
            return true;
        }
        let collection = &server.collections[index];
        self.watch.lifetime();
        match step {
            Step::Stream => {
                self.lists += 1;
                self.listing.clear();
                self.watch.opened(now);
                self.open = true;
                for (name, revision) in &collection.objects {
                    self.frame(&event("ADDED", *name, *revision), *name, now);
                }
                let end = Frame::Bookmark { resource_version: server.revision, initial_end: true };
                self.frame(&end, 0, now);
            }
            Step::Watch { from } if from < server.forgotten => {
                self.watch.fail(Failure::of_status(410, "", None, false), now);
            }
            Step::Watch { from } => {
                self.watch.opened(now);
                self.open = true;
                for (revision, name, put) in
                    collection.history.iter().filter(|(revision, ..)| *revision > from)
                {
                    self.frame(
                        &event(if *put { "MODIFIED" } else { "DELETED" }, *name, *revision),
                        *name,
                        now,
                    );
                }
            }
            Step::Probe { .. } => self.watch.probed(true),
            Step::Pause(_) | Step::List { .. } | Step::Discover => panic!("{step:?} was not to be expected"),
        }
        true
    }
}

/// Runs the storms; the requests in each tenth of a second, and the clients at the end.
fn storms(seed: u64) -> (Vec<usize>, Vec<Client>, Server) {
    let start = Instant::now();
    let mut dice = Jitter::seeded(seed);
    let mut server = Server {
        revision: 1,
        forgotten: 0,
        collections: (0..WATCHES).map(|_| Collection::default()).collect(),
        throttles: None,
    };
    let mut clients: Vec<Client> = (0..WATCHES)
        .map(|index| Client {
            watch: Watch::new(Jitter::seeded(seed ^ (index as u64 + 1) << 20)),
            open: false,
            cache: BTreeMap::new(),
            listing: BTreeMap::new(),
            not_before: start,
            lists: 0,
        })
        .collect();
    let mut requests = vec![0; 1000];
    for tick in 0..10_000u32 {
        let (now, second) = (start + TICK * tick, tick / 100);
        // From the first to the third second everybody is sent away, and once more while watches are cut off.
        server.throttles = match second {
            0..3 => Some(Duration::from_secs(10)),
            40..42 => Some(Duration::from_secs(3)),
            _ => None,
        };
        for _ in 0..5 {
            server.revision += 1;
            let index = ((dice.fraction() * WATCHES as f64) as usize).min(WATCHES - 1);
            let (name, put) = ((dice.fraction() * 4.0) as u8, dice.fraction() < 0.7);
            let (collection, client) = (&mut server.collections[index], &mut clients[index]);
            let known = match put {
                true => Some(collection.objects.insert(name, server.revision).unwrap_or_default()),
                false => collection.objects.remove(&name),
            };
            if known.is_none() {
                continue;
            }
            collection.history.push((server.revision, name, put));
            if client.open {
                client.frame(
                    &event(if put { "MODIFIED" } else { "DELETED" }, name, server.revision),
                    name,
                    now,
                );
            }
        }
        if tick == 4000 {
            for client in clients.iter_mut().filter(|client| client.open) {
                client.open = false;
                client.watch.fail(Failure::Other, now);
            }
        }
        if tick == 7000 {
            server.forgotten = server.revision;
            let gone = Frame::Error { code: 410, message: "too old resource version".into() };
            clients.iter_mut().for_each(|client| client.frame(&gone, 0, now));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            requests[(tick / 10) as usize] += usize::from(client.step(&server, index, now));
        }
    }
    (requests, clients, server)
}

#[test]
fn a_thousand_watches_that_are_throttled_and_expire_at_once_recover_and_miss_nothing() {
    let (requests, clients, server) = storms(7);
    for (client, collection) in clients.iter().zip(&server.collections) {
        assert!(client.open && matches!(client.watch.state(), WatchState::Watching { .. }));
        assert_eq!(client.cache, collection.objects);
        assert_eq!(client.watch.failures(), 0);
        // One list to begin with and one after the history was forgotten: nobody turns in circles.
        assert!(client.lists <= 3, "{} lists", client.lists);
    }
    let most =
        |from: usize, to: usize| requests[from * 10..to * 10].iter().max().copied().unwrap_or_default();
    assert_eq!(requests[0], WATCHES);
    // Sent away for 10 s, they come back over another 10 s; for 3 s, over 3 s. When all expire, over half a second.
    assert_eq!(most(1, 10), 0);
    assert!(most(10, 40) <= 60, "{}", most(10, 40));
    assert!(most(43, 70) <= 150, "{}", most(43, 70));
    assert!(most(70, 100) <= 300, "{}", most(70, 100));
}

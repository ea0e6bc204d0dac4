//! How a kind is followed, as a pure state machine: what to ask the server next, what a frame means
//! for the store, and what a failure changes. It takes `now` and never waits; the driver beside it
//! does the requests.
//!
//! ```text
//!            sendInitialEvents refused                 last page
//!  Streaming ───────────────────────────▶ Listing ─────────────────┐
//!   │    ▲ ▲                               ▲  │ next page          ▼
//!   │    │ └────────── 410, too many ──────┼──┴────────────────── Watching
//!   │    └─ failures (relist by streaming) ┘                        ▲
//!   └────────────── bookmark that ends the initial events ──────────┘
//! ```
//! Every arrow taken because of a failure goes through a pause. A watch that did not live out its time is
//! resumed only after a probe: a server that was reset or restored takes a revision it has not reached yet
//! for one to wait for, and would stay silent.

use std::time::{Duration, Instant};

use super::backoff::{Backoff, Jitter};
use super::frame::Frame;

/// Failures in a row after which a watch stops resuming and lists anew.
const RELIST_AFTER: u32 = 6;
/// The first relist after an expiry begins within this time.
const SPREAD: Duration = Duration::from_millis(500);
/// How much later than it was asked to a watch may end.
const LATE: Duration = Duration::from_secs(15);
/// Servers that send bookmarks do so about once a minute: a watch that had them and says nothing for so long is not one any
/// more, whatever its connection says.
const SILENCE: Duration = Duration::from_secs(200);
/// The longest that a server's word about when to come back is kept to: a cache that is let stand for an hour is of no use.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A stream that lived this long was healthy.
const HEALTHY: Duration = Duration::from_secs(5);

/// What is known of the kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// Nothing is, or it is stale: the initial events of a streaming list are to come.
    Streaming,
    /// The same on servers without streaming lists: pages are fetched, this one next.
    Listing {
        /// The continue token; `None` is the first page.
        next: Option<String>,
    },
    /// The server answers that there is no such resource: whether the kind is served is to be found out.
    Unserved,
    /// Everything up to a revision; changes after it are to come.
    Watching {
        /// The last revision seen.
        from: u64,
    },
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait until then.
    Pause(Instant),
    /// Begin a replacement and open a watch with sendInitialEvents.
    Stream,
    /// Fetch a page; the first begins a replacement.
    List {
        /// The continue token.
        next: Option<String>,
    },
    /// Ask for the collection's revision and one object of it, to see whether the server still is what it was.
    Probe {
        /// The last revision seen.
        from: u64,
    },
    /// Find out whether the kind is served at all.
    Discover,
    /// Open a watch after this revision.
    Watch {
        /// `resourceVersion` of the request.
        from: u64,
    },
}

/// What a frame means for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Add or replace the object; `initial` while a list is being received.
    Put {
        /// Whether it belongs to a list.
        initial: bool,
    },
    /// Remove the object.
    Delete,
    /// A revision was reached without an event.
    Reached(u64),
    /// The replacement is complete at this revision.
    Synced(u64),
    /// Nothing.
    Skip,
    /// The stream is of no use any more.
    Close,
}

/// Why a request or stream failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 410: the revision or the continue token is gone.
    Expired,
    /// The server knows no sendInitialEvents (400 or 422 to a streaming list).
    NoStreaming,
    /// The revision is newer than the server's: it was reset.
    FromTheFuture,
    /// 429 or 503 with the time to wait.
    Throttled(Duration),
    /// The server takes no shard selector: without one, at once.
    NoShards,
    /// 404: there is no such resource, or not yet, or not any more.
    NotServed,
    /// Anything else: not allowed, not reachable, cut off.
    Other,
}

/// The state machine of one watch.
#[derive(Debug)]
pub struct Watch {
    state: WatchState,
    paused_until: Option<Instant>,
    failures: u32,
    streaming: bool,
    opened: Option<Instant>,
    lifetime: Duration,
    heard: Option<Instant>,
    /// The server sends bookmarks on this watch.
    bookmarks: bool,
    suspect: bool,
    jitter: Jitter,
}

impl Watch {
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(10) };

    /// A watch that knows nothing yet.
    pub fn new(jitter: Jitter) -> Watch {
        Watch {
            state: WatchState::Streaming,
            paused_until: None,
            failures: 0,
            streaming: true,
            opened: None,
            lifetime: Duration::ZERO,
            heard: None,
            bookmarks: false,
            suspect: false,
            jitter,
        }
    }

    /// What is known.
    pub fn state(&self) -> &WatchState {
        &self.state
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How long the next watch may last, spread over 5 to 10 minutes so that watches do not return in step.
    pub fn lifetime(&mut self) -> Duration {
        self.lifetime = Duration::from_secs(300 + (self.jitter.fraction() * 300.0) as u64);
        self.lifetime
    }

    /// What to do next.
    pub fn step(&mut self, now: Instant) -> Step {
        if let Some(until) = self.paused_until {
            if now < until {
                return Step::Pause(until);
            }
            self.paused_until = None;
        }
        match &self.state {
            WatchState::Streaming => Step::Stream,
            WatchState::Listing { next } => Step::List { next: next.clone() },
            WatchState::Unserved => Step::Discover,
            WatchState::Watching { from } if self.suspect => Step::Probe { from: *from },
            WatchState::Watching { from } => Step::Watch { from: *from },
        }
    }

    /// Discovery was asked: whether the kind is served, if that could be learnt. If it is not, the driver comes back
    /// with `Some(true)` once it is.
    pub fn discovered(&mut self, served: Option<bool>, waited: bool, now: Instant) {
        if waited {
            self.failures = 0;
        }
        if served == Some(true) {
            self.relist();
        } else {
            self.failures = self.failures.saturating_add(1);
            self.paused_until = Some(now + Self::BACKOFF.jittered(self.failures, &mut self.jitter));
        }
    }

    /// The probe was answered: whether the server may be what it was.
    pub fn probed(&mut self, same: bool) {
        self.suspect = false;
        if !same {
            self.relist();
        }
    }

    /// The server accepted the watch.
    pub fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
        self.heard = Some(now);
        self.bookmarks = false;
    }

    /// When the open watch is to be given up unless something comes before.
    pub fn deadline(&self, now: Instant) -> Instant {
        let end = self.opened.unwrap_or(now) + self.lifetime + LATE;
        match self.heard {
            Some(heard) if self.bookmarks => end.min(heard + SILENCE),
            _ => end,
        }
    }

    /// The [`deadline`](Self::deadline) has passed.
    pub fn overdue(&mut self, now: Instant) {
        let outlived = self.opened.is_some_and(|opened| now >= opened + self.lifetime);
        let endless = self.state == WatchState::Streaming && outlived;
        self.fail(if endless { Failure::NoStreaming } else { Failure::Other }, now);
    }

    /// A frame arrived.
    pub fn frame(&mut self, frame: &Frame, now: Instant) -> Effect {
        let initial = self.state == WatchState::Streaming;
        self.heard = Some(now);
        if self.opened.is_some_and(|opened| now.saturating_duration_since(opened) >= HEALTHY) {
            self.failures = 0;
        }
        match frame {
            Frame::Put(object) => {
                self.advance(object.resource_version());
                Effect::Put { initial }
            }
            Frame::Delete(object) => {
                self.advance(object.resource_version());
                Effect::Delete
            }
            Frame::Bookmark { resource_version, initial_end } => {
                self.bookmarks |= !initial_end;
                if initial && !initial_end {
                    return Effect::Skip;
                }
                self.state = WatchState::Watching { from: *resource_version };
                if initial { Effect::Synced(*resource_version) } else { Effect::Reached(*resource_version) }
            }
            Frame::Error { code, message } => {
                self.fail(Failure::of_status(*code, message, None, initial), now);
                Effect::Close
            }
            Frame::Undecodable(_) => Effect::Skip,
        }
    }

    fn advance(&mut self, version: u64) {
        if let WatchState::Watching { from } = &mut self.state {
            *from = version.max(*from);
            self.failures = 0;
        }
    }

    /// A page arrived: its revision and the token of the next one. `Some` when it was the last.
    pub fn page(&mut self, version: u64, next: Option<String>) -> Option<u64> {
        match next {
            Some(token) => {
                self.state = WatchState::Listing { next: Some(token) };
                None
            }
            None => {
                self.state = WatchState::Watching { from: version };
                Some(version)
            }
        }
    }

    /// The stream ended in good order.
    pub fn ended(&mut self, now: Instant) {
        let lived = self.opened.take().map_or(Duration::ZERO, |opened| now.saturating_duration_since(opened));
        let on_time = lived + Duration::from_secs(1) >= self.lifetime;
        if matches!(self.state, WatchState::Watching { .. }) && lived >= HEALTHY {
            self.failures = 0;
            self.suspect = !on_time;
        } else if self.state == WatchState::Streaming && on_time && lived >= HEALTHY {
            // It takes the parameter and knows nothing of it.
            self.fail(Failure::NoStreaming, now);
        } else if self.paused_until.is_none() {
            self.fail(Failure::Other, now);
        }
    }

    /// A request or stream failed.
    pub fn fail(&mut self, failure: Failure, now: Instant) {
        self.opened = None;
        self.suspect = true;
        if failure == Failure::NoStreaming && self.streaming {
            self.streaming = false;
            self.relist();
            return;
        }
        if failure == Failure::NoShards {
            return self.relist();
        }
        let first = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        let mut pause = Self::BACKOFF.jittered(self.failures, &mut self.jitter);
        match failure {
            Failure::Expired => {
                self.relist();
                // All watches of a server may expire at once: they do not all return at once.
                if first {
                    pause = SPREAD.mul_f64(self.jitter.fraction());
                }
            }
            Failure::FromTheFuture => self.relist(),
            Failure::NotServed => {
                self.state = WatchState::Unserved;
                if first {
                    return;
                }
            }
            // No sooner than the server says, within reason, and not in step with all others that it says so to.
            Failure::Throttled(wait) => {
                let wait = wait.min(LONGEST_WAIT);
                pause = wait + pause.max(wait.mul_f64(self.jitter.fraction()));
            }
            Failure::NoStreaming | Failure::NoShards | Failure::Other => {}
        }
        let listing = matches!(self.state, WatchState::Listing { .. });
        if listing || (failure != Failure::NotServed && self.failures.is_multiple_of(RELIST_AFTER)) {
            self.relist();
        }
        self.paused_until = Some(now + pause);
    }

    fn relist(&mut self) {
        self.suspect = false;
        self.state = if self.streaming { WatchState::Streaming } else { WatchState::Listing { next: None } };
    }
}

impl Failure {
    /// What a Status of the server means; `streaming` when it answers a streaming list.
    pub fn of_status(code: u16, message: &str, retry_after: Option<Duration>, streaming: bool) -> Failure {
        match code {
            410 => Failure::Expired,
            404 => Failure::NotServed,
            400 | 422 if streaming => Failure::NoStreaming,
            504 | 500 if message.contains("Too large resource version") => Failure::FromTheFuture,
            429 | 503 => Failure::Throttled(retry_after.unwrap_or(Duration::ZERO)),
            _ => Failure::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::cache::frame;
    use crate::kind::Kind;

    fn frame(text: &str) -> Frame {
        frame::parse(text.as_bytes(), &Kind::of::<Pod>()).unwrap()
    }

    fn put(version: u64) -> Frame {
        frame(&format!(
            r#"{{"type":"ADDED","object":{{"metadata":{{"name":"a","resourceVersion":"{version}"}}}}}}"#
        ))
    }

    fn bookmark(version: u64, initial_end: bool) -> Frame {
        Frame::Bookmark { resource_version: version, initial_end }
    }

    fn synced(now: Instant) -> Watch {
        let mut watch = Watch::new(Jitter::seeded(1));
        watch.opened(now);
        watch.frame(&bookmark(10, true), now);
        watch
    }

    #[test]
    fn initial_events_end_with_their_bookmark_and_the_watch_goes_on() {
        let now = Instant::now();
        let mut watch = Watch::new(Jitter::seeded(1));
        assert_eq!(watch.step(now), Step::Stream);
        watch.opened(now);
        assert_eq!(watch.frame(&put(3), now), Effect::Put { initial: true });
        assert_eq!(watch.frame(&bookmark(4, false), now), Effect::Skip);
        assert_eq!(watch.frame(&bookmark(10, true), now), Effect::Synced(10));
        assert_eq!(watch.frame(&put(11), now), Effect::Put { initial: false });
        assert_eq!(watch.frame(&bookmark(15, false), now), Effect::Reached(15));
        let lifetime = watch.lifetime();
        watch.ended(now + lifetime);
        assert_eq!(watch.step(now), Step::Watch { from: 15 });
    }

    #[test]
    fn a_watch_that_had_bookmarks_and_falls_silent_is_given_up_and_probed() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut watch = synced(now);
        let lifetime = watch.lifetime();
        watch.opened(now);
        // Without a bookmark nothing is known of when to expect one.
        assert_eq!(watch.deadline(later(1)), now + lifetime + LATE);
        watch.frame(&bookmark(20, false), later(60));
        assert_eq!(watch.deadline(later(61)), later(60) + SILENCE);
        watch.frame(&put(21), later(100));
        assert_eq!(watch.deadline(later(101)), later(100) + SILENCE);
        watch.overdue(later(300));
        assert!(matches!(watch.step(later(300)), Step::Pause(_)));
        assert_eq!(watch.step(later(310)), Step::Probe { from: 21 });
    }

    #[test]
    fn a_server_that_never_ends_the_initial_events_is_listed_in_pages() {
        let now = Instant::now();
        let streaming = || {
            let mut watch = Watch::new(Jitter::seeded(1));
            let end = now + watch.lifetime();
            watch.opened(now);
            watch.frame(&put(3), now);
            (watch, end)
        };
        let (mut ended, end) = streaming();
        ended.ended(end);
        assert_eq!(ended.step(end), Step::List { next: None });
        let (mut outlived, end) = streaming();
        outlived.overdue(end + LATE);
        assert_eq!(outlived.step(end + LATE), Step::List { next: None });
        // One that was cut off before says nothing of the kind.
        let (mut cut, _) = streaming();
        cut.ended(now + Duration::from_secs(20));
        assert_eq!(cut.step(now + Duration::from_secs(60)), Step::Stream);
    }

    #[test]
    fn a_server_without_streaming_lists_is_listed_in_pages() {
        let now = Instant::now();
        let mut watch = Watch::new(Jitter::seeded(1));
        watch.fail(Failure::of_status(422, "sendInitialEvents is forbidden", None, true), now);
        assert_eq!(watch.step(now), Step::List { next: None });
        assert_eq!(watch.page(7, Some("t".into())), None);
        assert_eq!(watch.step(now), Step::List { next: Some("t".into()) });
        assert_eq!(watch.page(7, None), Some(7));
        assert_eq!(watch.step(now), Step::Watch { from: 7 });
        watch.fail(Failure::Expired, now);
        assert_eq!(watch.step(now + SPREAD), Step::List { next: None });
    }

    #[test]
    fn a_page_whose_token_expired_starts_the_list_over() {
        let now = Instant::now();
        let mut watch = Watch::new(Jitter::seeded(1));
        watch.fail(Failure::NoStreaming, now);
        watch.page(7, Some("t".into()));
        watch.fail(Failure::Expired, now);
        assert_eq!(watch.state(), &WatchState::Listing { next: None });
    }

    #[test]
    fn expiry_relists_soon_and_then_ever_more_slowly() {
        let now = Instant::now();
        let mut watch = synced(now);
        let gone = frame(r#"{"type":"ERROR","object":{"code":410,"message":"too old resource version"}}"#);
        assert_eq!(watch.frame(&gone, now), Effect::Close);
        let now = now + SPREAD;
        assert_eq!(watch.step(now), Step::Stream);
        watch.opened(now);
        watch.frame(&bookmark(12, true), now);
        watch.frame(&gone, now);
        assert!(matches!(watch.step(now), Step::Pause(until) if until > now));
        watch.ended(now);
        let later = now + Duration::from_secs(20);
        assert_eq!(watch.step(later), Step::Stream);
    }

    #[test]
    fn a_lost_connection_resumes_where_it_was_and_relists_when_that_fails_for_long() {
        let now = Instant::now();
        let mut watch = synced(now);
        let mut delays = Vec::new();
        let mut time = now;
        for _ in 1..RELIST_AFTER {
            watch.fail(Failure::Other, time);
            let Step::Pause(until) = watch.step(time) else { panic!("no pause") };
            delays.push(until - time);
            time = until;
            assert_eq!(watch.step(time), Step::Probe { from: 10 });
            watch.probed(true);
            assert_eq!(watch.step(time), Step::Watch { from: 10 });
        }
        assert!(delays[4] > delays[0] * 4, "{delays:?}");
        watch.fail(Failure::Other, time);
        assert_eq!(watch.state(), &WatchState::Streaming);
    }

    #[test]
    fn a_server_that_was_reset_is_listed_anew() {
        let now = Instant::now();
        let mut watch = synced(now);
        watch.fail(Failure::of_status(504, "Too large resource version: 10, current: 3", None, false), now);
        assert_eq!(watch.state(), &WatchState::Streaming);
    }

    #[test]
    fn a_watch_cut_short_is_resumed_only_on_a_server_that_is_what_it_was() {
        let now = Instant::now();
        let mut watch = synced(now);
        let lifetime = watch.lifetime();
        watch.ended(now + lifetime / 2);
        assert_eq!(watch.step(now), Step::Probe { from: 10 });
        watch.fail(Failure::Other, now);
        let later = now + Duration::from_secs(30);
        assert_eq!(watch.step(later), Step::Probe { from: 10 });
        watch.probed(false);
        assert_eq!(watch.step(later), Step::Stream);
    }

    #[test]
    fn throttling_waits_at_least_as_long_as_the_server_says() {
        let now = Instant::now();
        let mut watch = synced(now);
        watch.fail(Failure::of_status(429, "", Some(Duration::from_secs(7)), false), now);
        let Step::Pause(until) = watch.step(now) else { panic!("no pause") };
        assert!((7.0..=14.0).contains(&(until - now).as_secs_f64()), "{:?}", until - now);
    }

    #[test]
    fn a_resource_that_is_not_there_is_asked_for_in_discovery_rather_than_again() {
        let now = Instant::now();
        let mut watch = synced(now);
        watch.fail(Failure::of_status(404, "404 page not found", None, false), now);
        assert_eq!(watch.step(now), Step::Discover);
        // Nobody knows: later.
        watch.discovered(None, false, now);
        assert!(matches!(watch.step(now), Step::Pause(_)));
        let later = now + Duration::from_secs(1);
        assert_eq!(watch.step(later), Step::Discover);
        watch.discovered(Some(true), true, later);
        assert_eq!((watch.step(later), watch.failures()), (Step::Stream, 0));
        // Discovery that is ahead of what serves makes no loop.
        watch.fail(Failure::NotServed, later);
        watch.discovered(Some(true), false, later);
        assert_eq!(watch.step(later), Step::Stream);
        watch.fail(Failure::NotServed, later);
        assert!(matches!(watch.step(later), Step::Pause(_)));
    }

    #[test]
    fn a_server_that_takes_no_shard_selector_is_asked_without() {
        let now = Instant::now();
        let mut watch = synced(now);
        watch.fail(Failure::NoShards, now);
        assert_eq!((watch.step(now), watch.failures()), (Step::Stream, 0));
    }

    #[test]
    fn a_stream_that_ends_at_once_is_not_reopened_in_a_loop() {
        let now = Instant::now();
        let mut watch = synced(now);
        watch.ended(now);
        assert!(matches!(watch.step(now), Step::Pause(_)));
    }

    #[test]
    fn an_undecodable_object_changes_nothing() {
        let now = Instant::now();
        let mut watch = synced(now);
        let bad = frame(r#"{"type":"ADDED","object":{"metadata":{}}}"#);
        assert_eq!(watch.frame(&bad, now), Effect::Skip);
        assert_eq!(watch.step(now), Step::Watch { from: 10 });
    }
}

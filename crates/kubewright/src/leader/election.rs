//! Leader election on one Lease, as a pure state machine: the caller gives both clocks and the jitter,
//! sends what [`Election::step`] says and hands the answer back. Others' clocks are never trusted: a Lease has
//! expired when it has not changed for its duration on the local clock. Nothing here sends or sleeps.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::cache::Jitter;
use crate::lease::{LeaseTiming, Moment, duration, holder};

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing until then.
    Wait(Instant),
    /// Read the Lease.
    Read,
    /// Make the Lease.
    Create(Box<Lease>),
    /// Replace the Lease, if it still has this revision.
    Update(Box<Lease>),
}

/// How it went.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// The Lease as it is.
    Found(Box<Lease>),
    /// There is no Lease.
    Missing,
    /// The Lease as it was written.
    Written(Box<Lease>),
    /// Somebody else was faster.
    Conflict,
    /// Refused, lost, or too late.
    Failed,
}

/// A Lease and when it was first seen to look like this.
struct Seen {
    lease: Lease,
    at: Instant,
}

/// The election as one candidate sees it.
pub(crate) struct Election {
    namespace: String,
    name: String,
    identity: String,
    labels: BTreeMap<String, String>,
    timing: LeaseTiming,
    seen: Option<Seen>,
    /// The last accepted renewal, by the time it was sent.
    renewed: Option<Moment>,
    sent: Option<Moment>,
    due: Instant,
    /// The Lease must be read before it can be written.
    must_read: bool,
    missing: bool,
    /// The last write lost a race; one more is worth trying at once, a third one isn't.
    rushed: bool,
    contact: Option<Instant>,
}

impl Election {
    pub(crate) fn new(
        namespace: &str,
        name: &str,
        identity: &str,
        timing: LeaseTiming,
        now: Instant,
    ) -> Election {
        Election {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            labels: BTreeMap::new(),
            timing,
            seen: None,
            renewed: None,
            sent: None,
            due: now,
            must_read: true,
            missing: false,
            rushed: false,
            contact: None,
        }
    }

    /// The same, which puts labels on the Lease that it holds.
    pub(crate) fn labelled(mut self, labels: BTreeMap<String, String>) -> Election {
        self.labels = labels;
        self
    }

    /// The Lease's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Until when this candidate certainly holds the Lease; `None` when it does not lead.
    pub(crate) fn until(&self) -> Option<Moment> {
        self.renewed.map(|sent| sent.after(self.timing.renew_deadline))
    }

    pub(crate) fn leads(&self, now: Moment) -> bool {
        self.until().is_some_and(|until| !until.is_over(now))
    }

    /// When the server last answered anything.
    pub(crate) fn contact(&self) -> Option<Instant> {
        self.contact
    }

    /// Who holds the Lease, as it was last seen.
    pub(crate) fn holder(&self) -> &str {
        self.seen.as_ref().map_or("", |seen| holder(&seen.lease))
    }

    /// What to do now. Send what it says at once: the time of this call is what a renewal counts from.
    pub(crate) fn step(&mut self, now: Moment) -> Step {
        if self.renewed.is_some() && !self.leads(now) {
            self.renewed = None;
            self.must_read = true;
            self.due = now.monotonic;
        }
        if now.monotonic < self.due {
            let until = self.until().map_or(self.due, |until| until.monotonic);
            return Step::Wait(self.due.min(until));
        }
        self.sent = Some(now);
        let time = Timestamp::try_from(now.wall).unwrap_or(Timestamp::UNIX_EPOCH);
        if self.must_read {
            return Step::Read;
        }
        match &self.seen {
            Some(seen) => Step::Update(Box::new(self.claim(&seen.lease, time))),
            None if self.missing => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(self.name.clone());
                lease.metadata.namespace = Some(self.namespace.clone());
                Step::Create(Box::new(self.claim(&lease, time)))
            }
            None => Step::Read,
        }
    }

    /// The Lease with this candidate as its holder.
    fn claim(&self, lease: &Lease, time: Timestamp) -> Lease {
        let mut lease = lease.clone();
        if !self.labels.is_empty() {
            lease.metadata.labels.get_or_insert_default().extend(self.labels.clone());
        }
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            let fresh = spec.holder_identity.is_none() && spec.acquire_time.is_none();
            spec.lease_transitions =
                Some(spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(!fresh)));
            spec.acquire_time = Some(MicroTime(time));
            spec.holder_identity = Some(self.identity.clone());
        }
        spec.lease_duration_seconds = Some(self.timing.seconds());
        spec.renew_time = Some(MicroTime(time));
        lease
    }

    /// The answer to the last step arrived.
    pub(crate) fn answered(&mut self, answer: Answer, now: Moment, jitter: &mut Jitter) {
        if answer != Answer::Failed {
            self.contact = Some(now.monotonic);
        }
        self.missing = false;
        match answer {
            Answer::Found(lease) => {
                self.observe(*lease, now.monotonic);
                if self.may_take(now.monotonic) {
                    self.must_read = false;
                    self.due = now.monotonic;
                } else {
                    self.renewed = None;
                    self.stand_by(now.monotonic, jitter);
                }
            }
            Answer::Missing => {
                self.seen = None;
                self.missing = true;
                self.must_read = false;
                self.due = now.monotonic;
            }
            Answer::Written(lease) => {
                self.renewed = self.sent;
                self.observe(*lease, now.monotonic);
                (self.must_read, self.rushed) = (false, false);
                self.due = self.sent.map_or(now.monotonic, |sent| sent.monotonic) + self.timing.retry;
            }
            Answer::Conflict => {
                self.must_read = true;
                self.due = if self.rushed { now.monotonic + self.timing.retry } else { now.monotonic };
                self.rushed = !self.rushed;
            }
            Answer::Failed => {
                self.must_read = true;
                if self.renewed.is_some() {
                    self.due = now.monotonic + self.timing.retry;
                } else {
                    self.stand_by(now.monotonic, jitter);
                }
            }
        }
    }

    /// Comes back later, not in step with others.
    fn stand_by(&mut self, now: Instant, jitter: &mut Jitter) {
        self.must_read = true;
        self.due = now + self.timing.retry.mul_f64(1.0 + jitter.fraction() * 1.2);
    }

    fn observe(&mut self, lease: Lease, now: Instant) {
        let same = self.seen.as_ref().is_some_and(|seen| {
            seen.lease.metadata.resource_version == lease.metadata.resource_version
                && seen.lease.metadata.uid == lease.metadata.uid
        });
        if !same {
            self.seen = Some(Seen { lease, at: now });
        }
    }

    /// Whether the Lease, as it was just read, is free, this candidate's own, or has expired.
    fn may_take(&self, now: Instant) -> bool {
        let Some(seen) = &self.seen else { return false };
        let holder = holder(&seen.lease);
        holder.is_empty() || holder == self.identity || now >= seen.at + duration(&seen.lease)
    }

    /// Gives the Lease back: what is to be written, if it is this candidate's. From now on it doesn't lead.
    pub(crate) fn release(&mut self, now: Moment) -> Option<Box<Lease>> {
        let leads = self.leads(now);
        self.renewed = None;
        let seen = self.seen.as_ref().filter(|seen| leads && holder(&seen.lease) == self.identity)?;
        let time = Timestamp::try_from(now.wall).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut lease = seen.lease.clone();
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(time));
        spec.acquire_time = Some(MicroTime(time));
        Some(Box::new(lease))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn start(now: Moment) -> Election {
        Election::new("ns", "op", "me", LeaseTiming::default(), now.monotonic)
    }

    fn held_by(holder: &str, revision: &str) -> Box<Lease> {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some(revision.into());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        });
        Box::new(lease)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_first_candidate_makes_the_lease_and_leads_until_the_renew_deadline() {
        let (now, mut jitter) = (Moment::now(), Jitter::seeded(1));
        let mut election = start(now);
        assert_eq!(election.step(now), Step::Read);
        election.answered(Answer::Missing, now, &mut jitter);
        let Step::Create(lease) = election.step(now) else { panic!("no create") };
        assert_eq!((holder(&lease), duration(&lease)), ("me", seconds(15)));
        assert_eq!(lease.spec.as_ref().unwrap().lease_transitions, Some(0));
        // The answer takes a second: the time at which the request was sent is what counts.
        election.answered(Answer::Written(lease), now.after(seconds(1)), &mut jitter);
        assert!(election.leads(now.after(Duration::from_millis(9_999))));
        assert!(!election.leads(now.after(seconds(10))));
        assert_eq!(election.step(now.after(seconds(1))), Step::Wait(now.monotonic + seconds(2)));
        assert!(matches!(election.step(now.after(seconds(2))), Step::Update(_)));
    }

    #[test]
    fn the_lease_gets_the_labels_of_the_election_beside_those_that_it_has() {
        let (now, mut jitter) = (Moment::now(), Jitter::seeded(1));
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut election = start(now).labelled(labels(&[("team", "web")]));
        election.step(now);
        let mut lease = held_by("", "1");
        lease.metadata.labels = Some(labels(&[("other", "stays"), ("team", "none")]));
        election.answered(Answer::Found(lease), now, &mut jitter);
        let Step::Update(lease) = election.step(now) else { panic!("a Lease that nobody holds is taken") };
        assert_eq!(lease.metadata.labels, Some(labels(&[("other", "stays"), ("team", "web")])));
    }

    #[test]
    fn a_lease_is_taken_only_when_it_has_not_changed_for_its_duration() {
        let (mut now, mut jitter) = (Moment::now(), Jitter::seeded(1));
        let mut election = start(now);
        let mut seen_at = now;
        for revision in ["1", "2"] {
            election.step(now);
            election.answered(Answer::Found(held_by("other", revision)), now, &mut jitter);
            seen_at = now;
            now = now.after(seconds(14));
        }
        while !matches!(election.step(now), Step::Update(_)) {
            assert!(!election.leads(now));
            election.answered(Answer::Found(held_by("other", "2")), now, &mut jitter);
            if let Step::Wait(until) = election.step(now) {
                now = now.after(until - now.monotonic);
            }
        }
        assert!(now.monotonic >= seen_at.monotonic + seconds(15));
        let Step::Update(lease) = election.step(now) else { panic!("no update") };
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("2"));
        assert_eq!(lease.spec.as_ref().unwrap().lease_transitions, Some(4));
        election.answered(Answer::Conflict, now, &mut jitter);
        assert!(!election.leads(now));
        assert_eq!(election.step(now), Step::Read);
    }

    #[test]
    fn races_that_are_lost_again_and_again_do_not_make_a_loop() {
        let (now, mut jitter) = (Moment::now(), Jitter::seeded(1));
        let mut election = start(now);
        let mut requests = 0;
        while !matches!(election.step(now), Step::Wait(_)) {
            requests += 1;
            let found = Answer::Found(held_by("", "1"));
            election.answered(if requests % 2 == 0 { Answer::Conflict } else { found }, now, &mut jitter);
        }
        assert_eq!(requests, 4);
    }

    fn leading(now: Moment, jitter: &mut Jitter) -> Election {
        let mut election = start(now);
        election.step(now);
        election.answered(Answer::Found(held_by("", "1")), now, jitter);
        let Step::Update(mut lease) = election.step(now) else { panic!("no update") };
        lease.metadata.resource_version = Some("2".into());
        election.answered(Answer::Written(lease), now, jitter);
        election
    }

    #[test]
    fn a_leader_that_cannot_renew_steps_down_and_stands_again() {
        let (start, mut jitter) = (Moment::now(), Jitter::seeded(1));
        let mut election = leading(start, &mut jitter);
        let mut now = start;
        while election.leads(now) {
            match election.step(now) {
                Step::Wait(until) => now = start.after(until - start.monotonic),
                _ => election.answered(Answer::Failed, now, &mut jitter),
            }
        }
        assert_eq!(now.monotonic, start.monotonic + seconds(10));
        assert_eq!(election.step(now), Step::Read);
        election.answered(Answer::Found(held_by("me", "1")), now, &mut jitter);
        assert!(matches!(election.step(now), Step::Update(_)));
    }

    #[test]
    fn a_leader_that_finds_another_holder_steps_down_at_once() {
        let (now, mut jitter) = (Moment::now(), Jitter::seeded(1));
        let mut election = leading(now, &mut jitter);
        let later = now.after(seconds(2));
        election.step(later);
        election.answered(Answer::Conflict, later, &mut jitter);
        assert_eq!(election.step(later), Step::Read);
        election.answered(Answer::Found(held_by("other", "9")), later, &mut jitter);
        assert!(!election.leads(later));
        assert_eq!(election.holder(), "other");
    }

    #[test]
    fn a_release_frees_the_lease_for_the_next_and_only_if_it_is_held() {
        let (now, mut jitter) = (Moment::now(), Jitter::seeded(1));
        let mut election = leading(now, &mut jitter);
        let freed = election.release(now).unwrap();
        assert_eq!((holder(&freed), duration(&freed)), ("", seconds(1)));
        assert!(!election.leads(now));
        assert_eq!(election.release(now), None);
        let mut late = leading(now, &mut jitter);
        assert_eq!(late.release(now.after(seconds(10))), None);
    }
}

//! One replica among those that share the objects, as a pure state machine. Each announces itself by a Lease
//! of its own and renews it; a table in one more Lease says whose slots are whose. What keeps two replicas from
//! having one slot:
//!
//! - The table changes by compare-and-swap, and only the owner of a slot takes it from itself: after its work
//!   there has ended.
//! - A slot whose owner's Lease is gone may be given to another. A Lease that was not renewed for its duration
//!   is deleted, if it still has the revision that was seen so long; its replica's fence is closed by then, and
//!   it comes back under another identity.
//! - A hand-over whose outcome is unknown leaves the slot with nobody until the table is seen to have changed.
//!
//! Nothing here sends or sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::table::{Slots, Table};
use crate::lease::{LeaseTiming, Moment, duration};

/// The label of all Leases of one group, with the group's name; and the annotation that holds the table.
pub(crate) const SHARDS: &str = "kubewright.io/shards";

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing until then.
    Wait(Instant),
    /// List all Leases of the group, consistently.
    List,
    /// Make a Lease.
    Create(Box<Lease>),
    /// Replace a Lease, if it still has this revision.
    Update(Box<Lease>),
    /// Delete a Lease, if it still is the one of this uid and revision.
    Delete {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// Its revision.
        revision: String,
    },
}

/// How it went.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// All Leases of the group, as of one revision.
    Listed(Vec<Lease>),
    /// The Lease as it was written.
    Written(Box<Lease>),
    /// It is deleted.
    Deleted,
    /// It is not what it was, or not there.
    Conflict,
    /// Refused, lost, or too late.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Renew,
    List,
    Act,
}

/// What was sent last.
#[derive(Debug)]
enum Sent {
    Nothing,
    Own,
    List,
    Evict,
    /// The table, with the slots that it takes from this replica.
    Table(Slots),
}

/// Another's Lease, and when it was first seen to look like this.
struct Other {
    revision: Option<String>,
    at: Instant,
    lease: Lease,
}

/// A replica.
pub(crate) struct Member {
    group: String,
    namespace: String,
    base: String,
    /// How often it had to come back under another identity.
    lives: u32,
    timing: LeaseTiming,
    own: Option<Lease>,
    renewed: Option<Moment>,
    sent_at: Option<Moment>,
    sent: Sent,
    phase: Phase,
    due: Instant,
    cycle: Instant,
    rushed: bool,
    others: BTreeMap<String, Other>,
    table: Option<Lease>,
    slots: Table,
    /// Own slots that others are to have, and where nothing new begins.
    draining: Slots,
    /// Slots whose hand-over was sent and not answered, and the table's revision that it was for.
    unsure: Option<(Slots, Option<String>)>,
    contact: Option<Instant>,
}

impl Member {
    /// A replica that has not joined yet. `base` must be unique among all processes.
    pub(crate) fn new(namespace: &str, group: &str, base: &str, timing: LeaseTiming, now: Instant) -> Member {
        Member {
            group: group.into(),
            namespace: namespace.into(),
            base: base.into(),
            lives: 0,
            timing,
            own: None,
            renewed: None,
            sent_at: None,
            sent: Sent::Nothing,
            phase: Phase::Renew,
            due: now,
            cycle: now,
            rushed: false,
            others: BTreeMap::new(),
            table: None,
            slots: Table::default(),
            draining: 0,
            unsure: None,
            contact: None,
        }
    }

    /// The name of its Lease, and its name in the table.
    pub(crate) fn identity(&self) -> String {
        format!("{}-shard-{}-{}", self.group, self.base, self.lives)
    }

    fn table_name(&self) -> String {
        format!("{}-shards", self.group)
    }

    /// Until when it certainly is a member; `None` when it is none.
    pub(crate) fn until(&self) -> Option<Moment> {
        self.renewed.map(|sent| sent.after(self.timing.renew_deadline))
    }

    pub(crate) fn is_member(&self, now: Moment) -> bool {
        self.until().is_some_and(|until| !until.is_over(now))
    }

    /// When the server last answered anything.
    pub(crate) fn contact(&self) -> Option<Instant> {
        self.contact
    }

    /// Members seen, itself included.
    pub(crate) fn size(&self) -> usize {
        self.others.len() + usize::from(self.own.is_some())
    }

    /// The slots in which it may begin work now.
    pub(crate) fn owned(&self, now: Moment) -> Slots {
        if !self.is_member(now) {
            return 0;
        }
        let unsure = self.unsure.as_ref().map_or(0, |(slots, _)| *slots);
        self.slots.of(&self.identity()) & !self.draining & !unsure
    }

    /// What to do now. `busy` are the slots in which work is under way, or may still arrive.
    pub(crate) fn step(&mut self, now: Moment, busy: Slots) -> Step {
        if self.renewed.is_some() && !self.is_member(now) {
            self.renewed = None;
            (self.phase, self.due) = (Phase::Renew, now.monotonic);
        }
        if now.monotonic < self.due {
            let until = self.until().map_or(self.due, |until| until.monotonic);
            return Step::Wait(self.due.min(until));
        }
        self.sent_at = Some(now);
        match self.phase {
            Phase::Renew => {
                self.cycle = now.monotonic;
                self.sent = Sent::Own;
                match &self.own {
                    Some(own) => Step::Update(Box::new(self.renewal(own.clone(), now))),
                    None => Step::Create(Box::new(self.renewal(self.lease(&self.identity()), now))),
                }
            }
            Phase::List => {
                self.sent = Sent::List;
                Step::List
            }
            Phase::Act => self.act(now, busy),
        }
    }

    fn lease(&self, name: &str) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.name = Some(name.to_owned());
        lease.metadata.namespace = Some(self.namespace.clone());
        lease.metadata.labels = Some([(SHARDS.to_owned(), self.group.clone())].into());
        lease
    }

    fn renewal(&self, mut lease: Lease, now: Moment) -> Lease {
        let time = MicroTime(Timestamp::try_from(now.wall).unwrap_or(Timestamp::UNIX_EPOCH));
        let spec = lease.spec.get_or_insert_default();
        spec.acquire_time.get_or_insert_with(|| time.clone());
        spec.renew_time = Some(time);
        spec.holder_identity = Some(self.identity());
        spec.lease_duration_seconds = Some(self.timing.seconds());
        lease
    }

    /// Puts out who is gone, then changes the table as far as that is this replica's to do.
    fn act(&mut self, now: Moment, busy: Slots) -> Step {
        let expired = self
            .others
            .iter()
            .find(|(_, other)| now.monotonic.saturating_duration_since(other.at) >= duration(&other.lease));
        if let Some((name, other)) = expired {
            self.sent = Sent::Evict;
            let uid = other.lease.metadata.uid.clone().unwrap_or_default();
            let revision = other.revision.clone().unwrap_or_default();
            return Step::Delete { name: name.clone(), uid, revision };
        }
        let me = self.identity();
        let mut members: BTreeSet<String> = self.others.keys().cloned().collect();
        if self.own.is_none() || !self.is_member(now) {
            return self.rest();
        }
        members.insert(me.clone());
        let target = self.slots.target(&members);
        let free = self.slots.free(&members);
        let withdrawn = self.draining;
        self.draining = self.slots.of(&me) & !target.of(&me);
        if self.draining & !withdrawn != 0 {
            // Whether work is under way there can be judged only once nothing new begins.
            return Step::Wait(now.monotonic);
        }
        let unsure = self.unsure.as_ref().map_or(0, |(slots, _)| *slots);
        let leaving = (self.draining | unsure) & !busy;
        let moving = free | leaving;
        if moving == 0 {
            return self.rest();
        }
        let mut table = self.slots.clone();
        members.iter().for_each(|member| table.give(member, target.of(member) & moving));
        // Owners that are gone keep nothing, so that the table does not grow with every restart.
        let mut kept = Table::default();
        members.iter().for_each(|member| kept.give(member, table.of(member)));
        self.sent = Sent::Table(leaving);
        let known = self.table.clone();
        let mut lease = known.clone().unwrap_or_else(|| self.lease(&self.table_name()));
        lease.metadata.annotations.get_or_insert_default().insert(SHARDS.to_owned(), kept.text());
        if known.is_some() { Step::Update(Box::new(lease)) } else { Step::Create(Box::new(lease)) }
    }

    /// Nothing more in this cycle.
    fn rest(&mut self) -> Step {
        (self.phase, self.rushed) = (Phase::Renew, false);
        self.due = self.cycle + self.timing.retry;
        Step::Wait(self.until().map_or(self.due, |until| self.due.min(until.monotonic)))
    }

    /// The answer to the last step arrived.
    pub(crate) fn answered(&mut self, answer: Answer, now: Moment) {
        if answer != Answer::Failed {
            self.contact = Some(now.monotonic);
        }
        let sent = std::mem::replace(&mut self.sent, Sent::Nothing);
        self.due = now.monotonic;
        if matches!(sent, Sent::Own) && self.own.is_none() && !matches!(answer, Answer::Written(_)) {
            // Should the Lease be made yet, it is nobody's, and expires.
            self.lives += 1;
        }
        match (sent, answer) {
            (Sent::Own, Answer::Written(lease)) => {
                self.own = Some(*lease);
                self.renewed = self.sent_at;
                self.phase = Phase::List;
            }
            (Sent::List, Answer::Listed(leases)) => self.listed(leases, now.monotonic),
            (Sent::Table(_), Answer::Written(lease)) => {
                self.rushed = false;
                self.learn(*lease);
                self.phase = Phase::Act;
            }
            (Sent::Evict, Answer::Deleted) => {
                self.phase = Phase::List;
            }
            (_, Answer::Conflict) => {
                self.phase = Phase::List;
                self.due = if self.rushed { now.monotonic + self.timing.retry } else { now.monotonic };
                self.rushed = !self.rushed;
            }
            (sent, _) => {
                if let Sent::Table(slots) = sent {
                    let revision =
                        self.table.as_ref().and_then(|table| table.metadata.resource_version.clone());
                    let before = self.unsure.take().map_or(0, |(slots, _)| slots);
                    self.unsure = Some((before | slots, revision));
                }
                self.phase = Phase::Renew;
                self.due = now.monotonic + self.timing.retry;
            }
        }
    }

    fn listed(&mut self, leases: Vec<Lease>, now: Instant) {
        let (me, table_name) = (self.identity(), self.table_name());
        let (mut own, mut table) = (None, None);
        let mut names = BTreeSet::new();
        for lease in leases {
            let name = lease.metadata.name.clone().unwrap_or_default();
            // Another Lease of this name is not the one that was renewed: time has gone by without one.
            let known = self.own.as_ref().and_then(|own| own.metadata.uid.as_ref());
            if name == me {
                own = Some(lease).filter(|lease| lease.metadata.uid.as_ref() == known);
            } else if name == table_name {
                table = Some(lease);
            } else {
                names.insert(name.clone());
                let revision = lease.metadata.resource_version.clone();
                match self.others.get_mut(&name) {
                    Some(other) if other.revision == revision => {}
                    _ => {
                        self.others.insert(name, Other { revision, at: now, lease });
                    }
                }
            }
        }
        self.others.retain(|name, _| names.contains(name));
        match table {
            Some(table) => self.learn(table),
            // Nobody has anything, and a hand-over that is on its way has nothing to replace.
            None => (self.table, self.slots, self.unsure) = (None, Table::default(), None),
        }
        self.phase = Phase::Act;
        if own.is_none() {
            // Put out by others, who may have given its slots away: it comes back as somebody else.
            (self.renewed, self.draining, self.unsure) = (None, 0, None);
            self.lives += u32::from(self.own.is_some());
            self.phase = Phase::Renew;
            self.due = now + if self.own.is_some() { self.timing.retry } else { Duration::ZERO };
        }
        self.own = own;
    }

    /// The table as it is now.
    fn learn(&mut self, table: Lease) {
        let revision = &table.metadata.resource_version;
        // What was sent for another revision can't be accepted any more.
        if self.unsure.as_ref().is_some_and(|(_, sent_for)| sent_for != revision) {
            self.unsure = None;
        }
        let text = table.metadata.annotations.as_ref().and_then(|all| all.get(SHARDS));
        self.slots = text.map(|text| Table::parse(text)).unwrap_or_default();
        self.draining &= self.slots.of(&self.identity());
        self.table = Some(table);
    }

    /// Leaves the group: what is to be deleted. Its slots are free from then on.
    pub(crate) fn leave(&mut self) -> Option<Step> {
        self.renewed = None;
        let own = self.own.take()?;
        Some(Step::Delete {
            name: self.identity(),
            uid: own.metadata.uid.unwrap_or_default(),
            revision: own.metadata.resource_version.unwrap_or_default(),
        })
    }
}

//! What the replicas of an operator agree on, and this process's part in it: an election, or sharing. What health and
//! metrics tell of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::health::Health;
use super::metrics::Metrics;
use crate::client::Permits;
use crate::controller::Lead;
use crate::leader::{self, Candidate, LeaderElection, Standing};
use crate::lease::Fence;
use crate::sharding::{self, Ownership, Sharding, Sharer};
use crate::{Error, Result};

/// What replicas agree on, and this process's part in it.
pub(super) struct Elected {
    part: Part,
    fence: Arc<Fence>,
    standing: watch::Receiver<Standing>,
    ownership: Option<Arc<Ownership>>,
    selects: bool,
}

enum Part {
    Candidate(Box<Candidate>),
    Sharer(Box<Sharer>),
}

impl Elected {
    /// As the settings say; `None` where there is one replica. `guard` makes clients with certain permits.
    pub(super) fn new(
        settings: (Option<&LeaderElection>, Option<&Sharding>),
        guard: impl Fn(Permits) -> kube::Client,
        health: &Health,
        metrics: &Metrics,
    ) -> Result<Option<Elected>> {
        Ok(match settings {
            (Some(_), Some(_)) => {
                let both = "replicas either share the objects or elect a leader";
                return Err(Error::Usage(both.into()));
            }
            (Some(config), None) => {
                let (candidate, fence, standing) = Candidate::new(config, guard(leader::permits()))?;
                watch_election(config, &standing, health, metrics);
                Some(Elected {
                    part: Part::Candidate(Box::new(candidate)),
                    fence,
                    standing,
                    ownership: None,
                    selects: false,
                })
            }
            (None, Some(config)) => {
                let ownership = Ownership::new();
                let (sharer, fence, standing) = Sharer::new(config, guard(sharding::permits()), &ownership)?;
                watch_sharding(config, &standing, &ownership, health, metrics);
                let part = Part::Sharer(Box::new(sharer));
                let (ownership, selects) = (Some(ownership), config.selects);
                Some(Elected { part, fence, standing, ownership, selects })
            }
            (None, None) => None,
        })
    }

    /// What the writes of those that lead have to pass.
    pub(super) fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// The slots of this process, where replicas share the objects and ask the server for theirs alone.
    pub(super) fn selected(&self) -> Option<&Arc<Ownership>> {
        self.ownership.as_ref().filter(|_| self.selects)
    }

    /// Whether this process leads, for those that work only then.
    pub(super) fn lead(&self) -> Lead {
        Lead::elected(self.standing.clone(), self.ownership.clone())
    }

    /// Takes part until `give_back` is set; what it holds is given back then.
    pub(super) async fn run(self, give_back: watch::Receiver<bool>) {
        match self.part {
            Part::Candidate(candidate) => candidate.run(give_back).await,
            Part::Sharer(sharer) => sharer.run(give_back).await,
        }
    }
}

/// Health and metrics of an election.
fn watch_election(
    config: &LeaderElection,
    standing: &watch::Receiver<Standing>,
    health: &Health,
    metrics: &Metrics,
) {
    let leads = standing.clone();
    let help = "Whether this process holds the lease.";
    metrics.gauge("leader_election_master_status", help, &config.id, move || leads.borrow().leads.into());
    watch_standing(config.id.clone(), config.timing.lease, standing, health, ["leading", "standing by"]);
}

/// Health and metrics of sharing.
fn watch_sharding(
    config: &Sharding,
    standing: &watch::Receiver<Standing>,
    ownership: &Ownership,
    health: &Health,
    metrics: &Metrics,
) {
    let slots = ownership.changes();
    let help = "Slots of 64 whose objects this process works on.";
    metrics.gauge("kubewright_shard_slots", help, &config.id, move || slots.borrow().count_ones().into());
    watch_standing(config.id.clone(), config.timing.lease, standing, health, ["sharing", "joining"]);
}

fn watch_standing(
    id: String,
    lease: Duration,
    standing: &watch::Receiver<Standing>,
    health: &Health,
    [leading, otherwise]: [&'static str; 2],
) {
    let standing = standing.clone();
    health.ready_check(Box::new(move || {
        let standing = standing.borrow();
        let in_touch = standing.contact.is_some_and(|contact| contact.elapsed() < lease);
        let role = match (in_touch, standing.leads) {
            (true, true) => leading,
            (true, false) => otherwise,
            (false, _) => "the API server does not answer",
        };
        (format!("lease {id}: {role}"), in_touch)
    }));
}

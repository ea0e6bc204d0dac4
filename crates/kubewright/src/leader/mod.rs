//! Leader election: of several replicas of an operator, one works while the others stand by with warm
//! caches. The election is a pure state machine ([`election`]); this is its driver, which sends what the
//! machine says, opens the fence for writes, and tells the controllers. Losing the Lease ends no process.

mod election;
#[cfg(test)]
mod schedules;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;

use self::election::{Answer, Election, Step};
use crate::Result;
use crate::cache::Jitter;
use crate::client::{Permit, Permits, Verb};
use crate::lease::{Fence, LeaseTiming, Moment, unique_identity};

/// How replicas elect their leader: on which Lease, as whom, and how fast.
///
/// ```no_run
/// # use kubewright::{LeaderElection, Manager, Result};
/// # async fn run(client: kube::Client) -> Result {
/// Manager::new("my-operator", client)
///     .leader_election(LeaderElection::new("my-operator").in_namespace("my-operator-system"))
///     .run(std::future::pending())
///     .await
/// # }
/// ```
///
/// The leader may write until [`renew_deadline`](LeaseTiming::renew_deadline) after it sent its last accepted
/// renewal, judged on its own clock right before each request; others take the Lease when it did not change for
/// [`lease`](LeaseTiming::lease) on theirs. A leader that loses the Lease cancels its reconciliations and stands
/// again. A manager that stops gives the Lease back once nothing it sent can arrive any more.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    pub(crate) id: String,
    pub(crate) namespace: Option<String>,
    pub(crate) identity: String,
    pub(crate) timing: LeaseTiming,
    pub(crate) release: bool,
    pub(crate) labels: BTreeMap<String, String>,
}

impl LeaderElection {
    /// An election on the Lease of this name, which all replicas of one operator share.
    pub fn new(id: &str) -> LeaderElection {
        LeaderElection {
            id: id.into(),
            namespace: None,
            identity: unique_identity(),
            timing: LeaseTiming::default(),
            release: true,
            labels: BTreeMap::new(),
        }
    }

    /// The namespace of the Lease; by default the client's: the pod's own, or the kubeconfig's.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> LeaderElection {
        self.namespace = Some(namespace.into());
        self
    }

    /// The candidate's name in the Lease; by default the host's name and a random part. Two processes of one
    /// name would both lead.
    #[must_use]
    pub fn identity(mut self, identity: &str) -> LeaderElection {
        self.identity = identity.into();
        self
    }

    /// Other times than 15 s, 10 s and 2 s. Checked when the manager starts.
    #[must_use]
    pub fn timing(mut self, timing: LeaseTiming) -> LeaderElection {
        self.timing = timing;
        self
    }

    /// A label that the Lease has while a candidate of this election holds it; others stay.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> LeaderElection {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Keeps the Lease when the manager stops, so that the next leader waits until it expires.
    #[must_use]
    pub fn without_release(mut self) -> LeaderElection {
        self.release = false;
        self
    }
}

/// What electing a leader does with the API.
pub(crate) fn permits() -> Permits {
    let mut permits = Permits::default();
    permits.name(&crate::Kind::of::<Lease>());
    permits.add(Permit::on::<Lease>([Verb::Get, Verb::Create, Verb::Update]));
    permits
}

/// What others may know of an election that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether this process leads.
    pub leads: bool,
    /// Who holds the Lease, as last seen.
    pub holder: String,
    /// When the API server last answered.
    pub contact: Option<Instant>,
}

/// A candidate that runs.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    election: Election,
    fence: Arc<Fence>,
    timing: LeaseTiming,
    jitter: Jitter,
    release: bool,
    standing: watch::Sender<Standing>,
}

impl Candidate {
    pub(crate) fn new(
        config: &LeaderElection,
        client: kube::Client,
    ) -> Result<(Candidate, Arc<Fence>, watch::Receiver<Standing>)> {
        config.timing.check()?;
        let namespace = config.namespace.clone().unwrap_or_else(|| client.default_namespace().into());
        let fence = Fence::new(format!("{namespace}/{}", config.id), config.timing.margin());
        let (standing, receiver) = watch::channel(Standing::default());
        let election = Election::new(&namespace, &config.id, &config.identity, config.timing, Instant::now())
            .labelled(config.labels.clone());
        tracing::info!(lease = %format!("{namespace}/{}", config.id), identity = config.identity, "standing for election");
        let candidate = Candidate {
            leases: Api::namespaced(client, &namespace),
            election,
            fence: Arc::clone(&fence),
            timing: config.timing,
            jitter: Jitter::random(),
            release: config.release,
            standing,
        };
        Ok((candidate, fence, receiver))
    }

    /// Stands until told to stop, then gives the Lease back if nothing is on its way any more.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let step = self.election.step(Moment::now());
            self.publish();
            let sleep = match step {
                Step::Wait(until) => Some(until),
                step => {
                    let answer = self.send(step).await;
                    self.election.answered(answer, Moment::now(), &mut self.jitter);
                    self.publish();
                    None
                }
            };
            if let Some(until) = sleep {
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
        self.fence.close();
        if self.release && self.fence.is_quiet(Instant::now()) {
            if let Some(lease) = self.election.release(Moment::now()) {
                let answer = self.send(Step::Update(lease)).await;
                tracing::info!(released = matches!(answer, Answer::Written(_)), "the lease is given back");
            }
        } else if self.election.leads(Moment::now()) {
            tracing::info!("the lease is left to expire: a write may still be on its way");
        }
        self.standing.send_modify(|standing| standing.leads = false);
    }

    fn publish(&self) {
        match self.election.until() {
            Some(until) => self.fence.open(until),
            None => self.fence.close(),
        }
        let standing = Standing {
            leads: self.election.leads(Moment::now()),
            holder: self.election.holder().to_owned(),
            contact: self.election.contact(),
        };
        self.standing.send_if_modified(|before| {
            if before.leads != standing.leads {
                tracing::info!(leads = standing.leads, holder = standing.holder, "leadership changed");
            } else if before.holder != standing.holder && !standing.holder.is_empty() {
                tracing::info!(holder = standing.holder, "a leader was seen");
            }
            let changed = *before != standing;
            *before = standing;
            changed
        });
    }

    async fn send(&self, step: Step) -> Answer {
        // Several attempts fit before the deadline, and none may outlive this process's own term.
        let limit = (self.timing.renew_deadline / 3).max(Duration::from_millis(100));
        let reads = step == Step::Read;
        let (leases, parameters) = (&self.leases, PostParams::default());
        let request = async {
            match &step {
                Step::Read => leases.get(self.name()).await,
                Step::Create(lease) => leases.create(&parameters, lease).await,
                Step::Update(lease) => leases.replace(self.name(), &parameters, lease).await,
                Step::Wait(_) => std::future::pending().await,
            }
        };
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(lease)) if reads => Answer::Found(Box::new(lease)),
            Ok(Ok(lease)) => Answer::Written(Box::new(lease)),
            Ok(Err(kube::Error::Api(status))) if reads && status.code == 404 => Answer::Missing,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Answer::Conflict,
            Ok(Err(error)) => {
                let error = crate::Error::from(error).chain();
                tracing::warn!(lease = self.name(), error, "the lease can't be read or written");
                Answer::Failed
            }
            Err(_) => {
                tracing::warn!(
                    lease = self.name(),
                    ?limit,
                    "the API server did not answer about the lease in time"
                );
                Answer::Failed
            }
        }
    }

    fn name(&self) -> &str {
        self.election.name()
    }
}

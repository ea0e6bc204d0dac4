//! Sharding: replicas of an operator that all work, each on its own share of the objects. Who has what is
//! agreed on with Leases by a pure state machine ([`member`]) over a table ([`table`]); this is its driver. A
//! share moves only after its owner has finished there, or has certainly lost it.

mod member;
mod ownership;
#[cfg(test)]
mod schedules;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use tokio::sync::watch;

use self::member::{Answer, Member, SHARDS, Step};
pub(crate) use self::ownership::{Busy, Ownership};
pub(crate) use self::table::{Slots, selector, slot_of};
use crate::Result;
use crate::client::{Permit, Permits, Verb};
use crate::leader::Standing;
use crate::lease::{Fence, LeaseTiming, Moment, unique_identity};

/// How replicas share the objects of their controllers.
///
/// ```no_run
/// # use kubewright::{Manager, Result, Sharding};
/// # async fn run(client: kube::Client) -> Result {
/// Manager::new("my-operator", client)
///     .sharding(Sharding::new("my-operator").in_namespace("my-operator-system"))
///     .run(std::future::pending())
///     .await
/// # }
/// ```
///
/// Objects are spread by the 64-bit FNV-1a hash of their uid, as the API server's shard selectors do it, in 64
/// slots: up to so many replicas have work. A replica that joins or leaves moves its own share only. One that
/// stops hands over at once; the share of one that was killed is taken when its Lease was not renewed for
/// [`lease`](LeaseTiming::lease). Every replica's cache holds all objects, so a share moves without a list; unless the
/// server is asked for [the share alone](Self::shard_selector).
#[derive(Clone, Debug)]
pub struct Sharding {
    pub(crate) id: String,
    pub(crate) namespace: Option<String>,
    pub(crate) timing: LeaseTiming,
    pub(crate) selects: bool,
}

impl Sharding {
    /// Sharing among the replicas that give this name, which begins the names of their Leases.
    pub fn new(id: &str) -> Sharding {
        Sharding { id: id.into(), namespace: None, timing: LeaseTiming::default(), selects: false }
    }

    /// Asks the API server for this replica's share of the reconciled objects only (`shardSelector`, KEP-5866), so that
    /// caches and traffic shrink with the number of replicas. A server that refuses the parameter or does not know it
    /// sends everything, and the replica leaves out what is another's: that saves memory alone.
    ///
    /// The cache of a reconciled kind then holds the own share: so do lists of that kind in a reconciler, and an object
    /// of another's share is not found. Kinds that anything else of the manager declares to read (other controllers,
    /// webhooks, runnables) stay whole, as do children and everything else that is read. A share that moves is listed
    /// by its new owner.
    #[must_use]
    pub fn shard_selector(mut self) -> Sharding {
        self.selects = true;
        self
    }

    /// The namespace of the Leases; by default the client's: the pod's own, or the kubeconfig's.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Sharding {
        self.namespace = Some(namespace.into());
        self
    }

    /// Other times than 15 s, 10 s and 2 s. Checked when the manager starts.
    #[must_use]
    pub fn timing(mut self, timing: LeaseTiming) -> Sharding {
        self.timing = timing;
        self
    }
}

/// What sharing does with the API.
pub(crate) fn permits() -> Permits {
    let mut permits = Permits::default();
    permits.name(&crate::Kind::of::<Lease>());
    permits.add(Permit::on::<Lease>([Verb::Get, Verb::List, Verb::Create, Verb::Update, Verb::Delete]));
    permits
}

/// A replica that runs.
pub(crate) struct Sharer {
    leases: Api<Lease>,
    group: String,
    member: Member,
    fence: Arc<Fence>,
    timing: LeaseTiming,
    ownership: Arc<Ownership>,
    standing: watch::Sender<Standing>,
}

impl Sharer {
    pub(crate) fn new(
        config: &Sharding,
        client: kube::Client,
        ownership: &Arc<Ownership>,
    ) -> Result<(Sharer, Arc<Fence>, watch::Receiver<Standing>)> {
        config.timing.check()?;
        let namespace = config.namespace.clone().unwrap_or_else(|| client.default_namespace().into());
        // Part of a Lease's name: what a host's name may have and a Lease's may not goes.
        let base = unique_identity().to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let member = Member::new(&namespace, &config.id, &base, config.timing, Instant::now());
        let fence = Fence::new(format!("{namespace}/{}", member.identity()), config.timing.margin());
        let (standing, receiver) = watch::channel(Standing::default());
        tracing::info!(group = config.id, namespace, identity = member.identity(), "joining the replicas");
        let sharer = Sharer {
            leases: Api::namespaced(client, &namespace),
            group: config.id.clone(),
            member,
            fence: Arc::clone(&fence),
            timing: config.timing,
            ownership: Arc::clone(ownership),
            standing,
        };
        Ok((sharer, fence, receiver))
    }

    /// Takes part until told to stop, then leaves, if nothing is on its way any more.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let busy = self.ownership.busy();
            // A write that was given up may still arrive, wherever it went.
            let busy = if self.fence.is_settled(Instant::now()) { busy } else { Slots::MAX };
            let step = self.member.step(Moment::now(), busy);
            self.publish();
            match step {
                Step::Wait(until) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                }
                step => {
                    let answer = self.send(step).await;
                    self.member.answered(answer, Moment::now());
                    self.publish();
                }
            }
        }
        self.ownership.give(0);
        self.fence.close();
        if self.fence.is_quiet(Instant::now()) {
            if let Some(step) = self.member.leave() {
                let left = matches!(self.send(step).await, Answer::Deleted);
                tracing::info!(left, "left the replicas");
            }
        } else {
            tracing::info!("the lease is left to expire: a write may still be on its way");
        }
        self.standing.send_modify(|standing| standing.leads = false);
    }

    fn publish(&self) {
        let now = Moment::now();
        match self.member.until() {
            Some(until) => self.fence.open(until),
            None => self.fence.close(),
        }
        self.ownership.give(self.member.owned(now));
        let standing = Standing {
            leads: self.member.is_member(now),
            holder: format!("{} replicas", self.member.size()),
            contact: self.member.contact(),
        };
        self.standing.send_if_modified(|before| {
            if before.holder != standing.holder {
                tracing::info!(replicas = self.member.size(), "the replicas changed");
            }
            let changed = *before != standing;
            *before = standing;
            changed
        });
    }

    async fn send(&self, step: Step) -> Answer {
        let limit = (self.timing.renew_deadline / 3).max(Duration::from_millis(100));
        let (leases, parameters) = (&self.leases, PostParams::default());
        let request = async {
            Ok(match &step {
                Step::List => {
                    let selected = ListParams::default().labels(&format!("{SHARDS}={}", self.group));
                    Answer::Listed(leases.list(&selected).await?.items)
                }
                Step::Create(lease) => Answer::Written(Box::new(leases.create(&parameters, lease).await?)),
                Step::Update(lease) => {
                    let name = lease.metadata.name.as_deref().unwrap_or_default();
                    Answer::Written(Box::new(leases.replace(name, &parameters, lease).await?))
                }
                Step::Delete { name, uid, revision } => {
                    let only =
                        Preconditions { uid: Some(uid.clone()), resource_version: Some(revision.clone()) };
                    leases.delete(name, &DeleteParams::default().preconditions(only)).await?;
                    Answer::Deleted
                }
                Step::Wait(_) => Answer::Failed,
            })
        };
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Answer::Conflict,
            Ok(Err(error)) => {
                let error = crate::Error::from(error).chain();
                tracing::warn!(group = self.group, error, "the replicas' leases can't be read or written");
                Answer::Failed
            }
            Err(_) => {
                tracing::warn!(
                    group = self.group,
                    ?limit,
                    "the API server did not answer about leases in time"
                );
                Answer::Failed
            }
        }
    }
}

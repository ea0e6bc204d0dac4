//! Auditing: who did what and what came of it, as `audit.k8s.io/v1` events.
//!
//! A [`Policy`] decides for each request how much of it is written down; a [`Trail`] gathers that while the request is
//! served; events go to a [`Sink`] as JSON. Nothing here ever refuses a request or waits for a disk, and a request that
//! the policy leaves out costs the evaluation of the policy alone.

mod event;
mod log;
mod policy;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::authn::UserInfo;
use crate::request::RequestInfo;

pub use event::Trail;
pub(crate) use event::{PeerAddress, Received};
pub use log::{Log, LogError, Rotation};
pub use policy::{Level, Policy, PolicyError, Stage};

/// Takes events.
pub trait Sink: Send + Sync {
    /// Takes one event: a JSON object without a newline. It must not block.
    fn write(&self, event: Bytes);

    /// How many events were lost because they came faster than they could be written.
    fn dropped(&self) -> u64 {
        0
    }
}

/// What a server audits, and where to.
#[derive(Clone)]
pub struct Auditor {
    policy: Arc<Policy>,
    sink: Arc<dyn Sink>,
}

impl Auditor {
    /// Audits as the policy says.
    pub fn new(policy: Policy, sink: Arc<dyn Sink>) -> Self {
        Self { policy: Arc::new(policy), sink }
    }

    /// How many events the sink lost.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    /// Begins to write down a request, if the policy wants it. `user` is `None` where nobody was authenticated.
    pub(crate) fn begin(
        &self,
        user: Option<&UserInfo>,
        info: &RequestInfo,
        received: &Received<'_>,
        now: Timestamp,
    ) -> Option<Arc<Trail>> {
        let decided = self.policy.decide(user, info);
        if decided.level == Level::None {
            return None;
        }
        Some(Arc::new(Trail::new(decided, Arc::clone(&self.sink), user, info, received, now)))
    }
}

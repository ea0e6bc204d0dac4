//! Whether this process is the one whose controllers work, as replicas agree: always, while it leads, or each on its share.

use std::sync::Arc;

use tokio::sync::watch;

use crate::leader::Standing;
use crate::sharding::{Busy, Ownership, slot_of};

/// Whether this process is the one whose controllers work.
pub(crate) struct Lead {
    standing: Option<watch::Receiver<Standing>>,
    pub(super) ownership: Option<Arc<Ownership>>,
}

impl Lead {
    /// Always: there is no election, or this controller works on every replica.
    pub(crate) fn always() -> Lead {
        Lead { standing: None, ownership: None }
    }

    /// As an election says; or as replicas agree on, each for its own share of the objects.
    pub(crate) fn elected(standing: watch::Receiver<Standing>, ownership: Option<Arc<Ownership>>) -> Lead {
        Lead { standing: Some(standing), ownership }
    }

    /// Resolves once this process leads.
    pub(crate) async fn gained(&mut self) {
        self.becomes(true).await;
    }

    /// Resolves once it doesn't any more; never without an election.
    pub(crate) async fn lost(&mut self) {
        match self.standing {
            Some(_) => self.becomes(false).await,
            None => std::future::pending().await,
        }
    }

    /// This process's share in something of this name that runs on one replica, where replicas share; an error when it
    /// is another's.
    pub(crate) fn share(&self, name: &str) -> Result<Option<Busy>, ()> {
        match &self.ownership {
            None => Ok(None),
            Some(ownership) => ownership.enter(name).map(Some).ok_or(()),
        }
    }

    /// Resolves once this process has a share by this name, or does not lead any more.
    pub(crate) async fn gained_share(&mut self, name: &str) {
        self.share_becomes(name, true).await;
    }

    /// Resolves once this process may not run what it has a share in by this name.
    pub(crate) async fn lost_share(&mut self, name: &str) {
        self.share_becomes(name, false).await;
    }

    async fn share_becomes(&mut self, name: &str, mine: bool) {
        let mut shares = self.ownership.as_ref().map(|ownership| ownership.changes());
        let slot = slot_of(name);
        let becomes = async {
            if let Some(shares) = &mut shares
                && shares.wait_for(|slots| (slots & slot != 0) == mine).await.is_ok()
            {
                return;
            }
            std::future::pending().await
        };
        tokio::select! {
            () = becomes => {}
            () = self.lost() => {}
        }
    }

    async fn becomes(&mut self, leads: bool) {
        if let Some(standing) = &mut self.standing
            && standing.wait_for(|standing| standing.leads == leads).await.is_err()
        {
            // The election ended, and with it any say on who leads: its manager stops everything.
            std::future::pending().await
        }
    }
}

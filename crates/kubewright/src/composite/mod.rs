//! Pure controllers: a function from a parent and what is observed to what is wanted, and nothing else. The
//! runtime reads, applies, prunes, rolls out, reports the status and finalizes. Metacontroller's contract
//! (sync and finalize hooks), typed and in process. The function never talks to a server.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use serde::Serialize;
use serde_json::Value;

use crate::cache::{Cached, DecodeError};
use crate::context::{Children, Context, View, is_ready};
use crate::controller::{Action, Controller, Reconciler};
use crate::kind::{Defined, Key, Kind, Object};
use crate::{Result, Verb};

/// What is observed: the children the parent has, and a view of the kinds that were declared beside them.
pub struct Observed<'a> {
    children: BTreeMap<(Kind, Key), Arc<Cached>>,
    related: &'a View,
}

impl Observed<'_> {
    /// A child of that name, in the parent's namespace or in a given one.
    ///
    /// # Errors
    /// When it can't be decoded.
    pub fn child<K: Object>(&self, key: impl Into<Key>) -> Result<Option<K>, DecodeError> {
        self.children.get(&(Kind::of::<K>(), key.into())).map(|child| child.decode()).transpose()
    }

    /// The children of a kind, by key.
    ///
    /// # Errors
    /// When one can't be decoded.
    pub fn children<K: Object>(&self) -> Result<Vec<K>, DecodeError> {
        let kind = Kind::of::<K>();
        let of_kind = self.children.iter().filter(|((known, _), _)| *known == kind);
        of_kind.map(|(_, child)| child.decode()).collect()
    }

    /// How many children of all kinds there are.
    pub fn count(&self) -> usize {
        self.children.len()
    }

    /// How many of them are ready, by their conditions and replica counts.
    pub fn ready(&self) -> usize {
        self.children.values().filter(|child| is_ready(child)).count()
    }

    /// The cached objects of the kinds that the controller declares with `reads` or `watches`: Metacontroller's
    /// related objects.
    pub fn related(&self) -> &View {
        self.related
    }
}

/// What is wanted: children, a status, and when to look again.
#[derive(Debug, Default)]
pub struct Desired {
    pub(crate) children: Children,
    pub(crate) status: Option<Result<Value, serde_json::Error>>,
    pub(crate) resync: Option<Duration>,
    pub(crate) finalized: bool,
}

impl Desired {
    /// Nothing: children that are there go.
    pub fn new() -> Desired {
        Desired::default()
    }

    /// Adds a child.
    #[must_use]
    pub fn with<K: Object>(mut self, child: K) -> Desired {
        self.children.push(child);
        self
    }

    /// Adds children.
    #[must_use]
    pub fn with_all<K: Object>(self, children: impl IntoIterator<Item = K>) -> Desired {
        children.into_iter().fold(self, Desired::with)
    }

    /// The parent's status; fields that it leaves out go.
    #[must_use]
    pub fn status(mut self, status: impl Serialize) -> Desired {
        self.status = Some(serde_json::to_value(status));
        self
    }

    /// Looks again after this time even if nothing changes.
    #[must_use]
    pub fn resync_after(mut self, time: Duration) -> Desired {
        self.resync = Some(time);
        self
    }

    /// Says, in [`Composite::finalize`], that nothing is left to be done and the parent may go.
    #[must_use]
    pub fn finalized(mut self) -> Desired {
        self.finalized = true;
        self
    }
}

/// How changes of children reach the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollout {
    /// All at once.
    #[default]
    AllAtOnce,
    /// Changed children one after another: so many at most may be changed and not ready at a time. New children
    /// are made at once.
    Rolling {
        /// Children that may be not ready because of a change.
        max_unavailable: usize,
    },
    /// Children are made and deleted, and never changed: a change applies to those made from then on.
    OnDelete,
}

impl Rollout {
    /// Which of the children that exist are left as they are for now, each told by whether it is ready and whether
    /// it is to change. One that is not ready already may change: it can't become less available.
    pub(crate) fn holds(self, children: &[(bool, bool)]) -> Vec<bool> {
        let mut left = match self {
            Rollout::AllAtOnce => return vec![false; children.len()],
            Rollout::OnDelete => return children.iter().map(|(_, changes)| *changes).collect(),
            Rollout::Rolling { max_unavailable } => {
                let down = children.iter().filter(|(ready, _)| !ready).count();
                max_unavailable.max(1).saturating_sub(down)
            }
        };
        let hold = |(ready, changes): &(bool, bool)| {
            if !changes || !ready {
                return false;
            }
            let hold = left == 0;
            left = left.saturating_sub(1);
            hold
        };
        children.iter().map(hold).collect()
    }
}

/// A controller whose whole logic is a pure function.
///
/// ```
/// use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
/// use kubewright::composite::{Composite, Desired, Observed};
/// use kubewright::{Controller, Result};
///
/// /// Puts a greeting into every namespace.
/// struct Greeter;
///
/// impl Composite for Greeter {
///     type Parent = Namespace;
///
///     fn desired(&self, namespace: &Namespace, _: &Observed<'_>) -> Result<Desired> {
///         let mut greeting = ConfigMap::default();
///         greeting.metadata.name = Some("greeting".into());
///         greeting.metadata.namespace = namespace.metadata.name.clone();
///         Ok(Desired::new().with(greeting))
///     }
/// }
///
/// let controller = Controller::composite(Greeter).owns::<ConfigMap>();
/// ```
pub trait Composite: Send + Sync + 'static {
    /// The kind whose objects have children.
    type Parent: Object;

    /// What a parent is to have. Called with the same arguments it must answer the same.
    ///
    /// # Errors
    /// As [`Reconciler::reconcile`].
    fn desired(&self, parent: &Self::Parent, observed: &Observed<'_>) -> Result<Desired>;

    /// The finalizer that keeps a parent until [`finalize`](Self::finalize) says it may go. None by default: then
    /// garbage collection alone takes the children.
    fn finalizer(&self) -> Option<&str> {
        None
    }

    /// What a parent that is being deleted is to have, until that is [`finalized`](Desired::finalized). By default
    /// no children, and it may go once they are gone.
    ///
    /// # Errors
    /// As [`desired`](Self::desired).
    fn finalize(&self, parent: &Self::Parent, observed: &Observed<'_>) -> Result<Desired> {
        let _ = parent;
        let nothing = Desired::new();
        Ok(if observed.count() == 0 { nothing.finalized() } else { nothing })
    }

    /// How changes of children reach the cluster.
    fn rollout(&self) -> Rollout {
        Rollout::AllAtOnce
    }
}

impl Controller {
    /// A controller whose logic is a pure function. Declare the kinds of its children with
    /// [`owns`](Controller::owns), and what else it looks at with `watches` or `reads`.
    #[must_use]
    pub fn composite<C, By>(composite: C) -> Controller
    where
        C: Composite,
        C::Parent: Defined<By>,
    {
        let finalizes = composite.finalizer().is_some();
        let controller = Controller::new(Composed(composite));
        if finalizes { controller.writes::<C::Parent>([Verb::Patch]) } else { controller }
    }
}

struct Composed<C>(C);

impl<C: Composite> Reconciler for Composed<C> {
    type Object = C::Parent;

    fn reconcile(&self, parent: Arc<C::Parent>, cx: &Context) -> impl Future<Output = Result<Action>> + Send {
        self.sync(parent, cx)
    }
}

impl<C: Composite> Composed<C> {
    async fn sync(&self, parent: Arc<C::Parent>, cx: &Context) -> Result<Action> {
        let deleting = parent.meta().deletion_timestamp.is_some();
        let finalizer = self.0.finalizer();
        let holds = |name: &str| parent.meta().finalizers.iter().flatten().any(|known| known == name);
        match finalizer {
            None if deleting => return Ok(Action::done()),
            Some(name) if deleting && !holds(name) => return Ok(Action::done()),
            Some(name) if !deleting => cx.add_finalizer(&parent, name).await?,
            _ => {}
        }
        let desired = {
            let children = cx.children_of(&*parent).await?;
            let observed = Observed { children, related: cx.view() };
            if deleting {
                self.0.finalize(&parent, &observed)?
            } else {
                self.0.desired(&parent, &observed)?
            }
        };
        let report = cx.apply_children(&parent, desired.children.rollout(self.0.rollout())).await?;
        if let Some(status) = desired.status {
            cx.patch_status(&parent, status?).await?;
        }
        if let Some(name) = finalizer.filter(|_| deleting && desired.finalized && report.pruned() == 0) {
            cx.remove_finalizer(&parent, name).await?;
        }
        Ok(desired.resync.map_or_else(Action::done, Action::after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rolling_change_takes_down_no_more_than_it_may() {
        let rolling = Rollout::Rolling { max_unavailable: 1 };
        let (up, down, changed_up, changed_down) =
            ((true, false), (false, false), (true, true), (false, true));
        assert_eq!(rolling.holds(&[changed_up, changed_up, up]), [false, true, false]);
        // One is down, for whatever reason: nothing else may go down, but what is down may change.
        assert_eq!(rolling.holds(&[changed_up, down]), [true, false]);
        assert_eq!(rolling.holds(&[changed_up, changed_down]), [true, false]);
        assert_eq!(Rollout::OnDelete.holds(&[changed_up, up]), [true, false]);
        assert_eq!(Rollout::AllAtOnce.holds(&[changed_up, changed_down]), [false, false]);
    }
}

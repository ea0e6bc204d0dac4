//! Pure controllers: a function from an object and what is observed to what is wanted, and nothing else. The
//! runtime reads, applies, prunes, rolls out, reports the status and finalizes. Metacontroller's contract
//! (sync, finalize and customize hooks), typed and in process. The function never talks to a server.
//!
//! A [`Composite`] makes an object of a kind of its own out of children. A [`Decorator`] adds to objects that are
//! somebody else's: labels, annotations, a part of the status, and attachments.

mod decoration;
mod decorator;
mod desired;
mod observed;
mod related;
mod rollout;
mod selector;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;

pub use self::decoration::Decoration;
pub use self::decorator::Decorator;
pub use self::desired::Desired;
pub use self::observed::Observed;
pub use self::related::Related;
pub(crate) use self::related::Relations;
pub use self::rollout::Rollout;
pub(crate) use self::rollout::{Seen, Step};
pub use self::selector::Selector;
use crate::context::{Context, has_finalizer};
use crate::controller::{Action, Controller, Reconciler, Trigger};
use crate::kind::{Defined, Key, Kind, Object};
use crate::{Result, Verb};

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

    /// What else the wish depends on: see [`Observed::related`]. It may depend on the parent alone. A change of what the
    /// rules select has the parent looked at again, where the controller declares the kind with
    /// [`relates`](Controller::relates).
    fn related(&self, parent: &Self::Parent) -> Vec<Related> {
        let _ = parent;
        Vec::new()
    }

    /// How changes of children of a kind reach the cluster.
    fn rollout(&self, children: &Kind) -> Rollout {
        let _ = children;
        Rollout::AllAtOnce
    }

    /// How often every parent is looked at even if nothing changes; never by default.
    fn resync(&self) -> Option<Duration> {
        None
    }
}

impl Controller {
    /// A controller whose logic is a pure function. Declare the kinds of its children with
    /// [`owns`](Controller::owns), what its wishes relate to with [`relates`](Controller::relates), and what else it
    /// looks at with `watches` or `reads`.
    #[must_use]
    pub fn composite<C, By>(composite: C) -> Controller
    where
        C: Composite,
        C::Parent: Defined<By>,
    {
        let finalizes = composite.finalizer().is_some();
        let relations = Arc::<Relations>::default();
        let mut controller = Controller::new(Composed { composite, relations: Arc::clone(&relations) });
        controller.relations = relations;
        if finalizes { controller.writes::<C::Parent>([Verb::Patch]) } else { controller }
    }

    /// Reads a kind that a [`Composite`] or [`Decorator`] relates to, and runs for those objects whose
    /// [`Related`] rules select what changes. A change costs a look at the rules of all objects.
    #[must_use]
    pub fn relates<K: Object>(self) -> Controller {
        let (kind, relations) = (Kind::of::<K>(), Arc::clone(&self.relations));
        relations.follow(kind.clone());
        let of = kind.clone();
        self.trigger(Trigger::mapped_raw(
            kind,
            move |object, view| Ok(relations.concerned(&of, object, view)),
        ))
    }
}

/// The sooner of two times to look again.
fn again(once: Option<Duration>, always: Option<Duration>) -> Action {
    once.into_iter().chain(always).min().map_or_else(Action::done, Action::after)
}

struct Composed<C> {
    composite: C,
    relations: Arc<Relations>,
}

impl<C: Composite> Reconciler for Composed<C> {
    type Object = C::Parent;

    fn reconcile(&self, parent: Arc<C::Parent>, cx: &Context) -> impl Future<Output = Result<Action>> + Send {
        self.sync(parent, cx)
    }

    async fn deleted(&self, key: &Key, _: &Context) -> Result<Action> {
        self.relations.forget(key);
        Ok(Action::done())
    }
}

impl<C: Composite> Composed<C> {
    async fn sync(&self, parent: Arc<C::Parent>, cx: &Context) -> Result<Action> {
        let deleting = parent.meta().deletion_timestamp.is_some();
        let finalizer = self.composite.finalizer();
        match finalizer {
            None if deleting => return Ok(Action::done()),
            Some(name) if deleting && !has_finalizer(&*parent, name) => return Ok(Action::done()),
            Some(name) if !deleting => cx.add_finalizer(&parent, name).await?,
            _ => {}
        }
        let related = self.composite.related(&parent);
        let desired = {
            let observed = Observed::of(&*parent, None, &related, &self.relations, cx).await?;
            if deleting {
                self.composite.finalize(&parent, &observed)?
            } else {
                self.composite.desired(&parent, &observed)?
            }
        };
        let children = desired.children.rollouts(|kind| self.composite.rollout(kind));
        let report = cx.apply_children(&parent, children).await?;
        if let Some(status) = desired.status {
            cx.patch_status(&parent, status?).await?;
        }
        if let Some(name) = finalizer.filter(|_| deleting && desired.finalized && report.pruned() == 0) {
            cx.remove_finalizer(&parent, name).await?;
        }
        Ok(again(desired.resync, self.composite.resync()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_of_two_times_to_look_again_counts() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(again(seconds(5), seconds(60)), Action::after(Duration::from_secs(5)));
        assert_eq!(again(seconds(90), seconds(60)), Action::after(Duration::from_secs(60)));
        assert_eq!(again(None, seconds(60)), Action::after(Duration::from_secs(60)));
        assert_eq!(again(None, None), Action::done());
    }
}

//! Decorators: pure functions that add to objects which are somebody else's. Metacontroller's DecoratorController, typed
//! and in process. What never happens here: a change of an object's spec.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;

use super::{Decoration, Observed, Related, Relations, Rollout, Selector, again};
use crate::context::{Context, has_finalizer};
use crate::controller::{Action, Controller, Predicate, Reconciler};
use crate::kind::{Defined, Key, Kind, Object};
use crate::{Result, Verb};

/// Adds to the objects of a kind that a selector chooses.
///
/// Attachments are told from children of the object's own controller, and from those of other decorators, by an
/// annotation. Labels, annotations and status are applied under the field manager `OPERATOR/NAME`, so that what the
/// decorator wants no more goes and what others set stays.
///
/// ```
/// use k8s_openapi::api::apps::v1::StatefulSet;
/// use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
/// use kubewright::composite::{Decoration, Decorator, Observed, Selector};
/// use kubewright::{Controller, Result};
///
/// /// Gives each pod of a StatefulSet a Service, where an annotation asks for it.
/// struct ServicePerPod;
///
/// impl Decorator for ServicePerPod {
///     type Target = StatefulSet;
///
///     fn name(&self) -> &str {
///         "service-per-pod"
///     }
///
///     fn selector(&self) -> Selector {
///         Selector::everything().annotations("example.com/service-per-pod")
///     }
///
///     fn desired(&self, set: &StatefulSet, observed: &Observed<'_>) -> Result<Decoration> {
///         let name = set.metadata.name.as_deref().unwrap_or_default();
///         let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
///         let services = (0..replicas).map(|number| {
///             let pod = format!("{name}-{number}");
///             let mut service = Service::default();
///             service.metadata.name = Some(pod.clone());
///             service.spec = Some(ServiceSpec {
///                 selector: Some([("statefulset.kubernetes.io/pod-name".into(), pod)].into()),
///                 ports: Some(vec![ServicePort { port: 80, ..ServicePort::default() }]),
///                 ..ServiceSpec::default()
///             });
///             service
///         });
///         Ok(Decoration::new()
///             .attach_all(services)
///             .annotation("example.com/services", observed.count().to_string()))
///     }
/// }
///
/// let controller = Controller::decorator(ServicePerPod).owns::<k8s_openapi::api::core::v1::Service>();
/// ```
pub trait Decorator: Send + Sync + 'static {
    /// The kind whose objects are decorated. For several kinds, make the decorator generic and add it once for each.
    type Target: Object;

    /// Its name, by which its attachments are known: unique within the operator, and never to change. It is the
    /// controller's name too.
    fn name(&self) -> &str;

    /// Which objects are decorated; all by default. Asked once.
    fn selector(&self) -> Selector {
        Selector::everything()
    }

    /// What an object is to have. Called with the same arguments it must answer the same.
    ///
    /// # Errors
    /// As [`Reconciler::reconcile`].
    fn desired(&self, object: &Self::Target, observed: &Observed<'_>) -> Result<Decoration>;

    /// The finalizer that keeps an object until [`finalize`](Self::finalize) says it may go. None by default: then
    /// garbage collection alone takes the attachments, and an object that is no longer selected keeps what it has.
    fn finalizer(&self) -> Option<&str> {
        None
    }

    /// What an object is to have that is being deleted, or that the selector chooses no more, until that is
    /// [`finalized`](Decoration::finalized). By default nothing, and it is finalized once its attachments are gone.
    ///
    /// # Errors
    /// As [`desired`](Self::desired).
    fn finalize(&self, object: &Self::Target, observed: &Observed<'_>) -> Result<Decoration> {
        let _ = object;
        let nothing = Decoration::new();
        Ok(if observed.count() == 0 { nothing.finalized() } else { nothing })
    }

    /// What else the wish depends on: see [`Observed::related`]. As [`Composite::related`](super::Composite::related).
    fn related(&self, object: &Self::Target) -> Vec<Related> {
        let _ = object;
        Vec::new()
    }

    /// How changes of attachments of a kind reach the cluster.
    fn rollout(&self, attachments: &Kind) -> Rollout {
        let _ = attachments;
        Rollout::AllAtOnce
    }

    /// How often every object is looked at even if nothing changes; never by default.
    fn resync(&self) -> Option<Duration> {
        None
    }
}

impl Controller {
    /// A controller that adds to objects which are somebody else's. Declare the kinds of its attachments with
    /// [`owns`](Controller::owns), what its wishes relate to with [`relates`](Controller::relates), and what else it
    /// looks at with `watches` or `reads`. With
    /// [`when(Predicate::ignoring_status())`](crate::Predicate::ignoring_status) changes of the objects' status lead to
    /// nothing.
    #[must_use]
    pub fn decorator<D, By>(decorator: D) -> Controller
    where
        D: Decorator,
        D::Target: Defined<By>,
    {
        let (name, selector) = (decorator.name().to_owned(), decorator.selector());
        let finalizer = decorator.finalizer().map(str::to_owned);
        let relations = Arc::<Relations>::default();
        let concerned = {
            let selector = selector.clone();
            Predicate::new(move |delta| selector.passes(delta, finalizer.as_deref()))
        };
        let decorated = Decorated { decorator, selector, relations: Arc::clone(&relations) };
        let mut controller = Controller::new(decorated).named(&name).when(concerned);
        controller.relations = relations;
        controller.writes::<D::Target>([Verb::Patch])
    }
}

struct Decorated<D> {
    decorator: D,
    selector: Selector,
    relations: Arc<Relations>,
}

impl<D: Decorator> Reconciler for Decorated<D> {
    type Object = D::Target;

    fn reconcile(&self, object: Arc<D::Target>, cx: &Context) -> impl Future<Output = Result<Action>> + Send {
        self.sync(object, cx)
    }

    async fn deleted(&self, key: &Key, _: &Context) -> Result<Action> {
        self.relations.forget(key);
        Ok(Action::done())
    }
}

impl<D: Decorator> Decorated<D> {
    async fn sync(&self, object: Arc<D::Target>, cx: &Context) -> Result<Action> {
        self.selector.check()?;
        let deleting = object.meta().deletion_timestamp.is_some();
        let selected = self.is_selected(&object, cx)?;
        let finalizer = self.decorator.finalizer();
        let held = finalizer.filter(|name| has_finalizer(&*object, name));
        let finalizes = deleting || !selected;
        if finalizes && held.is_none() {
            self.relations.forget(cx.key());
            return Ok(Action::done());
        }
        if let Some(name) = finalizer.filter(|_| !finalizes) {
            cx.add_finalizer(&object, name).await?;
        }
        let manager = format!("{}/{}", cx.field_manager(), self.decorator.name());
        let related = self.decorator.related(&object);
        let wanted = {
            let observed = Observed::of(&*object, Some(&manager), &related, &self.relations, cx).await?;
            if finalizes {
                self.decorator.finalize(&object, &observed)?
            } else {
                self.decorator.desired(&object, &observed)?
            }
        };
        let attachments = wanted.attachments.rollouts(|kind| self.decorator.rollout(kind));
        let report = cx.apply_children(&object, attachments.attached_by(&manager)).await?;
        let marked = cx.mark(&manager, &object, &wanted.marks, finalizes).await?;
        if let Some(status) = wanted.status {
            cx.report_status(&manager, &object, status?).await?;
        }
        // Its own change leads back here, with an object of a revision that the finalizer can be taken off.
        let over = finalizes && wanted.finalized && report.pruned() == 0 && !marked;
        if let Some(name) = held.filter(|_| over) {
            cx.remove_finalizer(&object, name).await?;
        }
        Ok(again(wanted.resync, self.decorator.resync()))
    }

    /// Whether the selector chooses the object, as it is cached.
    fn is_selected(&self, object: &D::Target, cx: &Context) -> Result<bool> {
        let cached = cx.informer(&Kind::of::<D::Target>())?.get(&Key::of(object));
        Ok(cached.is_some_and(|cached| self.selector.selects(&cached)))
    }
}

//! Reconcilers of objects as they are cached: for kinds known only at run time, for what needs no more than
//! metadata, and for controllers that decode only some of the objects. Nothing is decoded on the way to them.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Action, Controller, Erased};
use crate::Result;
use crate::cache::Cached;
use crate::context::Context;
use crate::kind::{Key, Kind};

/// As [`Reconciler`](super::Reconciler), on an object's bytes and metadata. Give it to [`Controller::raw`].
///
/// What the object holds is read with [`Cached::labels`], [`Cached::at`] and the like, or decoded with
/// [`Cached::decode`].
pub trait RawReconciler: Send + Sync + 'static {
    /// As [`Reconciler::reconcile`](super::Reconciler::reconcile).
    ///
    /// # Errors
    /// As there.
    fn reconcile(&self, object: Arc<Cached>, cx: &Context) -> impl Future<Output = Result<Action>> + Send;

    /// As [`Reconciler::deleted`](super::Reconciler::deleted).
    ///
    /// # Errors
    /// As there.
    fn deleted(&self, key: &Key, cx: &Context) -> impl Future<Output = Result<Action>> + Send {
        let _ = (key, cx);
        async { Ok(Action::done()) }
    }
}

/// A raw reconciler among the typed ones.
struct Raw<R>(R);

impl<R: RawReconciler> Erased for Raw<R> {
    fn reconcile<'a>(&'a self, object: Arc<Cached>, cx: &'a Context) -> BoxFuture<'a, Result<Action>> {
        self.0.reconcile(object, cx).boxed()
    }

    fn deleted<'a>(&'a self, key: &'a Key, cx: &'a Context) -> BoxFuture<'a, Result<Action>> {
        self.0.deleted(key, cx).boxed()
    }
}

impl Controller {
    /// A controller of a kind that may be known only at run time, whose reconciler sees objects as they are
    /// cached. What it writes with [`Context::client`] is declared as for any other controller.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use kubewright::cache::Cached;
    /// use kubewright::{Action, Context, Controller, Kind, RawReconciler, Result};
    ///
    /// struct Owners;
    ///
    /// impl RawReconciler for Owners {
    ///     async fn reconcile(&self, object: Arc<Cached>, _: &Context) -> Result<Action> {
    ///         if !object.labels().contains_key("team") {
    ///             tracing::warn!(object = %object.key(), "nobody owns it");
    ///         }
    ///         Ok(Action::done())
    ///     }
    /// }
    ///
    /// let kind = Kind {
    ///     group: "example.com".into(),
    ///     version: "v1".into(),
    ///     kind: "Widget".into(),
    ///     plural: "widgets".into(),
    ///     namespaced: true,
    /// };
    /// let controller = Controller::raw(&kind, Owners);
    /// ```
    pub fn raw(kind: &Kind, reconciler: impl RawReconciler) -> Controller {
        Controller::of(kind.clone(), None, Arc::new(Raw(reconciler)))
    }
}

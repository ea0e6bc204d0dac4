//! What users write: validators, mutators and raw handlers, and what they are given of a write. Typed objects and the
//! circumstances flow in, a [`Verdict`] comes out. How a question arrives is the server's matter.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use kubewright_machinery::reviews::Operation;
use serde_json::Value;
use serde_json::value::RawValue;

use super::edits::carry;
use super::review::{GroupVersionResource, Request, UserInfo};
use super::verdict::Verdict;
use crate::context::{Context, Get, List, View};
use crate::kind::{Key, Object};
use crate::{Error, Result};

/// Judges the writes of one kind.
///
/// A [`Verdict`] is the answer; an error means that there is none (something could not be read, say): the API server is
/// told that the webhook failed, and its failure policy decides. The same goes for panics, which are caught.
///
/// Write `async fn validate_create`; the trait spells the future out only to require that it is `Send`.
pub trait Validator: Send + Sync + 'static {
    /// The kind that is judged.
    type Object: Object;

    /// An object is to be created.
    ///
    /// # Errors
    /// When there is no verdict.
    fn validate_create(
        &self,
        object: &Self::Object,
        cx: &Admission,
    ) -> impl Future<Output = Result<Verdict>> + Send;

    /// An object is to be changed. By default the new one is judged as if it were created.
    ///
    /// # Errors
    /// When there is no verdict.
    fn validate_update(
        &self,
        old: &Self::Object,
        new: &Self::Object,
        cx: &Admission,
    ) -> impl Future<Output = Result<Verdict>> + Send {
        let _ = old;
        self.validate_create(new, cx)
    }

    /// An object is to be deleted. Asked only where the webhook is registered for it, see
    /// [`Webhook::operations`](super::Webhook::operations). Allows by default.
    ///
    /// # Errors
    /// When there is no verdict.
    fn validate_delete(
        &self,
        object: &Self::Object,
        cx: &Admission,
    ) -> impl Future<Output = Result<Verdict>> + Send {
        let _ = (object, cx);
        async { Ok(Verdict::allow()) }
    }
}

/// Changes objects of one kind as they are written: sets defaults, adds labels, injects containers.
pub trait Mutator: Send + Sync + 'static {
    /// The kind that is changed.
    type Object: Object;

    /// Changes an object that is to be created or updated. Only what differs afterwards is sent back, and fields that
    /// the type does not know stay as they are. May be called more than once for a write: doing it twice has to be
    /// the same as doing it once.
    ///
    /// # Errors
    /// When it can't be said what the object should be; the failure policy decides.
    fn mutate(
        &self,
        object: &mut Self::Object,
        cx: &Admission,
    ) -> impl Future<Output = Result<Verdict>> + Send;
}

/// Judges or changes writes of any kind, on JSON. Objects are at [`Admission::object`] and
/// [`Admission::old_object`]; a mutating webhook answers with [`Verdict::replace`].
pub trait Handler: Send + Sync + 'static {
    /// Answers.
    ///
    /// # Errors
    /// When there is no verdict.
    fn handle(&self, cx: &Admission) -> impl Future<Output = Result<Verdict>> + Send;
}

/// The write that is judged: who, what, and what can be looked up to judge it.
pub struct Admission {
    request: Request,
    context: Context,
}

impl Admission {
    pub(super) fn new(request: Request, context: impl FnOnce(Key) -> Context) -> Admission {
        let key = Key::new(&request.namespace, &request.name);
        Admission { request, context: context(key) }
    }

    /// What is done.
    pub fn operation(&self) -> Operation {
        self.request.operation
    }

    /// Who does it.
    pub fn user(&self) -> &UserInfo {
        &self.request.user_info
    }

    /// Whether nothing will be stored: a webhook must then have no effect beyond its answer.
    pub fn is_dry_run(&self) -> bool {
        self.request.dry_run == Some(true)
    }

    /// Namespace and name of the object. The name may be empty when the server is to generate it.
    pub fn key(&self) -> &Key {
        self.context.key()
    }

    /// The resource, in the version of the objects.
    pub fn resource(&self) -> &GroupVersionResource {
        &self.request.resource
    }

    /// The subresource that is written, such as `status`.
    pub fn subresource(&self) -> Option<&str> {
        Some(&*self.request.sub_resource).filter(|name| !name.is_empty())
    }

    /// The review's own identifier, for logs.
    pub fn uid(&self) -> &str {
        &self.request.uid
    }

    /// The object as it is to be; none for deletions.
    ///
    /// # Errors
    /// When it is no JSON of reasonable depth.
    pub fn object(&self) -> Result<Option<Value>> {
        self.request.object.as_deref().map(decode).transpose()
    }

    /// The object as it is; none for creations.
    ///
    /// # Errors
    /// When it is no JSON of reasonable depth.
    pub fn old_object(&self) -> Result<Option<Value>> {
        self.request.old_object.as_deref().map(decode).transpose()
    }

    /// The options of the write, such as `DeleteOptions`.
    ///
    /// # Errors
    /// When they are no JSON of reasonable depth.
    pub fn options(&self) -> Result<Option<Value>> {
        self.request.options.as_deref().map(decode).transpose()
    }

    /// An object of the cache, of a kind declared with [`Webhook::reads`](super::Webhook::reads). As
    /// [`Context::get`].
    pub fn get<K: Object>(&self, key: impl Into<Key>) -> Get<K> {
        self.context.get(key)
    }

    /// Objects of the cache, of a kind declared with [`Webhook::reads`](super::Webhook::reads). As
    /// [`Context::list`].
    pub fn list<K: Object>(&self) -> List<K> {
        self.context.list()
    }

    /// The declared part of the cache, without `async`.
    pub fn view(&self) -> &View {
        self.context.view()
    }

    /// A client that allows what the webhook declares. A webhook is in the way of a write: prefer the cache.
    pub fn client(&self) -> kube::Client {
        self.context.client()
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operation, resource) = (self.operation().as_str(), &self.request.resource.resource);
        write!(f, "Admission({operation} {resource} {} by {})", self.key(), self.user().username)
    }
}

/// What a handler said, and for mutating ones the object that a replacement is compared with.
pub(super) struct Answered {
    pub verdict: Verdict,
    pub original: Option<Value>,
}

/// A handler without its types.
pub(super) trait Erased: Send + Sync {
    fn answer<'a>(&'a self, cx: &'a Admission) -> BoxFuture<'a, Result<Answered>>;
}

pub(super) struct Validates<V>(pub V);
pub(super) struct Mutates<M>(pub M);
pub(super) struct Raw<H>(pub H);

impl<V: Validator> Erased for Validates<V> {
    fn answer<'a>(&'a self, cx: &'a Admission) -> BoxFuture<'a, Result<Answered>> {
        async move {
            let (object, old) = (&cx.request.object, &cx.request.old_object);
            let verdict = match cx.operation() {
                Operation::Create => self.0.validate_create(&typed(object, "object")?, cx).await?,
                Operation::Update => {
                    let (old, new) = (typed(old, "oldObject")?, typed(object, "object")?);
                    self.0.validate_update(&old, &new, cx).await?
                }
                Operation::Delete => self.0.validate_delete(&typed(old, "oldObject")?, cx).await?,
                // What is connected to is no object of the kind, so no typed webhook is registered for it.
                Operation::Connect => Verdict::allow(),
            };
            Ok(Answered { verdict, original: None })
        }
        .boxed()
    }
}

impl<M: Mutator> Erased for Mutates<M> {
    fn answer<'a>(&'a self, cx: &'a Admission) -> BoxFuture<'a, Result<Answered>> {
        async move {
            if !matches!(cx.operation(), Operation::Create | Operation::Update) {
                return Ok(Answered { verdict: Verdict::allow(), original: None });
            }
            let mut object: M::Object = typed(&cx.request.object, "object")?;
            let before = serde_json::to_value(&object)?;
            let verdict = self.0.mutate(&mut object, cx).await?;
            let after = serde_json::to_value(&object)?;
            let original = cx.object()?.unwrap_or_default();
            let mut changed = original.clone();
            carry(&before, &after, &mut changed);
            Ok(Answered { verdict: verdict.replace(changed), original: Some(original) })
        }
        .boxed()
    }
}

impl<H: Handler> Erased for Raw<H> {
    fn answer<'a>(&'a self, cx: &'a Admission) -> BoxFuture<'a, Result<Answered>> {
        async move { Ok(Answered { verdict: self.0.handle(cx).await?, original: cx.object()? }) }.boxed()
    }
}

/// Runs a handler; the outer error is what a caught panic said.
pub(super) async fn caught(handler: &Arc<dyn Erased>, cx: &Admission) -> Result<Result<Answered>, String> {
    let answer = std::panic::AssertUnwindSafe(async { handler.answer(cx).await });
    answer.catch_unwind().await.map_err(|panic| crate::controller::panic_message(&*panic))
}

fn decode(raw: &RawValue) -> Result<Value> {
    let unreadable = |error| Error::Usage(format!("an object of the review can't be read: {error}"));
    serde_json::from_str(raw.get()).map_err(unreadable)
}

fn typed<K: Object>(raw: &Option<Box<RawValue>>, what: &str) -> Result<K> {
    let raw = raw.as_deref().ok_or_else(|| Error::Usage(format!("the review has no {what}")))?;
    serde_json::from_str(raw.get())
        .map_err(|error| Error::Usage(format!("the {what} of the review is no {}: {error}", K::kind(&()))))
}

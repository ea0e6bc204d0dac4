//! Webhooks: the API server asks the operator before it writes an object, or to convert one between versions.
//!
//! ```no_run
//! use k8s_openapi::api::core::v1::Pod;
//! use kubewright::webhook::{Admission, Validator, Verdict, Webhook};
//! use kubewright::{Operator, Result};
//!
//! /// Refuses pods that use the network of their node.
//! struct NoHostNetwork;
//!
//! impl Validator for NoHostNetwork {
//!     type Object = Pod;
//!
//!     async fn validate_create(&self, pod: &Pod, _: &Admission) -> Result<Verdict> {
//!         let host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
//!         Ok(if host { Verdict::deny("hostNetwork is not for pods here") } else { Verdict::allow() })
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result {
//!     Operator::new("no-host-network").webhook(Webhook::validating(NoHostNetwork)).main().await
//! }
//! ```
//!
//! `manifests` prints the Service, the configurations and the rights that follow; `run` serves, makes and rotates the
//! certificates and tells the API server whom to trust. Nothing else has to be set up, neither in a cluster nor under
//! `kubewright dev`.
//!
//! What flows through: AdmissionReview and ConversionReview in, verdicts and converted objects out. What never happens:
//! an answer that depends on another request, or a write to the cluster that the webhook did not declare.

mod admission;
mod bodies;
pub(crate) mod certificates;
mod configuration;
mod conversion;
mod edits;
pub(crate) mod metrics;
pub(crate) mod names;
mod review;
mod server;
mod set;
mod verdict;

use std::fmt;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
pub use kubewright_machinery::reviews::Operation;

pub use self::admission::{Admission, Handler, Mutator, Validator};
use self::admission::{Erased, Mutates, Raw, Validates};
pub use self::certificates::{Certificates, Lives};
pub use self::conversion::Conversion;
pub(crate) use self::conversion::Converts;
pub use self::review::{GroupVersionResource, UserInfo};
pub(crate) use self::set::Webhooks;
pub use self::verdict::{Cause, Verdict};
use crate::cache::Index;
use crate::client::Permit;
use crate::context::Uses;
use crate::kind::{Defined, Kind, Object};

/// What happens to a write when a webhook can't be asked, or has no verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It is refused.
    #[default]
    Fail,
    /// It goes on as if the webhook were not there.
    Ignore,
}

/// Whether asking a webhook changes anything beside the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SideEffects {
    /// No.
    #[default]
    None,
    /// Only when the write is no dry run.
    NoneOnDryRun,
}

/// A webhook being put together: who judges or changes, and which writes.
#[derive(Clone)]
pub struct Webhook {
    mutating: bool,
    kind: Kind,
    resources: Vec<String>,
    operations: Vec<Operation>,
    name: Option<String>,
    path: Option<String>,
    failure_policy: FailurePolicy,
    side_effects: SideEffects,
    timeout: u8,
    reinvoke: bool,
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
    handler: Arc<dyn Erased>,
    pub(crate) definition: Option<CustomResourceDefinition>,
    pub(crate) uses: Uses,
}

impl Webhook {
    /// Judges creations and updates of the validator's kind. A custom kind's definition is part of the operator's
    /// manifests. (`By` is inferred.)
    pub fn validating<V, By>(validator: V) -> Webhook
    where
        V: Validator,
        V::Object: Defined<By>,
    {
        let definition = V::Object::definition();
        Webhook::new(false, Kind::of::<V::Object>(), definition, Arc::new(Validates(validator)))
    }

    /// Changes objects of the mutator's kind when they are created or updated.
    pub fn mutating<M, By>(mutator: M) -> Webhook
    where
        M: Mutator,
        M::Object: Defined<By>,
    {
        let definition = M::Object::definition();
        Webhook::new(true, Kind::of::<M::Object>(), definition, Arc::new(Mutates(mutator)))
    }

    /// Judges creations and updates of a kind on JSON.
    pub fn validating_raw(kind: &Kind, handler: impl Handler) -> Webhook {
        Webhook::new(false, kind.clone(), None, Arc::new(Raw(handler)))
    }

    /// Changes objects of a kind on JSON.
    pub fn mutating_raw(kind: &Kind, handler: impl Handler) -> Webhook {
        Webhook::new(true, kind.clone(), None, Arc::new(Raw(handler)))
    }

    fn new(
        mutating: bool,
        kind: Kind,
        definition: Option<CustomResourceDefinition>,
        handler: Arc<dyn Erased>,
    ) -> Webhook {
        Webhook {
            mutating,
            resources: vec![kind.plural.clone()],
            kind,
            operations: vec![Operation::Create, Operation::Update],
            name: None,
            path: None,
            failure_policy: FailurePolicy::default(),
            side_effects: SideEffects::default(),
            timeout: 10,
            reinvoke: false,
            namespaces: None,
            objects: None,
            handler,
            definition,
            uses: Uses::new(),
        }
    }

    /// The name in the configuration, and in what clients are told: at least three words with dots between. By default
    /// `validate.RESOURCE.OPERATOR` or `mutate.RESOURCE.OPERATOR`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Webhook {
        self.name = Some(name.into());
        self
    }

    /// Another path than `/validate-GROUP-VERSION-KIND` or `/mutate-GROUP-VERSION-KIND`: two webhooks of one sort for
    /// one kind need different ones.
    #[must_use]
    pub fn path(mut self, path: &str) -> Webhook {
        self.path = Some(format!("/{}", path.trim_start_matches('/')));
        self
    }

    /// Which operations are asked about; creations and updates by default.
    #[must_use]
    pub fn operations(mut self, operations: impl IntoIterator<Item = Operation>) -> Webhook {
        self.operations = operations.into_iter().collect();
        self
    }

    /// Is asked about a subresource too, such as `ephemeralcontainers` of pods, whose reviews hold the same kind.
    #[must_use]
    pub fn subresource(mut self, name: &str) -> Webhook {
        self.resources.push(format!("{}/{name}", self.kind.plural));
        self
    }

    /// What happens when it can't be asked; writes are refused by default.
    #[must_use]
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Webhook {
        self.failure_policy = policy;
        self
    }

    /// Whether it has effects beside its answer; none by default.
    #[must_use]
    pub fn side_effects(mut self, effects: SideEffects) -> Webhook {
        self.side_effects = effects;
        self
    }

    /// How long the API server waits for an answer: 1 to 30 seconds, 10 by default.
    #[must_use]
    pub fn timeout_seconds(mut self, seconds: u8) -> Webhook {
        self.timeout = seconds.clamp(1, 30);
        self
    }

    /// Is asked again when a later webhook changes the object. For mutating webhooks.
    #[must_use]
    pub fn reinvoke_if_needed(mut self) -> Webhook {
        self.reinvoke = true;
        self
    }

    /// Only writes in namespaces with these labels. By default all; but for kinds of Kubernetes itself not the
    /// operator's own namespace, whose pods could otherwise not be started while nobody answers.
    #[must_use]
    pub fn namespace_selector(mut self, selector: LabelSelector) -> Webhook {
        self.namespaces = Some(selector);
        self
    }

    /// Only objects with these labels, before or after the write. Their authors choose the labels: nothing for rules
    /// that must hold.
    #[must_use]
    pub fn object_selector(mut self, selector: LabelSelector) -> Webhook {
        self.objects = Some(selector);
        self
    }

    /// Reads this kind from the cache.
    #[must_use]
    pub fn reads<K: Object>(self) -> Webhook {
        self.reads_kind(&Kind::of::<K>())
    }

    /// Reads a kind known only at run time.
    #[must_use]
    pub fn reads_kind(mut self, kind: &Kind) -> Webhook {
        self.uses = self.uses.reads_kind(kind);
        self
    }

    /// Makes objects of a kind findable by an index. Declares the kind as read.
    #[must_use]
    pub fn index(mut self, index: Index) -> Webhook {
        self.uses = self.uses.index(index);
        self
    }

    /// Any other use of the API.
    #[must_use]
    pub fn permits(mut self, permit: Permit) -> Webhook {
        self.uses = self.uses.permits(permit);
        self
    }

    /// Where it is served.
    fn served_at(&self) -> String {
        self.path.clone().unwrap_or_else(|| {
            let verb = if self.mutating { "mutate" } else { "validate" };
            let group = self.kind.group.replace('.', "-");
            format!("/{verb}-{group}-{}-{}", self.kind.version, self.kind.kind.to_lowercase())
        })
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({} for {})", self.served_at(), self.kind)
    }
}

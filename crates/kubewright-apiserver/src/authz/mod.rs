//! Whether a caller may do what it asks: the [`Authorizer`] seam.
//!
//! [`Attributes`] flow in, a [`Decision`] comes out. Authorizers are asked in order; the first that allows or denies
//! decides, and when none has an opinion the request is refused with all reasons given.

pub mod rbac;
pub mod usage;
mod webhook;

use std::borrow::Cow;

use kubewright_machinery::field;
pub use kubewright_machinery::reviews::Decision;
use kubewright_machinery::status::Status;

use crate::authn::UserInfo;
use crate::server::Core;
use crate::{BoxFuture, ready};

pub use usage::Usage;
pub use webhook::{Webhook, WebhookSettings};

/// What is asked for, as an authorizer sees it (`authorizer.Attributes`).
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// `get`, `list`, `watch`, `create`, … or the lower-case HTTP method for a path that is no resource.
    pub verb: Cow<'a, str>,
    /// API group; empty for core and for paths.
    pub group: Cow<'a, str>,
    /// API version.
    pub version: Cow<'a, str>,
    /// Plural resource name; empty for a path that is no resource.
    pub resource: Cow<'a, str>,
    /// Subresource, or empty.
    pub subresource: Cow<'a, str>,
    /// Namespace; empty for all of them and for cluster-scoped resources.
    pub namespace: Cow<'a, str>,
    /// Name of the object; empty when the request names none.
    pub name: Cow<'a, str>,
    /// URL path, of a request that is for no resource.
    pub path: Cow<'a, str>,
    /// Whether this is for a resource.
    pub resource_request: bool,
    /// Label selector of the request, as written.
    pub label_selector: Option<Cow<'a, str>>,
    /// Field selector of the request, as written.
    pub field_selector: Option<Cow<'a, str>>,
}

impl<'a> Attributes<'a> {
    /// May the user do this to a resource: to all of its objects, in all namespaces?
    pub fn of_resource(
        user: &'a UserInfo,
        verb: impl Into<Cow<'a, str>>,
        group: &'a str,
        version: &'a str,
        resource: &'a str,
    ) -> Self {
        Attributes {
            user,
            verb: verb.into(),
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
            subresource: "".into(),
            namespace: "".into(),
            name: "".into(),
            path: "".into(),
            resource_request: true,
            label_selector: None,
            field_selector: None,
        }
    }
}

/// One policy.
pub trait Authorizer: Send + Sync {
    /// Decides. It must not block: what it needs it reads through `core.reader()`.
    fn authorize<'a>(&'a self, core: &'a Core, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision>;

    /// What a user may do in a namespace (empty: in the cluster), as far as this policy can tell.
    fn rules<'a>(
        &'a self,
        core: &'a Core,
        user: &'a UserInfo,
        namespace: &'a str,
    ) -> BoxFuture<'a, UserRules> {
        let _ = (core, user, namespace);
        ready(UserRules::default())
    }
}

/// What a user may do.
#[derive(Clone, Debug, Default)]
pub struct UserRules {
    /// The rules.
    pub rules: Vec<rbac::Rule>,
    /// Whether there may be more that cannot be enumerated.
    pub incomplete: bool,
    /// What went wrong on the way.
    pub errors: Vec<String>,
}

/// What a user may do, by all policies together.
pub async fn rules(core: &Core, user: &UserInfo, namespace: &str) -> UserRules {
    let mut all = UserRules::default();
    for authorizer in core.authorizers() {
        let some = authorizer.rules(core, user, namespace).await;
        all.rules.extend(some.rules);
        all.incomplete |= some.incomplete;
        all.errors.extend(some.errors);
    }
    all
}

/// Allows everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize<'a>(&'a self, _core: &'a Core, _attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        ready(Decision::Allow(String::new()))
    }

    fn rules<'a>(
        &'a self,
        _core: &'a Core,
        _user: &'a UserInfo,
        _namespace: &'a str,
    ) -> BoxFuture<'a, UserRules> {
        ready(UserRules { rules: rbac::Rule::everything().to_vec(), ..UserRules::default() })
    }
}

/// Refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysDeny;

impl Authorizer for AlwaysDeny {
    fn authorize<'a>(&'a self, _core: &'a Core, _attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        ready(Decision::NoOpinion("Everything is forbidden.".into()))
    }
}

/// Asks the authorizers in order. `NoOpinion` carries the reasons of all of them, joined by newlines.
pub async fn decide(core: &Core, attributes: &Attributes<'_>) -> Decision {
    let mut reasons: Vec<String> = Vec::new();
    for authorizer in core.authorizers() {
        match authorizer.authorize(core, attributes).await {
            Decision::NoOpinion(reason) if reason.is_empty() => {}
            Decision::NoOpinion(reason) => reasons.push(reason),
            decided => return decided,
        }
    }
    Decision::NoOpinion(reasons.join("\n"))
}

/// Decides on what a caller does, as [`decide`], and notes the answer where use is noted.
pub async fn exercise(core: &Core, attributes: &Attributes<'_>) -> Decision {
    let decided = decide(core, attributes).await;
    note(core, attributes, matches!(decided, Decision::Allow(_)));
    decided
}

/// Whether a caller has a permission that it can also do without; noted only where it has.
pub async fn exercise_if_granted(core: &Core, attributes: &Attributes<'_>) -> bool {
    let granted = matches!(decide(core, attributes).await, Decision::Allow(_));
    if granted {
        note(core, attributes, true);
    }
    granted
}

fn note(core: &Core, attributes: &Attributes<'_>, allowed: bool) {
    if let Some(usage) = &core.config().usage {
        usage.note(attributes, allowed);
    }
}

/// 403 for a request that no authorizer allows, with the words of the real server.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let user = field::quote(&attributes.user.name);
    let mut message = if attributes.resource_request {
        let mut resource = attributes.resource.to_string();
        if !attributes.subresource.is_empty() {
            resource.push('/');
            resource.push_str(&attributes.subresource);
        }
        let scope = if attributes.namespace.is_empty() {
            "at the cluster scope".to_string()
        } else {
            format!("in the namespace {}", field::quote(&attributes.namespace))
        };
        let (verb, group) = (&attributes.verb, field::quote(&attributes.group));
        format!("User {user} cannot {verb} resource {} in API group {group} {scope}", field::quote(&resource))
    } else {
        format!("User {user} cannot {} path {}", attributes.verb, field::quote(&attributes.path))
    };
    // What came from the URL must not look like HTML.
    message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    Status::forbidden(&attributes.group, &attributes.resource, &attributes.name, message)
}

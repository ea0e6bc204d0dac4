//! In which ways somebody may be allowed to act as another: constrained to kinds of users and to what is done as them
//! (KEP-5284), or plainly, by the verb `impersonate`.
//!
//! What is wanted flows in; the first mode that allows all of it comes out, else the refusal of the first that was tried.

use std::collections::HashMap;

use kubewright_machinery::field::{Error, Path, quote};
use kubewright_machinery::names;
use kubewright_machinery::status::Status;
use parking_lot::Mutex;

use super::Wanted;
use crate::authn::{MASTERS, UserInfo, service_account};
use crate::authz::{self, Attributes, Decision};
use crate::request::RequestInfo;
use crate::server::{self, Core};

/// The extra that says on which node the pod of a service account runs.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Callers whose last mode is remembered.
const REMEMBERED: usize = 10_000;

/// A way of being allowed to act as somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A service account as the node that its pod runs on.
    AssociatedNode,
    /// As any node.
    ArbitraryNode,
    /// As a service account.
    ServiceAccount,
    /// As a user that is neither node nor service account, with all that belongs to it.
    UserInfo,
    /// As anybody, to do anything.
    Plain,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Plain];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Plain => "",
        }
    }

    /// The verb that is needed on the user acted as, and on each part of it.
    pub(super) fn verb(self) -> String {
        match self {
            Mode::Plain => "impersonate".into(),
            mode => format!("impersonate:{}", mode.name()),
        }
    }

    fn applies(self, wanted: &Wanted, caller: &UserInfo) -> bool {
        let is_account = service_account::split(&wanted.name).is_some();
        match self {
            Mode::AssociatedNode => {
                wanted.has_only_a_name()
                    && service_account::split(&caller.name).is_some()
                    && wanted.node().is_some_and(|node| {
                        caller.extra.get(NODE_NAME).is_some_and(|on| on.len() == 1 && on[0] == node)
                    })
            }
            Mode::ArbitraryNode => wanted.has_only_a_name() && wanted.node().is_some(),
            Mode::ServiceAccount => wanted.has_only_a_name() && is_account,
            Mode::UserInfo => !is_account && wanted.node().is_none(),
            Mode::Plain => true,
        }
    }
}

/// Which mode last let a caller through: it is tried first the next time, so that each caller pays for its own mode.
#[derive(Debug, Default)]
pub(crate) struct Habits(Mutex<HashMap<Box<str>, Mode>>);

impl Habits {
    fn of(&self, caller: &str) -> Option<Mode> {
        self.0.lock().get(caller).copied()
    }

    fn keep(&self, caller: &str, mode: Mode) {
        let mut kept = self.0.lock();
        if kept.len() >= REMEMBERED {
            kept.clear();
        }
        kept.insert(caller.into(), mode);
    }
}

/// The mode in which the caller may do what it asks as who it wants.
pub(super) async fn allowing(
    core: &Core,
    caller: &UserInfo,
    info: &RequestInfo,
    wanted: &Wanted,
) -> Result<Mode, Status> {
    let usual = core.impersonation_habits().of(&caller.name);
    let others = MODES.into_iter().filter(|mode| Some(*mode) != usual);
    let mut refusal = None;
    for mode in usual.into_iter().chain(others).filter(|mode| mode.applies(wanted, caller)) {
        match check(core, caller, info, wanted, mode).await {
            Ok(()) => {
                if usual != Some(mode) {
                    core.impersonation_habits().keep(&caller.name, mode);
                }
                return Ok(mode);
            }
            Err(status) => refusal = refusal.or(Some(status)),
        }
    }
    Err(refusal.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

async fn check(
    core: &Core,
    caller: &UserInfo,
    info: &RequestInfo,
    wanted: &Wanted,
    mode: Mode,
) -> Result<(), Status> {
    if mode == Mode::Plain {
        return all(core, &wanted.questions(caller, mode)).await;
    }
    // Which node it is has been checked; what decides is that it is the caller's own, whichever that be.
    let anywhere = (mode == Mode::AssociatedNode).then(|| {
        let keys = caller.extra.keys().cloned().collect();
        let known = ("authentication.kubernetes.io/associated-node-keys".to_string(), keys);
        UserInfo { extra: [known].into(), ..caller.clone() }
    });
    let caller = anywhere.as_ref().unwrap_or(caller);
    let done = server::attributes(caller, info);
    let verb = format!("impersonate-on:{}:{}", mode.name(), done.verb);
    one(core, &Attributes { verb: verb.into(), ..done }).await?;
    let questions = wanted.questions(caller, mode);
    let (user, parts) = questions.split_at(if wanted.uid.is_empty() { 1 } else { 2 });
    all(core, user).await?;
    if let Some((why, resource, name)) = never(wanted) {
        let about = &questions[0][0];
        let about = Attributes {
            resource: resource.into(),
            name: name.into(),
            namespace: "".into(),
            ..about.clone()
        };
        return Err(authz::forbidden(&about, &why));
    }
    all(core, parts).await
}

/// What no constrained mode allows to anybody: why, of which resource, under which name.
fn never(wanted: &Wanted) -> Option<(String, &'static str, &'static str)> {
    if wanted.groups.iter().any(String::is_empty) {
        return Some(("impersonating the empty string group is not allowed".into(), "groups", ""));
    }
    if wanted.groups.iter().any(|group| group == MASTERS) {
        return Some(("impersonating the system:masters group is not allowed".into(), "groups", MASTERS));
    }
    for (key, values) in &wanted.extra {
        let why = if key.is_empty() {
            "impersonating the empty string key in extra is not allowed".to_string()
        } else if let Some(error) = domain_prefixed(key) {
            format!("impersonating an invalid key in extra is not allowed: {error}")
        } else if *key != key.to_lowercase() {
            format!("impersonating a non-lowercase key in extra is not allowed: {}", quote(key))
        } else if values.iter().any(String::is_empty) {
            "impersonating the empty string value in extra is not allowed".to_string()
        } else {
            continue;
        };
        return Some((why, "userextras", ""));
    }
    None
}

/// What keeps a key from being one like `acme.io/project`.
fn domain_prefixed(key: &str) -> Option<Error> {
    let (extra, path) =
        (Path::new("extra"), key.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()));
    let at = extra.child("key");
    let Some((host, _)) = path else {
        return Some(Error::invalid(&at, key, "must be a domain-prefixed path (such as \"acme.io/foo\")"));
    };
    names::name_is_subdomain(host, false).into_iter().next().map(|why| Error::invalid(&at, host, why))
}

/// Every question has to be answered with yes, by one of its alternatives.
async fn all(core: &Core, questions: &[Vec<Attributes<'_>>]) -> Result<(), Status> {
    for alternatives in questions {
        let mut answer = Ok(());
        for question in alternatives {
            answer = one(core, question).await;
            if answer.is_ok() {
                break;
            }
        }
        answer?;
    }
    Ok(())
}

async fn one(core: &Core, question: &Attributes<'_>) -> Result<(), Status> {
    match authz::decide(core, question).await {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(authz::forbidden(question, &reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> Wanted {
        Wanted { name: name.into(), ..Wanted::default() }
    }

    fn modes(wanted: &Wanted, caller: &UserInfo) -> Vec<Mode> {
        MODES.into_iter().filter(|mode| mode.applies(wanted, caller)).collect()
    }

    #[test]
    fn each_kind_of_user_has_its_mode_and_the_plain_one_is_for_all() {
        let caller = UserInfo::new("proxy", &[]);
        assert_eq!(modes(&wanted("eve"), &caller), [Mode::UserInfo, Mode::Plain]);
        assert_eq!(modes(&wanted("system:node:n1"), &caller), [Mode::ArbitraryNode, Mode::Plain]);
        let account = wanted("system:serviceaccount:a:b");
        assert_eq!(modes(&account, &caller), [Mode::ServiceAccount, Mode::Plain]);
        let more = Wanted { groups: vec!["x".into()], ..account };
        assert_eq!(modes(&more, &caller), [Mode::Plain]);
    }

    #[test]
    fn a_service_account_is_associated_with_the_node_of_its_pod_alone() {
        let mut caller = UserInfo::new("system:serviceaccount:a:agent", &[]);
        caller.extra.insert(NODE_NAME.into(), vec!["n1".into()]);
        assert!(modes(&wanted("system:node:n1"), &caller).contains(&Mode::AssociatedNode));
        assert!(!modes(&wanted("system:node:n2"), &caller).contains(&Mode::AssociatedNode));
    }

    #[test]
    fn nobody_acts_as_a_master_under_a_constraint() {
        let masters = Wanted { groups: vec![MASTERS.into()], ..wanted("eve") };
        assert!(never(&masters).is_some());
        let extra = |key: &str, value: &str| Wanted {
            extra: [(key.to_string(), vec![value.to_string()])].into(),
            ..wanted("eve")
        };
        assert!(never(&extra("scopes", "x")).is_some());
        assert!(never(&extra("acme.io/scopes", "")).is_some());
        assert!(never(&extra("acme.io/scopes", "x")).is_none());
    }
}

//! Acting as somebody else: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-…` headers.
//!
//! The caller, the request and its headers flow in; the user to act as comes out, once one of the [`modes`] allows all of
//! it: constrained ones (KEP-5284) first, the verb `impersonate` last.

mod modes;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use kubewright_machinery::field::quote;
use kubewright_machinery::names;
use kubewright_machinery::status::Status;

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, UserInfo, service_account};
use crate::authz::Attributes;
use crate::request::RequestInfo;
use crate::server::Core;

pub(crate) use modes::Habits;
use modes::Mode;

const GROUP: &str = "authentication.k8s.io";
const EXTRA: &str = "impersonate-extra-";
/// The user names of kubelets begin with this.
const NODE_PREFIX: &str = "system:node:";
/// The group of kubelets.
const NODES: &str = "system:nodes";
/// From so many values on, the right to all of them is asked for first.
const MANY: usize = 4;

/// Who is acted as.
pub(crate) struct Impersonated {
    /// The user.
    pub user: Arc<UserInfo>,
    /// The verb of the constrained mode that allowed it, as audit events name it; empty for the plain one.
    pub constraint: String,
}

/// The user that the caller acts as, if it may: `None` where the request says nothing of that.
pub(crate) async fn impersonate(
    core: &Core,
    caller: &UserInfo,
    info: &RequestInfo,
    headers: &HeaderMap,
) -> Result<Option<Impersonated>, Status> {
    let wanted = Wanted::read(headers);
    if wanted.name.is_empty() {
        return match wanted.is_empty() {
            true => Ok(None),
            false => {
                let what = wanted.in_go_syntax();
                Err(Status::bad_request(format!("requested {what} without impersonating a user name")))
            }
        };
    }
    let mode = modes::allowing(core, caller, info, &wanted).await?;
    let constraint = if mode == Mode::Plain { String::new() } else { mode.verb() };
    Ok(Some(Impersonated { user: Arc::new(wanted.into_user(mode)), constraint }))
}

/// Takes the headers away: whoever serves the request sees the user acted as alone.
pub(crate) fn forget(headers: &mut HeaderMap) {
    let ours = |name: &str| {
        matches!(name, "impersonate-user" | "impersonate-group" | "impersonate-uid")
            || name.starts_with(EXTRA)
    };
    let names: Vec<_> = headers.keys().filter(|name| ours(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// What the headers ask for.
#[derive(Debug, Default)]
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
    /// Some header was there, even if empty.
    any: bool,
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Self {
        let first = |name: &str| text(headers.get(name));
        let mut wanted = Self {
            name: first("impersonate-user"),
            uid: first("impersonate-uid"),
            groups: headers.get_all("impersonate-group").iter().map(|v| text(Some(v))).collect(),
            ..Self::default()
        };
        for (name, value) in headers {
            if let Some(key) = name.as_str().strip_prefix(EXTRA) {
                wanted.any = true;
                wanted.extra.entry(unescaped(key)).or_default().push(text(Some(value)));
            }
        }
        wanted
    }

    fn is_empty(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && !self.any
    }

    fn has_only_a_name(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }

    /// The node that the user wanted is.
    fn node(&self) -> Option<&str> {
        self.name.strip_prefix(NODE_PREFIX).filter(|name| names::name_is_subdomain(name, false).is_empty())
    }

    /// What has to be allowed in a mode: the user, then uid, groups and extras. Each answer is one of alternatives: the
    /// first that is allowed will do.
    fn questions<'a>(&'a self, caller: &'a UserInfo, mode: Mode) -> Vec<Vec<Attributes<'a>>> {
        let verb: Cow<'a, str> = mode.verb().into();
        let constrained = mode != Mode::Plain;
        let question = |group: &'static str, resource: &'static str, name: &'a str| Attributes {
            name: name.into(),
            ..Attributes::of_resource(caller, verb.clone(), group, "v1", resource)
        };
        let of_users = if constrained { GROUP } else { "" };
        let user = match (service_account::split(&self.name), self.node()) {
            (Some((namespace, name)), _) => {
                Attributes { namespace: namespace.into(), ..question(of_users, "serviceaccounts", name) }
            }
            // A service account that acts as its node may do so for whichever node it is on.
            (None, Some(_)) if mode == Mode::AssociatedNode => question(of_users, "nodes", "*"),
            (None, Some(node)) if constrained => question(of_users, "nodes", node),
            (None, _) => question(of_users, "users", &self.name),
        };
        let mut questions = vec![vec![user]];
        if !self.uid.is_empty() {
            questions.push(vec![question(GROUP, "uids", &self.uid)]);
        }
        let all_groups =
            (constrained && self.groups.len() >= MANY).then(|| question(of_users, "groups", "*"));
        questions.extend(self.groups.iter().map(|group| {
            all_groups.clone().into_iter().chain([question(of_users, "groups", group)]).collect()
        }));
        let count: usize = self.extra.values().map(Vec::len).sum();
        let all_extra = (constrained && count >= MANY)
            .then(|| Attributes { subresource: "*".into(), ..question(GROUP, "userextras", "*") });
        for (key, values) in &self.extra {
            questions.extend(values.iter().map(|value| {
                let one =
                    Attributes { subresource: key.as_str().into(), ..question(GROUP, "userextras", value) };
                all_extra.clone().into_iter().chain([one]).collect()
            }));
        }
        questions
    }

    fn into_user(self, mode: Mode) -> UserInfo {
        let mut groups = self.groups.clone();
        if groups.is_empty()
            && let Some((namespace, _)) = service_account::split(&self.name)
        {
            groups = service_account::groups(namespace).to_vec();
        }
        if mode != Mode::Plain && self.node().is_some() {
            groups = vec![NODES.into()];
        }
        let is_in = |group: &str| groups.iter().any(|g| g == group);
        if self.name == ANONYMOUS {
            if !is_in(UNAUTHENTICATED) {
                groups.push(UNAUTHENTICATED.into());
            }
        } else if !is_in(AUTHENTICATED) && !is_in(UNAUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        UserInfo { name: self.name, uid: self.uid, groups, extra: self.extra }
    }

    /// As the real server prints it.
    fn in_go_syntax(&self) -> String {
        let strings = |items: &[String]| {
            let quoted: Vec<String> = items.iter().map(|i| quote(i)).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        };
        let groups = if self.groups.is_empty() { "[]string(nil)".into() } else { strings(&self.groups) };
        let extra = if self.extra.is_empty() {
            "map[string][]string(nil)".to_string()
        } else {
            let pairs: Vec<String> = self
                .extra
                .iter()
                .map(|(key, values)| format!("{}:{}", quote(key), strings(values)))
                .collect();
            format!("map[string][]string{{{}}}", pairs.join(", "))
        };
        format!(
            "&user.DefaultInfo{{Name:{}, UID:{}, Groups:{groups}, Extra:{extra}}}",
            quote(&self.name),
            quote(&self.uid)
        )
    }
}

/// A header as text. A byte that is no text makes it another one than any that could be allowed by name.
fn text(value: Option<&http::HeaderValue>) -> String {
    value.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).unwrap_or_default()
}

/// Keys come percent-encoded; one that is not well-formed stands for itself.
pub(super) fn unescaped(key: &str) -> String {
    match percent_encoding::percent_decode_str(key).decode_utf8() {
        Ok(decoded) if is_well_formed(key) => decoded.into_owned(),
        _ => key.to_string(),
    }
}

fn is_well_formed(key: &str) -> bool {
    let after_percent = key.split('%').skip(1);
    after_percent.into_iter().all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(headers: &[(&str, &str)]) -> Wanted {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, value.parse().unwrap());
        }
        Wanted::read(&map)
    }

    #[test]
    fn a_service_account_is_in_its_groups_unless_others_are_named() {
        let user =
            wanted(&[("Impersonate-User", "system:serviceaccount:default:builder")]).into_user(Mode::Plain);
        let own = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
        assert_eq!(user.groups, own);
        let user = wanted(&[
            ("Impersonate-User", "system:serviceaccount:default:builder"),
            ("Impersonate-Group", "dev"),
        ])
        .into_user(Mode::Plain);
        assert_eq!(user.groups, ["dev", "system:authenticated"]);
        let user = wanted(&[("Impersonate-User", "system:serviceaccount:default")]).into_user(Mode::Plain);
        assert_eq!(user.groups, ["system:authenticated"]);
    }

    #[test]
    fn every_part_is_a_question_of_its_own() {
        let wanted = wanted(&[
            ("Impersonate-User", "eve"),
            ("Impersonate-Group", "dev"),
            ("Impersonate-Extra-Acme.com%2Fproject", "p1"),
            ("Impersonate-Uid", "u-1"),
        ]);
        let caller = UserInfo::new("proxy", &[]);
        let asked = |mode: Mode| -> Vec<String> {
            let questions = wanted.questions(&caller, mode);
            questions
                .iter()
                .flatten()
                .map(|q| format!("{} {}/{}/{}/{}", q.verb, q.group, q.resource, q.subresource, q.name))
                .collect()
        };
        assert_eq!(
            asked(Mode::Plain),
            [
                "impersonate /users//eve",
                "impersonate authentication.k8s.io/uids//u-1",
                "impersonate /groups//dev",
                "impersonate authentication.k8s.io/userextras/acme.com/project/p1",
            ]
        );
        assert_eq!(asked(Mode::UserInfo)[2], "impersonate:user-info authentication.k8s.io/groups//dev");
    }

    #[test]
    fn the_headers_are_gone_once_they_have_been_read() {
        let mut headers = HeaderMap::new();
        for name in
            ["impersonate-user", "impersonate-group", "impersonate-extra-a", "impersonate-uid", "accept"]
        {
            headers.append(name, "x".parse().unwrap());
        }
        forget(&mut headers);
        assert_eq!(headers.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn what_is_wanted_without_a_name_is_told_in_go_syntax() {
        let wanted = wanted(&[("Impersonate-Extra-Scopes", "view")]);
        assert!(!wanted.is_empty());
        assert_eq!(
            wanted.in_go_syntax(),
            "&user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string(nil), \
             Extra:map[string][]string{\"scopes\":[]string{\"view\"}}}"
        );
    }

    #[test]
    fn a_key_that_is_not_well_formed_stands_for_itself() {
        assert_eq!(unescaped("a%2fb"), "a/b");
        assert_eq!(unescaped("a%zz"), "a%zz");
        assert_eq!(unescaped("a%"), "a%");
        assert_eq!(unescaped("a%ff"), "a%ff");
    }
}

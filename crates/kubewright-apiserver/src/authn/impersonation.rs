//! Acting as somebody else: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-…` headers.
//!
//! The caller and the request's headers flow in; the user to act as comes out, once every part of it has been authorized
//! with the verb `impersonate`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use kubewright_machinery::field::quote;
use kubewright_machinery::status::Status;

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, UserInfo, service_account};
use crate::authz::{self, Attributes, Decision};
use crate::server::Core;

const GROUP: &str = "authentication.k8s.io";
const EXTRA: &str = "impersonate-extra-";

/// The user that the caller acts as, if it may: itself where the request says nothing else.
pub(crate) async fn impersonate(
    core: &Core,
    user: Arc<UserInfo>,
    request: &http::request::Parts,
) -> Result<Arc<UserInfo>, Status> {
    let wanted = Wanted::read(&request.headers);
    if wanted.name.is_empty() {
        return match wanted.is_empty() {
            true => Ok(user),
            false => {
                let what = wanted.in_go_syntax();
                Err(Status::bad_request(format!("requested {what} without impersonating a user name")))
            }
        };
    }
    for attributes in wanted.questions(&user) {
        match authz::decide(core, &attributes).await {
            Decision::Allow(_) => {}
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                return Err(authz::forbidden(&attributes, &reason));
            }
        }
    }
    Ok(Arc::new(wanted.into_user()))
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

    /// What has to be allowed: the user, then groups, extras and uid.
    fn questions<'a>(&'a self, user: &'a UserInfo) -> Vec<Attributes<'a>> {
        let question = |group: &'static str, resource: &'static str, name: &'a str| Attributes {
            user,
            verb: "impersonate".into(),
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: "".into(),
            namespace: "".into(),
            name: name.into(),
            path: "".into(),
            resource_request: true,
            label_selector: None,
            field_selector: None,
        };
        let mut questions = vec![match service_account::split(&self.name) {
            Some((namespace, name)) => {
                Attributes { namespace: namespace.into(), ..question("", "serviceaccounts", name) }
            }
            None => question("", "users", &self.name),
        }];
        questions.extend(self.groups.iter().map(|group| question("", "groups", group)));
        for (key, values) in &self.extra {
            questions.extend(values.iter().map(|value| Attributes {
                subresource: key.as_str().into(),
                ..question(GROUP, "userextras", value)
            }));
        }
        if !self.uid.is_empty() {
            questions.push(question(GROUP, "uids", &self.uid));
        }
        questions
    }

    fn into_user(self) -> UserInfo {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = service_account::split(&self.name)
        {
            groups = service_account::groups(namespace).to_vec();
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
fn unescaped(key: &str) -> String {
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
        let user = wanted(&[("Impersonate-User", "system:serviceaccount:default:builder")]).into_user();
        let own = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
        assert_eq!(user.groups, own);
        let user = wanted(&[
            ("Impersonate-User", "system:serviceaccount:default:builder"),
            ("Impersonate-Group", "dev"),
        ])
        .into_user();
        assert_eq!(user.groups, ["dev", "system:authenticated"]);
        let user = wanted(&[("Impersonate-User", "system:serviceaccount:default")]).into_user();
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
        let asked: Vec<String> = wanted
            .questions(&caller)
            .iter()
            .map(|q| format!("{}/{}/{}/{}", q.group, q.resource, q.subresource, q.name))
            .collect();
        assert_eq!(
            asked,
            [
                "/users//eve",
                "/groups//dev",
                "authentication.k8s.io/userextras/acme.com/project/p1",
                "authentication.k8s.io/uids//u-1",
            ]
        );
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

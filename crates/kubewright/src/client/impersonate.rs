//! Acting as somebody else: who, the headers that say so, and the rights that it takes.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::request::{ResourceRequest, Verb};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// The group of the resources `uids` and `userextras`.
const AUTHENTICATION: &str = "authentication.k8s.io";
/// What a key keeps in a header's name; the rest is percent-encoded, as the API server reads it.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A user to act as: the API server judges, and notes, each request as if that user had sent it. The process's own
/// account needs the right to `impersonate` for the user and for everything else that is given.
///
/// ```
/// use kubewright::client::Impersonate;
///
/// let tenant = Impersonate::service_account("team-a", "deployer");
/// let jane = Impersonate::user("jane").group("developers").uid("2b5c").extra("example.com/team", "a");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonate {
    user: String,
    groups: Vec<String>,
    uid: Option<String>,
    extra: Vec<(String, String)>,
}

impl Impersonate {
    /// A user by name, in no groups but those that the API server adds (`system:authenticated`).
    pub fn user(name: &str) -> Impersonate {
        Impersonate { user: name.into(), groups: Vec::new(), uid: None, extra: Vec::new() }
    }

    /// A service account; the API server adds its groups.
    pub fn service_account(namespace: &str, name: &str) -> Impersonate {
        Impersonate::user(&format!("system:serviceaccount:{namespace}:{name}"))
    }

    /// Puts the user into a group too.
    #[must_use]
    pub fn group(mut self, group: &str) -> Impersonate {
        self.groups.push(group.into());
        self
    }

    /// Gives the user a uid.
    #[must_use]
    pub fn uid(mut self, uid: &str) -> Impersonate {
        self.uid = Some(uid.into());
        self
    }

    /// Gives the user one more value of an extra field, such as a scope. The API server reads keys in lower case.
    #[must_use]
    pub fn extra(mut self, key: &str, value: &str) -> Impersonate {
        self.extra.push((key.to_lowercase(), value.into()));
        self
    }

    /// The headers. `Err` names the one that can't be written.
    pub(super) fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let mut headers = vec![(USER.to_owned(), &self.user)];
        headers.extend(self.groups.iter().map(|group| (GROUP.to_owned(), group)));
        headers.extend(self.uid.iter().map(|uid| (UID.to_owned(), uid)));
        let extra = self.extra.iter();
        headers
            .extend(extra.map(|(key, value)| (format!("{EXTRA}{}", utf8_percent_encode(key, KEY)), value)));
        headers
            .into_iter()
            .map(|(name, value)| {
                let header = HeaderName::from_bytes(name.to_lowercase().as_bytes()).ok();
                let text = HeaderValue::from_bytes(value.as_bytes()).ok().filter(|_| !value.is_empty());
                header.zip(text).ok_or(name)
            })
            .collect()
    }
}

impl From<&str> for Impersonate {
    /// A user by name.
    fn from(user: &str) -> Impersonate {
        Impersonate::user(user)
    }
}

/// Takes away what a request says of acting as somebody.
pub(super) fn clear(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// The rights that the headers of a request take, as requests that an authorizer is asked about.
pub(super) fn rights(headers: &HeaderMap) -> Vec<ResourceRequest> {
    let mut rights = Vec::new();
    for (name, value) in headers {
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else { continue };
        let right = |group: &str, resource: &str, subresource: Option<String>| ResourceRequest {
            verb: Verb::Impersonate,
            group: group.into(),
            resource: resource.into(),
            subresource,
            namespace: None,
            name: Some(value.to_owned()),
        };
        rights.push(match name.as_str() {
            USER => {
                match value.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
                    Some((namespace, account)) => ResourceRequest {
                        namespace: Some(namespace.into()),
                        name: Some(account.into()),
                        ..right("", "serviceaccounts", None)
                    },
                    None => right("", "users", None),
                }
            }
            GROUP => right("", "groups", None),
            UID => right(AUTHENTICATION, "uids", None),
            other => match other.strip_prefix(EXTRA) {
                Some(key) => {
                    let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                    right(AUTHENTICATION, "userextras", Some(key))
                }
                None => continue,
            },
        });
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(who: &Impersonate) -> HeaderMap {
        let mut map = HeaderMap::new();
        who.headers().unwrap().into_iter().for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    #[test]
    fn a_user_is_told_in_headers() {
        let jane = Impersonate::user("jane").group("a").group("b").uid("u").extra("Acme.com/x y", "1");
        let headers = headers(&jane);
        assert_eq!(headers["impersonate-user"], "jane");
        let groups: Vec<&str> =
            headers.get_all("impersonate-group").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(groups, ["a", "b"]);
        assert_eq!(headers["impersonate-uid"], "u");
        assert_eq!(headers["impersonate-extra-acme.com%2fx%20y"], "1");
    }

    #[test]
    fn what_no_header_can_say_is_an_error_that_names_it() {
        for (who, named) in [
            (Impersonate::user(""), "impersonate-user"),
            (Impersonate::user("a\nb"), "impersonate-user"),
            (Impersonate::user("a").group("x\r\ny"), "impersonate-group"),
        ] {
            assert_eq!(who.headers().unwrap_err(), named);
        }
    }

    #[test]
    fn the_rights_it_takes_are_those_that_the_server_asks_for() {
        let said = |who: &Impersonate| {
            let mut rights: Vec<String> = rights(&headers(who))
                .iter()
                .map(|right| {
                    let sub = right.subresource.as_ref().map(|sub| format!("/{sub}")).unwrap_or_default();
                    let namespace = right.namespace.clone().unwrap_or_default();
                    let name = right.name.clone().unwrap_or_default();
                    format!("{}{sub}.{} {namespace}/{name}", right.resource, right.group)
                })
                .collect();
            rights.sort();
            rights
        };
        assert_eq!(said(&Impersonate::service_account("team", "builder")), ["serviceaccounts. team/builder"]);
        assert_eq!(
            said(&Impersonate::user("jane").group("devs").uid("7").extra("example.com/team", "a")),
            [
                "groups. /devs",
                "uids.authentication.k8s.io /7",
                "userextras/example.com/team.authentication.k8s.io /a",
                "users. /jane",
            ]
        );
    }
}

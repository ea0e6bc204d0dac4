//! Bootstrap tokens: `ID.SECRET`, kept as Secrets of type `bootstrap.kubernetes.io/token` in `kube-system`, by which new
//! nodes ask for their certificates.
//!
//! A token flows in; the user `system:bootstrap:ID` comes out while its Secret is there, says so and has not expired.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::authn::{Authenticated, Authenticator, Refused, UserInfo};
use kubewright_apiserver::server::Core;
use kubewright_machinery::{meta, time};
use serde_json::Value;

use crate::fields::text;

const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of everybody with such a token.
const GROUP: &str = "system:bootstrappers";

/// Authenticates by bootstrap tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootstrapTokens;

/// Id and secret of a token; `None` where it is none.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// What the Secret of a token says of who has it. `None` where it is not for that, or not any more.
fn bearer(secret: &Value, id: &str, given: &str, now: Timestamp) -> Option<UserInfo> {
    let data = |key: &str| -> String {
        let bytes = STANDARD.decode(text(secret, &["data", key])).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let good = same(&data("token-secret"), given)
        && data("token-id") == id
        && text(secret, &["type"]) == SECRET_TYPE
        && meta::deletion_timestamp(secret).is_none()
        && data("usage-bootstrap-authentication") == "true";
    if !good {
        return None;
    }
    let end = data("expiration");
    if !end.is_empty() && time::parse(&end).ok().is_none_or(|end| end <= now) {
        return None;
    }
    let mut groups = vec![GROUP.to_string()];
    for group in data("auth-extra-groups").split(',').filter(|group| !group.is_empty()) {
        if !is_extra_group(group) {
            return None;
        }
        groups.push(group.to_string());
    }
    groups.sort();
    groups.dedup();
    Some(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

/// Tokens give no other groups than those for bootstrapping: `system:bootstrappers:` and lower case letters, digits,
/// dashes and colons, with a letter or digit at the end.
fn is_extra_group(group: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        rest.len() <= 256
            && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
            && rest.bytes().last().is_some_and(plain)
    })
}

impl Authenticator for BootstrapTokens {
    fn authenticate_token<'a>(
        &'a self,
        core: &'a Core,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Authenticated>, Refused>> {
        Box::pin(async move {
            let Some((id, given)) = parts(token) else { return Ok(None) };
            let name = format!("bootstrap-token-{id}");
            let secret = core.reader().get("", "secrets", NAMESPACE, &name).await;
            let secret = secret.map_err(|error| Refused::new(error.to_string()))?;
            let user = secret.and_then(|secret| bearer(&secret, id, given, core.now()));
            // Such a token says nothing of audiences: it is for this server.
            let own = &core.config().api_audiences;
            let audiences: Vec<String> = audiences.iter().filter(|a| own.contains(a)).cloned().collect();
            Ok(user.filter(|_| !audiences.is_empty()).map(|user| Authenticated { user, audiences }))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }

    fn secret(more: &[(&str, &str)]) -> Value {
        let mut data = serde_json::Map::new();
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (key, value) in usual.iter().chain(more) {
            data.insert((*key).into(), STANDARD.encode(value).into());
        }
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": SECRET_TYPE, "data": data})
    }

    fn who(secret: &Value) -> Option<UserInfo> {
        let (id, given) = parts(TOKEN).expect("it is a token");
        bearer(secret, id, given, now())
    }

    #[test]
    fn a_token_stands_for_its_id_in_the_groups_of_its_secret() {
        let user = who(&secret(&[("auth-extra-groups", "system:bootstrappers:kubeadm:node")])).expect("good");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:kubeadm:node"]);
    }

    #[test]
    fn a_token_is_no_good_when_its_secret_is_not_quite_right() {
        for more in [
            ("token-secret", "0123456789abcdee"),
            ("token-id", "abcdeg"),
            ("usage-bootstrap-authentication", "false"),
            ("expiration", "2020-01-01T00:00:00Z"),
            ("expiration", "some day"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:"),
        ] {
            assert_eq!(who(&secret(&[more])), None, "{more:?}");
        }
        assert!(who(&secret(&[("expiration", "2999-01-01T00:00:00Z")])).is_some());
        let mut other = secret(&[]);
        other["type"] = "Opaque".into();
        assert_eq!(who(&other), None);
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(who(&going), None);
    }

    #[test]
    fn other_tokens_are_not_looked_up() {
        for other in [
            "abcdef",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcde/",
            "a.b.c",
        ] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}

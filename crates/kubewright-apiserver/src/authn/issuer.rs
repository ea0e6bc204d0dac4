//! Tokens of service accounts: issuing them bound to an account and to an object, and authenticating by them.
//!
//! A token is good while its account, and what else it is bound to, is there with the same uid: every use looks at the
//! store. The keys are published for others to check tokens with ([`Issuer::keys`], [`Issuer::configuration`]).

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubewright_machinery::meta;
use kubewright_machinery::time;
use serde_json::{Map, Value, json};

use super::keys::{PublicKey, SigningKey, unverified_claims, verified_claims};
use super::{Authenticated, Authenticator, Refused, UserInfo, common_audiences, service_account};
use crate::BoxFuture;
use crate::server::Core;

/// An account that is being deleted still has its tokens for so long.
const LINGERS: i64 = 60;
/// How far clocks may be apart.
const LEEWAY: i64 = 10;

/// Issues the tokens of service accounts and knows their bearers.
pub struct Issuer {
    name: String,
    /// Names of earlier days, whose tokens are still good.
    names: Vec<String>,
    key: SigningKey,
    /// Keys of earlier days, whose tokens are still good.
    others: Vec<PublicKey>,
}

/// What a token is bound to besides its account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Name and uid of a pod.
    pub pod: Option<(String, String)>,
    /// Name and uid of a secret.
    pub secret: Option<(String, String)>,
    /// Name and uid of a node. The uid is empty when the node is not there.
    pub node: Option<(String, String)>,
}

/// A token to be issued.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    /// Namespace of the account.
    pub namespace: &'a str,
    /// Name of the account.
    pub name: &'a str,
    /// Uid of the account.
    pub uid: &'a str,
    /// Whom the token is for.
    pub audiences: &'a [String],
    /// What it is bound to.
    pub binding: Binding,
    /// When it is issued.
    pub now: Timestamp,
    /// How long it is good, in seconds.
    pub seconds: i64,
    /// Id of the token.
    pub id: String,
}

impl Issuer {
    /// An issuer of that name (a URL, by convention) with one key.
    pub fn new(name: impl Into<String>, key: SigningKey) -> Self {
        Self { name: name.into(), names: Vec::new(), key, others: Vec::new() }
    }

    /// Accepts tokens that were issued under another name as well.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Accepts the tokens of another key as well.
    #[must_use]
    pub fn with_key(mut self, key: PublicKey) -> Self {
        self.others.push(key);
        self
    }

    /// The name: claim `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key set that is published (RFC 7517).
    pub fn keys(&self) -> Value {
        let keys: Vec<Value> = self.public_keys().map(PublicKey::to_jwk).collect();
        json!({ "keys": keys })
    }

    /// The OpenID provider configuration. `keys_at` is the URL of the key set.
    pub fn configuration(&self, keys_at: &str) -> Value {
        let mut algorithms: Vec<&str> = self.public_keys().map(|key| key.algorithm).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        json!({
            "issuer": self.name,
            "jwks_uri": keys_at,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }

    fn public_keys(&self) -> impl Iterator<Item = &PublicKey> {
        std::iter::once(self.key.public()).chain(&self.others)
    }

    /// A signed token. `None` when the system gives no randomness.
    pub fn issue(&self, grant: &Grant<'_>) -> Option<String> {
        let mut bound = Map::new();
        bound.insert("namespace".into(), grant.namespace.into());
        bound.insert("serviceaccount".into(), json!({"name": grant.name, "uid": grant.uid}));
        let Binding { pod, secret, node } = &grant.binding;
        for (kind, object) in [("pod", pod), ("secret", secret), ("node", node)] {
            if let Some((name, uid)) = object {
                let mut reference = json!({ "name": name });
                if !uid.is_empty() {
                    reference["uid"] = uid.as_str().into();
                }
                bound.insert(kind.into(), reference);
            }
        }
        let now = grant.now.as_second();
        self.key.sign(&json!({
            "aud": grant.audiences,
            "exp": now.saturating_add(grant.seconds),
            "iat": now,
            "iss": self.name,
            "jti": grant.id,
            "kubernetes.io": bound,
            "nbf": now,
            "sub": service_account::user_name(grant.namespace, grant.name),
        }))
    }

    /// Whom a token stands for; `None` when it is not one of this issuer.
    async fn bearer(
        &self,
        core: &Core,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, Refused> {
        let ours = |claims: Value| {
            std::iter::once(&self.name).chain(&self.names).any(|name| claims["iss"] == **name)
        };
        if !unverified_claims(token).is_some_and(ours) {
            return Ok(None);
        }
        let Some(claims) = verified_claims(token, self.public_keys()) else {
            return Err(Refused::new("the token's signature is not of a known key"));
        };
        let now = core.now().as_second();
        match claims["exp"].as_i64() {
            Some(end) if now <= end.saturating_add(LEEWAY) => {}
            _ => return Err(Refused::new("service account token has expired")),
        }
        if claims["nbf"].as_i64().is_some_and(|start| now < start.saturating_sub(LEEWAY)) {
            return Err(Refused::new("service account token is not valid yet"));
        }
        let made_for: Vec<String> = match &claims["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_string).collect(),
            _ => Vec::new(),
        };
        let common = common_audiences(audiences, &made_for);
        if common.is_empty() {
            return Err(Refused::new(format!(
                "token audiences {made_for:?} is invalid for the target audiences {audiences:?}"
            )));
        }
        let user = self.holder(core, &claims).await?;
        Ok(Some(Authenticated { user, audiences: common }))
    }

    /// The account of a token, if everything that the token is bound to is still there.
    async fn holder(&self, core: &Core, claims: &Value) -> Result<UserInfo, Refused> {
        let bound = &claims["kubernetes.io"];
        let namespace = bound["namespace"].as_str().unwrap_or_default();
        let account = Reference::read(&bound["serviceaccount"])
            .filter(|_| !namespace.is_empty())
            .ok_or_else(|| Refused::new("the token names no service account"))?;
        let Reference { name, uid } = account;
        if claims["sub"] != service_account::user_name(namespace, name).as_str() {
            return Err(Refused::new("the subject of the token is not its service account"));
        }
        let found = read(core, "serviceaccounts", namespace, name).await?;
        let found = found
            .ok_or_else(|| Refused::new(format!("service account {namespace}/{name} has been deleted")))?;
        if lingers_no_more(&found, core.now()) {
            return Err(Refused::new(format!("service account {namespace}/{name} has been deleted")));
        }
        if meta::uid(&found) != uid {
            let there = meta::uid(&found);
            return Err(Refused::new(format!("service account UID ({there}) does not match claim ({uid})")));
        }
        let mut extra = BTreeMap::new();
        if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
            extra.insert("authentication.kubernetes.io/credential-id".to_string(), vec![format!("JTI={id}")]);
        }
        for (kind, plural, of) in
            [("secret", "secrets", namespace), ("pod", "pods", namespace), ("node", "nodes", "")]
        {
            let Some(Reference { name, uid }) = Reference::read(&bound[kind]) else { continue };
            // A node that a pod ran on may go; a token bound to a node alone goes with it.
            if kind != "node" || bound.get("pod").is_none() {
                let found = read(core, plural, of, name).await?;
                let gone = found.is_none_or(|o| meta::uid(&o) != uid || lingers_no_more(&o, core.now()));
                if gone {
                    return Err(Refused::new("service account token has been invalidated"));
                }
            }
            if kind != "secret" {
                extra.insert(format!("authentication.kubernetes.io/{kind}-name"), vec![name.to_string()]);
                if !uid.is_empty() {
                    extra.insert(format!("authentication.kubernetes.io/{kind}-uid"), vec![uid.to_string()]);
                }
            }
        }
        Ok(UserInfo {
            name: service_account::user_name(namespace, name),
            uid: uid.to_string(),
            groups: service_account::groups(namespace).to_vec(),
            extra,
        })
    }
}

/// A name and uid in claims.
struct Reference<'v> {
    name: &'v str,
    uid: &'v str,
}

impl<'v> Reference<'v> {
    fn read(value: &'v Value) -> Option<Self> {
        let name = value["name"].as_str().filter(|n| !n.is_empty())?;
        Some(Self { name, uid: value["uid"].as_str().unwrap_or_default() })
    }
}

async fn read(
    core: &Core,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<std::sync::Arc<Value>>, Refused> {
    core.reader().get("", plural, namespace, name).await.map_err(|error| Refused::new(error.to_string()))
}

/// Whether an object has been going for too long.
fn lingers_no_more(object: &Value, now: Timestamp) -> bool {
    meta::deletion_timestamp(object)
        .and_then(|text| time::parse(text).ok())
        .is_some_and(|since| now.as_second() > since.as_second() + LINGERS)
}

impl Authenticator for Issuer {
    fn authenticate_token<'a>(
        &'a self,
        core: &'a Core,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Authenticated>, Refused>> {
        Box::pin(self.bearer(core, token, audiences))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubewright_storage::{Expect, MemoryStore, Store as _};

    use super::*;
    use crate::resources::splice;
    use crate::server::{Clock, ISSUER, Server, ServerConfig};

    struct At(i64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0).unwrap()
        }
    }

    const NOW: i64 = 1_800_000_000;

    async fn core(now: i64, store: &Arc<MemoryStore>) -> Arc<Core> {
        let mut config = ServerConfig::new(Arc::clone(store) as _);
        config.clock = Arc::new(At(now));
        Arc::clone(Server::new(config).await.unwrap().core())
    }

    async fn put(store: &MemoryStore, plural: &str, path: &str, uid: &str) {
        let name = path.rsplit('/').next().unwrap();
        let object = json!({"kind": "T", "apiVersion": "v1", "metadata": {"name": name, "uid": uid}});
        store
            .put(&format!("/registry/core/{plural}/{path}"), splice::at_rest(&object), Expect::Any)
            .await
            .unwrap();
    }

    fn grant(audiences: &[String], binding: Binding) -> Grant<'_> {
        Grant {
            namespace: "team",
            name: "bot",
            uid: "u1",
            audiences,
            binding,
            now: At(NOW).now(),
            seconds: 600,
            id: "id".into(),
        }
    }

    #[tokio::test]
    async fn a_token_is_good_for_its_audience_and_time_and_while_its_account_is_there() {
        let store = Arc::new(MemoryStore::default());
        put(&store, "serviceaccounts", "team/bot", "u1").await;
        let issuer = Issuer::new(ISSUER, SigningKey::generate().unwrap());
        let own = vec![ISSUER.to_string()];
        let token = issuer.issue(&grant(&own, Binding::default())).unwrap();

        let now = core(NOW, &store).await;
        let found = issuer.bearer(&now, &token, &own).await.unwrap().unwrap();
        assert_eq!(found.user.name, "system:serviceaccount:team:bot");
        assert_eq!(found.user.uid, "u1");
        assert!(issuer.bearer(&now, &token, &["other".to_string()]).await.is_err());
        let late = issuer.bearer(&*core(NOW + 700, &store).await, &token, &own).await.unwrap_err();
        assert_eq!(late.reason, "service account token has expired");
        assert!(issuer.bearer(&*core(NOW - 700, &store).await, &token, &own).await.is_err());
        assert_eq!(issuer.bearer(&now, "nonsense", &own).await.unwrap(), None);

        put(&store, "serviceaccounts", "team/bot", "u2").await;
        assert!(issuer.bearer(&now, &token, &own).await.is_err());
    }

    #[tokio::test]
    async fn a_bound_token_goes_with_what_it_is_bound_to() {
        let store = Arc::new(MemoryStore::default());
        put(&store, "serviceaccounts", "team/bot", "u1").await;
        put(&store, "pods", "team/p", "p1").await;
        let issuer = Issuer::new(ISSUER, SigningKey::generate().unwrap());
        let own = vec![ISSUER.to_string()];
        let pod = Some(("p".to_string(), "p1".to_string()));
        let token = issuer.issue(&grant(&own, Binding { pod, ..Binding::default() })).unwrap();
        let core = core(NOW, &store).await;
        let user = issuer.bearer(&core, &token, &own).await.unwrap().unwrap().user;
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        store.delete("/registry/core/pods/team/p", Expect::Any).await.unwrap();
        let gone = issuer.bearer(&core, &token, &own).await.unwrap_err();
        assert_eq!(gone.reason, "service account token has been invalidated");
    }
}

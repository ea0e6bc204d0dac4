//! Authorizers, from flags or from an AuthorizationConfiguration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kubewright_apiserver::authz::rbac::{Masters, Rbac};
use kubewright_apiserver::authz::{AlwaysAllow, AlwaysDeny, Authorizer, Webhook, WebhookSettings};
use kubewright_kinds::access::NodeAuthorizer;
use kubewright_machinery::time;
use serde::Deserialize;

use super::authentication::is_beta;
use super::{AccessConfig, AccessError, files};

/// Authorizers in the order in which they are asked. Who is in `system:masters` is never asked about.
pub(crate) fn authorizers(config: &AccessConfig) -> Result<Vec<Arc<dyn Authorizer>>, AccessError> {
    let mut chain: Vec<Arc<dyn Authorizer>> = vec![Arc::new(Masters)];
    if let Some(path) = &config.authorization_config {
        let configured: AuthorizationConfiguration = files::object(path, "AuthorizationConfiguration")?;
        let wrong = |reason: String| AccessError::File { path: path.clone(), reason };
        if configured.authorizers.is_empty() {
            return Err(wrong(
                "authorizers: Required value: at least one authorization mode must be defined".into(),
            ));
        }
        for authorizer in &configured.authorizers {
            chain.push(match (authorizer.kind.as_str(), &authorizer.webhook) {
                ("Webhook", Some(webhook)) => webhook.make(path)?,
                ("Webhook", None) => {
                    return Err(wrong(format!("authorizer {}: webhook is required", authorizer.name)));
                }
                (mode, None) => {
                    plain(mode).ok_or_else(|| wrong(format!("authorizer type {mode:?} is not supported")))?
                }
                (mode, Some(_)) => {
                    return Err(wrong(format!("authorizer of type {mode} may have no webhook")));
                }
            });
        }
        return Ok(chain);
    }
    let wrong = |reason: String| AccessError::Setting { flag: "authorization-mode", reason };
    if config.authorization_modes.is_empty() {
        return Err(wrong("at least one authorization mode must be passed".into()));
    }
    for (index, mode) in config.authorization_modes.iter().enumerate() {
        if config.authorization_modes[..index].contains(mode) {
            return Err(wrong(format!("{mode:?} has mode specified more than once")));
        }
        if mode != "Webhook" {
            chain.push(plain(mode).ok_or_else(|| wrong(format!("{mode:?} is not a valid mode")))?);
            continue;
        }
        let webhook = config.authorization_webhook.as_ref();
        let webhook =
            webhook.ok_or_else(|| wrong("mode Webhook needs --authorization-webhook-config-file".into()))?;
        let settings = WebhookSettings {
            beta: is_beta("authorization-webhook-version", &webhook.version)?,
            authorized_ttl: webhook.cache_authorized_ttl,
            unauthorized_ttl: webhook.cache_unauthorized_ttl,
            ..WebhookSettings::default()
        };
        chain.push(Arc::new(Webhook::new(files::peer(&webhook.config_file)?, settings)));
    }
    Ok(chain)
}

fn plain(mode: &str) -> Option<Arc<dyn Authorizer>> {
    Some(match mode {
        "Node" => Arc::new(NodeAuthorizer::default()),
        "RBAC" => Arc::new(Rbac::default()),
        "AlwaysAllow" => Arc::new(AlwaysAllow),
        "AlwaysDeny" => Arc::new(AlwaysDeny),
        _ => return None,
    })
}

/// `apiserver.config.k8s.io AuthorizationConfiguration`, without match conditions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorizationConfiguration {
    #[serde(default)]
    authorizers: Vec<Configured>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configured {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<WebhookConfiguration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WebhookConfiguration {
    timeout: Option<String>,
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    cache_unauthorized_requests: Option<bool>,
    subject_access_review_version: String,
    #[serde(default, rename = "matchConditionSubjectAccessReviewVersion")]
    _match_condition_version: String,
    failure_policy: String,
    connection_info: ConnectionInfo,
    #[serde(default)]
    match_conditions: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConnectionInfo {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<PathBuf>,
}

impl WebhookConfiguration {
    fn make(&self, path: &Path) -> Result<Arc<dyn Authorizer>, AccessError> {
        let settings = self.settings().map_err(|reason| AccessError::File { path: path.into(), reason })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let file = self.connection_info.kube_config_file.as_deref().unwrap_or(Path::new(""));
        Ok(Arc::new(Webhook::new(files::peer(&folder.join(file))?, settings)))
    }

    fn settings(&self) -> Result<WebhookSettings, String> {
        if !self.match_conditions.is_empty() {
            return Err("matchConditions cannot be evaluated here".into());
        }
        if self.connection_info.kind != "KubeConfigFile" || self.connection_info.kube_config_file.is_none() {
            return Err("connectionInfo has to be of type KubeConfigFile, with a kubeConfigFile".into());
        }
        let usual = WebhookSettings::default();
        let duration = |text: &Option<String>, usual: Duration| match text.as_deref() {
            None => Ok(usual),
            Some(text) => time::parse_duration(text)
                .ok()
                .and_then(|nanos| u64::try_from(nanos).ok())
                .map(Duration::from_nanos)
                .ok_or_else(|| format!("{text:?} is no duration")),
        };
        let kept =
            |keep: Option<bool>, time: Duration| if keep == Some(false) { Duration::ZERO } else { time };
        Ok(WebhookSettings {
            timeout: duration(&self.timeout, usual.timeout)?,
            authorized_ttl: kept(
                self.cache_authorized_requests,
                duration(&self.authorized_ttl, usual.authorized_ttl)?,
            ),
            unauthorized_ttl: kept(
                self.cache_unauthorized_requests,
                duration(&self.unauthorized_ttl, usual.unauthorized_ttl)?,
            ),
            beta: match self.subject_access_review_version.as_str() {
                "v1" => false,
                "v1beta1" => true,
                other => {
                    return Err(format!("subjectAccessReviewVersion {other:?} is neither v1 nor v1beta1"));
                }
            },
            deny_on_failure: match self.failure_policy.as_str() {
                "Deny" => true,
                "NoOpinion" => false,
                other => return Err(format!("failurePolicy {other:?} is neither Deny nor NoOpinion")),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn modes(modes: &[&str]) -> Result<usize, String> {
        let modes = modes.iter().map(ToString::to_string).collect();
        let config = AccessConfig { authorization_modes: modes, ..AccessConfig::default() };
        authorizers(&config).map(|chain| chain.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn modes_make_a_chain_behind_the_masters() {
        assert_eq!(modes(&["Node", "RBAC"]), Ok(3));
        assert_eq!(modes(&["AlwaysAllow"]), Ok(2));
        assert!(modes(&[]).expect_err("empty").contains("at least one"));
        assert!(modes(&["ABAC"]).expect_err("unknown").contains("not a valid mode"));
        assert!(modes(&["RBAC", "RBAC"]).expect_err("twice").contains("more than once"));
        assert!(modes(&["Webhook"]).expect_err("no file").contains("config-file"));
    }

    #[test]
    fn a_webhook_is_set_up_by_its_configuration() {
        let settings = |more: Value| {
            let mut webhook = json!({
                "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny", "timeout": "3s",
                "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "k"},
            });
            for (key, value) in more.as_object().expect("an object") {
                webhook[key] = value.clone();
            }
            let webhook: WebhookConfiguration =
                serde_json::from_value(webhook).map_err(|error| error.to_string())?;
            webhook.settings()
        };
        let good =
            settings(json!({"authorizedTTL": "1m", "cacheUnauthorizedRequests": false})).expect("good");
        assert!(good.deny_on_failure);
        assert_eq!((good.timeout, good.authorized_ttl), (Duration::from_secs(3), Duration::from_secs(60)));
        assert_eq!(good.unauthorized_ttl, Duration::ZERO);
        assert!(settings(json!({"matchConditions": [{"expression": "true"}]})).is_err());
        assert!(settings(json!({"failurePolicy": "Ignore"})).is_err());
        assert!(settings(json!({"connectionInfo": {"type": "InClusterConfig"}})).is_err());
        assert!(settings(json!({"timeout": "soon"})).is_err());
    }
}

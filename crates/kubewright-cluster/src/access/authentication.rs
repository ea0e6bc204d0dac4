//! Authenticators, from flags or from an AuthenticationConfiguration.

use std::path::Path;
use std::sync::Arc;

use http::HeaderName;
use kubewright_apiserver::authn::oidc::{Mapping, Oidc, Settings};
use kubewright_apiserver::authn::{
    Anonymous, Authenticator, ClientCertificate, FrontProxy, FrontProxyHeaders, Issuer, PublicKey,
    SigningKey, StaticTokens, TokenWebhook,
};
use kubewright_apiserver::server::ISSUER;
use kubewright_kinds::access::BootstrapTokens;
use kubewright_pki::ClientVerifier;
use serde::Deserialize;

use super::{AccessConfig, AccessError, OidcConfig, RequestHeaderConfig, files};

/// Whoever issues the tokens of service accounts.
pub(crate) fn issuer(config: &AccessConfig) -> Result<Issuer, AccessError> {
    let key = match &config.service_account_signing_key_file {
        Some(path) => SigningKey::from_pem(&files::read(path)?)
            .map_err(|source| AccessError::Key { path: path.clone(), source })?,
        None => SigningKey::generate().map_err(AccessError::NewKey)?,
    };
    let mut names = config.service_account_issuers.iter();
    let mut issuer = Issuer::new(names.next().map_or(ISSUER, String::as_str), key);
    for name in names {
        issuer = issuer.with_name(name);
    }
    for path in &config.service_account_key_files {
        let keys = PublicKey::all_from_pem(&files::read(path)?)
            .map_err(|source| AccessError::Key { path: path.clone(), source })?;
        issuer = keys.into_iter().fold(issuer, Issuer::with_key);
    }
    Ok(issuer)
}

/// Authenticators in the order in which they are asked, and who is let in without credentials. `own` vouches for the
/// cluster's own certificates.
pub(crate) fn authenticators(
    config: &AccessConfig,
    own: ClientVerifier,
    issuer: &Arc<Issuer>,
) -> Result<(Vec<Arc<dyn Authenticator>>, Anonymous), AccessError> {
    let mut chain: Vec<Arc<dyn Authenticator>> = Vec::new();
    if let Some(proxy) = &config.request_header {
        chain.push(Arc::new(front_proxy(proxy)?));
    }
    chain.push(Arc::new(ClientCertificate::new(own)));
    if let Some(path) = &config.client_ca_file {
        chain.push(Arc::new(ClientCertificate::new(files::verifier(path)?)));
    }
    if let Some(path) = &config.token_auth_file {
        let tokens = StaticTokens::parse(&files::read(path)?)
            .map_err(|source| AccessError::Tokens { path: path.clone(), source })?;
        chain.push(Arc::new(tokens));
    }
    chain.push(Arc::clone(issuer) as _);
    if config.enable_bootstrap_token_auth {
        chain.push(Arc::new(BootstrapTokens));
    }
    let mut anonymous = if config.anonymous_auth { Anonymous::Everywhere } else { Anonymous::Nowhere };
    match (&config.authentication_config, &config.oidc) {
        (Some(_), Some(_)) => {
            return Err(AccessError::Setting {
                flag: "authentication-config",
                reason: "cannot be used together with the oidc flags".into(),
            });
        }
        (Some(path), None) => {
            let configured: AuthenticationConfiguration = files::object(path, "AuthenticationConfiguration")?;
            for jwt in &configured.jwt {
                chain.push(Arc::new(Oidc::new(jwt.settings(path)?).map_err(AccessError::Oidc)?));
            }
            if let Some(said) = configured.anonymous {
                anonymous = said.means(path)?;
            }
        }
        (None, Some(oidc)) => {
            chain.push(Arc::new(Oidc::new(by_flags(oidc)?).map_err(AccessError::Oidc)?));
        }
        (None, None) => {}
    }
    if let Some(webhook) = &config.token_webhook {
        let beta = is_beta("authentication-token-webhook-version", &webhook.version)?;
        let peer = files::peer(&webhook.config_file)?;
        chain.push(Arc::new(TokenWebhook::new(peer, beta, webhook.cache_ttl)));
    }
    Ok((chain, anonymous))
}

/// Whether a version of reviews is the older one.
pub(super) fn is_beta(flag: &'static str, version: &str) -> Result<bool, AccessError> {
    match version {
        "v1" => Ok(false),
        "v1beta1" => Ok(true),
        other => Err(AccessError::Setting { flag, reason: format!("{other:?} is neither v1 nor v1beta1") }),
    }
}

fn front_proxy(config: &RequestHeaderConfig) -> Result<FrontProxy, AccessError> {
    let usual = FrontProxyHeaders::default();
    let names = |flag: &'static str, given: &[String], usual: Vec<HeaderName>| {
        if given.is_empty() {
            return Ok(usual);
        }
        let read = |name: &String| {
            HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| AccessError::Setting {
                flag,
                reason: format!("{name:?} is no name of a header"),
            })
        };
        given.iter().map(read).collect::<Result<Vec<_>, _>>()
    };
    let prefixes: Vec<String> =
        config.extra_headers_prefixes.iter().map(|prefix| prefix.trim().to_ascii_lowercase()).collect();
    if prefixes.iter().any(String::is_empty) {
        return Err(AccessError::Setting {
            flag: "requestheader-extra-headers-prefix",
            reason: "a prefix is empty".into(),
        });
    }
    let headers = FrontProxyHeaders {
        user: names("requestheader-username-headers", &config.username_headers, usual.user)?,
        uid: names("requestheader-uid-headers", &config.uid_headers, usual.uid)?,
        group: names("requestheader-group-headers", &config.group_headers, usual.group)?,
        extra_prefix: if prefixes.is_empty() { usual.extra_prefix } else { prefixes },
    };
    Ok(FrontProxy::new(files::verifier(&config.client_ca_file)?, config.allowed_names.clone(), headers))
}

fn by_flags(config: &OidcConfig) -> Result<Settings, AccessError> {
    let mut settings = Settings::new(&config.issuer_url, &config.client_id);
    settings.authorities = config.ca_file.as_deref().map(files::read).transpose()?;
    if !config.username_claim.is_empty() {
        settings.username.claim.clone_from(&config.username_claim);
    }
    settings.username.prefix = match config.username_prefix.as_str() {
        "-" => String::new(),
        "" if settings.username.claim == "email" => String::new(),
        "" => format!("{}#", config.issuer_url),
        prefix => prefix.to_string(),
    };
    if !config.groups_claim.is_empty() {
        let (claim, prefix) = (config.groups_claim.clone(), config.groups_prefix.clone());
        settings.groups = Some(Mapping { claim, prefix });
    }
    for claim in &config.required_claims {
        let (name, value) = claim.split_once('=').ok_or_else(|| AccessError::Setting {
            flag: "oidc-required-claim",
            reason: format!("{claim:?} is not of the form claim=value"),
        })?;
        settings.required.push((name.into(), value.into()));
    }
    settings.algorithms =
        if config.signing_algs.is_empty() { vec!["RS256".into()] } else { config.signing_algs.clone() };
    Ok(settings)
}

/// `apiserver.config.k8s.io AuthenticationConfiguration`, without what needs CEL.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthenticationConfiguration {
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<AnonymousConfiguration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnonymousConfiguration {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    path: String,
}

impl AnonymousConfiguration {
    fn means(self, path: &Path) -> Result<Anonymous, AccessError> {
        match (self.enabled, self.conditions.is_empty()) {
            (true, true) => Ok(Anonymous::Everywhere),
            (true, false) => Ok(Anonymous::Paths(self.conditions.into_iter().map(|c| c.path).collect())),
            (false, true) => Ok(Anonymous::Nowhere),
            (false, false) => Err(AccessError::File {
                path: path.into(),
                reason: "anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined"
                    .into(),
            }),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: JwtIssuer,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: ClaimMappings,
    #[serde(default)]
    user_validation_rules: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JwtIssuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: Option<String>,
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimRule {
    #[serde(default)]
    claim: String,
    #[serde(default)]
    required_value: String,
    #[serde(default)]
    expression: String,
    #[serde(default, rename = "message")]
    _message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimMappings {
    username: Claim,
    #[serde(default)]
    groups: Claim,
    #[serde(default)]
    uid: Claim,
    #[serde(default)]
    extra: Vec<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    #[serde(default)]
    claim: String,
    prefix: Option<String>,
    #[serde(default)]
    expression: String,
}

impl Jwt {
    fn settings(&self, path: &Path) -> Result<Settings, AccessError> {
        let wrong = |reason: &str| AccessError::File { path: path.into(), reason: reason.into() };
        let maps = &self.claim_mappings;
        let expressions = [&maps.username, &maps.groups, &maps.uid].iter().any(|c| !c.expression.is_empty())
            || !maps.extra.is_empty()
            || !self.user_validation_rules.is_empty()
            || self.claim_validation_rules.iter().any(|rule| !rule.expression.is_empty());
        if expressions {
            return Err(wrong(
                "jwt: CEL expressions (in claim mappings, extra and validation rules) cannot be evaluated here",
            ));
        }
        if maps.username.claim.is_empty() {
            return Err(wrong("jwt.claimMappings.username: Required value: claim or expression is required"));
        }
        // Nobody should get another's name by not thinking of this.
        let prefix = maps.username.prefix.clone();
        let prefix = prefix.ok_or_else(|| wrong("jwt.claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"))?;
        let policy = self.issuer.audience_match_policy.as_str();
        if !matches!((policy, self.issuer.audiences.len()), ("", 1) | ("MatchAny", 1..)) {
            return Err(wrong(
                "jwt.issuer.audienceMatchPolicy: audienceMatchPolicy must be MatchAny for multiple audiences",
            ));
        }
        let groups = (!maps.groups.claim.is_empty()).then(|| Mapping {
            claim: maps.groups.claim.clone(),
            prefix: maps.groups.prefix.clone().unwrap_or_default(),
        });
        let rules = self.claim_validation_rules.iter();
        Ok(Settings {
            discovery_url: self.issuer.discovery_url.clone(),
            authorities: self.issuer.certificate_authority.clone(),
            audiences: self.issuer.audiences.clone(),
            username: Mapping { claim: maps.username.claim.clone(), prefix },
            groups,
            uid_claim: Some(maps.uid.claim.clone()).filter(|claim| !claim.is_empty()),
            required: rules.map(|rule| (rule.claim.clone(), rule.required_value.clone())).collect(),
            ..Settings::new(&self.issuer.url, "")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn jwt(more: Value) -> Result<Settings, String> {
        let mut jwt = json!({
            "issuer": {"url": "https://issuer", "audiences": ["me"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": "x:"}},
        });
        for (key, value) in more.as_object().expect("an object") {
            jwt[key] = value.clone();
        }
        let jwt: Jwt = serde_json::from_value(jwt).map_err(|error| error.to_string())?;
        jwt.settings(Path::new("f")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_issuer_is_read_from_a_configuration() {
        let settings = jwt(json!({
            "claimValidationRules": [{"claim": "hd", "requiredValue": "example.com"}],
            "claimMappings": {
                "username": {"claim": "email", "prefix": ""}, "groups": {"claim": "groups", "prefix": "g:"},
                "uid": {"claim": "oid"},
            },
        }))
        .expect("it is good");
        assert_eq!(settings.required, [("hd".to_string(), "example.com".to_string())]);
        assert_eq!(settings.groups, Some(Mapping { claim: "groups".into(), prefix: "g:".into() }));
        assert_eq!(settings.uid_claim.as_deref(), Some("oid"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let why = |more: Value| jwt(more).expect_err("it is refused");
        assert!(why(json!({"userValidationRules": [{"expression": "true"}]})).contains("CEL"));
        let expression = json!({"claimMappings": {"username": {"expression": "claims.sub"}}});
        assert!(why(expression).contains("CEL"));
        assert!(why(json!({"claimMappings": {"username": {"claim": "sub"}}})).contains("prefix is required"));
        assert!(why(json!({"surprise": 1})).contains("unknown field"));
        let several = json!({"issuer": {"url": "https://issuer", "audiences": ["a", "b"]}});
        assert!(why(several).contains("MatchAny"));
    }

    #[test]
    fn flags_have_the_usual_prefixes() {
        let oidc =
            OidcConfig { issuer_url: "https://i".into(), client_id: "c".into(), ..OidcConfig::default() };
        let prefix = |config: OidcConfig| by_flags(&config).expect("it is good").username.prefix;
        assert_eq!(prefix(oidc.clone()), "https://i#");
        assert_eq!(prefix(OidcConfig { username_claim: "email".into(), ..oidc.clone() }), "");
        assert_eq!(prefix(OidcConfig { username_prefix: "-".into(), ..oidc.clone() }), "");
        assert!(by_flags(&OidcConfig { required_claims: vec!["x".into()], ..oidc }).is_err());
    }
}

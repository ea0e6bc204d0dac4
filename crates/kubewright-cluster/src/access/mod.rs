//! Who may come in and what they may do: kube-apiserver's settings for it, and the policies they make.
//!
//! Settings flow in, as flags and files have them; authenticators, authorizers and an auditor come out. Files are read
//! once. What a file asks for and is not to be had here is refused by name, never left out in silence.

mod authentication;
mod authorization;
mod files;

use std::path::PathBuf;
use std::time::Duration;

use kubewright_apiserver::audit::{Auditor, Log, LogError, Policy, PolicyError, Rotation};
use kubewright_apiserver::authn::{KeyError, TokenFileError, oidc::OidcError};
use kubewright_apiserver::outbound::PeerError;
use kubewright_pki::PkiError;
use thiserror::Error;

pub(crate) use authentication::{authenticators, issuer};
pub(crate) use authorization::authorizers;
pub(crate) use files::read;

/// Settings of authentication, authorization and auditing. Each is named after its flag of kube-apiserver.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// Static tokens: lines of `token,user,uid,"group1,group2"`.
    pub token_auth_file: Option<PathBuf>,
    /// Authorities that vouch for client certificates, besides the cluster's own.
    pub client_ca_file: Option<PathBuf>,
    /// Whether requests without credentials are let in.
    pub anonymous_auth: bool,
    /// Whether bootstrap tokens are accepted.
    pub enable_bootstrap_token_auth: bool,
    /// An AuthenticationConfiguration, instead of `oidc` and `anonymous_auth`.
    pub authentication_config: Option<PathBuf>,
    /// An OpenID Connect issuer.
    pub oidc: Option<OidcConfig>,
    /// A webhook that is asked about tokens.
    pub token_webhook: Option<TokenWebhookConfig>,
    /// A proxy in front that says who calls.
    pub request_header: Option<RequestHeaderConfig>,
    /// Issuers of service account tokens: the first is whom they are issued by, all are accepted. None for the default.
    pub service_account_issuers: Vec<String>,
    /// The key that signs them; a new one where there is none.
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Keys that they are checked with, besides the one that signs.
    pub service_account_key_files: Vec<PathBuf>,
    /// Whom tokens for this server are made out to; the issuer where nothing is said.
    pub api_audiences: Vec<String>,
    /// Policies in order: `Node`, `RBAC`, `Webhook`, `AlwaysAllow`, `AlwaysDeny`.
    pub authorization_modes: Vec<String>,
    /// An AuthorizationConfiguration, instead of `authorization_modes` and `authorization_webhook`.
    pub authorization_config: Option<PathBuf>,
    /// The webhook of the mode `Webhook`.
    pub authorization_webhook: Option<AuthorizationWebhookConfig>,
    /// Auditing.
    pub audit: Option<AuditConfig>,
}

impl Default for AccessConfig {
    /// Certificates of the cluster's authority and service accounts; anonymous requests; `Node` and `RBAC`.
    fn default() -> Self {
        Self {
            token_auth_file: None,
            client_ca_file: None,
            anonymous_auth: true,
            enable_bootstrap_token_auth: false,
            authentication_config: None,
            oidc: None,
            token_webhook: None,
            request_header: None,
            service_account_issuers: Vec::new(),
            service_account_signing_key_file: None,
            service_account_key_files: Vec::new(),
            api_audiences: Vec::new(),
            authorization_modes: vec!["Node".into(), "RBAC".into()],
            authorization_config: None,
            authorization_webhook: None,
            audit: None,
        }
    }
}

/// An OpenID Connect issuer, by flags.
#[derive(Clone, Debug, Default)]
pub struct OidcConfig {
    /// Its URL.
    pub issuer_url: String,
    /// Whom tokens have to be for.
    pub client_id: String,
    /// Who vouches for its server; the system's authorities where nothing is said.
    pub ca_file: Option<PathBuf>,
    /// The claim with the user name; empty for `sub`.
    pub username_claim: String,
    /// What is put in front of it: by default the issuer's URL and `#`, but for `email`; `-` for nothing.
    pub username_prefix: String,
    /// The claim with the groups; empty for none.
    pub groups_claim: String,
    /// What is put in front of them.
    pub groups_prefix: String,
    /// `claim=value` that tokens have to have.
    pub required_claims: Vec<String>,
    /// The algorithms accepted; none for `RS256`.
    pub signing_algs: Vec<String>,
}

/// A webhook for tokens.
#[derive(Clone, Debug)]
pub struct TokenWebhookConfig {
    /// A kubeconfig that names it.
    pub config_file: PathBuf,
    /// `v1` or `v1beta1`.
    pub version: String,
    /// How long its answers hold.
    pub cache_ttl: Duration,
}

/// A front proxy.
#[derive(Clone, Debug)]
pub struct RequestHeaderConfig {
    /// Authorities that vouch for its certificate.
    pub client_ca_file: PathBuf,
    /// Common names that its certificate may have; none for any.
    pub allowed_names: Vec<String>,
    /// Headers with the user name; none for `X-Remote-User`.
    pub username_headers: Vec<String>,
    /// Headers with the uid; none for `X-Remote-Uid`.
    pub uid_headers: Vec<String>,
    /// Headers with groups; none for `X-Remote-Group`.
    pub group_headers: Vec<String>,
    /// What headers with extras begin with; none for `X-Remote-Extra-`.
    pub extra_headers_prefixes: Vec<String>,
}

/// A webhook for authorization.
#[derive(Clone, Debug)]
pub struct AuthorizationWebhookConfig {
    /// A kubeconfig that names it.
    pub config_file: PathBuf,
    /// `v1` or `v1beta1`.
    pub version: String,
    /// How long a yes holds.
    pub cache_authorized_ttl: Duration,
    /// How long a no holds.
    pub cache_unauthorized_ttl: Duration,
}

/// What is audited and where to.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The policy.
    pub policy_file: PathBuf,
    /// The log; `-` for standard output.
    pub log_path: PathBuf,
    /// Megabytes at which the log is put aside; 0 for never.
    pub log_max_size: u64,
    /// How many logs put aside are kept; 0 for all.
    pub log_max_backup: usize,
}

/// Why the policies can't be made.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A file can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The token file has a bad line.
    #[error("the token file {path} is not as it should be")]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong in which line.
        source: TokenFileError,
    },
    /// A key can't be used.
    #[error("the key in {path} cannot be used")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// No key to sign tokens of service accounts by.
    #[error("cannot make a key for tokens of service accounts")]
    NewKey(#[source] KeyError),
    /// Certificates can't be used.
    #[error("the certificates in {path} cannot be used")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PkiError,
    },
    /// An OpenID Connect issuer can't be used.
    #[error("cannot use an OpenID Connect issuer")]
    Oidc(#[source] OidcError),
    /// A webhook's kubeconfig can't be used.
    #[error("the kubeconfig {path} cannot be used")]
    Webhook {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PeerError,
    },
    /// A setting has a value that it can't have.
    #[error("{flag}: {reason}")]
    Setting {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The audit policy is none.
    #[error("the audit policy {path} cannot be used")]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PolicyError,
    },
    /// The audit log can't be written.
    #[error("cannot audit")]
    Audit(#[source] LogError),
}

/// Who writes down what is done.
pub(crate) fn auditor(config: &AccessConfig) -> Result<Option<Auditor>, AccessError> {
    let Some(audit) = &config.audit else { return Ok(None) };
    let text = files::read(&audit.policy_file)?;
    let policy = Policy::parse(&text)
        .map_err(|source| AccessError::Policy { path: audit.policy_file.clone(), source })?;
    let rotation = Rotation {
        max_bytes: audit.log_max_size.saturating_mul(1024 * 1024),
        max_backups: audit.log_max_backup,
    };
    let log = Log::open(&audit.log_path, rotation).map_err(AccessError::Audit)?;
    Ok(Some(Auditor::new(policy, std::sync::Arc::new(log))))
}

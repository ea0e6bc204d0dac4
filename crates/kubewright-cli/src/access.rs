//! Flags of access to the API, named as kube-apiserver names them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kubewright_apiserver::server::Limits;
use kubewright_cluster::access::{
    AccessConfig, AuditConfig, AuthorizationWebhookConfig, OidcConfig, RequestHeaderConfig,
    TokenWebhookConfig,
};
use kubewright_machinery::time::parse_duration;

/// Who may come in, what they may do, what is written down about it, and what it may cost.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// Static bearer tokens: CSV lines of `token,user,uid,"group1,group2"`.
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
    /// Authorities that vouch for client certificates, besides the cluster's own.
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Let in requests without credentials, as system:anonymous.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    anonymous_auth: bool,
    /// Accept bootstrap tokens: Secrets of type bootstrap.kubernetes.io/token in kube-system.
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    enable_bootstrap_token_auth: bool,
    /// An AuthenticationConfiguration of apiserver.config.k8s.io, instead of the OIDC flags and --anonymous-auth.
    #[arg(long, value_name = "FILE")]
    authentication_config: Option<PathBuf>,
    /// URL of an OpenID Connect issuer; its tokens are accepted.
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,
    /// Whom tokens of the OpenID Connect issuer have to be for.
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// Who vouches for the OpenID Connect issuer's server; by default the system's authorities.
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// Claim with the user name.
    #[arg(long, default_value = "sub", value_name = "CLAIM")]
    oidc_username_claim: String,
    /// Prefix of user names; by default the issuer's URL and '#' for claims other than email, '-' for none.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    oidc_username_prefix: String,
    /// Claim with the groups.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CLAIM")]
    oidc_groups_claim: String,
    /// Prefix of groups.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    oidc_groups_prefix: String,
    /// `claim=value` that tokens have to have; can be given several times.
    #[arg(long, value_name = "CLAIM=VALUE")]
    oidc_required_claim: Vec<String>,
    /// Signing algorithms accepted, of RS256 and ES256.
    #[arg(long, value_delimiter = ',', default_value = "RS256", value_name = "LIST")]
    oidc_signing_algs: Vec<String>,
    /// Kubeconfig of a webhook that is asked about bearer tokens.
    #[arg(long, value_name = "FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// Version of the reviews sent to it.
    #[arg(long, default_value = "v1", value_name = "VERSION")]
    authentication_token_webhook_version: String,
    /// How long its answers hold.
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "DURATION")]
    authentication_token_webhook_cache_ttl: Duration,
    /// Authorities that vouch for the certificate of a proxy that says in headers who calls.
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that the proxy's certificate may have; empty for any.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    requestheader_allowed_names: Vec<String>,
    /// Headers with the user name.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    requestheader_username_headers: Vec<String>,
    /// Headers with the uid.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    requestheader_uid_headers: Vec<String>,
    /// Headers with groups.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    requestheader_group_headers: Vec<String>,
    /// What headers with extra facts begin with.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Issuer of service account tokens; of several the first issues and all are accepted.
    #[arg(long, value_name = "URL")]
    service_account_issuer: Vec<String>,
    /// Private key that signs service account tokens; by default a new one at every start.
    #[arg(long, value_name = "FILE")]
    service_account_signing_key_file: Option<PathBuf>,
    /// Keys that service account tokens are checked with, besides the signing one; can be given several times.
    #[arg(long, value_name = "FILE")]
    service_account_key_file: Vec<PathBuf>,
    /// Audiences that tokens for this server have; by default its issuer.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    api_audiences: Vec<String>,
    /// Policies in order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny.
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC", value_name = "LIST")]
    authorization_mode: Vec<String>,
    /// An AuthorizationConfiguration of apiserver.config.k8s.io, instead of --authorization-mode and the webhook's flags.
    #[arg(long, value_name = "FILE")]
    authorization_config: Option<PathBuf>,
    /// Kubeconfig of the webhook of the mode Webhook.
    #[arg(long, value_name = "FILE")]
    authorization_webhook_config_file: Option<PathBuf>,
    /// Version of the reviews sent to it.
    #[arg(long, default_value = "v1", value_name = "VERSION")]
    authorization_webhook_version: String,
    /// How long it holds when the webhook allows something.
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION")]
    authorization_webhook_cache_authorized_ttl: Duration,
    /// How long it holds when it does not.
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    authorization_webhook_cache_unauthorized_ttl: Duration,
    /// Audit policy (audit.k8s.io/v1); audits to --audit-log-path.
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where the audit log goes; '-' is standard output.
    #[arg(long, default_value = "-", value_name = "FILE")]
    audit_log_path: PathBuf,
    /// Megabytes at which the audit log is put aside; 0 for never.
    #[arg(long, default_value_t = 0, value_name = "MB")]
    audit_log_maxsize: u64,
    /// Audit logs put aside that are kept; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    audit_log_maxbackup: usize,
    /// Requests that read in flight at a time; with priority and fairness, part of what levels share.
    #[arg(long, default_value_t = 400, value_name = "N")]
    max_requests_inflight: usize,
    /// The same for requests that write.
    #[arg(long, default_value_t = 200, value_name = "N")]
    max_mutating_requests_inflight: usize,
    /// Follow FlowSchemas and PriorityLevelConfigurations.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    enable_priority_and_fairness: bool,
    /// How long a request may take that is not meant to be long.
    #[arg(long, default_value = "1m", value_parser = duration, value_name = "DURATION")]
    request_timeout: Duration,
    /// How long to serve on after a signal to stop, while /readyz fails.
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
    pub shutdown_delay_duration: Duration,
}

/// A duration as Go writes it, such as `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let nanos = parse_duration(text).map_err(|error| error.to_string())?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| "a duration may not be negative".into())
}

impl AccessArgs {
    /// The settings that the flags make.
    pub fn config(&self) -> AccessConfig {
        let webhook = self.authentication_token_webhook_config_file.clone();
        let authorizing = self.authorization_webhook_config_file.clone();
        AccessConfig {
            token_auth_file: self.token_auth_file.clone(),
            client_ca_file: self.client_ca_file.clone(),
            anonymous_auth: self.anonymous_auth,
            enable_bootstrap_token_auth: self.enable_bootstrap_token_auth,
            authentication_config: self.authentication_config.clone(),
            oidc: self.oidc_issuer_url.clone().map(|issuer_url| OidcConfig {
                issuer_url,
                client_id: self.oidc_client_id.clone().unwrap_or_default(),
                ca_file: self.oidc_ca_file.clone(),
                username_claim: self.oidc_username_claim.clone(),
                username_prefix: self.oidc_username_prefix.clone(),
                groups_claim: self.oidc_groups_claim.clone(),
                groups_prefix: self.oidc_groups_prefix.clone(),
                required_claims: self.oidc_required_claim.clone(),
                signing_algs: self.oidc_signing_algs.clone(),
            }),
            token_webhook: webhook.map(|config_file| TokenWebhookConfig {
                config_file,
                version: self.authentication_token_webhook_version.clone(),
                cache_ttl: self.authentication_token_webhook_cache_ttl,
            }),
            request_header: self.requestheader_client_ca_file.clone().map(|client_ca_file| {
                RequestHeaderConfig {
                    client_ca_file,
                    allowed_names: self.requestheader_allowed_names.clone(),
                    username_headers: self.requestheader_username_headers.clone(),
                    uid_headers: self.requestheader_uid_headers.clone(),
                    group_headers: self.requestheader_group_headers.clone(),
                    extra_headers_prefixes: self.requestheader_extra_headers_prefix.clone(),
                }
            }),
            service_account_issuers: self.service_account_issuer.clone(),
            service_account_signing_key_file: self.service_account_signing_key_file.clone(),
            service_account_key_files: self.service_account_key_file.clone(),
            api_audiences: self.api_audiences.clone(),
            authorization_modes: self.authorization_mode.clone(),
            authorization_config: self.authorization_config.clone(),
            authorization_webhook: authorizing.map(|config_file| AuthorizationWebhookConfig {
                config_file,
                version: self.authorization_webhook_version.clone(),
                cache_authorized_ttl: self.authorization_webhook_cache_authorized_ttl,
                cache_unauthorized_ttl: self.authorization_webhook_cache_unauthorized_ttl,
            }),
            audit: self.audit_policy_file.clone().map(|policy_file| AuditConfig {
                policy_file,
                log_path: self.audit_log_path.clone(),
                log_max_size: self.audit_log_maxsize,
                log_max_backup: self.audit_log_maxbackup,
            }),
        }
    }

    /// The limits that the flags set.
    pub fn limits(&self) -> Limits {
        Limits {
            max_requests_in_flight: self.max_requests_inflight,
            max_mutating_requests_in_flight: self.max_mutating_requests_inflight,
            fairness: self.enable_priority_and_fairness,
            request_timeout: self.request_timeout,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(flags: &[&str]) -> Result<AccessArgs, String> {
        let words = ["kubewright", "cluster"].iter().chain(flags);
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Cluster(args) => Ok(args.access),
            _ => Err("another command".into()),
        }
    }

    #[test]
    fn flags_are_those_of_kube_apiserver() {
        let args = parsed(&[
            "--anonymous-auth=false",
            "--enable-bootstrap-token-auth",
            "--authorization-mode=Node,RBAC,Webhook",
            "--requestheader-allowed-names=front,proxy",
            "--oidc-issuer-url=https://issuer",
            "--oidc-client-id=me",
            "--request-timeout=1m30s",
        ])
        .unwrap();
        let config = args.config();
        assert!(!config.anonymous_auth && config.enable_bootstrap_token_auth);
        assert_eq!(config.authorization_modes, ["Node", "RBAC", "Webhook"]);
        assert_eq!(config.oidc.unwrap().client_id, "me");
        assert_eq!(args.limits().request_timeout, Duration::from_secs(90));
    }

    #[test]
    fn without_flags_things_are_as_in_a_usual_cluster() {
        let args = parsed(&[]).unwrap();
        let (config, usual) = (args.config(), AccessConfig::default());
        assert_eq!(config.authorization_modes, usual.authorization_modes);
        assert!(config.anonymous_auth && config.oidc.is_none() && config.audit.is_none());
        assert_eq!(args.limits(), Limits::default());
        assert!(parsed(&["--request-timeout=-1s"]).is_err());
        assert!(parsed(&["--oidc-issuer-url=https://issuer"]).is_err(), "a client id is needed");
    }
}

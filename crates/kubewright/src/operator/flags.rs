//! The command line of an operator.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::rate::{InvalidLimit, RateLimit};
use crate::{LeaderElection, LeaseTiming, Sharding};

/// An operator built with kubewright.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
pub(super) struct Flags {
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Flags {
    /// Reads the process's arguments; prints help and exits where that is what they ask for. Flags of `run`
    /// may be given without the word.
    pub(super) fn read(name: &str) -> Flags {
        let mut arguments: Vec<_> = std::env::args_os().collect();
        let first = arguments.get(1).map(|argument| argument.to_string_lossy().into_owned());
        if first.as_deref().is_some_and(|first| matches!(first, "-V" | "--version")) {
            return Flags { command: Some(Command::Version) };
        }
        if first.is_none_or(|first| first.starts_with('-') && !matches!(&*first, "-h" | "--help")) {
            arguments.insert(arguments.len().min(1), "run".into());
        }
        let command = Flags::command().bin_name(name.to_owned());
        let matches = command.get_matches_from(arguments);
        Flags::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the controllers (the default)
    Run(Box<RunFlags>),
    /// Print the custom resource definitions, service account and roles the operator needs, as YAML
    Manifests(ManifestFlags),
    /// Print the operator's version
    Version,
}

impl Default for Command {
    fn default() -> Command {
        Command::Run(Box::default())
    }
}

#[derive(Debug, Args)]
pub(super) struct RunFlags {
    /// Kubeconfig file [default: the pod's service account, $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespaces to work in, joined by commas or given several times [default: all namespaces]
    #[arg(long, short, value_name = "NAMESPACE", env = "WATCH_NAMESPACE", value_delimiter = ',')]
    pub namespace: Vec<String>,
    /// Address to serve /metrics on, such as :8443; 0 is off
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "METRICS_ADDRESS",
        default_value = "0",
        alias = "metrics-bind-address"
    )]
    pub metrics_address: Option<String>,
    /// Serve metrics over HTTPS, to those whom the API server lets get /metrics; false is plain HTTP for everybody
    #[arg(
        long,
        value_name = "BOOL",
        env = "METRICS_SECURE",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub metrics_secure: bool,
    /// Folder with tls.crt and tls.key for metrics [default: a certificate that each process makes for itself]
    #[arg(long, value_name = "DIR", env = "METRICS_CERT_PATH")]
    pub metrics_cert_path: Option<PathBuf>,
    /// Address to serve /healthz and /readyz on, such as :8081; 0 is off
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "HEALTH_ADDRESS",
        default_value = "0",
        alias = "health-probe-bind-address"
    )]
    pub health_address: Option<String>,
    #[command(flatten)]
    pub leader: LeaderFlags,
    /// Namespace the operator itself lives in [default: the pod's own, or its name and -system]
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub own_namespace: Option<String>,
    /// Address to serve webhooks on, where there are any
    #[arg(long, value_name = "ADDRESS", env = "WEBHOOK_ADDRESS", default_value = ":9443")]
    pub webhook_address: String,
    /// Folder with tls.crt and tls.key for webhooks [default: the operator makes its own certificates]
    #[arg(long, value_name = "DIR", env = "WEBHOOK_CERTIFICATES")]
    pub webhook_certificates: Option<PathBuf>,
    /// File of authorities as PEM that have to vouch for callers of webhooks [default: anybody may call]
    #[arg(long, value_name = "FILE", env = "WEBHOOK_CLIENT_CA")]
    pub webhook_client_ca: Option<PathBuf>,
    #[command(flatten)]
    pub rate: RateFlags,
    /// Log level, or a filter such as info,kubewright=debug
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info")]
    pub log_level: String,
    /// Log format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl Default for RunFlags {
    fn default() -> RunFlags {
        RunFlags {
            kubeconfig: None,
            context: None,
            namespace: Vec::new(),
            metrics_address: None,
            metrics_secure: true,
            metrics_cert_path: None,
            health_address: None,
            leader: LeaderFlags::default(),
            own_namespace: None,
            webhook_address: ":9443".into(),
            webhook_certificates: None,
            webhook_client_ca: None,
            rate: RateFlags::default(),
            log_level: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}

/// The process's own limit of requests, under the flags of Kubernetes' own components.
#[derive(Debug, Default, Args)]
pub(super) struct RateFlags {
    /// Requests a second to the API server, watches aside; 0 is no limit
    #[arg(long, value_name = "QPS", env = "KUBE_API_QPS", default_value = "0")]
    pub kube_api_qps: f64,
    /// Requests at once after a quiet time [default: one and a half times the requests a second]
    #[arg(long, value_name = "REQUESTS", env = "KUBE_API_BURST", requires = "kube_api_qps")]
    pub kube_api_burst: Option<u32>,
}

impl RateFlags {
    /// The limit they ask for, if any.
    pub(super) fn limit(&self) -> Result<Option<RateLimit>, InvalidLimit> {
        let burst = self.kube_api_burst.unwrap_or((self.kube_api_qps * 1.5).ceil() as u32);
        (self.kube_api_qps != 0.0).then(|| RateLimit::new(self.kube_api_qps, burst)).transpose()
    }
}

/// Leader election, under the flags of Kubernetes' own components.
#[derive(Debug, Args)]
pub(super) struct LeaderFlags {
    /// Elect a leader among replicas: one works, the others stand by
    #[arg(long, env = "LEADER_ELECT")]
    pub leader_elect: bool,
    /// Share the objects among replicas: all work, each on its own share
    #[arg(long, env = "SHARD", conflicts_with = "leader_elect")]
    pub shard: bool,
    /// Ask the API server for this replica's share only (shardSelector), so that caches hold no more
    #[arg(long, env = "SHARD_SELECTOR", requires = "shard")]
    pub shard_selector: bool,
    /// Name of the Lease that all replicas share [default: the operator's name]
    #[arg(long, value_name = "NAME", alias = "leader-elect-resource-name")]
    pub leader_elect_id: Option<String>,
    /// Namespace of the Lease [default: the pod's own, or the kubeconfig's]
    #[arg(long, value_name = "NAMESPACE", alias = "leader-elect-resource-namespace", env = "POD_NAMESPACE")]
    pub leader_elect_namespace: Option<String>,
    /// How long others wait before they take a Lease that is not renewed, such as 15s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15s")]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader goes on trying to renew the Lease
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub leader_elect_renew_deadline: Duration,
    /// Time between two attempts
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub leader_elect_retry_period: Duration,
}

impl Default for LeaderFlags {
    fn default() -> LeaderFlags {
        let timing = LeaseTiming::default();
        LeaderFlags {
            leader_elect: false,
            shard: false,
            shard_selector: false,
            leader_elect_id: None,
            leader_elect_namespace: None,
            leader_elect_lease_duration: timing.lease,
            leader_elect_renew_deadline: timing.renew_deadline,
            leader_elect_retry_period: timing.retry,
        }
    }
}

impl LeaderFlags {
    fn timing(&self) -> LeaseTiming {
        LeaseTiming {
            lease: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry: self.leader_elect_retry_period,
        }
    }

    /// The sharing they ask for, if any.
    pub(super) fn sharding(&self, operator: &str) -> Option<Sharding> {
        let id = self.leader_elect_id.as_deref().unwrap_or(operator);
        let mut sharding = Sharding::new(id).timing(self.timing());
        if self.shard_selector {
            sharding = sharding.shard_selector();
        }
        self.shard.then(|| match &self.leader_elect_namespace {
            Some(namespace) => sharding.in_namespace(namespace),
            None => sharding,
        })
    }

    /// The election they ask for, if any.
    pub(super) fn election(&self, operator: &str) -> Option<LeaderElection> {
        let timing = self.timing();
        let id = self.leader_elect_id.as_deref().unwrap_or(operator);
        let election = LeaderElection::new(id).timing(timing);
        self.leader_elect.then(|| match &self.leader_elect_namespace {
            Some(namespace) => election.in_namespace(namespace),
            None => election,
        })
    }
}

/// A time as Go programs take it: `15s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no time such as 15s, 1m30s or 500ms");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        total += Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
        rest = &rest[end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[derive(Debug, Args)]
pub(super) struct ManifestFlags {
    /// Namespace of the operator itself [default: its name and -system]
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Grant namespaced kinds in these namespaces only, as `run --namespace` needs
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// Print what another cluster of the operator needs: a service account and the roles for what is done there
    #[arg(long, value_name = "NAME", conflicts_with = "watch_namespace")]
    pub cluster: Option<String>,
    /// Print a Deployment of this image, too
    #[arg(long, value_name = "IMAGE", conflicts_with = "cluster")]
    pub image: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5s500ms"), Ok(Duration::from_secs(2)));
        for wrong in ["", "15", "s", "5x", "-1s", "1e400s", "99999999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn several_namespaces_are_joined_by_commas_or_given_one_by_one() {
        let read = |arguments: &[&str]| {
            let all = ["op", "run"].iter().chain(arguments);
            match Flags::try_parse_from(all).unwrap().command {
                Some(Command::Run(run)) => run.namespace,
                _ => panic!("no run"),
            }
        };
        assert!(read(&[]).is_empty());
        assert_eq!(read(&["--namespace=a,b", "-n", "c"]), ["a", "b", "c"]);
    }

    #[test]
    fn requests_are_limited_only_when_asked_for() {
        let read = |arguments: &[&str]| {
            let all = ["op", "run"].iter().chain(arguments);
            match Flags::try_parse_from(all).unwrap().command {
                Some(Command::Run(run)) => run.rate.limit(),
                _ => Ok(None),
            }
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["--kube-api-qps=0"]), Ok(None));
        assert_eq!(read(&["--kube-api-qps=20"]), Ok(Some(RateLimit::per_second(20).burst(30))));
        assert_eq!(read(&["--kube-api-qps=0.5"]), Ok(Some(RateLimit::every(Duration::from_secs(2)))));
        let both = read(&["--kube-api-qps=20", "--kube-api-burst=40"]);
        assert_eq!(both, Ok(Some(RateLimit::per_second(20).burst(40))));
        assert!(read(&["--kube-api-qps=-1"]).is_err());
    }

    #[test]
    fn metrics_are_secured_unless_that_is_refused_as_for_kubebuilder() {
        let read = |arguments: &[&str]| {
            let all = ["op", "run"].iter().chain(arguments);
            match Flags::try_parse_from(all).unwrap().command {
                Some(Command::Run(run)) => (run.metrics_address.unwrap_or_default(), run.metrics_secure),
                _ => panic!("another command"),
            }
        };
        assert_eq!(read(&[]), ("0".into(), true));
        assert_eq!(read(&["--metrics-bind-address=:8443", "--metrics-secure"]), (":8443".into(), true));
        assert_eq!(read(&["--metrics-address", ":8080", "--metrics-secure=false"]), (":8080".into(), false));
    }

    #[test]
    fn an_election_is_held_only_when_asked_for() {
        let read = |arguments: &[&str]| {
            let all = ["op", "run"].iter().chain(arguments);
            match Flags::try_parse_from(all).unwrap().command {
                Some(Command::Run(run)) => run.leader.election("op"),
                _ => None,
            }
        };
        assert!(read(&[]).is_none());
        let election = read(&["--leader-elect", "--leader-elect-lease-duration=30s"]).unwrap();
        assert_eq!((election.id.as_str(), election.timing.lease), ("op", Duration::from_secs(30)));
        let election = read(&["--leader-elect", "--leader-elect-resource-name=x"]).unwrap();
        assert_eq!(election.id, "x");
    }
}

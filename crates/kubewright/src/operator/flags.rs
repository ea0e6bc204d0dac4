//! The command line of an operator.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

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
    Run(RunFlags),
    /// Print the custom resource definitions, service account and roles the operator needs, as YAML
    Manifests(ManifestFlags),
    /// Print the operator's version
    Version,
}

impl Default for Command {
    fn default() -> Command {
        Command::Run(RunFlags::default())
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
    /// Namespace to work in [default: all namespaces]
    #[arg(long, short, value_name = "NAMESPACE", env = "WATCH_NAMESPACE")]
    pub namespace: Option<String>,
    /// Address to serve /metrics on, such as :8080; 0 is off
    #[arg(long, value_name = "ADDRESS", env = "METRICS_ADDRESS", default_value = "0")]
    pub metrics_address: Option<String>,
    /// Address to serve /healthz and /readyz on, such as :8081; 0 is off
    #[arg(long, value_name = "ADDRESS", env = "HEALTH_ADDRESS", default_value = "0")]
    pub health_address: Option<String>,
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
            namespace: None,
            metrics_address: None,
            health_address: None,
            log_level: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ManifestFlags {
    /// Namespace of the operator itself [default: its name and -system]
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Grant namespaced kinds in this namespace only, as `run --namespace` needs
    #[arg(long, value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

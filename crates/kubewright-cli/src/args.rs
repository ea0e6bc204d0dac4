//! The command line as data. What the flags mean is said here once and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::access::AccessArgs;

/// Extend Kubernetes in Rust: clusters in milliseconds, operators from scaffold to package.
#[derive(Debug, Parser)]
#[command(name = "kubewright", version, propagate_version = true)]
pub struct Cli {
    /// What to log on stderr: error, warn, info, debug, or a filter such as `kubewright=debug`.
    #[arg(long, global = true, default_value = "warn", value_name = "FILTER")]
    pub log_level: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a Kubernetes cluster in the foreground until SIGINT or SIGTERM.
    Cluster(ClusterArgs),
    /// Build and run the operator project in a folder on an embedded cluster, again at every change.
    Dev(DevArgs),
    /// Print the versions of kubewright and of the Kubernetes it serves.
    Version,
}

/// How the cluster is set up.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Address to serve the API on; port 0 takes any free port.
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDR")]
    pub bind: SocketAddr,
    /// Where to write the kubeconfig (context `kubewright`). A file that holds anything else is left alone.
    #[arg(long, default_value = ".kubewright/kubeconfig", value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Number of simulated nodes.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub nodes: usize,
    /// Range that cluster IPs of Services are taken from.
    #[arg(long, default_value = "10.0.0.0/24", value_name = "CIDR")]
    pub service_cluster_ip_range: String,
    /// Admission plugins to run that do not by themselves, by their Kubernetes names.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins to leave out, by their Kubernetes names.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub disable_admission_plugins: Vec<String>,
    /// Seconds between compactions of the store's history.
    #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub compaction_interval: u64,
    /// Run the API server alone: no controllers, no scheduler, no nodes.
    #[arg(long)]
    pub no_controllers: bool,
    /// How to print what programs may want to read.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// `dev` takes what `cluster` takes, and a project.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// The folder of the operator project: a Cargo package with a binary that ends in `Operator::main()`.
    pub dir: PathBuf,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Build the operator with this Cargo profile.
    #[arg(long, default_value = "dev", value_name = "NAME")]
    pub profile: String,
}

/// The form of data on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line for humans.
    Text,
    /// A JSON object a line.
    Json,
}

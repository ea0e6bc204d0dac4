//! The binary `kubewright`: a cluster on this machine, and the inner loop of an operator project on it.
//!
//! Data goes to stdout, progress to stderr; the exit code is 0 for success, 1 for a failure that is explained
//! on stderr, 2 for wrong usage. Nothing here knows the semantics of Kubernetes: that is in the crates below.

mod access;
mod args;
mod authority;
mod cluster;
mod dev;
mod kubeconfig;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::progress::Progress;

fn main() -> ExitCode {
    let cli = Cli::parse();
    init_log(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let progress = Progress::to_stderr();
    let result = runtime.block_on(async {
        match cli.command {
            Command::Cluster(args) => cluster::run(args, &progress).await,
            Command::Dev(args) => dev::run(args, &progress).await,
            Command::Version => {
                println!(
                    "kubewright {} (Kubernetes {})",
                    env!("CARGO_PKG_VERSION"),
                    cluster::kubernetes_version()
                );
                Ok(())
            }
        }
    });
    // A watch that a client left open must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr, warnings and worse unless `RUST_LOG` or `--log-level` asks for more.
fn init_log(cli: &Cli) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(&cli.log_level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(progress::colour())
        .init();
}

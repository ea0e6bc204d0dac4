//! The workspace's benchmarks: `cargo run --release -p benches -- NAME [--json FILE] [--require]`.
//!
//! Each prints one row a measurement: its name, unit, number of samples, our median (and p99 for latencies), the peer's
//! in the same run or, marked so, as recorded, and the ratio. With `--require` it fails where a row misses its aim.

mod apiserver;
mod cluster;
mod delegated;
mod kinds;
mod runtime;
mod scaling;
mod table;

use clap::{Parser, Subcommand};

/// Benchmarks of Kubewright.
#[derive(Parser)]
struct Cli {
    /// Also write the rows to this file, as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// Fail where a row misses its aim.
    #[arg(long, global = true)]
    require: bool,
    #[command(subcommand)]
    what: What,
}

/// What is measured.
#[derive(Subcommand)]
enum What {
    /// The API server on a socket beside a bare hyper server: get, list, create, and events to watchers.
    Apiserver {
        /// Measure only this.
        #[arg(long)]
        only: Option<apiserver::Part>,
    },
    /// The binary `kubewright cluster`: time to ready, memory at rest, after 10 000 custom resources, after compaction.
    Cluster,
    /// An aggregated API server: what asking its cluster costs a request when the answers are known.
    Delegated,
    /// The built-in kinds: the catalogue at start, and a pod on its way to the store.
    Kinds,
    /// The operator runtime against kube-runtime: memory, first sync, throughput, latency.
    Runtime {
        /// Measure only this.
        #[arg(long)]
        only: Option<runtime::Part>,
    },
    /// What an operator costs as objects, kinds and controllers become more: a table, and pictures in a folder.
    Scaling {
        /// Where the SVG files go.
        #[arg(long, value_name = "FOLDER", default_value = "docs/scaling")]
        out: std::path::PathBuf,
    },
    /// What `scaling` measures in processes of their own.
    #[command(hide = true)]
    Scaled {
        /// Whose runtime.
        side: scaling::Side,
        /// How many objects of each kind.
        objects: usize,
        /// How many kinds.
        kinds: usize,
        /// How many controllers of each kind.
        controllers: usize,
    },
    /// What `runtime` measures in processes of their own: bytes that a cached pod costs.
    #[command(hide = true)]
    Held {
        /// Whose cache.
        what: runtime::Held,
        /// How many pods.
        pods: usize,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    // As in a program that has one and is quiet. Without any, what is traced goes to `log`, which looks at it again.
    tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::default())?;
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let table = match cli.what {
        What::Apiserver { only } => runtime()?.block_on(apiserver::run(only))?,
        What::Cluster => runtime()?.block_on(cluster::run())?,
        What::Delegated => runtime()?.block_on(delegated::run())?,
        What::Kinds => kinds::run()?,
        What::Runtime { only } => runtime::run(only)?,
        What::Scaling { out } => return scaling::run(&out),
        What::Scaled { side, objects, kinds, controllers } => {
            println!("{}", scaling::measure(side, scaling::Size { objects, kinds, controllers })?);
            return Ok(());
        }
        What::Held { what, pods } => {
            println!("{}", runtime::hold(what, pods)?);
            return Ok(());
        }
    };
    println!("{table}");
    if let Some(file) = cli.json {
        std::fs::write(file, table.json().to_string())?;
    }
    if cli.require && !table.holds() {
        anyhow::bail!("a row misses its aim");
    }
    Ok(())
}

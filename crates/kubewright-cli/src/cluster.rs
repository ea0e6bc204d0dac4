//! `kubewright cluster`: starts a cluster, says when it is ready, and stops it on a signal.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kubewright_cluster::{Cluster, ClusterConfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{ClusterArgs, Output};
use crate::authority;
use crate::kubeconfig;
use crate::progress::Progress;

/// The version of Kubernetes that is served, as `/version` says it.
pub fn kubernetes_version() -> &'static str {
    kubewright_cluster::KUBERNETES_VERSION
}

/// Runs a cluster until SIGINT or SIGTERM.
pub async fn run(args: ClusterArgs, progress: &Progress) -> anyhow::Result<()> {
    let output = args.output;
    let started = Instant::now();
    let interrupted = interrupted()?;
    let cluster = start(&args).await?;
    announce(&cluster, &args.kubeconfig, output, started);
    interrupted.await;
    progress.step("stopping");
    cluster.shutdown().await;
    Ok(())
}

/// Starts a cluster as the flags say and writes its kubeconfig.
pub async fn start(args: &ClusterArgs) -> anyhow::Result<Cluster> {
    kubeconfig::check(&args.kubeconfig)?;
    let config = ClusterConfig {
        bind: Some(args.bind),
        nodes: args.nodes,
        controllers: !args.no_controllers,
        access: args.access.config(),
        limits: args.access.limits(),
        shutdown_delay: args.access.shutdown_delay_duration,
        service_cidr: args.service_cluster_ip_range.clone(),
        enabled_admission: args.enable_admission_plugins.clone(),
        disabled_admission: args.disable_admission_plugins.clone(),
        compaction_interval: Duration::from_secs(args.compaction_interval),
        authority: Some(Arc::new(authority::load_or_create(&args.kubeconfig)?)),
    };
    let cluster = Cluster::start(config).await.context("cannot start the cluster")?;
    let admin = cluster.kubeconfig(kubeconfig::CONTEXT, "kubernetes-admin", &["system:masters"])?;
    kubeconfig::write(&args.kubeconfig, &admin)?;
    Ok(cluster)
}

/// The line that says that the cluster can be used.
pub fn announce(cluster: &Cluster, kubeconfig: &Path, output: Output, started: Instant) {
    let url = cluster.url().unwrap_or_default();
    let millis = started.elapsed().as_millis();
    match output {
        Output::Text => println!("ready {url} kubeconfig={} in {millis} ms", kubeconfig.display()),
        Output::Json => println!(
            "{}",
            serde_json::json!({
                "event": "ready", "url": url, "kubeconfig": kubeconfig, "milliseconds": millis as u64,
            })
        ),
    }
}

/// A future that ends at SIGINT or SIGTERM. Signals count from the call on, not from the first poll: nobody who has seen
/// the ready line ends the process the hard way.
pub fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

//! `kubewright dev DIR`: the inner loop of an operator project.
//!
//! cluster → build → `manifests` of the operator applied → `config/samples` applied → the operator run under its
//! own generated role → what happens told as it happens → again when sources change. A build that fails leaves
//! the running operator alone. The operator is a child process: nothing of it is linked in here.

mod aggregated;
mod build;
mod operator;
mod sources;
mod story;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use kubewright_cluster::apply;

use crate::args::DevArgs;
use crate::cluster;
use crate::progress::{Colour, Progress};
use operator::Operator;

/// Runs the loop until SIGINT or SIGTERM.
pub async fn run(args: DevArgs, progress: &Progress) -> anyhow::Result<()> {
    let started = Instant::now();
    let project = build::Project::open(&args.dir, &args.profile).await?;
    let interrupted = cluster::interrupted()?;
    let cluster = cluster::start(&args.cluster).await?;
    cluster::announce(&cluster, &args.cluster.kubeconfig, args.cluster.output, started);

    let result = develop(&project, &cluster, &args, progress, interrupted).await;
    progress.step("stopping");
    cluster.shutdown().await;
    result
}

async fn develop(
    project: &build::Project,
    cluster: &kubewright_cluster::Cluster,
    args: &DevArgs,
    progress: &Progress,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let client = cluster.client();
    let mut changes = sources::Changes::of(&project.dir).context("cannot watch the project's sources")?;
    tokio::pin!(stop);

    let mut running: Option<Operator> = None;
    let mut story: Option<story::Story> = None;
    let mut rebuild = true;
    loop {
        if rebuild {
            rebuild = false;
            progress.step(format!("building {}", project.name));
            let built = tokio::select! {
                built = project.build() => built,
                () = &mut stop => break,
            };
            match built {
                Ok(binary) => {
                    if let Some(old) = running.take() {
                        progress.step(format!("restarting {}", project.name));
                        old.stop().await;
                    }
                    let launched = tokio::select! {
                        launched = launch(project, binary, cluster, &client, args, progress, &mut story) => launched,
                        () = &mut stop => break,
                    };
                    match launched {
                        Ok(operator) => running = Some(operator),
                        Err(error) => {
                            progress.error(&error);
                            progress.step("waiting for a change");
                        }
                    }
                }
                // Cargo has said on stderr what is wrong; the operator that runs goes on.
                Err(error) => {
                    progress.error(&error);
                    progress.step("waiting for a change");
                }
            }
        }
        tokio::select! {
            () = &mut stop => break,
            change = changes.next() => match change {
                Some(path) => {
                    progress.step(format!("{} changed", path.strip_prefix(&project.dir).unwrap_or(&path).display()));
                    rebuild = true;
                }
                None => anyhow::bail!("the watch of the project's sources ended"),
            },
            status = exited(&mut running) => {
                let text = format!("the operator ended by itself ({status}); waiting for a change");
                progress.warn(progress.paint(Colour::Red, &text));
                running = None;
            }
        }
    }
    if let Some(operator) = running {
        tell_permissions(cluster, operator.user(), progress).await;
        operator.stop().await;
    }
    Ok(())
}

/// Applies what the operator needs and starts it.
async fn launch(
    project: &build::Project,
    binary: PathBuf,
    cluster: &kubewright_cluster::Cluster,
    client: &kube::Client,
    args: &DevArgs,
    progress: &Progress,
    story: &mut Option<story::Story>,
) -> anyhow::Result<Operator> {
    let manifests = operator::manifests(&binary).await?;
    let applied =
        apply::apply(client, &manifests, "default").await.context("cannot apply the operator's manifests")?;
    progress.step(format!("applied {}", apply::summary(&applied)));
    apply::established(client, &applied).await?;

    let backend = aggregated::Backend::of(&manifests)?;
    // What an aggregated server serves is there to be told of when it runs.
    if story.is_none() && backend.is_none() {
        *story = Some(story::Story::tell(client.clone(), &applied, progress.clone()).await?);
    }

    let identity = operator::identity(&applied);
    let kubeconfig = args.cluster.kubeconfig.with_file_name(format!("{}.kubeconfig", project.name));
    let account = identity.context("the operator's manifests have no ServiceAccount to run under")?;
    let (user, groups) = (account.user(), account.groups());
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let config = cluster.kubeconfig(crate::kubeconfig::CONTEXT, &user, &groups)?;
    crate::kubeconfig::write(&kubeconfig, &config)?;
    let ports = operator::Ports::choose()?;
    for (namespace, service, port) in apply::webhook_services(&manifests) {
        cluster.route_service(&namespace, &service, port, ports.webhooks);
    }
    let arguments = match &backend {
        Some(backend) => {
            backend.route(cluster);
            backend.arguments()
        }
        None => ports.arguments(),
    };
    cluster.forget_permissions(&user);
    let mut operator = Operator::start(&binary, &kubeconfig, &user, &arguments, progress)?;
    progress.step(format!("running {} as {user}", project.name));

    if let Some(backend) = &backend {
        backend.available(client).await?;
        progress.step(format!("{} is available", project.name));
        if story.is_none() {
            *story = Some(story::Story::tell(client.clone(), &applied, progress.clone()).await?);
        }
    }

    let samples = project.samples()?;
    if !samples.is_empty() {
        // A webhook that can't be asked yet would have them refused.
        if backend.is_none() {
            operator.ready(&ports).await;
        }
        let applied =
            apply::apply(client, &samples, "default").await.context("cannot apply config/samples")?;
        progress.step(format!("applied {}", apply::summary(&applied)));
    }
    Ok(operator)
}

/// Tells which rights the operator lacked, and which it has not needed.
async fn tell_permissions(cluster: &kubewright_cluster::Cluster, user: &str, progress: &Progress) {
    match cluster.permissions(user).await {
        Ok(report) if report.not_granted.is_empty() => progress.step(report.to_string()),
        Ok(report) => progress.warn(progress.paint(Colour::Red, &report.to_string())),
        Err(error) => progress.error(&error.into()),
    }
}

/// Waits for the running operator to end; for ever where none runs.
async fn exited(running: &mut Option<Operator>) -> String {
    match running {
        Some(operator) => operator.exited().await,
        None => std::future::pending().await,
    }
}

//! An operator as a program: the command line, the logs, signals, and what a process of a container has to look after.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;

use tokio::task::JoinSet;

use super::flags::{Command, Flags, LogFormat, ManifestFlags, RunFlags};
use super::{Operator, orphans};
use crate::cache::Namespaces;
use crate::client::Connect;
use crate::limits::Limits;
use crate::logs::{self, Format, LogFilter};
use crate::webhook::Certificates;
use crate::{Error, Result};

impl Operator {
    /// The program: reads the command line and does what it says. On failure it prints the error with its
    /// causes to stderr and exits with status 1.
    ///
    /// `run` stops gracefully on SIGINT or SIGTERM, within the grace period and some seconds, and at once on a second
    /// one. As the first process of its container (PID 1) it also waits for orphans, once whoever started them had five
    /// seconds to do so.
    ///
    /// # Errors
    /// None at present; the type lets `main` return it.
    pub async fn main(self) -> Result {
        let flags = Flags::read(&self.name);
        let result = match flags.command.unwrap_or_default() {
            Command::Run(run) => self.run_with(*run).await,
            Command::Manifests(manifests) => self.print_manifests(&manifests),
            Command::Version => print(&format!(
                "{} {} (kubewright {})\n",
                self.name,
                self.version.as_deref().unwrap_or("unversioned"),
                env!("CARGO_PKG_VERSION")
            )),
        };
        logs::flush();
        if let Err(error) = result {
            // Printed here: returned from `main`, it would be shown as a Rust value.
            let _ = writeln!(std::io::stderr(), "error: {}", error.chain());
            std::process::exit(1);
        }
        Ok(())
    }

    fn print_manifests(&self, flags: &ManifestFlags) -> Result {
        let namespace = flags.namespace.clone().unwrap_or_else(|| format!("{}-system", self.name));
        let watched: Vec<&str> = flags.watch_namespace.iter().map(String::as_str).collect();
        let mut text = match &flags.cluster {
            Some(cluster) => self.manifests_of_cluster(cluster, &namespace)?,
            None => self.manifests(&namespace, watched.iter().copied())?,
        };
        if let Some(image) = &flags.image {
            text.push_str(&self.deployment(image, &namespace, &watched)?);
        }
        print(&text)
    }

    async fn run_with(mut self, flags: RunFlags) -> Result {
        // Before anything that takes time: the first process of a container does not get signals that it doesn't handle.
        let mut stop = std::pin::pin!(asked_to_stop(exit_at_once)?);
        let format = match flags.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        };
        let logs = logs::set_up(&self.name, &flags.log_level, format, std::mem::take(&mut self.layers))?;
        let result = self.run_logged(flags, logs.filter.clone(), stop.as_mut()).await;
        logs.end().await;
        result
    }

    async fn run_logged(
        mut self,
        flags: RunFlags,
        filter: Option<LogFilter>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result {
        let limit = flags.rate.limit().map_err(|error| Error::Usage(error.to_string()))?;
        let limits = Limits::read();
        limits.tell(tokio::runtime::Handle::current().metrics().num_workers());
        // They end with this function.
        let mut background = JoinSet::new();
        background.spawn(orphans::reap());
        background.spawn(limits.clone().watch());
        self.memory = self.memory.or_else(|| limits.cache());

        let connect = Connect { kubeconfig: flags.kubeconfig, context: flags.context };
        let client = tokio::select! {
            client = connect.client() => client?,
            () = &mut stop => return Ok(()),
        };
        let own_namespace = flags.own_namespace.or_else(pod_namespace);
        let own_namespace = own_namespace.unwrap_or_else(|| format!("{}-system", self.name));
        if let Some(directory) = flags.webhook_certificates {
            self.webhooks.certificates = Certificates::files(directory);
        }
        self.webhooks.callers = flags.webhook_client_ca.or(self.webhooks.callers);
        let address = |address: Option<String>| address.filter(|address| !matches!(&**address, "" | "0"));
        let sharing = flags.leader.sharding(&self.name).filter(|_| self.leader.is_none());
        let election = flags.leader.election(&self.name).filter(|_| self.leader.is_none());
        let mut manager = self.manager(client).limits(limits);
        if let Some(election) = election {
            manager = manager.leader_election(election);
        }
        if let Some(sharing) = sharing {
            manager = manager.sharding(sharing);
        }
        if let Some(filter) = filter {
            manager = manager.log_filter(filter);
        }
        if flags.metrics_secure {
            let files = flags.metrics_cert_path.map(Certificates::files);
            manager = manager.secure_metrics(files.unwrap_or_default());
        }
        // An empty WATCH_NAMESPACE means all of them.
        let watched: Vec<&str> =
            flags.namespace.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        manager = match &*watched {
            [] => manager,
            [only] => manager.namespace(Some(only)),
            several => manager.namespaces(&Namespaces::of(several.iter().copied())),
        };
        manager
            .own_namespace(&own_namespace)
            .rate_limit(limit)
            .webhook_address(&flags.webhook_address)
            .metrics_address(address(flags.metrics_address).as_deref())
            .health_address(address(flags.health_address).as_deref())
            .run(stop)
            .await
    }
}

/// The namespace of the pod this runs in, if it does.
fn pod_namespace() -> Option<String> {
    let text = std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace").ok()?;
    Some(text.trim().to_owned()).filter(|namespace| !namespace.is_empty())
}

fn print(text: &str) -> Result {
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::Print)
}

/// Resolves on SIGINT or SIGTERM. A second one ends the process at once, by `exit`.
fn asked_to_stop(exit: impl FnOnce() + Send + 'static) -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let fail = |error: std::io::Error| Error::other(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            exit();
        });
    })
}

fn exit_at_once() {
    tracing::warn!("stopping at once: a second signal came");
    logs::flush();
    std::process::exit(130);
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_first_signal_stops_gracefully_and_a_second_one_at_once() {
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let stop = asked_to_stop(move || told.send(()).unwrap()).unwrap();
        // From here on this process handles them.
        kill_process(getpid(), Signal::TERM).unwrap();
        stop.await;
        assert!(hear.try_recv().is_err());
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!(hear.recv().await, Some(()));
    }
}

//! The operator as a child process: its manifests, its identity, its start, its end.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kubewright_cluster::apply::Applied;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::build;
use crate::progress::{Colour, Progress};

/// How long an operator may take to stop before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What `BINARY manifests` prints.
pub async fn manifests(binary: &Path) -> anyhow::Result<Vec<Value>> {
    let output = Command::new(binary)
        .arg("manifests")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {} manifests", binary.display()))?;
    if !output.status.success() {
        bail!("{} manifests failed ({})", binary.display(), output.status);
    }
    let text = String::from_utf8(output.stdout).context("the operator's manifests are not UTF-8")?;
    build::documents(&text).context("the operator's manifests are no YAML")
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    namespace: String,
    name: String,
}

impl ServiceAccount {
    /// Its user name.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// The groups it is in.
    pub fn groups(&self) -> Vec<String> {
        vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{}", self.namespace),
            "system:authenticated".into(),
        ]
    }
}

/// The account the operator runs under: the first one among its manifests.
pub fn identity(applied: &[Applied]) -> Option<ServiceAccount> {
    let account = applied.iter().find(|a| a.kind == "ServiceAccount")?;
    Some(ServiceAccount { namespace: account.namespace.clone()?, name: account.name.clone() })
}

/// How long an operator may take to become ready before the samples are applied all the same.
const READY: Duration = Duration::from_secs(20);

/// Where an operator serves.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Health.
    pub health: SocketAddr,
    /// Webhooks.
    pub webhooks: SocketAddr,
}

impl Ports {
    /// Ports that are free now: fixed ones could be in use by an earlier run.
    pub fn choose() -> anyhow::Result<Self> {
        let both = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")];
        let [health, webhooks] = both.map(|listener| listener?.local_addr());
        Ok(Self { health: health.context("no free port")?, webhooks: webhooks.context("no free port")? })
    }

    /// What an operator is told of them.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--metrics-address".to_owned(), "127.0.0.1:0".to_owned()];
        for (flag, address) in [("--health-address", self.health), ("--webhook-address", self.webhooks)] {
            arguments.extend([flag.to_owned(), address.to_string()]);
        }
        arguments
    }
}

/// A running operator.
pub struct Operator {
    child: Child,
    user: String,
}

impl Operator {
    /// Starts the operator against the cluster of `kubeconfig`, with further arguments. What it prints is passed on to
    /// stderr, marked.
    pub fn start(
        binary: &Path,
        kubeconfig: &Path,
        user: &str,
        arguments: &[String],
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(binary)
            .arg("run")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        if let Some(out) = child.stdout.take() {
            tokio::spawn(pass_on(out, progress.clone()));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(pass_on(err, progress.clone()));
        }
        Ok(Self { child, user: user.to_owned() })
    }

    /// The user it works under.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Waits until the operator says that it is ready, or ends, or has had its time.
    pub async fn ready(&mut self, ports: &Ports) {
        let asked = async {
            while !matches!(readyz(ports.health).await, Ok(true)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(READY, asked) => {}
            _ = self.child.wait() => {}
        }
    }

    /// Waits for the operator to end by itself.
    pub async fn exited(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Asks the operator to stop, and kills it when it does not.
    pub async fn stop(mut self) {
        let Some(pid) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
        else {
            return;
        };
        // It may have ended by itself just now: then there is nobody to tell.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Whether `/readyz` answers with success.
async fn readyz(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).await?;
    Ok(answer.split(' ').nth(1) == Some("200"))
}

async fn pass_on(stream: impl AsyncRead + Unpin, progress: Progress) {
    let mut lines = BufReader::new(stream).lines();
    let mark = progress.paint(Colour::Dim, "operator │");
    while let Ok(Some(line)) = lines.next_line().await {
        progress.line(&format!("{mark} {line}"));
    }
}

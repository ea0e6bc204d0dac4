//! The binary as a whole: how long from exec to `ready`, how much memory, and whether memory comes back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::table::{Aim, Row, Table};

const OBJECTS: usize = 10_000;
const STARTS: usize = 15;
const CLIENTS: usize = 16;

/// Measures.
pub async fn run() -> anyhow::Result<Table> {
    let binary = binary()?;
    let dir = std::env::temp_dir().join(format!("kubewright-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&binary, &dir).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

async fn measure(binary: &Path, dir: &Path) -> anyhow::Result<Table> {
    let (mut ready, mut rest) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let mut process = Process::start(binary, dir).await?;
        ready.push(process.ready.as_secs_f64() * 1000.0);
        // Work that goes on right after the ready line belongs to the start.
        tokio::time::sleep(Duration::from_millis(300)).await;
        rest.push(process.rss()?);
        process.stop().await?;
    }

    let mut process = Process::start(binary, dir).await?;
    let client = process.client(dir).await?;
    let api = widgets(&client).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = process.rss()?;
    let (created, seen) = tokio::join!(create(&api), watch(&api));
    let (create_seconds, seen) = (created?, seen?);
    let started = Instant::now();
    let listed = api.list(&ListParams::default()).await?.items.len();
    let list_seconds = started.elapsed().as_secs_f64();
    let full = process.rss()?;
    if (listed, seen) != (OBJECTS, OBJECTS) {
        bail!("{listed} listed and {seen} watched of {OBJECTS}");
    }
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    if !api.list(&ListParams::default()).await?.items.is_empty() {
        bail!("objects are left after deletecollection");
    }
    // The process compacts every second here, each time up to where it was a second before.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = process.rss()?;
    process.stop().await?;

    let row = |name, unit, samples, peer: Option<f64>, at_most: Option<f64>| Row {
        name,
        unit,
        samples,
        peer: peer.map(|figure| (figure, true)),
        aim: at_most.map_or(Aim::None, Aim::AtMost),
    };
    Ok(Table {
        rows: vec![
            row("exec to ready", "ms", ready, Some(2900.0), Some(50.0)),
            row("RSS when ready", "MB", rest, Some(310.0), Some(30.0)),
            row(
                "create, 16 clients, 10 000 custom resources",
                "1/s",
                vec![OBJECTS as f64 / create_seconds],
                None,
                None,
            ),
            row("list of 10 000 custom resources, decoded", "ms", vec![list_seconds * 1000.0], None, None),
            row("RSS with 10 000 custom resources", "MB", vec![full], None, None),
            row("RSS before them", "MB", vec![before], None, None),
            row("RSS after they went and compaction", "MB", vec![after], None, Some(before * 1.5)),
        ],
    })
}

async fn widgets(client: &Client) -> anyhow::Result<Api<DynamicObject>> {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "size": {"type": "integer"}, "text": {"type": "string"}}}}}}}],
        },
    });
    let crd = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
    ));
    Api::<DynamicObject>::all_with(client.clone(), &crd)
        .patch("widgets.example.com", &PatchParams::apply("benches"), &Patch::Apply(&definition))
        .await?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    while api.list(&ListParams::default().limit(1)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(api)
}

/// Creates all objects and returns the seconds it took.
async fn create(api: &Api<DynamicObject>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let text = "x".repeat(1000);
    futures::stream::iter(0..OBJECTS)
        .map(|i| {
            let object: DynamicObject = serde_json::from_value(json!({
                "apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": format!("widget-{i:05}")}, "spec": {"size": i, "text": text},
            }))
            .expect("the object is well-formed");
            async move { api.create(&PostParams::default(), &object).await }
        })
        .buffer_unordered(CLIENTS)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(started.elapsed().as_secs_f64())
}

/// Watches until every object was added.
async fn watch(api: &Api<DynamicObject>) -> anyhow::Result<usize> {
    let mut added = 0;
    let mut events = std::pin::pin!(api.watch(&WatchParams::default(), "0").await?);
    while let Some(event) = tokio::time::timeout(Duration::from_secs(120), events.next()).await? {
        if matches!(event?, WatchEvent::Added(_)) {
            added += 1;
            if added == OBJECTS {
                break;
            }
        }
    }
    Ok(added)
}

struct Process {
    child: Child,
    ready: Duration,
}

impl Process {
    async fn start(binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mut child = Command::new(binary)
            .args(["cluster", "--bind", "127.0.0.1:0", "--compaction-interval", "1", "--kubeconfig"])
            .arg(dir.join("kubeconfig"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is a pipe")?).read_line(&mut line).await?;
        if !line.starts_with("ready ") {
            bail!("not ready: {line}");
        }
        Ok(Self { child, ready: started.elapsed() })
    }

    async fn client(&self, dir: &Path) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(dir.join("kubeconfig"))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// Resident memory in MB.
    fn rss(&self) -> anyhow::Result<f64> {
        let pid = self.child.id().context("the process has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kib / 1024.0)
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}

/// The binary beside this one; built when it is not there.
fn binary() -> anyhow::Result<PathBuf> {
    let status = std::process::Command::new("cargo")
        .args(["build", "--release", "--quiet", "--package", "kubewright-cli"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the build of kubewright failed");
    }
    Ok(std::env::current_exe()?.with_file_name("kubewright"))
}

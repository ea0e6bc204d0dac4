//! The operator runtime against kube-runtime, in the same run and on the same bytes: memory of cached pods, the first
//! sync, throughput from event to reconciliation on one core, and the latency of one event.
//!
//! Memory is measured as the growth of a process of its own for each figure, so that one does not see what another
//! left behind. Everything else runs on one thread, but for lists of very many objects, which we decode on all cores.

pub mod kube;
mod ours;
pub mod seen;
pub mod world;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kubewright::cache::{Cache, Memory, decode_all, decode_each};

use self::seen::Seen;
use self::world::World;
use crate::table::{Aim, Row, Table};

const PODS: usize = 20_000;
const STEADY: usize = 150_000;
const EVENTS: usize = 20_000;
const LATENCIES: usize = 1_000;

/// What a process of its own measures.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Held {
    /// kube's reflector.
    Kube,
    /// Our cache, as it is by default.
    Hot,
    /// Our cache, with a budget that leaves next to nothing uncompressed.
    Cold,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Memory of cached pods.
    Memory,
    /// The first sync.
    Sync,
    /// Throughput and latency from an event to its reconciliation.
    Events,
}

/// Measures one part, or all.
pub fn run(only: Option<Part>) -> anyhow::Result<Table> {
    let wanted = |part| only.is_none_or(|only| only == part);
    let mut rows = Vec::new();
    if wanted(Part::Memory) {
        rows.extend(memory()?);
    }
    if wanted(Part::Sync) {
        rows.extend(first_sync()?);
    }
    if wanted(Part::Events) {
        rows.extend(events()?);
    }
    Ok(Table { rows })
}

fn memory() -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let size = (0..200).map(|number| world::pod(number, 1).len()).sum::<usize>() / 200;
    rows.push(row("a pod as the server sends it", "B", vec![size as f64], None, Aim::None));

    let kube = held(Held::Kube, PODS)?;
    rows.push(row(
        "memory a cached pod, hot; peer: kube's reflector",
        "B",
        vec![held(Held::Hot, PODS)?],
        Some(kube),
        Aim::RatioAtMost(1.0 / 7.0),
    ));
    rows.push(row(
        "memory a cached pod, cold; peer: kube's reflector",
        "B",
        vec![held(Held::Cold, PODS)?],
        Some(kube),
        Aim::RatioAtMost(1.0 / 50.0),
    ));
    let mebibytes = |each: f64| vec![each * STEADY as f64 / f64::from(1 << 20)];
    rows.push(row(
        "memory of 150 000 pods, hot",
        "MiB",
        mebibytes(held(Held::Hot, STEADY)?),
        None,
        Aim::None,
    ));
    rows.push(row(
        "memory of 150 000 pods, cold",
        "MiB",
        mebibytes(held(Held::Cold, STEADY)?),
        None,
        Aim::None,
    ));

    Ok(rows)
}

fn first_sync() -> anyhow::Result<Vec<Row>> {
    let chunks: Vec<Bytes> = world::initial(PODS).collect();
    // In turns, so that what the machine does meanwhile meets all.
    let (mut peer, mut raw, mut looked, mut kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        peer.push(sync_kube(&chunks)?);
        raw.push(sync(&chunks, Then::Nothing)?);
        looked.push(sync(&chunks, Then::Look)?);
        kept.push(sync(&chunks, Then::Keep)?);
    }
    let peer = Some(median(&peer));
    Ok(vec![
        row("first sync of 20 000 pods, raw", "ms", raw, peer, Aim::RatioAtMost(1.0 / 8.0)),
        row("first sync of 20 000 pods, and each decoded", "ms", looked, peer, Aim::RatioAtMost(0.5)),
        row("the same, and all kept decoded", "ms", kept, peer, Aim::None),
    ])
}

fn events() -> anyhow::Result<Vec<Row>> {
    let (mut peer, mut metadata, mut typed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        peer.push(throughput(Side::Kube)?);
        metadata.push(throughput(Side::Metadata)?);
        typed.push(throughput(Side::Typed)?);
    }
    let peer = Some(median(&peer));
    let late = Some(median(&latency(Side::Kube)?));
    Ok(vec![
        row("event → cache → queue → reconcile, metadata", "1/s", metadata, peer, Aim::RatioAtLeast(10.0)),
        row("event → cache → queue → reconcile, typed", "1/s", typed, peer, Aim::RatioAtLeast(2.0)),
        row(
            "one event → its reconciliation, typed",
            "µs",
            latency(Side::Typed)?,
            late,
            Aim::RatioAtMost(0.1),
        ),
    ])
}

fn row(name: &'static str, unit: &'static str, samples: Vec<f64>, peer: Option<f64>, aim: Aim) -> Row {
    Row { name, unit, samples, peer: peer.map(|figure| (figure, false)), aim }
}

pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One thread, as a share of one core.
fn on_one_thread<T>(run: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run))
}

/// Bytes that a cached pod costs, in a process of its own.
fn held(what: Held, pods: usize) -> anyhow::Result<f64> {
    let name = clap::ValueEnum::to_possible_value(&what).context("a name")?;
    let answer =
        Command::new(std::env::current_exe()?).args(["held", name.get_name(), &pods.to_string()]).output()?;
    anyhow::ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8(answer.stdout)?.trim().parse().context("a figure")
}

/// What the process of [`held`] does; gives bytes a pod.
pub fn hold(what: Held, pods: usize) -> anyhow::Result<f64> {
    on_one_thread(async move {
        // What a runtime needs once is not the pods'.
        let warm = grow(what, 200).await?;
        let before = resident()?;
        let held = grow(what, pods).await?;
        let after = resident()?;
        drop((warm, held));
        Ok(after.saturating_sub(before) as f64 / pods as f64)
    })?
}

async fn grow(what: Held, pods: usize) -> anyhow::Result<Box<dyn std::any::Any>> {
    let world = World::new(world::initial(pods));
    Ok(match what {
        Held::Kube => {
            let (store, task) = kube::reflector(world.client).await;
            anyhow::ensure!(store.state().len() == pods, "kube's reflector is complete");
            Box::new((store, task, world.live))
        }
        Held::Hot | Held::Cold => {
            let memory = match what {
                Held::Cold => Memory { raw: Some(1 << 20), decoded: 0 },
                _ => Memory::default(),
            };
            let cache = Cache::with_memory(world.client, memory);
            let informer = ours::informer(&cache).await;
            anyhow::ensure!(informer.stats().objects == pods, "our cache is complete");
            Box::new((cache, informer, world.live))
        }
    })
}

/// Bytes of this process in memory.
pub fn resident() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes << 10)
}

fn sync_kube(chunks: &[Bytes]) -> anyhow::Result<f64> {
    on_one_thread(async {
        let world = World::new(chunks.to_vec());
        let started = Instant::now();
        let (store, _task) = kube::reflector(world.client).await;
        let took = started.elapsed();
        anyhow::ensure!(store.state().len() == PODS, "kube's reflector is complete");
        Ok(millis(took))
    })?
}

/// What is done with the objects once they are there.
#[derive(Clone, Copy)]
enum Then {
    Nothing,
    /// Each is decoded and looked at, as a controller does.
    Look,
    /// Each is decoded and all are kept, as kube's reflector does.
    Keep,
}

fn sync(chunks: &[Bytes], then: Then) -> anyhow::Result<f64> {
    on_one_thread(async {
        let world = World::new(chunks.to_vec());
        let started = Instant::now();
        let cache = Cache::new(world.client);
        let informer = ours::informer(&cache).await;
        let objects = || informer.read(|store| store.iter().collect::<Vec<_>>());
        let (decoded, took) = match then {
            Then::Nothing => (PODS, started.elapsed()),
            Then::Look => {
                let scheduled =
                    |pod: Arc<Pod>| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
                let looks = decode_each(&objects(), |pod| pod.is_ok_and(scheduled));
                (looks.into_iter().filter(|scheduled| *scheduled).count(), started.elapsed())
            }
            Then::Keep => {
                let kept = decode_all::<Pod>(&objects());
                let took = started.elapsed();
                (kept.iter().filter(|pod| pod.is_ok()).count(), took)
            }
        };
        anyhow::ensure!(informer.stats().objects == PODS, "our cache is complete");
        anyhow::ensure!(decoded == PODS, "all pods can be decoded, and are scheduled");
        Ok(millis(took))
    })?
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// Who is measured.
#[derive(Clone, Copy)]
enum Side {
    Kube,
    Typed,
    Metadata,
}

fn begin(side: Side, client: ::kube::Client, seen: Arc<Seen>) -> tokio::task::JoinHandle<()> {
    match side {
        Side::Kube => kube::controller(client, seen),
        Side::Typed => ours::controller(client, seen, true),
        Side::Metadata => ours::controller(client, seen, false),
    }
}

/// Reconciliations a second after every pod of a synced controller changed once.
fn throughput(side: Side) -> anyhow::Result<f64> {
    let mut changes = Vec::new();
    let mut chunk = Vec::new();
    for number in 0..EVENTS {
        chunk.extend_from_slice(&world::event("MODIFIED", &world::pod(number, (EVENTS + number + 1) as u64)));
        if chunk.len() > 64 << 10 || number + 1 == EVENTS {
            changes.push(Bytes::from(std::mem::take(&mut chunk)));
        }
    }
    on_one_thread(async {
        let (seen, times) = Seen::new();
        drop(times);
        let seen = Arc::new(seen);
        let world = World::new(world::initial(EVENTS));
        let task = begin(side, world.client, Arc::clone(&seen));
        seen.reach(EVENTS).await;
        let started = Instant::now();
        for change in changes {
            world.live.send(change)?;
        }
        seen.reach(2 * EVENTS).await;
        let took = started.elapsed();
        task.abort();
        Ok(EVENTS as f64 / took.as_secs_f64())
    })?
}

/// From sending one event to the start of its reconciliation, in microseconds, many times.
fn latency(side: Side) -> anyhow::Result<Vec<f64>> {
    on_one_thread(async {
        let (seen, mut times) = Seen::new();
        let seen = Arc::new(seen);
        let world = World::new(world::initial(1_000));
        let task = begin(side, world.client, Arc::clone(&seen));
        seen.reach(1_000).await;
        while times.try_recv().is_ok() {}
        let mut samples = Vec::new();
        for number in 0..LATENCIES {
            let event = world::event("MODIFIED", &world::pod(number % 1_000, (10_000 + number) as u64));
            let sent = Instant::now();
            world.live.send(event)?;
            let seen_at = times.recv().await.context("a reconciliation")?;
            samples.push(seen_at.saturating_duration_since(sent).as_secs_f64() * 1e6);
            // The next event comes when all is quiet again.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        task.abort();
        Ok(samples)
    })?
}

//! What an operator costs as it grows: in objects, in kinds, and in controllers of one kind. Beside kube-runtime, each
//! point in a process of its own: its memory, the time of the first sync and of one event.
//!
//! All reconcilers get their object as a type. Ours share one watch and one store for each kind; a controller of
//! kube-runtime has its own. Both run on one thread and are sent the same pods.

mod plot;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::ValueEnum as _;
use futures::stream::{self, StreamExt as _};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use kubewright::cache::Cached;
use kubewright::{Action, Context, Controller, Kind, Manager, RawReconciler, Result};
use tokio::sync::mpsc::{self, UnboundedSender};
use tower::BoxError;

use self::plot::{Line, Panel};
use crate::runtime::seen::Seen;
use crate::runtime::{self, world};

const EVENTS: usize = 200;
/// What is measured at each point, and its unit.
const MEASURES: [(&str, &str); 3] = [("memory", "MiB"), ("first sync", "ms"), ("one event", "µs")];

/// Whose runtime.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Side {
    /// Ours.
    Ours,
    /// kube-runtime.
    Kube,
}

/// How much there is to do.
#[derive(Clone, Copy)]
pub struct Size {
    /// Objects of each kind.
    pub objects: usize,
    /// Kinds.
    pub kinds: usize,
    /// Controllers of each kind.
    pub controllers: usize,
}

/// What grows.
struct Axis {
    /// The name of its file.
    name: &'static str,
    /// What the numbers are of.
    title: &'static str,
    points: [usize; 4],
    size: fn(usize) -> Size,
}

/// Measures all points, prints them and draws them into a folder.
pub fn run(out: &Path) -> anyhow::Result<()> {
    let axes = [
        Axis {
            name: "objects",
            title: "objects of one kind",
            points: [1_000, 5_000, 10_000, 20_000],
            size: |objects| Size { objects, kinds: 1, controllers: 1 },
        },
        Axis {
            name: "kinds",
            title: "kinds, of 1 000 objects each",
            points: [1, 5, 10, 20],
            size: |kinds| Size { objects: 1_000, kinds, controllers: 1 },
        },
        Axis {
            name: "controllers",
            title: "controllers of one kind of 2 000 objects",
            points: [1, 2, 4, 8],
            size: |controllers| Size { objects: 2_000, kinds: 1, controllers },
        },
    ];
    std::fs::create_dir_all(out)?;
    println!(
        "{:<44} {:>6} {:>12} {:>14} {:>14}",
        "what", "", "memory, MiB", "first sync, ms", "one event, µs"
    );
    for Axis { name, title, points, size } in axes {
        let mut panels =
            MEASURES.map(|(what, unit)| Panel { title: format!("{what}, {unit}"), lines: Vec::new() });
        for (side, label) in [(Side::Kube, "kube-runtime"), (Side::Ours, "Kubewright")] {
            let mut lines = MEASURES.map(|_| Line { label, points: Vec::new() });
            for point in points {
                let figures = in_a_process(side, size(point))?;
                let [memory, sync, event] = figures;
                println!(
                    "{:<44} {label:>12} {memory:>6.0} {sync:>14.0} {event:>14.0}",
                    format!("{point} {title}")
                );
                for (line, figure) in lines.iter_mut().zip(figures) {
                    line.points.push((point as f64, figure));
                }
            }
            for (panel, line) in panels.iter_mut().zip(lines) {
                panel.lines.push(line);
            }
        }
        std::fs::write(out.join(format!("{name}.svg")), plot::svg(title, &panels))?;
    }
    Ok(())
}

fn in_a_process(side: Side, size: Size) -> anyhow::Result<[f64; 3]> {
    let side = side.to_possible_value().context("a name")?;
    let numbers = [size.objects, size.kinds, size.controllers].map(|number| number.to_string());
    let answer =
        Command::new(std::env::current_exe()?).args(["scaled", side.get_name()]).args(numbers).output()?;
    anyhow::ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let text = String::from_utf8(answer.stdout)?;
    let figures = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    figures.try_into().map_err(|_| anyhow::anyhow!("three figures, not {text}"))
}

/// What the process of one point does: MiB, ms and µs, as text.
pub fn measure(side: Side, size: Size) -> anyhow::Result<String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let before = runtime::resident()?;
        let (seen, times) = Seen::new();
        drop(times);
        let seen = Arc::new(seen);
        let (client, watches) = server(size.objects);
        let started = Instant::now();
        let _tasks = begin(side, size, &client, &seen);
        let mut count = size.objects * size.kinds * size.controllers;
        seen.reach(count).await;
        let sync = started.elapsed().as_secs_f64() * 1e3;
        let memory = runtime::resident()?.saturating_sub(before) as f64 / f64::from(1 << 20);
        // An event of one kind goes to one watch of ours, and to one for each controller of kube's.
        let watching = match side {
            Side::Ours => 1,
            Side::Kube => size.controllers,
        };
        let mut events = Vec::new();
        for number in 0..EVENTS {
            // The next event comes when all is quiet again.
            tokio::time::sleep(Duration::from_millis(3)).await;
            let event =
                world::event("MODIFIED", &world::pod(number % size.objects, (1_000_000 + number) as u64));
            let sent = Instant::now();
            for watch in &watches.lock().expect("nobody panics with it")[..watching] {
                watch.send(event.clone())?;
            }
            count += size.controllers;
            seen.reach(count).await;
            events.push(sent.elapsed().as_secs_f64() * 1e6);
        }
        Ok(format!("{memory} {sync} {}", runtime::median(&events)))
    })
}

type Watches = Arc<Mutex<Vec<UnboundedSender<Bytes>>>>;

/// A server that answers every watch with the same objects, and what it sends after them.
fn server(objects: usize) -> (kube::Client, Watches) {
    let watches = Watches::default();
    let opened = Arc::clone(&watches);
    let service = tower::service_fn(move |_: Request<Body>| {
        let (live, lines) = mpsc::unbounded_channel::<Bytes>();
        opened.lock().expect("nobody panics with it").push(live);
        let live = stream::unfold(lines, |mut lines| async { Some((lines.recv().await?, lines)) });
        let chunks = stream::iter(world::initial(objects)).chain(live);
        let chunks = chunks.map(|chunk| Ok::<_, BoxError>(Frame::data(chunk)));
        async { Ok::<_, BoxError>(Response::new(StreamBody::new(chunks.boxed()))) }
    });
    (kube::Client::new(service, "default"), watches)
}

struct Decoding(Arc<Seen>);

impl RawReconciler for Decoding {
    async fn reconcile(&self, object: Arc<Cached>, _: &Context) -> Result<Action> {
        std::hint::black_box(object.typed::<Pod>()?);
        self.0.note(Instant::now());
        Ok(Action::done())
    }
}

fn begin(
    side: Side,
    size: Size,
    client: &kube::Client,
    seen: &Arc<Seen>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let all = (0..size.kinds).flat_map(|kind| (0..size.controllers).map(move |number| (kind, number)));
    match side {
        Side::Kube => all.map(|_| runtime::kube::controller(client.clone(), Arc::clone(seen))).collect(),
        Side::Ours => {
            let mut manager = Manager::new("bench", client.clone());
            for (kind, number) in all {
                let kind = Kind { plural: format!("pods{kind}"), ..Kind::of::<Pod>() };
                let controller = Controller::raw(&kind, Decoding(Arc::clone(seen)));
                manager = manager.controller(controller.named(&format!("{}-{number}", kind.plural)));
            }
            vec![tokio::spawn(async move {
                let _ = manager.run(std::future::pending()).await;
            })]
        }
    }
}

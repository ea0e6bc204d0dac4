//! The built-in kinds: what a written pod costs before it is stored, and what the catalogue costs at start.

use std::time::Instant;

use benches::pod::{Pods, there_and_back};
use kubewright_kinds::catalogue::Catalogue;

use crate::table::{Aim, Row, Table};

const SAMPLES: usize = 2_000;

/// Measures.
pub fn run() -> anyhow::Result<Table> {
    let started = Instant::now();
    let types = Catalogue::builtin().types().count();
    let catalogue = started.elapsed().as_secs_f64() * 1000.0;
    let started = Instant::now();
    let pods = Pods::new();
    let built = started.elapsed().as_secs_f64() * 1000.0;
    anyhow::ensure!(types > 500, "the catalogue is not empty");

    let body = Pods::body();
    let plain = sample(|| there_and_back(&body));
    let ours = sample(|| pods.write(&body));
    let peer = median(&plain);
    Ok(Table {
        rows: vec![
            row("read the catalogue", "ms", vec![catalogue], None, Some(3.0)),
            row("put the built-in resources together", "ms", vec![built], None, Some(3.0)),
            row(
                "decode, default and validate a 9 KB pod; peer: serde_json there and back",
                "µs",
                ours,
                Some(peer),
                Some(100.0),
            ),
        ],
    })
}

fn row(
    name: &'static str,
    unit: &'static str,
    samples: Vec<f64>,
    peer: Option<f64>,
    at_most: Option<f64>,
) -> Row {
    Row { name, unit, samples, peer: peer.map(|p| (p, false)), aim: at_most.map_or(Aim::None, Aim::AtMost) }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Microseconds of each run.
fn sample<T>(mut run: impl FnMut() -> T) -> Vec<f64> {
    for _ in 0..100 {
        std::hint::black_box(run());
    }
    (0..SAMPLES)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(run());
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect()
}

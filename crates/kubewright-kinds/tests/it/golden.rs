//! Replays every scenario of `tests/golden` and holds the steps that pass from falling back.
//!
//! `GOLDEN=c-cr-*` replays only the scenarios whose names match (`*` stands for anything), `VERBOSE=1` prints every
//! difference, `UPDATE_GOLDEN=1` rewrites the list of passing steps, `tests/golden/passing.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::replay::{self, Outcome};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_answers_are_given_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let filter = std::env::var("GOLDEN").unwrap_or_else(|_| "*".to_string());
    let verbose = std::env::var_os("VERBOSE").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the golden scenarios are in the repository")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();

    let mut tasks = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if matches(&filter, &name) {
            let text = std::fs::read(&file).expect("a scenario can be read");
            let scenario: Value = serde_json::from_slice(&text).expect("a scenario is JSON");
            tasks.push((name, tokio::spawn(async move { replay::run(&scenario).await })));
        }
    }

    let mut report = String::new();
    let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut passing = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (name, task) in tasks {
        let outcomes = match task.await {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Outcome {
                step: 0,
                name: "(the replay broke off)".to_string(),
                differences: vec![error.to_string()],
            }],
        };
        let good = outcomes.iter().filter(|o| o.differences.is_empty()).count();
        let group = groups.entry(name.split('-').next().unwrap_or_default().to_string()).or_default();
        group.0 += good;
        group.1 += outcomes.len();
        let _ = writeln!(report, "{name:<40} {good} of {}", outcomes.len());
        for outcome in &outcomes {
            let id = format!("{name}:{:03} {}", outcome.step, outcome.name);
            if outcome.differences.is_empty() {
                passing.insert(id.clone());
            } else if verbose {
                let _ = writeln!(report, "    ✗ {:03} {}", outcome.step, outcome.name);
                for line in &outcome.differences {
                    let _ = writeln!(report, "         {line}");
                }
            }
            seen.insert(id);
        }
    }
    let (good, all) = groups.values().fold((0, 0), |sum, g| (sum.0 + g.0, sum.1 + g.1));
    for (group, (good, all)) in &groups {
        let _ = writeln!(report, "group {group}: {good} of {all}");
    }
    let _ = writeln!(report, "{good} of {all} steps pass");

    let list = folder.join("passing.txt");
    let known = std::fs::read_to_string(&list).unwrap_or_default();
    let known: BTreeSet<String> = known.lines().map(str::to_string).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        // What was not replayed stays as it is.
        let prefix = |id: &String| id.split(':').next().unwrap_or_default().to_string();
        let replayed: BTreeSet<String> = seen.iter().map(prefix).collect();
        let kept = known.iter().filter(|id| !replayed.contains(&prefix(id))).cloned();
        let text: String = passing.into_iter().chain(kept).collect::<BTreeSet<_>>().into_iter().fold(
            String::new(),
            |mut text, id| {
                let _ = writeln!(text, "{id}");
                text
            },
        );
        std::fs::write(&list, text).expect("the list of passing steps can be written");
        let _ = std::io::stderr().write_all(report.as_bytes());
        return;
    }
    if verbose || filter != "*" {
        let _ = std::io::stderr().write_all(report.as_bytes());
    }
    let fallen: Vec<&String> =
        known.iter().filter(|id| seen.contains(*id) && !passing.contains(*id)).collect();
    assert!(fallen.is_empty(), "{} steps passed before and fail now: {fallen:#?}", fallen.len());
    let gone = known.iter().any(|id| !seen.contains(id) && filter == "*");
    assert!(!gone, "tests/golden/passing.txt names steps that do not exist");
}

/// Whether a name matches a pattern of text and `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.is_char_boundary(at) && matches(rest, &tail[at..]))
        }),
    }
}

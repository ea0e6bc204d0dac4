//! What users do with the client libraries of other languages. The flows are programs in those languages
//! (`tests/peers`); each prints a line for what held, and ends with its error at what did not.

use std::path::PathBuf;
use std::process::Command;

use crate::rig::{Rig, repository};

/// A client library that `cargo xtask test` installs and names in the environment, or nothing where there is none for
/// this machine: it has said so.
fn library(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable);
    if found.is_none() {
        eprintln!(
            "skipped: {variable} is not set (`cargo xtask test` sets it where the language is installed)"
        );
    }
    Some(found?.into())
}

/// Runs a flow against a cluster; gives how many parts of it held.
fn run(rig: &Rig, flow: &mut Command) -> usize {
    flow.env("KUBECONFIG", rig.dir.join("kubeconfig")).env("HOME", &rig.dir).current_dir(&rig.dir);
    let output = flow.output().expect("the language is installed");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "stdout: {out}\nstderr: {err}\nkubewright: {}", rig.stderr());
    out.lines().filter(|line| line.starts_with("held: ")).count()
}

#[test]
fn the_client_of_python_works() {
    let Some(library) = library("KUBEWRIGHT_PYTHON_CLIENT") else { return };
    let rig = Rig::cluster("python", &["--nodes", "1"]);
    let mut python = Command::new("python3");
    // No bytecode beside the flow, which is in the repository.
    python.arg("-B").arg(repository("crates/kubewright-cli/tests/peers/flow.py"));
    assert_eq!(run(&rig, python.env("PYTHONPATH", library)), 9);
}

#[test]
fn the_client_of_node_js_works() {
    let Some(library) = library("KUBEWRIGHT_NODE_CLIENT") else { return };
    let rig = Rig::cluster("node-js", &["--nodes", "1"]);
    let mut node = Command::new("node");
    node.arg(repository("crates/kubewright-cli/tests/peers/flow.mjs"));
    assert_eq!(run(&rig, node.env("CLIENT_NODE", library)), 5);
}

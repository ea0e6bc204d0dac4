//! The layers of the workspace: which package may depend directly on which, asserted over `cargo metadata`.
//!
//! Development dependencies count too: what a test imports couples just the same.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Members of the workspace that a package may depend on, and packages from elsewhere that it must not.
struct Layer {
    /// A package, or the start of the names of several when it ends with `*`.
    package: &'static str,
    may: &'static [&'static str],
    must_not: &'static [&'static str],
}

const PURE: &[&str] =
    &["tokio", "futures", "http", "hyper", "hyper-util", "tower", "kube", "k8s-openapi", "rustls"];
const NO_CLIENT: &[&str] = &["kube", "k8s-openapi", "clap"];

/// Lowest first.
const LAYERS: &[Layer] = &[
    Layer { package: "kubewright-machinery", may: &[], must_not: PURE },
    Layer { package: "kubewright-pki", may: &[], must_not: &["tokio", "hyper", "kube", "k8s-openapi"] },
    Layer { package: "kubewright-cel", may: &["kubewright-machinery"], must_not: PURE },
    Layer {
        package: "kubewright-storage",
        may: &["kubewright-machinery"],
        must_not: &["http", "hyper", "kube", "k8s-openapi", "serde_json"],
    },
    Layer { package: "kubewright", may: &["kubewright-machinery", "kubewright-pki"], must_not: &[] },
    Layer {
        package: "kubewright-storage-etcd",
        may: &["kubewright-storage", "kubewright-machinery", "kubewright-pki"],
        must_not: NO_CLIENT,
    },
    Layer {
        package: "kubewright-apiserver",
        may: &["kubewright-storage", "kubewright-machinery", "kubewright-cel", "kubewright-pki"],
        must_not: NO_CLIENT,
    },
    Layer {
        package: "kubewright-kinds",
        may: &["kubewright-apiserver", "kubewright-storage", "kubewright-machinery", "kubewright-cel"],
        must_not: NO_CLIENT,
    },
    Layer {
        package: "kubewright-cluster",
        may: &[
            "kubewright-kinds",
            "kubewright-apiserver",
            "kubewright-storage",
            "kubewright-machinery",
            "kubewright-pki",
            "kubewright",
        ],
        must_not: &[],
    },
    Layer { package: "kubewright-testing", may: BELOW_THE_TOP, must_not: &[] },
    Layer { package: "kubewright-cli", may: BELOW_THE_TOP, must_not: &[] },
    Layer {
        package: "samples/*",
        may: &["kubewright", "kubewright-testing", "kubewright-apiserver"],
        must_not: &[],
    },
    Layer {
        package: "benches",
        may: &[
            "kubewright-testing",
            "kubewright-cluster",
            "kubewright-kinds",
            "kubewright-apiserver",
            "kubewright-storage",
            "kubewright-cel",
            "kubewright",
            "kubewright-machinery",
            "kubewright-pki",
        ],
        must_not: &[],
    },
    Layer { package: "xtask", may: &[], must_not: &["tokio", "kube", "k8s-openapi"] },
];

const BELOW_THE_TOP: &[&str] = &[
    "kubewright-cluster",
    "kubewright-kinds",
    "kubewright-apiserver",
    "kubewright-storage",
    "kubewright-cel",
    "kubewright",
    "kubewright-machinery",
    "kubewright-pki",
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let answer = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        // The default members are those of the directory cargo is called in.
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    serde_json::from_slice(&answer.stdout).expect("cargo metadata is JSON")
}

/// Name to package, of all members.
fn members(metadata: &Value) -> BTreeMap<&str, &Value> {
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages.iter().map(|package| (package["name"].as_str().expect("a name"), package)).collect()
}

/// The folder of a package, relative to the workspace.
fn folder(metadata: &Value, package: &Value) -> String {
    let root = metadata["workspace_root"].as_str().expect("a root");
    let manifest = package["manifest_path"].as_str().expect("a manifest");
    manifest.trim_start_matches(root).trim_matches('/').trim_end_matches("/Cargo.toml").to_owned()
}

fn layer_of<'a>(name: &str, folder: &str) -> Option<&'a Layer> {
    LAYERS.iter().find(|layer| match layer.package.strip_suffix('*') {
        Some(start) => folder.starts_with(start),
        None => layer.package == name,
    })
}

#[test]
fn packages_depend_only_on_layers_below() {
    let metadata = metadata();
    let members = members(&metadata);
    let mut broken = Vec::new();
    for (name, package) in &members {
        let Some(layer) = layer_of(name, &folder(&metadata, package)) else {
            broken.push(format!("{name} has no layer: give it a row in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("a name");
            if members.contains_key(on) && !layer.may.contains(&on) {
                broken.push(format!("{name} must not depend on {on}: it may on {:?}", layer.may));
            }
            if layer.must_not.contains(&on) {
                broken.push(format!("{name} must not depend on {on}: that is not for its layer"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_layer_may_only_use_layers_before_it() {
    for (place, layer) in LAYERS.iter().enumerate() {
        for below in layer.may {
            let found = LAYERS.iter().position(|other| other.package == *below);
            assert!(found.is_some_and(|found| found < place), "{} lists {below}", layer.package);
        }
    }
}

#[test]
fn folders_have_the_names_of_their_packages() {
    let metadata = metadata();
    for (name, package) in members(&metadata) {
        let folder = folder(&metadata, package);
        assert_eq!(folder.rsplit('/').next(), Some(name), "{folder}");
    }
}

#[test]
fn the_command_line_is_what_cargo_run_runs() {
    let metadata = metadata();
    let runs: Vec<&str> =
        members(&metadata).into_values().filter_map(|package| package["default_run"].as_str()).collect();
    assert_eq!(runs, ["kubewright"]);
}

#[test]
fn whatever_is_built_from_the_root_has_the_same_features() {
    let metadata = metadata();
    let default = metadata["workspace_default_members"].as_array().expect("default members");
    assert!(members(&metadata).into_values().all(|package| default.contains(&package["id"])));
}

#[test]
fn a_package_has_at_most_one_binary_of_integration_tests() {
    let metadata = metadata();
    for (name, package) in members(&metadata) {
        let targets = package["targets"].as_array().expect("targets");
        let tests = targets.iter().filter(|target| target["kind"][0] == "test").count();
        assert!(tests <= 1, "{name} has {tests}: make them modules of tests/it/main.rs");
    }
}

//! The main job: an operator project, built and run on an embedded cluster, through crashes of either side.

use std::process::Command;

use crate::rig::{Rig, read_until, repository, scratch, send, wait_until};

const SET: &str = "apiVersion: apps.zhongmingmao.io/v1beta1\nkind: MyDaemonSet\nmetadata: {name: many}\nspec: {image: nginx}\n";

fn running(pods: &str) -> usize {
    pods.lines().filter(|line| line.contains("Running")).count()
}

#[test]
fn dev_runs_one_pod_on_every_node_and_kubectl_sees_it() {
    let rig = Rig::start("dev", &["dev", &repository("samples/mydaemonset"), "--nodes", "3"]);
    rig.hears("running mydaemonset as system:serviceaccount:");
    let pods = rig.until(&["get", "pods", "-o", "wide"], |pods| running(pods) == 3);
    for node in ["node-0", "node-1", "node-2"] {
        assert_eq!(pods.lines().filter(|line| line.contains(node)).count(), 1, "{pods}");
    }
    rig.until(&["get", "mydaemonsets", "-A", "-o", "jsonpath={.items[*].status.availableReplicas}"], |n| {
        n == "3"
    });
    assert!(rig.kubectl(&["get", "crd", "-o", "wide"]).contains("mydaemonsets.apps.zhongmingmao.io"));
    assert!(rig.kubectl(&["api-resources"]).lines().any(|line| line.starts_with("my")));
    assert!(rig.kubectl(&["explain", "mydaemonset.spec"]).contains("image"));
    let name = rig.kubectl(&["get", "mydaemonset", "-o", "name"]);
    assert!(rig.kubectl(&["describe", name.trim()]).contains("Image:"));

    // The tale has the pods under their owner.
    rig.hears("+ Pod default/");
    rig.hears("availableReplicas");

    // A new image is rolled out.
    rig.kubectl(&["patch", name.trim(), "--type=merge", "-p", r#"{"spec":{"image":"nginx:2"}}"#]);
    rig.until(&["get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}"], |images| {
        images.split(' ').filter(|image| *image == "nginx:2").count() == 3
    });

    // An empty image is refused.
    let refused =
        rig.kubectl_output(&["patch", name.trim(), "--type=merge", "-p", r#"{"spec":{"image":""}}"#]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("spec.image"), "{said}");

    // A node goes, and its pod with it; a node comes, and gets one.
    rig.kubectl(&["delete", "node", "node-1"]);
    rig.until(&["get", "pods", "-o", "wide"], |pods| running(pods) == 2 && !pods.contains("node-1"));
    rig.until(&["get", "mydaemonsets", "-o", "jsonpath={.items[*].status.availableReplicas}"], |n| n == "2");

    rig.kubectl(&["delete", name.trim()]);
    rig.until(&["get", "pods", "-o", "name"], str::is_empty);
}

#[test]
fn an_operator_killed_while_it_creates_200_pods_leaves_one_a_node_after_a_restart() {
    let rig = Rig::cluster("killed", &["--nodes", "200"]);
    let binary = mydaemonset();
    apply_manifests(&rig, &binary);
    let start = || operator(&binary, &rig);
    let mut first = start();
    rig.kubectl_stdin(&["apply", "-f", "-"], SET);
    rig.until(&["get", "pods", "-o", "name"], |pods| pods.lines().count() >= 10);
    send("KILL", first.id());
    first.wait().unwrap();

    let mut second = start();
    let nodes = |pods: &str| {
        let mut nodes: Vec<String> = pods.split_whitespace().map(str::to_owned).collect();
        nodes.sort();
        nodes
    };
    let pods = rig
        .until(&["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"], |pods| nodes(pods).len() >= 200);
    let found = nodes(&pods);
    let mut distinct = found.clone();
    distinct.dedup();
    assert_eq!((found.len(), distinct.len()), (200, 200));
    rig.until(&["get", "mydaemonset", "many", "-o", "jsonpath={.status.availableReplicas}"], |n| n == "200");
    rig.kubectl(&["delete", "mydaemonset", "many"]);
    rig.until(&["get", "pods", "-o", "name"], str::is_empty);
    send("TERM", second.id());
    assert!(second.wait().unwrap().success());
}

#[test]
fn the_operator_reconnects_and_converges_after_the_cluster_stopped_in_the_middle_of_a_watch() {
    let mut rig = Rig::cluster("gone", &["--nodes", "2"]);
    let binary = mydaemonset();
    apply_manifests(&rig, &binary);
    let mut operator = operator(&binary, &rig);
    rig.kubectl_stdin(&["apply", "-f", "-"], SET);
    rig.until(&["get", "pods"], |pods| running(pods) == 2);

    let address = rig.url.trim_start_matches("https://").to_owned();
    let files = scratch("gone-again");
    // The second cluster serves under the same authority, so that the operator's kubeconfig stays good.
    assert!(rig.end("KILL").code().is_none());
    for entry in std::fs::read_dir(&rig.dir).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), files.join(entry.file_name())).unwrap();
        }
    }
    let again = Rig::start_in(files, &["cluster", "--nodes", "3"], &address);
    assert!(operator.try_wait().unwrap().is_none(), "the operator has survived");
    apply_manifests(&again, &binary);
    again.kubectl_stdin(&["apply", "-f", "-"], SET);
    again.until(&["get", "pods"], |pods| running(pods) == 3);
    send("TERM", operator.id());
    assert!(operator.wait().unwrap().success());
}

#[test]
fn dev_says_what_is_missing_in_a_folder_that_is_no_project() {
    let dir = scratch("empty");
    let output =
        crate::rig::command(&["dev", dir.to_str().unwrap(), "--bind", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("Cargo.toml"), "{said}");
}

/// The sample's binary, built as a user would.
fn mydaemonset() -> std::path::PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bin", "mydaemonset"])
        .current_dir(repository(""))
        .status()
        .unwrap();
    assert!(status.success());
    // Beside the binary under test.
    std::path::Path::new(env!("CARGO_BIN_EXE_kubewright")).with_file_name("mydaemonset")
}

fn apply_manifests(rig: &Rig, binary: &std::path::Path) {
    let output = Command::new(binary).arg("manifests").output().unwrap();
    assert!(output.status.success());
    rig.kubectl_stdin(&["apply", "-f", "-"], &String::from_utf8(output.stdout).unwrap());
    rig.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
}

fn operator(binary: &std::path::Path, rig: &Rig) -> std::process::Child {
    Command::new(binary)
        .args(["run", "--metrics-address", "127.0.0.1:0", "--health-address", "127.0.0.1:0", "--kubeconfig"])
        .arg(rig.dir.join("kubeconfig"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_change_of_the_sources_rebuilds_and_restarts_the_operator() {
    let rig = Rig::start("rebuild", &["dev", &repository("samples/mydaemonset"), "--nodes", "1"]);
    rig.hears("running mydaemonset as");
    let mut watch = rig.kubectl_spawn(&["get", "pods", "-w"]);
    let source = repository("samples/mydaemonset/src/main.rs");
    let before = rig.stderr().matches("running mydaemonset as").count();
    // Writing the same text is a change as editors make it.
    let text = std::fs::read(&source).unwrap();
    std::fs::write(&source, text).unwrap();
    wait_until(
        || rig.stderr().matches("running mydaemonset as").count() > before,
        || format!("no restart:\n{}", rig.stderr()),
    );
    read_until(&mut watch, |text| text.contains("Running"));
}

//! `kubewright cluster` itself: its ready line, its flags, its end.

use std::process::Command;

use crate::rig::{Rig, command, scratch};

#[test]
fn the_cluster_stops_cleanly_on_sigint_and_on_sigterm() {
    for signal in ["INT", "TERM"] {
        let mut rig = Rig::cluster(&format!("stop-{signal}"), &["--nodes", "1"]);
        assert!(rig.url.starts_with("https://127.0.0.1:"));
        let status = rig.end(signal);
        assert!(status.success(), "{status}: {}", rig.stderr());
    }
}

#[test]
fn a_kubeconfig_of_others_is_never_overwritten() {
    let dir = scratch("foreign");
    let file = dir.join("config");
    let theirs = "apiVersion: v1\nkind: Config\nclusters:\n- name: prod\n  cluster: {server: https://prod}\n";
    std::fs::write(&file, theirs).unwrap();
    let output = command(&["cluster", "--bind", "127.0.0.1:0", "--kubeconfig"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is not ours") && said.contains("prod"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), theirs);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let rig = Rig::cluster("busy", &["--no-controllers"]);
    let address = rig.url.trim_start_matches("https://").to_owned();
    let file = rig.dir.join("second");
    let output = command(&["cluster", "--bind", &address, "--kubeconfig"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&address), "{said}");
    assert!(!file.exists());
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for args in [&["cluster", "--nodes", "many"][..], &["conquer"]] {
        assert_eq!(command(args).output().unwrap().status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_static_token_is_its_users() {
    let tokens = scratch("tokens").join("tokens.csv");
    std::fs::write(&tokens, "s3cret,jane,7,\"dev,ops\"\n").unwrap();
    let rig = Rig::cluster("token", &["--no-controllers", "--token-auth-file", tokens.to_str().unwrap()]);
    let output = Command::new(std::env::var("KUBEWRIGHT_KUBECTL").unwrap())
        .args(["--server", &rig.url, "--insecure-skip-tls-verify", "--token", "s3cret", "auth", "whoami"])
        .env("KUBECONFIG", "/dev/null")
        .env("HOME", &rig.dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("jane") && said.contains("ops"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_api_server_alone_has_its_bootstrap_objects() {
    let rig = Rig::cluster("bootstrap", &["--no-controllers", "--service-cluster-ip-range", "10.9.0.0/24"]);
    let namespaces = rig.kubectl(&["get", "namespaces", "-o", "name"]);
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        assert!(namespaces.contains(&format!("namespace/{name}\n")), "{namespaces}");
    }
    let ip = rig.kubectl(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"]);
    assert_eq!(ip, "10.9.0.1");
    assert_eq!(rig.kubectl(&["get", "nodes", "-o", "name"]), "");
}

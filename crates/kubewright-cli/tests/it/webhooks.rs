//! Webhooks under `kubewright dev`, with no set-up, seen with kubectl.

use crate::rig::{Rig, repository};

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn dev_runs_a_validating_webhook_and_kubectl_shows_what_it_says() {
    let rig = Rig::start("allow-list", &["dev", &repository("samples/image-allow-list"), "--nodes", "1"]);
    rig.hears("applied ImageAllowList/trusted");
    rig.until(&["get", "imageallowlists", "-o", "name"], |lists| lists.contains("/trusted"));

    // Refused, whatever the way: run, apply, dry run on the server.
    let why = "The Pod \"web\" is invalid: spec.containers[0].image: image \"ghcr.io/acme/web\" is of no registry \
               that trusted allows";
    let run = rig.kubectl_output(&["run", "web", "--image=ghcr.io/acme/web"]);
    let text = said(&run);
    assert!(!run.status.success() && text.contains(why), "{text}");
    let trial = rig.kubectl_output(&["run", "web", "--image=ghcr.io/acme/web", "--dry-run=server"]);
    assert!(!trial.status.success() && said(&trial).contains(why), "{}", said(&trial));
    assert_eq!(rig.kubectl(&["get", "pods", "-o", "name"]), "");

    // Allowed, and it runs.
    rig.kubectl(&["run", "web", "--image=nginx"]);
    rig.until(&["get", "pod", "web"], |pod| pod.contains("Running"));
    let debug = rig.kubectl_output(&["debug", "web", "--image=ghcr.io/acme/debug", "--quiet", "--", "true"]);
    assert!(
        !debug.status.success() && said(&debug).contains("ephemeralContainers[0].image"),
        "{}",
        said(&debug)
    );

    // Without a list: a warning.
    rig.kubectl(&["delete", "imageallowlist", "trusted"]);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let run = rig.kubectl_output(&["run", "other", "--image=ghcr.io/acme/web"]);
        if run.status.success() {
            let warning = "Warning: no ImageAllowList exists: images of all registries are allowed";
            assert!(String::from_utf8_lossy(&run.stderr).contains(warning), "{}", said(&run));
            break;
        }
        assert!(std::time::Instant::now() < patience, "{}", said(&run));
    }
}

#[test]
fn dev_runs_a_mutating_webhook_that_its_own_sample_meets() {
    let mut rig =
        Rig::start("annotating", &["dev", &repository("samples/annotating-webhook"), "--nodes", "1"]);
    rig.hears("applied Pod/hello");
    let path = "jsonpath={.metadata.annotations.annotating-webhook\\.example\\.com/created-by}";
    let by = rig.kubectl(&["get", "pod", "hello", "-o", path]);
    assert_eq!(by, "kubernetes-admin");

    // At its end it tells what the operator's roles were used for.
    assert!(rig.end("TERM").success());
    rig.hears("permissions of system:serviceaccount:annotating-webhook-system:annotating-webhook:");
    assert!(!rig.stderr().contains("used but not granted"), "{}", rig.stderr());
    rig.hears("granted but not used: create leases.coordination.k8s.io");
}

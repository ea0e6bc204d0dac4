//! Longer ways through kubectl, as its documentation shows them: what is rolled out, pruned, drained, approved, debugged.

use crate::rig::Rig;

/// The exit code and what was said on stderr.
fn refused(rig: &Rig, args: &[&str]) -> (Option<i32>, String) {
    let output = rig.kubectl_output(args);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_rollout_has_a_history_and_is_undone_restarted_and_paused() {
    let rig = Rig::cluster("rollout", &["--nodes", "1"]);
    rig.kubectl(&["create", "deployment", "web", "--image=nginx:1", "--replicas=2"]);
    let status = ["rollout", "status", "deployment/web", "--timeout=60s"];
    rig.kubectl(&status);
    rig.kubectl(&["set", "image", "deployment/web", "nginx=nginx:2"]);
    rig.kubectl(&["annotate", "deployment/web", "kubernetes.io/change-cause=newer"]);
    rig.kubectl(&status);
    let history = rig.until(&["rollout", "history", "deployment/web"], |text| text.contains("newer"));
    let rows: Vec<Vec<&str>> = history
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<_>| !row.is_empty())
        .collect();
    assert_eq!(rows[2..], [vec!["1", "<none>"], vec!["2", "newer"]], "{history}");
    assert!(rig.kubectl(&["rollout", "history", "deployment/web", "--revision=2"]).contains("nginx:2"));

    assert_eq!(rig.kubectl(&["rollout", "undo", "deployment/web"]), "deployment.apps/web rolled back\n");
    rig.kubectl(&status);
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(rig.kubectl(&["get", "deployment", "web", "-o", image]), "nginx:1");
    rig.kubectl(&["rollout", "pause", "deployment/web"]);
    rig.kubectl(&["set", "env", "deployment/web", "A=B"]);
    rig.kubectl(&["set", "resources", "deployment/web", "--limits=cpu=100m"]);
    rig.kubectl(&["rollout", "resume", "deployment/web"]);
    rig.kubectl(&["rollout", "restart", "deployment/web"]);
    assert!(rig.kubectl(&status).ends_with("successfully rolled out\n"));
    let pods = rig.until(&["get", "pods", "-o", "json"], |pods| pods.matches("\"phase\"").count() == 2);
    assert!(pods.contains("\"restartedAt\"") || pods.contains("kubectl.kubernetes.io/restartedAt"), "{pods}");
    assert!(pods.contains("\"cpu\": \"100m\""), "{pods}");
    let events = rig.kubectl(&["events", "--for=deployment/web"]);
    assert!(events.contains("ScalingReplicaSet"), "{events}");
    rig.kubectl(&["delete", "deployment", "web", "--cascade=orphan"]);
    assert!(!rig.kubectl(&["get", "replicasets", "-o", "name"]).is_empty());
}

#[test]
fn what_left_the_files_is_pruned_and_what_is_replaced_is_new() {
    let rig = Rig::cluster("prune", &["--nodes", "0"]);
    let map = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: x}}}}\ndata: {{a: \"1\"}}\n---\n"
        )
    };
    let both = map("one") + &map("two");
    let prune = ["apply", "-f", "-", "--prune", "-l", "set=x", "--prune-allowlist=core/v1/ConfigMap"];
    rig.kubectl_stdin(&prune, &both);
    let said = rig.kubectl_stdin(&prune, &map("one"));
    assert_eq!(said, "configmap/one unchanged\nconfigmap/two pruned\n");

    let uid = ["get", "configmap", "one", "-o", "jsonpath={.metadata.uid}"];
    let before = rig.kubectl(&uid);
    assert_eq!(rig.kubectl_stdin(&["replace", "-f", "-"], &map("one")), "configmap/one replaced\n");
    assert_eq!(rig.kubectl(&uid), before);
    let forced = rig.kubectl_stdin(&["replace", "--force", "-f", "-"], &map("one"));
    assert!(forced.ends_with("configmap/one replaced\n"), "{forced}");
    assert_ne!(rig.kubectl(&uid), before);

    std::fs::write(rig.dir.join("cm.yaml"), &both).unwrap();
    let kustomization =
        "namePrefix: k-\nresources: [cm.yaml]\nconfigMapGenerator: [{name: made, literals: [a=b]}]\n";
    std::fs::write(rig.dir.join("kustomization.yaml"), kustomization).unwrap();
    assert_eq!(rig.kubectl(&["apply", "-k", "."]).lines().count(), 3);
    let names = ["get", "configmaps", "-o", "name", "--chunk-size=1", "--sort-by=.metadata.name"];
    let listed = rig.kubectl(&names);
    assert!(listed.lines().is_sorted() && listed.contains("configmap/k-two\n"), "{listed}");
    assert_eq!(rig.kubectl(&["delete", "-k", "."]).lines().count(), 3);
    assert!(!rig.kubectl(&names).contains("k-"));
}

#[test]
fn a_node_is_tainted_drained_and_taken_back() {
    let rig = Rig::cluster("drain", &["--nodes", "2"]);
    rig.kubectl(&["create", "deployment", "web", "--image=nginx", "--replicas=4"]);
    rig.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    rig.kubectl(&["taint", "nodes", "node-0", "k=v:NoSchedule"]);
    rig.kubectl(&["taint", "nodes", "node-0", "k=v:NoSchedule-"]);
    let said = rig.kubectl(&["drain", "node-1", "--ignore-daemonsets", "--timeout=60s"]);
    assert!(said.ends_with("node/node-1 drained\n"), "{said}");
    let nodes = rig.kubectl(&["get", "nodes"]);
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    let there = ["get", "pods", "-A", "--field-selector=spec.nodeName=node-1", "-o", "name"];
    assert_eq!(rig.kubectl(&there), "");
    rig.kubectl(&["wait", "--for=jsonpath={.status.readyReplicas}=4", "deployment/web", "--timeout=60s"]);
    rig.kubectl(&["uncordon", "node-1"]);
    let components = rig.kubectl_output(&["get", "componentstatuses"]);
    let text = String::from_utf8_lossy(&components.stdout).into_owned();
    assert!(text.contains("scheduler") && !text.contains("Unhealthy"), "{text}");
    let (code, said) = refused(&rig, &["top", "nodes"]);
    assert_eq!((code, said.as_str()), (Some(1), "error: Metrics API not available\n"));
}

#[test]
fn what_create_makes_is_there_and_rights_are_as_they_were_granted() {
    let rig = Rig::cluster("create", &["--no-controllers"]);
    for what in [
        &["job", "j", "--image=busybox", "--", "date"][..],
        &["cronjob", "c", "--image=busybox", "--schedule=*/5 * * * *", "--", "date"],
        &["job", "manual", "--from=cronjob/c"],
        &["secret", "generic", "s", "--from-literal=a=b"],
        &["secret", "docker-registry", "r", "--docker-username=u", "--docker-password=p"],
        &["role", "reader", "--verb=get,list", "--resource=pods,deployments.apps"],
        &["rolebinding", "readers", "--role=reader", "--user=jane", "--serviceaccount=default:robot"],
        &["clusterrole", "health", "--verb=get", "--non-resource-url=/healthz/*"],
        &["clusterrolebinding", "health", "--clusterrole=health", "--group=ops"],
        &["serviceaccount", "robot"],
        &["quota", "q", "--hard=pods=10,cpu=5"],
        &["poddisruptionbudget", "b", "--selector=app=web", "--min-available=1"],
        &["priorityclass", "high", "--value=1000"],
        &["ingress", "i", "--rule=example.com/x=web:80,tls=t"],
        &["service", "clusterip", "web", "--tcp=80:8080"],
        &["service", "nodeport", "node", "--tcp=80"],
        &["service", "externalname", "out", "--external-name=example.com"],
    ] {
        let said = rig.kubectl(&[&["create"], what].concat());
        assert!(said.ends_with(" created\n"), "{said}");
    }
    let can = |args: &[&str]| {
        let output = rig.kubectl_output(&[&["auth", "can-i"], args].concat());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(can(&["list", "pods", "--as=jane"]), "yes");
    assert_eq!(can(&["delete", "pods", "--as=jane"]), "no");
    assert_eq!(can(&["list", "deployments.apps", "--as=system:serviceaccount:default:robot"]), "yes");
    let (_, said) = refused(&rig, &["get", "secrets", "--as=jane"]);
    assert!(said.contains("User \"jane\" cannot list resource \"secrets\""), "{said}");

    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: default}\n\
        rules: [{apiGroups: [\"\"], resources: [secrets], verbs: [list]}]\n";
    std::fs::write(rig.dir.join("role.yaml"), role).unwrap();
    assert!(rig.kubectl_output(&["auth", "reconcile", "-f", "role.yaml"]).status.success());
    assert_eq!(can(&["list", "secrets", "--as=jane"]), "yes");
    assert_eq!(can(&["list", "pods", "--as=jane"]), "yes");
    assert_eq!(rig.kubectl(&["create", "token", "robot"]).matches('.').count(), 2);
}

#[test]
fn containers_for_debugging_run_beside_a_pod_and_in_a_copy_of_it() {
    let rig = Rig::cluster("debug", &["--nodes", "1"]);
    rig.kubectl(&["run", "one", "--image=busybox", "--restart=Never"]);
    rig.kubectl(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/one", "--timeout=60s"]);
    rig.kubectl(&["debug", "one", "--image=busybox", "-c", "dbg", "--quiet"]);
    let running = "jsonpath={.status.ephemeralContainerStatuses[0].state.running.startedAt}";
    rig.until(&["get", "pod", "one", "-o", running], |at| !at.is_empty());
    rig.kubectl(&["debug", "one", "--image=busybox", "--copy-to=two", "-c", "dbg", "--quiet"]);
    rig.kubectl(&["wait", "--for=condition=Ready", "pod/two", "--timeout=60s"]);
    rig.kubectl(&["delete", "pods", "--all"]);
}

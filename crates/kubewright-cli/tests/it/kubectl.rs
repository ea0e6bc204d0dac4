//! What users do with kubectl, with the newest one and with 1.20: no error, no odd warning.

use crate::rig::{Rig, read_until};

const WIDGETS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            description: What the widget should be.
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: Its size in millimetres.}
              colour: {type: string, default: grey}
              replicas: {type: integer}
          status:
            type: object
            properties: {replicas: {type: integer}}
"#;

const WIDGET: &str =
    "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: small}\nspec: {size: 3, replicas: 1}\n";

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: \"1\"}\n";

fn with_widgets(rig: &Rig) {
    let said = rig.kubectl_stdin(&["apply", "-f", "-"], WIDGETS);
    assert_eq!(said, "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created\n");
    rig.kubectl(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=30s"]);
}

#[test]
fn custom_resources_are_applied_listed_described_explained_and_deleted() {
    let rig = Rig::cluster("custom", &["--no-controllers"]);
    with_widgets(&rig);
    assert_eq!(rig.kubectl_stdin(&["apply", "-f", "-"], WIDGET), "widget.example.com/small created\n");
    assert_eq!(rig.kubectl_stdin(&["apply", "-f", "-"], WIDGET), "widget.example.com/small unchanged\n");

    let crds = rig.kubectl(&["get", "crd", "-o", "wide"]);
    assert!(
        crds.contains("NAME") && crds.contains("CREATED AT") && crds.contains("widgets.example.com"),
        "{crds}"
    );
    let resources = rig.kubectl(&["api-resources"]);
    let row =
        resources.lines().find(|line| line.starts_with("widgets ")).expect("widgets are an API resource");
    assert!(row.contains("wd") && row.contains("example.com/v1") && row.ends_with("Widget"), "{row}");

    let rows = rig.kubectl(&["get", "wd", "-A"]);
    assert!(
        rows.lines().next().unwrap().split_whitespace().eq(["NAMESPACE", "NAME", "SIZE", "AGE"]),
        "{rows}"
    );
    assert!(rows.lines().nth(1).unwrap().starts_with("default"), "{rows}");
    assert_eq!(rig.kubectl(&["get", "widget", "small", "-o", "jsonpath={.spec.colour}"]), "grey");
    assert!(rig.kubectl(&["get", "all"]).contains("widget.example.com/small"));
    let described = rig.kubectl(&["describe", "widget", "small"]);
    assert!(described.contains("Size:") && described.contains("Kind:         Widget"), "{described}");
    let explained = rig.kubectl(&["explain", "widget.spec"]);
    assert!(explained.contains("What the widget should be.") && explained.contains("size"), "{explained}");
    let explained = rig.kubectl(&["explain", "deployment.spec.replicas"]);
    assert!(explained.contains("Number of desired pods."), "{explained}");

    rig.kubectl(&["scale", "widget", "small", "--replicas=4"]);
    assert_eq!(rig.kubectl(&["get", "widget", "small", "-o", "jsonpath={.spec.replicas}"]), "4");
    rig.kubectl(&["patch", "widget", "small", "--type=merge", "-p", r#"{"spec":{"size":5}}"#]);
    assert_eq!(rig.kubectl(&["get", "widget", "small", "-o", "jsonpath={.spec.size}"]), "5");
    assert_eq!(
        rig.kubectl(&["delete", "widget", "small"]),
        "widget.example.com \"small\" deleted from default namespace\n"
    );
    assert_eq!(rig.kubectl(&["delete", "crd", "widgets.example.com"]).lines().count(), 1);
    assert!(!rig.kubectl_output(&["get", "widgets"]).status.success());
}

#[test]
fn an_old_kubectl_applies_lists_describes_explains_and_deletes_as_well() {
    let rig = Rig::cluster("old", &["--nodes", "1"]);
    with_widgets(&rig);
    std::fs::write(rig.dir.join("widget.yaml"), WIDGET).unwrap();
    assert_eq!(rig.old_kubectl(&["apply", "-f", "widget.yaml"]), "widget.example.com/small created\n");
    assert!(rig.old_kubectl(&["get", "crd", "-o", "wide"]).contains("widgets.example.com"));
    assert!(rig.old_kubectl(&["api-resources"]).contains("widgets"));
    assert!(rig.old_kubectl(&["get", "widgets", "-A"]).contains("small"));
    assert!(rig.old_kubectl(&["explain", "widget.spec"]).contains("What the widget should be."));
    assert!(rig.old_kubectl(&["explain", "pod.spec"]).contains("PodSpec is a description of a pod."));
    assert!(rig.old_kubectl(&["describe", "widget", "small"]).contains("Size:"));
    rig.old_kubectl(&["create", "deployment", "web", "--image=nginx"]);
    rig.old_kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]);
    assert!(rig.old_kubectl(&["get", "pods", "-o", "wide"]).contains("Running"));
    assert!(rig.old_kubectl(&["get", "deployments"]).contains("1/1"));
    rig.old_kubectl(&["delete", "widget", "small"]);
    rig.old_kubectl(&["delete", "deployment", "web"]);
}

#[test]
fn a_deployment_is_created_scaled_patched_edited_and_deleted_with_its_pods() {
    let rig = Rig::cluster("deployment", &["--nodes", "3"]);
    assert_eq!(
        rig.kubectl(&["create", "deployment", "web", "--image=nginx:1"]),
        "deployment.apps/web created\n"
    );
    rig.kubectl(&["scale", "deployment", "web", "--replicas=3"]);
    rig.kubectl(&["wait", "--for=jsonpath={.status.availableReplicas}=3", "deployment/web", "--timeout=60s"]);
    let pods = rig.kubectl(&["get", "pods", "-o", "wide"]);
    assert_eq!(pods.lines().filter(|line| line.contains("Running")).count(), 3, "{pods}");

    rig.kubectl(&[
        "patch",
        "deployment",
        "web",
        "-p",
        r#"{"spec":{"template":{"metadata":{"labels":{"v":"2"}}}}}"#,
    ]);
    let rolled = rig.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert!(rolled.contains("successfully rolled out"), "{rolled}");
    assert_eq!(
        rig.until(&["get", "pods", "-l", "v=2", "-o", "name"], |p| p.lines().count() == 3).lines().count(),
        3
    );

    let edited = {
        // kubectl runs an editor: this one is sed.
        let editor = rig.dir.join("editor");
        std::fs::write(&editor, "#!/bin/sh\nsed -i 's/replicas: 3/replicas: 1/' \"$1\"\n").unwrap();
        let mut permissions = std::fs::metadata(&editor).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(&editor, permissions).unwrap();
        let config = rig.dir.join("kubeconfig");
        let output = std::process::Command::new(std::env::var("KUBEWRIGHT_KUBECTL").unwrap())
            .args(["edit", "deployment", "web"])
            .env("EDITOR", &editor)
            .env("KUBECONFIG", config)
            .env("HOME", &rig.dir)
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(edited, "deployment.apps/web edited\n");
    rig.until(&["get", "pods", "-o", "name"], |pods| pods.lines().count() == 1);
    let described = rig.kubectl(&["describe", "deployment", "web"]);
    assert!(described.contains("Replicas:               1 desired"), "{described}");
    let pod = rig.kubectl(&["get", "pods", "-o", "name"]);
    assert!(rig.kubectl(&["describe", pod.trim()]).contains("Status:           Running"));

    rig.kubectl(&["delete", "deployment", "web"]);
    rig.until(&["get", "replicasets,pods", "-o", "name"], str::is_empty);
}

#[test]
fn a_watch_shows_changes_as_they_happen() {
    let rig = Rig::cluster("watch", &["--no-controllers"]);
    let mut watch = rig.kubectl_spawn(&["get", "configmaps", "-w", "-o", "name"]);
    rig.kubectl_stdin(&["apply", "-f", "-"], CONFIG);
    let seen = read_until(&mut watch, |text| text.contains("configmap/settings"));
    assert!(seen.contains("configmap/settings"));
}

#[test]
fn server_side_apply_diff_label_annotate_and_dry_run_do_what_they_say() {
    let rig = Rig::cluster("apply", &["--no-controllers"]);
    let said = rig.kubectl_stdin(&["apply", "--server-side", "-f", "-"], CONFIG);
    assert_eq!(said, "configmap/settings serverside-applied\n");

    std::fs::write(rig.dir.join("next.yaml"), CONFIG.replace("\"1\"", "\"2\"")).unwrap();
    let diff = rig.kubectl_output(&["diff", "--server-side", "-f", "next.yaml"]);
    let text = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert_eq!(diff.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&diff.stderr));
    assert!(text.contains("-  a: \"1\"") && text.contains("+  a: \"2\""), "{text}");

    let conflict =
        rig.kubectl_output(&["apply", "--server-side", "--field-manager=other", "-f", "next.yaml"]);
    let text = String::from_utf8_lossy(&conflict.stderr).into_owned();
    assert!(text.contains("conflict with \"kubectl\": .data.a"), "{text}");

    assert_eq!(rig.kubectl(&["label", "configmap", "settings", "tier=gold"]), "configmap/settings labeled\n");
    assert_eq!(
        rig.kubectl(&["annotate", "configmap", "settings", "note=hello"]),
        "configmap/settings annotated\n"
    );
    assert_eq!(rig.kubectl(&["get", "configmap", "-l", "tier=gold", "-o", "name"]), "configmap/settings\n");

    let said =
        rig.kubectl_stdin(&["apply", "--dry-run=server", "-f", "-"], &CONFIG.replace("settings", "absent"));
    assert_eq!(said, "configmap/absent created (server dry run)\n");
    assert!(!rig.kubectl_output(&["get", "configmap", "absent"]).status.success());

    let who = rig.kubectl(&["auth", "whoami"]);
    assert!(who.contains("kubernetes-admin") && who.contains("system:masters"), "{who}");
    let version = rig.kubectl(&["version"]);
    assert!(version.contains("Server Version: v1.36."), "{version}");
}

#[test]
fn a_namespace_goes_away_with_what_is_in_it() {
    let rig = Rig::cluster("namespace", &["--nodes", "1"]);
    rig.kubectl(&["create", "namespace", "team"]);
    rig.kubectl(&["create", "deployment", "web", "--image=nginx", "-n", "team"]);
    rig.kubectl(&["wait", "--for=condition=Available", "deployment/web", "-n", "team", "--timeout=60s"]);
    assert_eq!(rig.kubectl(&["delete", "namespace", "team"]), "namespace \"team\" deleted\n");
    assert!(!rig.kubectl_output(&["get", "namespace", "team"]).status.success());
    assert_eq!(rig.kubectl(&["get", "pods", "-A", "-o", "name"]), "");
}

#[test]
fn logs_and_exec_say_that_nothing_really_runs() {
    let rig = Rig::cluster("logs", &["--nodes", "1"]);
    rig.kubectl(&["run", "one", "--image=busybox"]);
    rig.kubectl(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]);
    for args in [&["logs", "one"][..], &["exec", "one", "--", "true"]] {
        let output = rig.kubectl_output(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("simulated"), "{args:?}: {text}");
    }
}

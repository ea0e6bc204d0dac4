//! An aggregated API server, built and run on an embedded cluster, used with kubectl as any other kind.

use crate::rig::{Rig, read_until, repository};

const JAN: &str = "apiVersion: wardle.example.com/v1alpha1\nkind: Fischer\nmetadata: {name: jan}\n\
                   spec: {boat: Trawler, catch: 400, species: [tuna, cod]}\n";

#[test]
fn dev_serves_fischers_and_kubectl_uses_them() {
    let rig = Rig::start("fischer", &["dev", &repository("samples/fischer"), "--nodes", "1"]);
    rig.hears("applied Fischer/piet");
    let services = rig.kubectl(&["get", "apiservice", "v1alpha1.wardle.example.com"]);
    assert!(services.contains("fischer-system/fischer") && services.contains("True"), "{services}");

    // Discovery, OpenAPI and tables are those of one API.
    let resources = rig.kubectl(&["api-resources", "--api-group=wardle.example.com"]);
    assert!(resources.contains("fischers") && resources.contains("markets"), "{resources}");
    assert!(rig.kubectl(&["explain", "fischer.spec.catch"]).contains("Fish a day."));
    let table = rig.kubectl(&["get", "fi"]);
    assert!(table.starts_with("NAME") && table.contains("BOAT") && table.contains("Dinghy"), "{table}");

    let mut watch = rig.kubectl_spawn(&["get", "fischers", "-w"]);
    rig.kubectl_stdin(&["apply", "--server-side", "-f", "-"], JAN);
    assert!(rig.kubectl(&["get", "market", "fish"]).contains("412"));
    // A client-side apply of another catch, and an edit.
    let more = JAN.replace("400", "500");
    let output = rig.kubectl_stdin(&["apply", "--server-side", "-f", "-"], &more);
    assert!(output.contains("serverside-applied"), "{output}");
    rig.kubectl(&["patch", "fischer", "jan", "--type=merge", "-p", r#"{"spec":{"catch":600}}"#]);
    read_until(&mut watch, |text| text.contains("jan") && text.contains("500") && text.contains("600"));
    let sed = "--output=jsonpath={.spec.species}";
    assert_eq!(rig.kubectl(&["get", "fischer", "jan", sed]), r#"["cod","tuna"]"#);

    // Rules and schema are enforced on the way.
    let bad =
        rig.kubectl_output(&["patch", "fischer", "piet", "--type=merge", "-p", r#"{"spec":{"catch":60}}"#]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("a dinghy holds 50 fish"));
    // Markets are computed: nobody can delete them.
    let bad = rig.kubectl_output(&["delete", "market", "fish"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("MethodNotAllowed"), "{:?}", bad);

    // The cluster's RBAC decides.
    let jane = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--as", "jane"]).collect();
        let output = rig.kubectl_output(&args);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert!(jane(&["get", "fischers"]).contains("Forbidden"));
    rig.kubectl(&["create", "rolebinding", "jane", "--clusterrole=fischer:view", "--user=jane"]);
    rig.until(&["get", "fischers", "--as", "jane"], |fischers| fischers.contains("jan"));
    assert!(jane(&["delete", "fischer", "jan"]).contains("Forbidden"));

    rig.kubectl(&["delete", "fischer", "jan", "piet"]);
    rig.until(&["get", "fischers", "-o", "name"], str::is_empty);
}

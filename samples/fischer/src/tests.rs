//! The server beside a cluster, reached through the cluster's API.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt, discovery};
use kubewright_apiserver::aggregated::{Running, Serving, Settings};
use kubewright_apiserver::outbound::Peer;
use kubewright_testing::{BoxError, ClusterConfig, TestCluster, eventually};
use serde_json::{Value, json};

use super::*;

type TestResult = Result<(), BoxError>;

const NAMESPACE: &str = "fischer-system";

/// A cluster, and the server that belongs to it.
struct Rig {
    cluster: TestCluster,
    ledger: Arc<Ledger>,
    _running: Running,
}

impl Rig {
    /// Both, ready.
    async fn start(name: &str) -> Result<Self, BoxError> {
        let bind = Some(([127, 0, 0, 1], 0).into());
        let cluster = TestCluster::with(ClusterConfig { bind, ..ClusterConfig::default() }).await?;
        let file = std::env::temp_dir().join(format!("fischer-{name}-{}.json", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let ledger = Arc::new(Ledger::open(file)?);
        for object in server(&ledger).manifests(NAMESPACE)? {
            apply(cluster.client(), serde_json::from_value(object)?).await?;
        }
        let account = format!("system:serviceaccount:{NAMESPACE}:fischer");
        let groups = ["system:serviceaccounts", "system:authenticated"];
        let kubeconfig = serde_json::to_string(&cluster.cluster().kubeconfig("c", &account, &groups)?)?;
        let settings = Settings {
            cluster: Peer::from_kubeconfig(&kubeconfig, std::path::Path::new("."))?,
            bind: ([127, 0, 0, 1], 0).into(),
            serving: Serving::Own { namespace: NAMESPACE.into() },
        };
        let running = server(&ledger).start(settings).await?;
        let address = running.address().ok_or("it listens")?;
        cluster.cluster().route_service(NAMESPACE, "fischer", 443, address);
        let services: Api<DynamicObject> = Api::all_with(
            cluster.client(),
            &ApiResource::from_gvk(&GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService")),
        );
        eventually!(cluster, "the server is available", {
            let service = services.get("v1alpha1.wardle.example.com").await?;
            service.data["status"]["conditions"][0]["status"] == "True"
        });
        Ok(Self { cluster, ledger, _running: running })
    }

    fn fischers(&self, client: Client) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, "Fischer"));
        Api::namespaced_with(client, "default", &resource)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.ledger.file);
    }
}

async fn apply(client: Client, object: DynamicObject) -> TestResult {
    let kind = GroupVersionKind::try_from(object.types.clone().unwrap_or_default())?;
    let (resource, _) = discovery::pinned_kind(&client, &kind).await?;
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    api.patch(&object.name_any(), &PatchParams::apply("test"), &Patch::Apply(&object)).await?;
    Ok(())
}

fn fischer(name: &str, spec: Value) -> Result<DynamicObject, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Fischer", "metadata": {"name": name}, "spec": spec,
    }))
}

/// What the answer of a refused request says.
fn refusal<T: std::fmt::Debug>(answer: kube::Result<T>) -> (u16, String) {
    match answer {
        Err(kube::Error::Api(status)) => (status.code, status.message),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn fischers_are_applied_watched_and_deleted_and_the_ledger_has_them() -> TestResult {
    let rig = Rig::start("applied").await?;
    let fischers = rig.fischers(rig.cluster.client());
    let empty = fischers.list(&ListParams::default()).await?;
    let version = empty.metadata.resource_version.unwrap_or_default();
    let events = fischers.watch(&WatchParams::default(), &version).await?;
    futures::pin_mut!(events);

    let params = PatchParams::apply("one");
    let spec = json!({"boat": "Dinghy", "catch": 3, "species": ["herring", "cod", "cod"]});
    let made = fischers.patch("piet", &params, &Patch::Apply(&fischer("piet", spec)?)).await?;
    assert_eq!(made.data["spec"]["species"], json!(["cod", "herring"]), "the rules have sorted them");
    assert_eq!(rig.ledger.read(|page| page.fischers["default/piet"].body.spec.catch), 3);
    // Another manager may not take the boat, but may add what nobody owns.
    let other = PatchParams::apply("two");
    let claim = fischer("piet", json!({"boat": "Trawler"}))?;
    assert_eq!(refusal(fischers.patch("piet", &other, &Patch::Apply(&claim)).await).0, 409);
    fischers.patch("piet", &PatchParams::default(), &Patch::Merge(json!({"spec": {"catch": 4}}))).await?;
    fischers.delete("piet", &DeleteParams::default()).await?;

    let mut seen = Vec::new();
    while seen.len() < 3 {
        match events.next().await.ok_or("the watch goes on")?? {
            kube::api::WatchEvent::Added(o) => seen.push(format!("added {}", o.data["spec"]["catch"])),
            kube::api::WatchEvent::Modified(o) => seen.push(format!("modified {}", o.data["spec"]["catch"])),
            kube::api::WatchEvent::Deleted(o) => seen.push(format!("deleted {}", o.data["spec"]["catch"])),
            other => return Err(format!("{other:?}").into()),
        }
    }
    assert_eq!(seen, ["added 3", "modified 4", "deleted 4"]);
    assert!(rig.ledger.read(|page| page.fischers.is_empty()));
    // The file says the same as the memory.
    assert_eq!(
        Ledger::open(rig.ledger.file.clone())?.read(|page| page.version),
        rig.ledger.read(|page| page.version)
    );
    Ok(())
}

#[tokio::test]
async fn schema_and_rules_are_enforced_and_markets_are_computed() -> TestResult {
    let rig = Rig::start("rules").await?;
    let fischers = rig.fischers(rig.cluster.client());
    let create = async |name: &str, spec: Value| {
        let object = fischer(name, spec).map_err(kube::Error::SerdeError)?;
        fischers.create(&PostParams::default(), &object).await
    };
    for (spec, said) in [
        (json!({"boat": "Raft", "catch": 1}), "spec.boat: Unsupported value: \"Raft\""),
        (json!({"boat": "Dinghy", "catch": 2000}), "spec.catch: Invalid value: 2000"),
        (json!({"boat": "Dinghy", "catch": 60}), "a dinghy holds 50 fish"),
        (json!({"boat": "Dinghy"}), "spec.catch: Required value"),
    ] {
        let (code, message) = refusal(create("bad", spec).await);
        assert_eq!(code, 422);
        assert!(message.contains(said), "{message}");
    }
    create("jan", json!({"boat": "Trawler", "catch": 600, "species": ["cod"]})).await?;
    create("piet", json!({"boat": "Dinghy", "catch": 5, "species": ["cod"]})).await?;
    let downgrade = json!({"spec": {"boat": "Dinghy", "catch": 1}});
    let (_, message) =
        refusal(fischers.patch("jan", &PatchParams::default(), &Patch::Merge(downgrade)).await);
    assert!(message.contains("spec.boat: Forbidden: trawlers are for life"), "{message}");
    let nowhere: Api<DynamicObject> = Api::namespaced_with(
        rig.cluster.client(),
        "nowhere",
        &ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, "Fischer")),
    );
    let lost = fischer("lost", json!({"boat": "Dinghy", "catch": 1}))?;
    let (code, message) = refusal(nowhere.create(&PostParams::default(), &lost).await);
    assert_eq!((code, &*message), (404, "namespaces \"nowhere\" not found"));

    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, "Market"));
    let markets: Api<DynamicObject> = Api::default_namespaced_with(rig.cluster.client(), &resource);
    let market = markets.get("fish").await?;
    assert_eq!((&market.data["fischers"], &market.data["fish"]), (&json!(2), &json!(605)));
    // What is computed cannot be written: nobody serves that.
    assert_eq!(refusal(markets.delete("fish", &DeleteParams::default()).await.map(|_| ())).0, 405);
    Ok(())
}

#[tokio::test]
async fn rbac_of_the_cluster_decides() -> TestResult {
    let rig = Rig::start("rbac").await?;
    let jane = rig.fischers(rig.cluster.client_as("jane", &[]));
    let (code, message) = refusal(jane.list(&ListParams::default()).await);
    assert_eq!(code, 403);
    assert!(
        message
            .contains("User \"jane\" cannot list resource \"fischers\" in API group \"wardle.example.com\"")
    );
    let bindings: Api<RoleBinding> = Api::namespaced(rig.cluster.client(), "default");
    let bind = |name: &str, role: &str, user: &str| -> Result<RoleBinding, serde_json::Error> {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
    };
    // The roles that the server's manifests add to view and edit.
    bindings.create(&PostParams::default(), &bind("kees", "fischer:view", "kees")?).await?;
    bindings.create(&PostParams::default(), &bind("mies", "fischer:edit", "mies")?).await?;
    let kees = rig.fischers(rig.cluster.client_as("kees", &[]));
    assert_eq!(kees.list(&ListParams::default()).await?.items.len(), 0);
    let piet = fischer("piet", json!({"boat": "Dinghy", "catch": 5}))?;
    assert_eq!(refusal(kees.create(&PostParams::default(), &piet).await).0, 403);
    let mies = rig.fischers(rig.cluster.client_as("mies", &[]));
    mies.create(&PostParams::default(), &piet).await?;
    assert_eq!(kees.get("piet").await?.data["spec"]["catch"], 5);
    Ok(())
}

#[test]
fn the_manifests_in_config_are_those_of_the_server() -> TestResult {
    let ledger = Arc::new(Ledger::open("none".into())?);
    let written: Vec<Value> = serde_saphyr::from_multiple(include_str!("../config/manifests.yaml"))?;
    assert_eq!(
        written,
        server(&ledger).manifests(NAMESPACE)?,
        "cargo run -p fischer -- manifests > config/manifests.yaml"
    );
    Ok(())
}

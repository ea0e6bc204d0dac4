//! Pure controllers, composites and decorators, with the rights that their manifests grant.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use kubewright::composite::{
    Composite, Decoration, Decorator, Desired, Observed, Related, Rollout, Selector,
};
use kubewright::{Controller, Kind, Operator};
use kubewright_testing::{BoxError, TestCluster, eventually};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::mapper::definition;

const EXPOSE: &str = "example.com/expose";
const FINALIZER: &str = "example.com/exposer";

/// Attaches a ConfigMap that can't be changed to each StatefulSet that asks for it, and says so on the set.
struct Exposer;

impl Decorator for Exposer {
    type Target = StatefulSet;

    fn name(&self) -> &str {
        "exposer"
    }

    fn selector(&self) -> Selector {
        Selector::everything().labels("app=web").annotations(EXPOSE)
    }

    fn desired(&self, set: &StatefulSet, observed: &Observed<'_>) -> kubewright::Result<Decoration> {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(format!("{}-exposed", set.name_any()));
        map.data = Some([("as".to_owned(), set.annotations()[EXPOSE].clone())].into());
        map.immutable = Some(true);
        let wanted = Decoration::new()
            .attach(map)
            .label("exposed", "yes")
            .without_label("hidden")
            .annotation("example.com/exposed-as", set.annotations()[EXPOSE].clone());
        let settings = observed.related::<ConfigMap>()?;
        Ok(match settings.first().and_then(|settings| settings.data.as_ref()?.get("tier").cloned()) {
            Some(tier) => wanted.label("tier", tier),
            None => wanted,
        })
    }

    fn finalizer(&self) -> Option<&str> {
        Some(FINALIZER)
    }

    fn related(&self, _: &StatefulSet) -> Vec<Related> {
        vec![Related::of::<ConfigMap>().in_namespaces("settings=true").named(["settings"])]
    }

    fn rollout(&self, _: &Kind) -> Rollout {
        Rollout::Recreate
    }
}

fn exposer() -> Operator {
    let controller = Controller::decorator(Exposer).owns::<ConfigMap>();
    Operator::new("op").controller(controller.relates::<ConfigMap>().relates::<Namespace>())
}

fn set(name: &str, annotations: Value) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "web", "hidden": "yes"}, "annotations": annotations},
        "spec": {"serviceName": name, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}},
    }))
    .unwrap()
}

fn map(name: &str, data: Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap()
}

async fn annotate(sets: &Api<StatefulSet>, name: &str, value: Value) -> Result<(), BoxError> {
    let patch = json!({"metadata": {"annotations": {EXPOSE: value}}});
    sets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[tokio::test]
async fn a_decorator_adds_to_what_its_selector_chooses_and_takes_it_back_when_it_does_no_more()
-> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let _operator = cluster.run(exposer()).await?;
    let sets: Api<StatefulSet> = Api::default_namespaced(cluster.client());
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    sets.create(&PostParams::default(), &set("quiet", json!({}))).await?;
    let web = sets.create(&PostParams::default(), &set("web", json!({EXPOSE: "first"}))).await?;
    // The set's own controller has a child of the same kind.
    let mut own = map("own", json!({}));
    own.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "apps/v1".into(),
        kind: "StatefulSet".into(),
        name: "web".into(),
        uid: web.uid().unwrap(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    maps.create(&PostParams::default(), &own).await?;

    eventually!(cluster, "the set is decorated", sets.get("web").await?.labels().contains_key("exposed"));
    let web = sets.get("web").await?;
    assert_eq!(web.annotations()["example.com/exposed-as"], "first");
    assert_eq!(web.finalizers(), [FINALIZER]);
    let attached = maps.get("web-exposed").await?;
    assert_eq!(attached.owner_references()[0].uid, web.uid().unwrap());
    assert_eq!(attached.annotations()["kubewright.io/decorator"], "op/exposer");
    eventually!(cluster, "a label of others goes", !sets.get("web").await?.labels().contains_key("hidden"));
    let quiet = sets.get("quiet").await?;
    assert!(quiet.finalizers().is_empty() && quiet.labels()["hidden"] == "yes");

    annotate(&sets, "web", Value::Null).await?;
    eventually!(cluster, "the set is left alone", sets.get("web").await?.finalizers().is_empty());
    let web = sets.get("web").await?;
    assert!(
        !web.labels().contains_key("exposed") && !web.annotations().contains_key("example.com/exposed-as")
    );
    assert_eq!(web.labels()["app"], "web");
    assert!(maps.get_opt("web-exposed").await?.is_none());
    assert!(maps.get_opt("own").await?.is_some(), "another's child is no attachment");
    Ok(())
}

#[tokio::test]
async fn an_attachment_that_cannot_be_changed_is_recreated_and_goes_before_its_object() -> Result<(), BoxError>
{
    let cluster = TestCluster::api_server_only().await?;
    let _operator = cluster.run(exposer()).await?;
    let sets: Api<StatefulSet> = Api::default_namespaced(cluster.client());
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    sets.create(&PostParams::default(), &set("web", json!({EXPOSE: "first"}))).await?;
    eventually!(cluster, "the attachment is there", maps.get_opt("web-exposed").await?.is_some());
    let first = maps.get("web-exposed").await?;
    annotate(&sets, "web", json!("second")).await?;
    eventually!(
        cluster,
        "the attachment is another",
        maps.get_opt("web-exposed").await?.is_some_and(|map| map.uid() != first.uid())
    );
    assert_eq!(maps.get("web-exposed").await?.data.unwrap()["as"], "second");

    sets.delete("web", &DeleteParams::default()).await?;
    eventually!(cluster, "the set goes", sets.get_opt("web").await?.is_none());
    assert!(maps.get_opt("web-exposed").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_change_of_what_an_object_relates_to_has_it_looked_at_again() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let _operator = cluster.run(exposer()).await?;
    let sets: Api<StatefulSet> = Api::default_namespaced(cluster.client());
    sets.create(&PostParams::default(), &set("web", json!({EXPOSE: "first"}))).await?;
    eventually!(cluster, "the set is decorated", sets.get("web").await?.labels().contains_key("exposed"));
    let elsewhere = cluster.namespace("elsewhere").await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(elsewhere.client());
    maps.create(&PostParams::default(), &map("settings", json!({"tier": "gold"}))).await?;
    // The namespace is chosen only now.
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let chosen = json!({"metadata": {"labels": {"settings": "true"}}});
    namespaces.patch(elsewhere.name(), &PatchParams::default(), &Patch::Merge(chosen)).await?;
    let tier = async || Ok::<_, BoxError>(sets.get("web").await?.labels().get("tier").cloned());
    eventually!(cluster, "the settings are seen", tier().await?.as_deref() == Some("gold"));
    let change = json!({"data": {"tier": "silver"}});
    maps.patch("settings", &PatchParams::default(), &Patch::Merge(change)).await?;
    eventually!(cluster, "their change is seen", tier().await?.as_deref() == Some("silver"));
    maps.delete("settings", &DeleteParams::default()).await?;
    eventually!(cluster, "that they are gone is seen", tier().await?.is_none());
    Ok(())
}

/// Attaches three ConfigMaps, changes them one after another, reports in the status and tells how many there are.
struct Trio(mpsc::UnboundedSender<usize>);

impl Decorator for Trio {
    type Target = StatefulSet;

    fn name(&self) -> &str {
        "trio"
    }

    fn desired(&self, set: &StatefulSet, observed: &Observed<'_>) -> kubewright::Result<Decoration> {
        // The test may be over.
        let _ = self.0.send(observed.count());
        let maps = (0..3).map(|number| {
            let mut map = map(
                &format!("part-{number}"),
                json!({"as": set.annotations().get(EXPOSE).map_or("nothing", String::as_str)}),
            );
            map.immutable = Some(true);
            map
        });
        let condition = json!({"type": "Exposed", "status": "True", "reason": "AsAsked", "message": ""});
        Ok(Decoration::new().attach_all(maps).status(json!({"conditions": [condition]})))
    }

    fn rollout(&self, _: &Kind) -> Rollout {
        Rollout::RollingRecreate { max_unavailable: 1 }
    }
}

#[tokio::test]
async fn attachments_are_recreated_one_after_another() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let (told, mut counts) = mpsc::unbounded_channel();
    let _operator = cluster
        .run(Operator::new("op").controller(Controller::decorator(Trio(told)).owns::<ConfigMap>()))
        .await?;
    let sets: Api<StatefulSet> = Api::default_namespaced(cluster.client());
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    sets.create(&PostParams::default(), &set("web", json!({EXPOSE: "first"}))).await?;
    while counts.recv().await != Some(3) {}
    annotate(&sets, "web", json!("second")).await?;
    let all_are = async |wanted: &str| -> Result<bool, BoxError> {
        let maps = maps.list(&ListParams::default()).await?.items;
        let of = |map: &ConfigMap| map.data.as_ref().is_some_and(|data| data["as"] == wanted);
        Ok(maps.iter().filter(|map| map.name_any().starts_with("part-") && of(map)).count() == 3)
    };
    eventually!(cluster, "all are made anew", all_are("second").await?);
    let mut seen = Vec::new();
    while let Ok(count) = counts.try_recv() {
        seen.push(count);
    }
    assert!(seen.iter().all(|count| *count >= 2), "more than one was away: {seen:?}");
    assert!(seen.iter().filter(|count| **count == 2).count() >= 3, "each was away once: {seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_decorators_part_of_the_status_stays_beside_that_of_others() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let (told, _counts) = mpsc::unbounded_channel();
    let _operator = cluster
        .run(Operator::new("op").controller(Controller::decorator(Trio(told)).owns::<ConfigMap>()))
        .await?;
    let sets: Api<StatefulSet> = Api::default_namespaced(cluster.client());
    sets.create(&PostParams::default(), &set("web", json!({}))).await?;
    let conditions = async || -> Result<Vec<String>, BoxError> {
        let status = sets.get_status("web").await?.status.unwrap_or_default();
        Ok(status.conditions.into_iter().flatten().map(|condition| condition.type_).collect())
    };
    eventually!(cluster, "the condition is there", conditions().await? == ["Exposed"]);
    // As the set's own controller reports.
    let own = json!({"status": {"replicas": 3, "readyReplicas": 2}});
    sets.patch_status("web", &PatchParams::default(), &Patch::Merge(own)).await?;
    let taken = json!({"status": {"conditions": null}});
    sets.patch_status("web", &PatchParams::default(), &Patch::Merge(taken)).await?;
    eventually!(cluster, "the condition is back", conditions().await? == ["Exposed"]);
    assert_eq!(sets.get_status("web").await?.status.unwrap().ready_replicas, Some(2));
    Ok(())
}

/// Labels objects of a kind.
struct Marks<K>(&'static str, std::marker::PhantomData<fn() -> K>);

impl<K: kubewright::Object> Decorator for Marks<K> {
    type Target = K;

    fn name(&self) -> &str {
        self.0
    }

    fn selector(&self) -> Selector {
        Selector::everything().labels("app=web")
    }

    fn desired(&self, _: &K, _: &Observed<'_>) -> kubewright::Result<Decoration> {
        Ok(Decoration::new().label("marked", Kind::of::<K>().plural))
    }
}

#[tokio::test]
async fn one_decorator_is_added_once_for_each_of_its_kinds() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let operator = Operator::new("op")
        .controller(Controller::decorator(Marks::<StatefulSet>("sets", Default::default())))
        .controller(Controller::decorator(Marks::<ConfigMap>("maps", Default::default())));
    let _operator = cluster.run(operator).await?;
    let sets: Api<StatefulSet> = Api::default_namespaced(cluster.client());
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    sets.create(&PostParams::default(), &set("web", json!({}))).await?;
    let mut chosen = map("web", json!({}));
    chosen.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    maps.create(&PostParams::default(), &chosen).await?;
    eventually!(
        cluster,
        "both are marked",
        sets.get("web").await?.labels().get("marked").is_some_and(|mark| mark == "statefulsets")
            && maps.get("web").await?.labels().get("marked").is_some_and(|mark| mark == "configmaps")
    );
    Ok(())
}

/// Copies the settings of a namespace that the parent names into the parent's own: Metacontroller's GlobalConfigMap.
struct Propagates;

impl Composite for Propagates {
    type Parent = Namespace;

    fn desired(&self, namespace: &Namespace, observed: &Observed<'_>) -> kubewright::Result<Desired> {
        let copies = observed.related::<ConfigMap>()?.into_iter().map(|source| {
            let mut copy = ConfigMap { data: source.data.clone(), ..ConfigMap::default() };
            copy.metadata.name = Some(source.name_any());
            copy.metadata.namespace = Some(namespace.name_any());
            copy
        });
        Ok(Desired::new().with_all(copies))
    }

    fn related(&self, namespace: &Namespace) -> Vec<Related> {
        let from = namespace.annotations().get("example.com/settings-of");
        from.into_iter()
            .map(|from| Related::of::<ConfigMap>().in_namespace(from).labels("propagate=true"))
            .collect()
    }
}

#[tokio::test]
async fn a_composite_follows_the_related_objects_that_its_parent_names() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let controller = Controller::composite(Propagates).owns::<ConfigMap>().relates::<ConfigMap>();
    let _operator = cluster.run(Operator::new("op").controller(controller)).await?;
    let (from, to) = (cluster.namespace("from").await?, cluster.namespace("to").await?);
    let sources: Api<ConfigMap> = Api::default_namespaced(from.client());
    let copies: Api<ConfigMap> = Api::default_namespaced(to.client());
    let names = json!({"metadata": {"annotations": {"example.com/settings-of": from.name()}}});
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.patch(to.name(), &PatchParams::default(), &Patch::Merge(names)).await?;
    let mut source = map("colours", json!({"sky": "blue"}));
    sources.create(&PostParams::default(), &source).await?;
    source.metadata.labels = Some([("propagate".to_owned(), "true".to_owned())].into());
    sources.patch("colours", &PatchParams::default(), &Patch::Merge(&source)).await?;
    let copied = async || Ok::<_, BoxError>(copies.get_opt("colours").await?.and_then(|copy| copy.data));
    eventually!(cluster, "the copy is there", copied().await?.is_some_and(|data| data["sky"] == "blue"));
    let change = json!({"data": {"sky": "grey"}});
    sources.patch("colours", &PatchParams::default(), &Patch::Merge(change)).await?;
    eventually!(cluster, "the copy follows", copied().await?.is_some_and(|data| data["sky"] == "grey"));
    let hidden = json!({"metadata": {"labels": {"propagate": null}}});
    sources.patch("colours", &PatchParams::default(), &Patch::Merge(hidden)).await?;
    eventually!(cluster, "the copy goes", copied().await?.is_none());
    Ok(())
}

/// A part of something; others make it ready.
#[derive(kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug)]
#[kube(group = "example.com", version = "v1", kind = "Part", namespaced)]
struct PartSpec {
    colour: String,
}

/// Two parts for each ConfigMap, changed one after another; tells what others say of them.
struct Parts(mpsc::UnboundedSender<Vec<String>>);

impl Composite for Parts {
    type Parent = ConfigMap;

    fn desired(&self, map: &ConfigMap, observed: &Observed<'_>) -> kubewright::Result<Desired> {
        let said = |part: &Part| part.annotations().get("example.com/said").cloned().unwrap_or_default();
        // The test may be over.
        let _ = self.0.send(observed.children::<Part>()?.iter().map(said).collect());
        let colour = map.data.as_ref().and_then(|data| data.get("colour")).cloned().unwrap_or_default();
        let part = |number| Part::new(&format!("part-{number}"), PartSpec { colour: colour.clone() });
        Ok(Desired::new().with_all((0..2).map(part)))
    }

    fn rollout(&self, _: &Kind) -> Rollout {
        Rollout::Rolling { max_unavailable: 1 }
    }
}

#[tokio::test]
async fn a_rolling_change_waits_until_what_changed_is_ready_in_its_new_generation() -> Result<(), BoxError> {
    let cluster = TestCluster::api_server_only().await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let mut parts = definition("parts", "Part", &["v1"]);
    parts.spec.versions[0].subresources = Some(serde_json::from_value(json!({"status": {}}))?);
    definitions.create(&PostParams::default(), &parts).await?;
    let (told, mut seen) = mpsc::unbounded_channel();
    let controller = Controller::composite(Parts(told)).owns::<Part>();
    let _operator = cluster.run(Operator::new("op").controller(controller)).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let parts: Api<Part> = Api::default_namespaced(cluster.client());
    let ready = async |name: &str, generation: i64| {
        let condition = json!({"type": "Ready", "status": "True", "observedGeneration": generation});
        let status = json!({"status": {"conditions": [condition]}});
        parts.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await
    };
    maps.create(&PostParams::default(), &map("whole", json!({"colour": "red"}))).await?;
    eventually!(cluster, "both are made", parts.list(&ListParams::default()).await?.items.len() == 2);
    for name in ["part-0", "part-1"] {
        ready(name, 1).await?;
    }
    let colours = async || -> Result<Vec<String>, BoxError> {
        let parts = parts.list(&ListParams::default()).await?.items;
        Ok(parts.into_iter().map(|part| part.spec.colour).collect())
    };
    let change = json!({"data": {"colour": "blue"}});
    maps.patch("whole", &PatchParams::default(), &Patch::Merge(change)).await?;
    eventually!(cluster, "one changes", colours().await?.contains(&"blue".to_owned()));
    // It is looked at again and again while the changed one is ready in its old generation alone: once the second word is
    // seen, whatever was done about the first is done.
    let changed = colours().await?.iter().position(|colour| colour == "blue").ok_or("none is blue")?;
    let names = ["part-0", "part-1"];
    for word in ["first", "second"] {
        let says = json!({"metadata": {"annotations": {"example.com/said": word}}});
        parts.patch(names[changed], &PatchParams::default(), &Patch::Merge(says)).await?;
        while seen.recv().await.ok_or("the operator ended")?.get(changed).is_none_or(|said| said != word) {}
    }
    assert_eq!(colours().await?.iter().filter(|colour| *colour == "blue").count(), 1);
    ready(names[changed], 2).await?;
    eventually!(cluster, "the other follows", colours().await? == ["blue", "blue"]);
    Ok(())
}

//! Owners of fields after any writes, through a whole server: what holds of `metadata.managedFields` whoever wrote what,
//! on which way, to which kind.
//!
//! Several managers create, put, patch (JSON, merge, strategic), apply, force, forget and delete one object at random.
//! After every step: every leaf is owned or a default, nobody owns nothing or what is not there, entries stand in their
//! order and make the round trip, and what a dry run says is what happens. An apply is good for once, what was in
//! conflict is not after force, and what was refused changed nothing.
//!
//! Time passes when the test says so, between any two writes or not at all: no outcome hangs on the machine's clock.
//! `CASES=5000` tries that many sequences of each kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use kubewright_apiserver::resources::Resource;
use kubewright_apiserver::server::{Clock, Server};
use kubewright_machinery::fieldset::typed::Duplicates;
use kubewright_machinery::fieldset::{Managers, ObjectType, Path, PathElement, Set};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use serde_json::{Map, Value, json};

use crate::server::{self, send_as};

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// How many sequences are tried unless the environment says another number.
const CASES: u32 = 60;

/// A clock that stands still unless it is put forward.
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.0.load(Ordering::Relaxed)).expect("it is a time")
    }
}

impl Hands {
    fn forward(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A kind that is written to, in one of its versions.
#[derive(Clone, Copy, Debug)]
struct Target {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

impl Target {
    fn api_version(self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }

    fn collection(self) -> String {
        match self.group {
            "" => format!("/api/{}/namespaces/default/{}", self.version, self.plural),
            group => format!("/apis/{group}/{}/namespaces/default/{}", self.version, self.plural),
        }
    }
}

const CONFIG_MAP: Target = Target { group: "", version: "v1", kind: "ConfigMap", plural: "configmaps" };
const DEPLOYMENT: Target = Target { group: "apps", version: "v1", kind: "Deployment", plural: "deployments" };
const WIDGET: Target = Target { group: "example.com", version: "v1", kind: "Widget", plural: "widgets" };
const WIDGET_V2: Target = Target { version: "v2", ..WIDGET };

/// How something is written.
#[derive(Clone, Copy, Debug)]
enum Way {
    Apply {
        force: bool,
    },
    /// Replaces the object, with the managedFields that were read or without.
    Put {
        keep: bool,
    },
    Merge,
    Strategic,
    Json,
    /// Replaces the object by itself, as one who asks to forget all owners.
    Forget,
    Delete,
    /// Writes what stands under `status` through the subresource.
    Status {
        apply: bool,
    },
}

/// One write.
#[derive(Clone, Debug)]
struct Write {
    manager: u8,
    way: Way,
    content: Value,
    /// Through the other version of kinds that have two.
    other_version: bool,
    /// In a later second than what was written before.
    later: bool,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        6 => any::<bool>().prop_map(|force| Way::Apply { force }),
        2 => any::<bool>().prop_map(|keep| Way::Put { keep }),
        2 => Just(Way::Merge),
        2 => Just(Way::Strategic),
        1 => Just(Way::Json),
        1 => Just(Way::Delete),
        1 => Just(Way::Forget),
        1 => any::<bool>().prop_map(|apply| Way::Status { apply }),
    ]
}

fn writes(content: impl Strategy<Value = Value> + Clone + 'static) -> BoxedStrategy<Vec<Write>> {
    let write = (0..3u8, way(), content, any::<bool>(), any::<bool>()).prop_map(
        |(manager, way, content, other_version, later)| Write { manager, way, content, other_version, later },
    );
    prop::collection::vec(write, 1..10).boxed()
}

/// An object of those parts that are there.
fn object(parts: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    parts.into_iter().filter_map(|(name, part)| Some((name.to_string(), part?))).collect::<Map<_, _>>().into()
}

fn texts(keys: &'static str) -> impl Strategy<Value = Option<Value>> + Clone {
    prop::option::of(prop::collection::btree_map(keys, "[vw]", 1..3).prop_map(|map| json!(map)))
}

fn metadata() -> impl Strategy<Value = Value> + Clone {
    (texts("l[12]"), texts("a[12]"), prop::option::weighted(0.2, Just(json!(["example.com/f"])))).prop_map(
        |(labels, annotations, finalizers)| {
            object([("labels", labels), ("annotations", annotations), ("finalizers", finalizers)])
        },
    )
}

fn config_map() -> impl Strategy<Value = Value> + Clone {
    let binary = prop::option::weighted(0.3, Just(json!({"b": "AAAA"})));
    (metadata(), texts("[xyz]"), binary).prop_map(|(metadata, data, binary)| {
        object([("metadata", Some(metadata)), ("data", data), ("binaryData", binary)])
    })
}

/// Items of a list by their names, which do not repeat.
fn named(
    item: impl Strategy<Value = Value> + Clone,
    most: usize,
) -> impl Strategy<Value = Option<Value>> + Clone {
    prop::option::of(prop::collection::btree_map("[abc]", item, 1..=most).prop_map(|items| {
        let items = items.into_iter().map(|(name, mut item)| {
            item["name"] = json!(name);
            item
        });
        items.collect()
    }))
}

fn deployment() -> impl Strategy<Value = Value> + Clone {
    // Not 0: whoever applies it owns it, although the kind does not write it.
    let small = || prop::option::of((1..3i64).prop_map(|n| json!(n)));
    let port = (80..82u16, prop::option::of("TCP|UDP")).prop_map(|(port, protocol)| {
        object([("containerPort", Some(json!(port))), ("protocol", protocol.map(|p| json!(p)))])
    });
    let ports = prop::option::of(
        prop::collection::btree_map((80..82u16, any::<bool>()), port, 1..3).prop_map(|ports| {
            let ports = ports.into_iter().map(|((number, udp), mut port)| {
                port["containerPort"] = json!(number);
                match udp {
                    true => port["protocol"] = json!("UDP"),
                    // With or without its default.
                    false if port["protocol"] == "UDP" => port["protocol"] = json!("TCP"),
                    false => {}
                }
                port
            });
            ports.collect()
        }),
    );
    let env = named("[12]".prop_map(|value| json!({ "value": value })), 2);
    let args = prop::option::of(prop::collection::vec("[pq]", 1..3).prop_map(|args| json!(args)));
    let limits = prop::option::of("1|1000m|2".prop_map(|cpu| json!({"limits": {"cpu": cpu}})));
    let container =
        ("img:1|img:2", ports, env, args, limits).prop_map(|(image, ports, env, args, resources)| {
            object([
                ("image", Some(json!(image))),
                ("ports", ports),
                ("env", env),
                ("args", args),
                ("resources", resources),
            ])
        });
    let volumes = named(Just(json!({"emptyDir": {}})), 2);
    let tolerations = prop::option::of("[kt]".prop_map(|key| json!([{"key": key, "operator": "Exists"}])));
    let pod = (named(container, 2), volumes, tolerations, small()).prop_map(
        |(containers, volumes, tolerations, grace)| {
            object([
                ("containers", containers),
                ("volumes", volumes),
                ("tolerations", tolerations),
                ("terminationGracePeriodSeconds", grace),
            ])
        },
    );
    let paused = prop::option::weighted(0.2, Just(json!(true)));
    (metadata(), pod, small(), small(), paused).prop_map(|(metadata, pod, replicas, ready, paused)| {
        json!({"metadata": metadata, "spec": object([
            ("replicas", replicas),
            ("minReadySeconds", ready),
            ("paused", paused),
            ("selector", Some(json!({"matchLabels": {"app": "a"}}))),
            ("template", Some(json!({"metadata": {"labels": {"app": "a"}}, "spec": pod}))),
        ])})
    })
}

fn widget() -> impl Strategy<Value = Value> + Clone {
    let text = prop::option::of("[vw]".prop_map(|text| json!(text)));
    let size = prop::option::of((3..5i64).prop_map(|size| json!(size)));
    let set = prop::option::of(prop::collection::btree_set("[abc]", 1..3).prop_map(|set| json!(set)));
    let item = (prop::option::of("[12]"), prop::option::of("[pq]")).prop_map(|(value, inner)| {
        object([
            ("value", value.map(|value| json!(value))),
            ("inner", inner.map(|inner| json!({ "deep": inner }))),
        ])
    });
    let atomic = prop::option::of(prop::collection::vec("[ab]", 1..3).prop_map(|list| json!(list)));
    let whole = texts("[kl]");
    let free = prop::option::of(prop_oneof![
        Just(json!({"a": 1})),
        Just(json!({"a": {"b": [1, 2]}})),
        Just(json!({"a": {"c": "d"}, "e": 1.5})),
    ]);
    let conditions = named("[tf]".prop_map(|status| json!({ "status": status })), 2);
    (metadata(), (text, size, set), (named(item, 2), texts("[mn]"), atomic, whole, free), conditions)
        .prop_map(|(metadata, (text, size, set), (items, map, atomic, whole, free), conditions)| {
            let spec = object([
                ("text", text),
                ("size", size),
                ("set", set),
                ("items", items),
                ("map", map),
                ("atomic", atomic),
                ("whole", whole),
                ("free", free),
            ]);
            let spec = Some(spec).filter(|spec| *spec != json!({}));
            let status = conditions.map(|conditions| json!({ "conditions": conditions }));
            object([("metadata", Some(metadata)), ("spec", spec), ("status", status)])
        })
}

fn definition() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": text});
    let item = json!({"type": "object", "required": ["name"], "properties": {
        "name": text,
        "port": {"type": "integer", "default": 80},
        "value": text,
        "inner": {"type": "object", "properties": {"deep": text}},
    }});
    let condition =
        json!({"type": "object", "required": ["name"], "properties": {"name": text, "status": text}});
    let mut whole = texts.clone();
    whole["x-kubernetes-map-type"] = json!("atomic");
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "text": text,
            "size": {"type": "integer", "default": 3},
            "set": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
            "items": {"type": "array", "items": item, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name", "port"]},
            "map": texts,
            "atomic": {"type": "array", "items": text, "x-kubernetes-list-type": "atomic"},
            "whole": whole,
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {
            "conditions": {"type": "array", "items": condition, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"]},
        }},
    }});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": schema}})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [version("v1", true), version("v2", false)]},
    })
}

/// An answer.
struct Answer {
    code: u16,
    body: Value,
}

/// One object and who writes to it.
struct World<'s> {
    server: &'s Server,
    clock: &'s Hands,
    target: Target,
    name: String,
    /// Whether nobody is known to own what is there, be it by request. The first apply of the object itself finds out
    /// who does, as long as nobody owns anything; one of the status alone does not look beyond it, and makes its
    /// manager an owner, so that no later one looks either.
    forgotten: bool,
    /// Whether the owners of the status were forgotten: an apply of the object itself does not find them.
    status_forgotten: bool,
}

impl World<'_> {
    async fn get(&self) -> Option<Value> {
        let uri = format!("{}/{}", self.target.collection(), self.name);
        let (code, body) = send_as(self.server, "GET", &uri, JSON, &Value::Null).await;
        (code == 200).then_some(body)
    }

    /// The target of a write, the content with its envelope, and the request.
    fn request(&self, write: &Write, live: Option<&Value>) -> (&'static str, String, &'static str, Value) {
        let target = match (self.target.plural, write.other_version) {
            ("widgets", true) => WIDGET_V2,
            _ => self.target,
        };
        let mut uri = format!("{}/{}", target.collection(), self.name);
        let mut full = write.content.clone();
        full["apiVersion"] = json!(target.api_version());
        full["kind"] = json!(target.kind);
        full["metadata"]["name"] = json!(self.name);
        let manager = format!("fieldManager=m{}", write.manager);
        let way = match write.way {
            Way::Status { .. } if target.plural == "configmaps" => Way::Merge,
            way => way,
        };
        match (way, live) {
            (Way::Apply { force }, _) => (("PATCH"), format!("{uri}?{manager}&force={force}"), APPLY, full),
            (Way::Status { apply: true }, Some(_)) => {
                let status = full.get("status").cloned();
                let patch = object([
                    ("apiVersion", Some(full["apiVersion"].take())),
                    ("kind", Some(full["kind"].take())),
                    ("metadata", Some(json!({"name": self.name}))),
                    ("status", status),
                ]);
                ("PATCH", format!("{uri}/status?{manager}&force=true"), APPLY, patch)
            }
            (Way::Delete, _) => ("DELETE", uri, JSON, Value::Null),
            (_, None) => ("POST", format!("{}?{manager}", target.collection()), JSON, full),
            (Way::Status { apply: false }, Some(_)) => {
                let patch = json!({"status": full.get("status").cloned().unwrap_or_default()});
                ("PATCH", format!("{uri}/status?{manager}"), MERGE, patch)
            }
            (Way::Put { keep }, Some(live)) => {
                full["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
                if keep {
                    full["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
                }
                uri.push('?');
                ("PUT", uri + &manager, JSON, full)
            }
            (Way::Forget, Some(live)) => {
                let mut same = live.clone();
                same["metadata"]["managedFields"] = json!([{}]);
                same["apiVersion"] = json!(target.api_version());
                ("PUT", format!("{uri}?{manager}"), JSON, same)
            }
            (Way::Merge, Some(_)) | (Way::Strategic, Some(_)) => {
                let ty = match (write.way, target.plural) {
                    (Way::Strategic, "configmaps" | "deployments") => STRATEGIC,
                    _ => MERGE,
                };
                let mut patch = write.content.clone();
                // What a manager does not have goes.
                for (part, field) in [("metadata", "labels"), ("spec", "size"), ("spec", "replicas")] {
                    if let Some(Value::Object(fields)) = patch.get_mut(part)
                        && !fields.contains_key(field)
                    {
                        fields.insert(field.into(), Value::Null);
                    }
                }
                ("PATCH", format!("{uri}?{manager}"), ty, patch)
            }
            (Way::Json, Some(live)) => {
                let mut operations = Vec::new();
                for part in ["data", "spec"] {
                    match (write.content.get(part), live.get(part)) {
                        (Some(value), _) => {
                            operations.push(json!({"op": "add", "path": format!("/{part}"), "value": value}));
                        }
                        (None, Some(_)) => {
                            operations.push(json!({"op": "remove", "path": format!("/{part}")}))
                        }
                        (None, None) => {}
                    }
                }
                ("PATCH", format!("{uri}?{manager}"), JSON_PATCH, Value::Array(operations))
            }
        }
    }

    async fn send(&self, request: &(&str, String, &str, Value), dry: bool) -> Answer {
        let (method, uri, content_type, body) = request;
        let uri = match dry {
            true => format!("{uri}{}dryRun=All", if uri.contains('?') { '&' } else { '?' }),
            false => uri.clone(),
        };
        let (code, body) = send_as(self.server, method, &uri, content_type, body).await;
        Answer { code, body }
    }

    async fn step(&mut self, write: &Write) -> Result<(), TestCaseError> {
        if write.later {
            self.clock.forward();
        }
        let before = self.get().await;
        let request = self.request(write, before.as_ref());
        let dry = self.send(&request, true).await;
        prop_assert_eq!(&self.get().await, &before, "a dry run changed something");
        let mut answer = self.send(&request, false).await;
        prop_assert_eq!(dry.code, answer.code, "{} became {}", dry.body, &answer.body);
        prop_assert_eq!(timeless(&dry.body), timeless(&answer.body), "a dry run says something else");
        let now = self.get().await;
        if answer.code == 409 && matches!(write.way, Way::Apply { force: false }) {
            prop_assert_eq!(&now, &before, "a refused apply changed something");
            let Some(before) = &before else { return Err(TestCaseError::fail("a conflict with nothing")) };
            conflicts_name_owners(&answer.body, before)?;
            let forced =
                (request.0, request.1.replace("force=false", "force=true"), request.2, request.3.clone());
            answer = self.send(&forced, false).await;
            prop_assert_ne!(answer.code, 409, "force is refused: {}", answer.body);
        }
        if answer.code == 404 && matches!(write.way, Way::Delete) {
            return Ok(());
        }
        if answer.code >= 400 {
            // What is not valid, or not possible any more.
            let allowed = matches!(answer.code, 422) || (answer.code == 404 && before.is_none());
            prop_assert!(allowed, "{} {} {}: {}", request.0, request.1, request.3, answer.body);
            prop_assert_eq!(&self.get().await, &before, "what was refused changed something");
            return Ok(());
        }
        let now = self.get().await;
        if !matches!(write.way, Way::Status { .. }) {
            // That the status is no business of the endpoint is known in the version of the request only: a write of
            // the object takes the status, where it leaves it out or says another, from those who wrote it in another
            // version, and gives it to nobody.
            let entries = before.as_ref().and_then(|before| before["metadata"]["managedFields"].as_array());
            let mut writers = entries.into_iter().flatten().filter(|entry| entry["subresource"] == "status");
            self.status_forgotten |= writers.any(|entry| entry["apiVersion"] != request.3["apiVersion"]);
        }
        match write.way {
            Way::Delete => {
                self.forgotten &= now.is_some();
                self.status_forgotten &= now.is_some();
            }
            Way::Forget if before.is_some() => self.forgotten = true,
            _ => {
                let owners = before.as_ref().and_then(|before| before.pointer("/metadata/managedFields"));
                let finds_out = request.2 == APPLY && !request.1.contains("/status?") && owners.is_none();
                self.forgotten &= !finds_out;
            }
        }
        let Some(now) = now else { return Ok(()) };
        if request.2 == APPLY {
            // Without force: nothing is in conflict any more. Later, so that a new date shows.
            self.clock.forward();
            let again =
                (request.0, request.1.replace("force=true", "force=false"), request.2, request.3.clone());
            let second = self.send(&again, false).await;
            prop_assert_eq!(second.code, 200, "the second apply: {}", second.body);
            let then = self.get().await.unwrap_or_default();
            if then != now {
                prop_assert_eq!(
                    timeless(&then),
                    timeless(&now),
                    "the second apply of {} changed something",
                    &request.3
                );
                prop_assert!(
                    !self.stands(&request.3, &now)?,
                    "the second apply of {} dated it anew",
                    &request.3
                );
            }
        }
        self.check(&now)
    }

    fn resource(&self) -> Arc<Resource> {
        let table = self.server.core().table();
        let found = table.lookup(self.target.group, self.target.version, self.target.plural);
        Arc::clone(found.expect("it is served"))
    }

    /// Whether what is applied stands in the object to the letter.
    ///
    /// Where it does not, because the endpoint resets a part of it or the kind writes it another way (`1000m` is `1`),
    /// every apply changes the object before that is set right, and dates its entry. The old dates come back only where
    /// the entries stand in the order they had, and entries are in order of their dates: an apply that changes nothing
    /// else may so be written, as a real server writes it.
    fn stands(&self, patch: &Value, object: &Value) -> Result<bool, TestCaseError> {
        let mut patch = patch.clone();
        patch["apiVersion"] = object["apiVersion"].clone();
        let ty = ObjectType::new(self.resource().schema.clone());
        let merged = ty.merge(object, &patch).map_err(|error| TestCaseError::fail(error.to_string()))?;
        Ok(merged == *object)
    }

    /// What always holds of an object.
    fn check(&mut self, object: &Value) -> Result<(), TestCaseError> {
        let resource = self.resource();
        let ty = ObjectType::new(resource.schema.clone());
        let listed = object.pointer("/metadata/managedFields");
        let managers = Managers::decode(listed);
        let managers = managers.map_err(|error| TestCaseError::fail(format!("{error} of {listed:?}")))?;
        let encoded = managers.encode();
        prop_assert_eq!(encoded.as_ref(), listed, "the entries do not make the round trip");
        in_order(listed.and_then(Value::as_array).map_or(&[][..], Vec::as_slice))?;

        let there = ty.with_named_fields(&ty.field_set(object));
        let mut owned = Set::new();
        for (id, entry) in managers.iter() {
            prop_assert!(!entry.set.is_empty(), "{} owns nothing", id);
            let mut nowhere = entry.set.leaves().difference(&there).paths();
            nowhere.retain(|path| !is_container(&ty, path));
            prop_assert!(nowhere.is_empty(), "{} owns {:?}, which is not in {}", id, nowhere, object);
            owned = owned.union(&entry.set);
        }
        let was_forgotten = self.forgotten;
        self.forgotten |= managers.is_empty();
        self.status_forgotten |= self.forgotten;
        if was_forgotten {
            return Ok(());
        }
        // What nobody owns comes back by itself: it is a default, or the server's.
        let mut orphans = ty.field_set(object).leaves().difference(&owned);
        orphans = orphans.recursive_difference(&servers_own());
        if self.status_forgotten {
            orphans = orphans.recursive_difference(&Set::of([&Path::fields(&["status"])]));
        }
        let mut bare = ty.remove(object, &orphans);
        keep_maps(&mut bare, object);
        resource.default(&mut bare);
        prop_assert_eq!(
            without_nothings(&bare),
            without_nothings(object),
            "nobody owns some of {:?}",
            orphans.to_value()
        );
        Ok(())
    }
}

/// Puts the maps of an object back where all that was in them was taken out: what is in a map by default is there
/// because the map is.
fn keep_maps(bare: &mut Value, object: &Value) {
    let (Value::Object(bare), Value::Object(object)) = (bare, object) else { return };
    for (name, field) in object.iter().filter(|(_, field)| field.is_object()) {
        keep_maps(bare.entry(name.as_str()).or_insert_with(|| json!({})), field);
    }
}

/// Whether a path leads to a map or a list: whoever owned an empty one owns it still where it is left out.
fn is_container(ty: &ObjectType, path: &Path) -> bool {
    let probe = |empty: Value| {
        let object = path.0.iter().rev().try_fold(empty, |inner, element| match element {
            PathElement::Field(name) => Some(json!({ &**name: inner })),
            PathElement::Key(keys) => {
                let mut item: Map<String, Value> =
                    keys.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
                item.extend(inner.as_object().cloned().unwrap_or_default());
                Some(json!([item]))
            }
            PathElement::Value(_) | PathElement::Index(_) => None,
        });
        object.is_some_and(|object| ty.validate(&object, Duplicates::Refused).is_ok())
    };
    probe(json!({})) || probe(json!([]))
}

/// What the server sets.
fn servers_own() -> Set {
    let fields = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    let mut metadata: Map<String, Value> =
        fields.iter().map(|field| (format!("f:{field}"), json!({}))).collect();
    metadata.insert("f:name".into(), json!({}));
    Set::from_value(&json!({"f:metadata": metadata, "f:apiVersion": {}, "f:kind": {}})).expect("it is a set")
}

/// An object without nulls and without what is empty.
fn without_nothings(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| (name.clone(), without_nothings(field)));
            Value::Object(fields.filter(|(_, field)| !is_nothing(field)).collect())
        }
        Value::Array(items) => items.iter().map(without_nothings).collect(),
        other => other.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// An answer without what differs from one time to the next.
fn timeless(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
        for field in ["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"] {
            metadata.remove(field);
        }
        if let Some(Value::Array(entries)) = metadata.get_mut("managedFields") {
            entries.iter_mut().filter_map(Value::as_object_mut).for_each(|entry| drop(entry.remove("time")));
            entries.sort_by_key(Value::to_string);
        }
    }
    if let Some(Value::Object(details)) = body.get_mut("details") {
        details.remove("uid");
    }
    body
}

/// Appliers come first, then the earlier, then by name, version and subresource.
fn in_order(entries: &[Value]) -> Result<(), TestCaseError> {
    let key = |entry: &Value| {
        ["operation", "time", "manager", "apiVersion", "subresource"]
            .map(|field| entry[field].as_str().unwrap_or_default().to_string())
    };
    prop_assert!(entries.is_sorted_by(|a, b| key(a) < key(b)), "out of order: {:?}", entries);
    Ok(())
}

/// Every conflict is with somebody who is there and owns the field.
fn conflicts_name_owners(status: &Value, live: &Value) -> Result<(), TestCaseError> {
    let managers = Managers::of(live).map_err(|error| TestCaseError::fail(error.to_string()))?;
    if managers.is_empty() {
        // What was there before the first apply.
        return Ok(());
    }
    let mut owned = Vec::new();
    for (id, entry) in managers.iter() {
        let paths = entry.set.paths();
        owned.extend(paths.iter().map(|path| (format!("conflict with {id}"), path.to_string())));
    }
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    prop_assert!(!causes.is_empty(), "a conflict without a cause: {}", status);
    for cause in causes {
        let text = |field: &str| cause[field].as_str().unwrap_or_default().to_string();
        prop_assert!(
            owned.contains(&(text("message"), text("field"))),
            "{} owns no {}",
            text("message"),
            text("field")
        );
    }
    Ok(())
}

fn hold(target: Target, content: impl Strategy<Value = Value> + Clone + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let clock = Arc::new(Hands(AtomicI64::new(0)));
    let server = runtime.block_on(async {
        let server = server::start_at(Arc::clone(&clock) as _).await;
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let (code, body) = send_as(&server, "POST", definitions, JSON, &definition()).await;
        assert_eq!(code, 201, "{body}");
        while server.core().table().lookup("example.com", "v2", "widgets").is_none() {
            tokio::task::yield_now().await;
        }
        server
    });
    let cases = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let serial = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(&writes(content), |writes| {
        serial.set(serial.get() + 1);
        let name = format!("it-{}", serial.get());
        runtime.block_on(async {
            let mut world = World {
                server: &server,
                clock: &clock,
                target,
                name,
                forgotten: false,
                status_forgotten: false,
            };
            for write in &writes {
                world.step(write).await?;
            }
            Ok(())
        })
    });
    server.shutdown();
    match outcome {
        Ok(()) => {}
        Err(TestError::Abort(why)) => panic!("{why}"),
        Err(TestError::Fail(why, writes)) => {
            let told = |w: &Write| {
                format!(
                    "m{} {:?} {}{}{}\n",
                    w.manager,
                    w.way,
                    w.content,
                    if w.other_version { " (v2)" } else { "" },
                    if w.later { " (later)" } else { "" }
                )
            };
            panic!("{why}\nafter\n{}", writes.iter().map(told).collect::<String>())
        }
    }
}

#[test]
fn owners_of_a_config_map_are_right_after_any_writes() {
    hold(CONFIG_MAP, config_map());
}

#[test]
fn owners_of_a_deployment_are_right_after_any_writes() {
    hold(DEPLOYMENT, deployment());
}

#[test]
fn owners_of_a_custom_resource_are_right_after_any_writes() {
    hold(WIDGET, widget());
}

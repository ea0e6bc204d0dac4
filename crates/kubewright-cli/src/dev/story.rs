//! Tells what happens in the cluster because of the operator: its objects, what appears under them, conditions,
//! events. It follows the kinds of the operator's definitions and those its role lets it watch, and reads only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, ApiResource, DynamicObject, WatchEvent, WatchParams};
use kube::discovery::Discovery;
use kube::{Client, ResourceExt as _};
use kubewright_cluster::apply::Applied;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::progress::{Colour, Progress};

/// The tale; it ends when dropped.
pub struct Story {
    _tellers: JoinSet<()>,
}

impl Story {
    /// Starts to tell of the kinds that the applied manifests define or let the operator watch.
    pub async fn tell(client: Client, applied: &[Applied], progress: Progress) -> anyhow::Result<Self> {
        let wanted = watched(applied);
        let discovery = Discovery::new(client.clone()).run().await?;
        let stage = Arc::new(Mutex::new(Stage::default()));
        let mut tellers = JoinSet::new();
        for group in discovery.groups() {
            for (resource, _) in group.recommended_resources() {
                let key = (resource.group.clone(), resource.plural.clone());
                let is_event = key == ("events.k8s.io".to_owned(), "events".to_owned());
                if wanted.contains(&key) && resource.kind != "Event" || is_event {
                    tellers.spawn(follow(client.clone(), resource, stage.clone(), progress.clone()));
                }
            }
        }
        Ok(Self { _tellers: tellers })
    }
}

/// (group, plural) of what the definitions define and the roles let watch.
fn watched(applied: &[Applied]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        value.as_array().map(|items| items.iter().map(text).collect()).unwrap_or_default()
    };
    let mut out = Vec::new();
    for Applied { kind, object, .. } in applied {
        match kind.as_str() {
            "CustomResourceDefinition" => {
                out.push((text(&object["spec"]["group"]), text(&object["spec"]["names"]["plural"])));
            }
            "ClusterRole" | "Role" => {
                for rule in object["rules"].as_array().into_iter().flatten() {
                    if !list(&rule["verbs"]).iter().any(|verb| verb == "watch" || verb == "*") {
                        continue;
                    }
                    for group in list(&rule["apiGroups"]) {
                        out.extend(
                            list(&rule["resources"]).into_iter().map(|plural| (group.clone(), plural)),
                        );
                    }
                }
            }
            _ => {}
        }
    }
    out
}

/// Watches one kind for ever, from what is there now.
async fn follow(client: Client, resource: ApiResource, stage: Arc<Mutex<Stage>>, progress: Progress) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let mut version = "0".to_owned();
    loop {
        if let Ok(events) = api.watch(&WatchParams::default(), &version).await {
            pin_mut!(events);
            while let Some(event) = events.next().await {
                let lines = match event {
                    Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                        version = object.resource_version().unwrap_or(version);
                        let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
                        stage.seen(&resource.kind, &object)
                    }
                    Ok(WatchEvent::Deleted(object)) => {
                        version = object.resource_version().unwrap_or(version);
                        let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
                        stage.gone(&resource.kind, &object)
                    }
                    Ok(WatchEvent::Bookmark(_)) => continue,
                    // Too old: what is there now is told again, and only what is news is printed.
                    Ok(WatchEvent::Error(_)) | Err(_) => {
                        version = "0".to_owned();
                        break;
                    }
                };
                for line in lines {
                    progress.line(&line.render(&progress));
                }
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// A line of the tale.
#[derive(Debug, PartialEq)]
struct Line {
    mark: Mark,
    depth: usize,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    Appeared,
    Changed,
    Gone,
    Event,
    Warning,
}

impl Line {
    fn render(&self, progress: &Progress) -> String {
        let (colour, sign) = match self.mark {
            Mark::Appeared => (Colour::Green, "+"),
            Mark::Changed => (Colour::Yellow, "~"),
            Mark::Gone => (Colour::Red, "-"),
            Mark::Event => (Colour::Dim, "·"),
            Mark::Warning => (Colour::Red, "!"),
        };
        format!("  {}{} {}", "   ".repeat(self.depth), progress.paint(colour, sign), self.text)
    }
}

/// What is known of the objects on stage, by uid: enough to tell what is news.
#[derive(Default)]
struct Stage {
    known: HashMap<String, Known>,
}

struct Known {
    owner: Option<String>,
    facts: BTreeMap<String, String>,
}

impl Stage {
    fn seen(&mut self, kind: &str, object: &DynamicObject) -> Vec<Line> {
        if kind == "Event" {
            return self.event(object);
        }
        let uid = object.uid().unwrap_or_default();
        let facts = facts(object);
        let owner =
            object.owner_references().iter().find(|o| o.controller == Some(true)).map(|o| o.uid.clone());
        let title = title(kind, object);
        let depth = self.depth(owner.as_deref());
        match self.known.get_mut(&uid) {
            None => {
                let mut text = title;
                for (name, value) in &facts {
                    text.push_str(&format!("  {name}={value}"));
                }
                self.known.insert(uid, Known { owner, facts });
                vec![Line { mark: Mark::Appeared, depth, text }]
            }
            Some(known) => {
                let mut lines = Vec::new();
                for (name, value) in &facts {
                    let before = known.facts.get(name);
                    if before != Some(value) {
                        let before = before.map(|b| format!("{b} → ")).unwrap_or_default();
                        let text = format!("{title}  {name}: {before}{value}");
                        lines.push(Line { mark: Mark::Changed, depth, text });
                    }
                }
                known.facts = facts;
                lines
            }
        }
    }

    fn gone(&mut self, kind: &str, object: &DynamicObject) -> Vec<Line> {
        if kind == "Event" {
            return Vec::new();
        }
        let Some(known) = self.known.remove(&object.uid().unwrap_or_default()) else { return Vec::new() };
        let depth = self.depth(known.owner.as_deref());
        vec![Line { mark: Mark::Gone, depth, text: title(kind, object) }]
    }

    fn event(&mut self, object: &DynamicObject) -> Vec<Line> {
        let uid = object.uid().unwrap_or_default();
        let text = |name: &str| object.data[name].as_str().unwrap_or_default().to_owned();
        let regarding = &object.data["regarding"];
        let facts = BTreeMap::from([("note".to_owned(), text("note"))]);
        let is_news = self.known.insert(uid, Known { owner: None, facts: facts.clone() });
        if is_news.is_some_and(|known| known.facts == facts) {
            return Vec::new();
        }
        let mark = if text("type") == "Warning" { Mark::Warning } else { Mark::Event };
        let about = format!(
            "{} {}",
            regarding["kind"].as_str().unwrap_or_default(),
            regarding["name"].as_str().unwrap_or_default()
        );
        vec![Line { mark, depth: 0, text: format!("{about}: {} {}", text("reason"), text("note")) }]
    }

    fn depth(&self, owner: Option<&str>) -> usize {
        let (mut depth, mut next) = (0, owner);
        // Owners form no cycle, but what a server holds may: a few steps are enough for indentation.
        while let Some(known) = next.and_then(|uid| self.known.get(uid)).filter(|_| depth < 8) {
            depth += 1;
            next = known.owner.as_deref();
        }
        depth
    }
}

fn title(kind: &str, object: &DynamicObject) -> String {
    match object.namespace() {
        Some(namespace) => format!("{kind} {namespace}/{}", object.name_any()),
        None => format!("{kind} {}", object.name_any()),
    }
}

/// Scalars of a status that tell a human nothing.
const DULL: [&str; 3] = ["observedGeneration", "qosClass", "collisionCount"];

/// What is worth telling of an object: the scalars of its status, its conditions, where it runs, whether it is going.
fn facts(object: &DynamicObject) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let status = &object.data["status"];
    for (name, value) in status.as_object().into_iter().flatten() {
        if DULL.contains(&name.as_str()) {
            continue;
        }
        match value {
            Value::String(text) if !name.ends_with("Time") && !name.ends_with("IP") => {
                facts.insert(name.clone(), text.clone());
            }
            Value::Number(number) => {
                facts.insert(name.clone(), number.to_string());
            }
            _ => {}
        }
    }
    // The conditions of a pod or node say what their phase says, more noisily.
    if !matches!(object.types.as_ref().map(|t| t.kind.as_str()), Some("Pod" | "Node")) {
        for condition in status["conditions"].as_array().into_iter().flatten() {
            if let (Some(name), Some(value)) = (condition["type"].as_str(), condition["status"].as_str()) {
                facts.insert(name.into(), value.into());
            }
        }
    }
    if let Some(node) = object.data["spec"]["nodeName"].as_str() {
        facts.insert("node".into(), node.into());
    }
    if object.metadata.deletion_timestamp.is_some() {
        facts.insert("deleting".into(), "true".into());
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn pod(phase: &str) -> DynamicObject {
        object(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "uid": "2",
                "ownerReferences": [{"apiVersion": "x/v1", "kind": "Set", "name": "s", "uid": "1", "controller": true}]},
            "spec": {"nodeName": "node-0"}, "status": {"phase": phase, "podIP": "10.1.0.1"},
        }))
    }

    #[test]
    fn a_child_appears_under_its_owner_and_its_phase_is_told_once() {
        let mut stage = Stage::default();
        let set = object(json!({"metadata": {"name": "s", "namespace": "n", "uid": "1"}}));
        assert_eq!(stage.seen("Set", &set)[0].depth, 0);
        let appeared = stage.seen("Pod", &pod("Pending"));
        assert_eq!(
            appeared,
            [Line { mark: Mark::Appeared, depth: 1, text: "Pod n/p  node=node-0  phase=Pending".into() }]
        );
        let changed = stage.seen("Pod", &pod("Running"));
        assert_eq!(changed[0].text, "Pod n/p  phase: Pending → Running");
        assert!(stage.seen("Pod", &pod("Running")).is_empty());
        assert_eq!(stage.gone("Pod", &pod("Running"))[0].mark, Mark::Gone);
    }

    #[test]
    fn the_kinds_to_follow_are_those_defined_or_watchable() {
        let applied = |kind: &str, object: Value| Applied {
            kind: kind.into(),
            name: "x".into(),
            namespace: None,
            object,
        };
        let manifests = [
            applied(
                "CustomResourceDefinition",
                json!({"spec": {"group": "g.io", "names": {"plural": "sets"}}}),
            ),
            applied(
                "ClusterRole",
                json!({"rules": [
                    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "watch"]},
                    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
                ]}),
            ),
        ];
        assert_eq!(watched(&manifests), [("g.io".into(), "sets".into()), ("".into(), "pods".into())]);
    }
}

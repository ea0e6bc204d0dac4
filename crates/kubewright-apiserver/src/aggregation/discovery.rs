//! What another server says of a group version, as the part of aggregated discovery that this server passes on. Pure;
//! nothing is believed to have the shape it should have.

use serde_json::{Map, Value, json};

use super::Remote;

/// From an APIGroupDiscoveryList: the version's entry. `None` if that is none; an empty entry if the version is not in it.
pub(super) fn of_aggregated(remote: &Remote, document: &[u8]) -> Option<Value> {
    let document: Value = serde_json::from_slice(document).ok()?;
    if document["kind"] != "APIGroupDiscoveryList" {
        return None;
    }
    let groups = document["items"].as_array()?.iter();
    let mut groups = groups.filter(|group| group["metadata"]["name"] == *remote.group);
    let versions = groups.next().and_then(|group| group["versions"].as_array());
    let found = versions.into_iter().flatten().find(|version| version["version"] == *remote.version);
    let mut resources =
        found.and_then(|version| version["resources"].as_array()).cloned().unwrap_or_default();
    resources.retain(|resource| resource["resource"].is_string());
    for resource in &mut resources {
        complete(resource);
        let subresources = resource.get_mut("subresources").and_then(Value::as_array_mut);
        for subresource in subresources.into_iter().flatten() {
            complete(subresource);
        }
    }
    Some(entry(remote, resources))
}

/// Clients of some versions cannot do without the kind of the answer.
fn complete(resource: &mut Value) {
    if let Some(fields) = resource.as_object_mut()
        && fields.get("responseKind").is_none_or(Value::is_null)
    {
        fields.insert("responseKind".into(), json!({"group": "", "version": "", "kind": ""}));
    }
}

/// From an APIResourceList.
pub(super) fn of_resource_list(remote: &Remote, document: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    let rows = || document["resources"].as_array().into_iter().flatten();
    let mut resources: Vec<Value> = Vec::new();
    for row in rows().filter(|row| !row["name"].as_str().unwrap_or("/").contains('/')) {
        let mut resource = json!({
            "resource": row["name"],
            "responseKind": kind(row),
            "scope": if row["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": row["singularName"].as_str().unwrap_or_default(),
            "verbs": texts(&row["verbs"]),
        });
        for key in ["shortNames", "categories"] {
            let names = texts(&row[key]);
            if !names.is_empty() {
                resource[key] = names.into();
            }
        }
        let of = format!("{}/", row["name"].as_str().unwrap_or_default());
        let subresources: Vec<Value> = rows()
            .filter_map(|row| Some((row["name"].as_str()?.strip_prefix(&of)?, row)))
            .map(|(name, row)| {
                json!({"subresource": name, "responseKind": kind(row), "verbs": texts(&row["verbs"])})
            })
            .collect();
        if !subresources.is_empty() {
            resource["subresources"] = subresources.into();
        }
        resources.push(resource);
    }
    entry(remote, resources)
}

fn kind(row: &Value) -> Value {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    json!({"group": text("group"), "version": text("version"), "kind": text("kind")})
}

fn texts(list: &Value) -> Vec<Value> {
    list.as_array().into_iter().flatten().filter(|item| item.is_string()).cloned().collect()
}

fn entry(remote: &Remote, resources: Vec<Value>) -> Value {
    let mut entry = Map::new();
    entry.insert("version".into(), json!(remote.version));
    if !resources.is_empty() {
        entry.insert("resources".into(), resources.into());
    }
    entry.insert("freshness".into(), json!("Current"));
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        Remote::of(&json!({"spec": {"group": "a.io", "version": "v1", "service": {"name": "s"}}}), true, None)
    }

    #[test]
    fn an_old_list_becomes_an_entry_with_subresources() {
        let list = json!({"kind": "APIResourceList", "resources": [
            {"name": "xs", "singularName": "x", "namespaced": true, "kind": "X", "verbs": ["get"], "shortNames": ["x"]},
            {"name": "xs/status", "singularName": "", "namespaced": true, "kind": "X", "verbs": ["patch"]},
        ]});
        let entry = of_resource_list(&remote(), list.to_string().as_bytes());
        assert_eq!(
            entry,
            json!({"version": "v1", "freshness": "Current", "resources": [{
                "resource": "xs", "responseKind": {"group": "", "version": "", "kind": "X"}, "scope": "Namespaced",
                "singularResource": "x", "verbs": ["get"], "shortNames": ["x"],
                "subresources": [{"subresource": "status", "verbs": ["patch"],
                    "responseKind": {"group": "", "version": "", "kind": "X"}}],
            }]})
        );
    }

    #[test]
    fn only_the_own_version_is_taken_and_nonsense_is_nothing() {
        let document = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "b.io"}, "versions": [{"version": "v1", "resources": [{"resource": "evil"}]}]},
            {"metadata": {"name": "a.io"}, "versions": [
                {"version": "v2", "resources": []},
                {"version": "v1", "resources": [{"resource": "xs", "responseKind": null}, 7]},
            ]},
        ]});
        let entry = of_aggregated(&remote(), document.to_string().as_bytes()).unwrap();
        let kind = json!({"group": "", "version": "", "kind": ""});
        assert_eq!(entry["resources"], json!([{"resource": "xs", "responseKind": kind}]));
        for nonsense in ["", "[]", "{}", r#"{"kind":"APIGroupList"}"#] {
            assert_eq!(of_aggregated(&remote(), nonsense.as_bytes()), None);
            assert_eq!(of_resource_list(&remote(), nonsense.as_bytes())["resources"], Value::Null);
        }
    }
}

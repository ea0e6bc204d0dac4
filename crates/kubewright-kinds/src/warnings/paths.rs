//! Files of one volume whose paths get into each other's way.

use serde_json::Value;

use crate::fields::{at, items, text};
use kubewright_machinery::field::quote;

/// A path and what puts a file there; the source is empty where the volume has only one.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_string(), source: source.to_string() }
    }

    fn shown(&self) -> String {
        match self.source.as_str() {
            "" => quote(&self.path),
            source => format!("{} ({source})", quote(&self.path)),
        }
    }

    /// Whether the two are one path, or one is a folder above the other.
    fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty() && !other.path.is_empty() && (a.starts_with(&b) || b.starts_with(&a))
    }
}

fn collisions(files: impl Iterator<Item = File>, known: &mut Vec<File>) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let hits = known.iter().filter(|other| file.overlaps(other));
        found.extend(hits.map(|other| format!("{} with {}", file.shown(), other.shown())));
        known.push(file);
    }
    found
}

fn files<'v>(object: &'v Value, source: &'v str) -> impl Iterator<Item = File> + use<'v> {
    items(object, &["items"]).iter().map(move |item| File::new(text(item, &["path"]), source))
}

/// The files of one source of a projected volume.
fn projected(source: &Value) -> Vec<File> {
    let named = |kind: &str, object: &Value| format!("{kind} {}", quote(text(object, &["name"])));
    let (map, secret) = (at(source, &["configMap"]), at(source, &["secret"]));
    if !items(map, &["items"]).is_empty() {
        return files(map, &named("ConfigMap", map)).collect();
    }
    if !items(secret, &["items"]).is_empty() {
        return files(secret, &named("Secret", secret)).collect();
    }
    let downward = at(source, &["downwardAPI"]);
    if !items(downward, &["items"]).is_empty() {
        return files(downward, "DownwardAPI").collect();
    }
    match at(source, &["serviceAccountToken"]) {
        Value::Null => Vec::new(),
        token => vec![File::new(text(token, &["path"]), "ServiceAccountToken")],
    }
}

/// Warnings about the volumes of a pod spec.
pub(super) fn overlapping(spec: &Value, out: &mut Vec<String>) {
    const KINDS: [&str; 4] = ["configMap", "secret", "downwardAPI", "serviceAccountToken"];
    for volume in items(spec, &["volumes"]) {
        let name = quote(text(volume, &["name"]));
        let mut warn = |what: &str, found: Vec<String>| {
            out.extend(found.iter().map(|f| format!("volume {name} ({what}): overlapping paths: {f}")));
        };
        let (map, secret) = (at(volume, &["configMap"]), at(volume, &["secret"]));
        let map_name = format!("ConfigMap {}", quote(text(map, &["name"])));
        warn(&map_name, collisions(files(map, ""), &mut Vec::new()));
        let secret_name = format!("Secret {}", quote(text(secret, &["secretName"])));
        warn(&secret_name, collisions(files(secret, ""), &mut Vec::new()));
        warn("DownwardAPI", collisions(files(at(volume, &["downwardAPI"]), ""), &mut Vec::new()));
        let mut known = Vec::new();
        for source in items(volume, &["projected", "sources"]) {
            if KINDS.iter().all(|kind| at(source, &[kind]).is_null()) {
                out.push(format!("volume {name} (Projected) has no sources provided"));
                continue;
            }
            let found = collisions(projected(source).into_iter(), &mut known);
            out.extend(found.iter().map(|f| format!("volume {name} (Projected): overlapping paths: {f}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_that_overlap_are_warned_about() {
        let items = json!([{"key": "a", "path": "a"}, {"key": "b", "path": "a/b"}]);
        let spec = json!({"volumes": [
            {"name": "v", "configMap": {"name": "m", "items": items}},
            {"name": "p", "projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "token"}]}},
                {"serviceAccountToken": {"path": "token"}},
                {},
            ]}},
        ]});
        let mut out = Vec::new();
        overlapping(&spec, &mut out);
        assert_eq!(
            out,
            [
                r#"volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a""#,
                r#"volume "p" (Projected): overlapping paths: "token" (ServiceAccountToken) with "token" (Secret "s")"#,
                r#"volume "p" (Projected) has no sources provided"#,
            ]
        );
    }
}

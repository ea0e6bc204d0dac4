//! What makes two answers equal: volatile values are replaced by words, the same value always by the same word, and
//! only what the step compares is compared.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

static TIME: LazyLock<Regex> = LazyLock::new(|| pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"));
static UID: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
/// Where a recorded text shows Go's own types.
static GO: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"json: cannot unmarshal|\[\]string\{|Go (value|struct)|interface \{\}"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)resource ?version"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d+\b"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are constant")
}

/// Replaces what differs from run to run.
#[derive(Default)]
pub struct Normaliser {
    uids: HashMap<String, String>,
    generated: Vec<(String, String)>,
}

impl Normaliser {
    /// The value with words for volatile values.
    pub fn clean(&mut self, value: &Value) -> Value {
        self.learn(value);
        self.replace(value, "")
    }

    fn learn(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::Object(meta)) = fields.get("metadata") {
                    let base = meta.get("generateName").and_then(Value::as_str).unwrap_or_default();
                    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default();
                    if !base.is_empty()
                        && name.starts_with(base)
                        && !self.generated.iter().any(|(known, _)| known == name)
                    {
                        self.generated.push((name.to_string(), format!("<generated:{base}>")));
                    }
                }
                fields.values().for_each(|item| self.learn(item));
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            _ => {}
        }
    }

    fn replace(&mut self, value: &Value, key: &str) -> Value {
        match value {
            Value::Object(fields) => {
                // Uids are numbered as they appear in an answer of the recorded server: metadata before the rest, an
                // object's own before those of its owners.
                let mut ordered: Vec<(&String, &Value)> = fields.iter().collect();
                ordered.sort_by_key(|(key, _)| !matches!(key.as_str(), "metadata" | "uid"));
                let cleaned: Map<String, Value> =
                    ordered.into_iter().map(|(k, v)| (k.clone(), self.replace(v, k))).collect();
                Value::Object(cleaned)
            }
            Value::Array(items) => items.iter().map(|item| self.replace(item, "")).collect(),
            Value::String(text) if !text.is_empty() && key == "resourceVersion" => "<rv>".into(),
            Value::String(text) if !text.is_empty() && key == "continue" => "<continue>".into(),
            Value::String(text) => self.text(text).into(),
            other => other.clone(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let mut text = text.to_string();
        for (name, word) in &self.generated {
            text = text.replace(name, word);
        }
        let uids = &mut self.uids;
        let text = UID.replace_all(&text, |found: &regex::Captures<'_>| {
            let next = format!("<uid:{}>", uids.len() + 1);
            uids.entry(found[0].to_string()).or_insert(next).clone()
        });
        TIME.replace_all(&text, "<time>").into_owned()
    }
}

/// The value at a dotted path; null where there is none.
pub fn dig(value: &Value, path: &str) -> Value {
    let mut value = value;
    for part in path.split('.') {
        let next = match value {
            Value::Array(items) => part.parse::<i64>().ok().and_then(|index| {
                let at = if index < 0 { items.len() as i64 + index } else { index };
                items.get(usize::try_from(at).ok()?)
            }),
            Value::Object(fields) => fields.get(part),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => return Value::Null,
        }
    }
    value.clone()
}

/// The differences between what was recorded and what was answered.
pub fn judge(step: &Value, expect: &Value, answer: &Value) -> Vec<String> {
    let (want, got) = (settle(expect, ""), settle(answer, ""));
    let how = step["compare"].as_str().unwrap_or("body");
    let mut lines = difference(&want["status"], &got["status"], "status");
    if how == "status" {
        return lines;
    }
    if how == "subset" {
        lines.extend(subset(&want["body"], &got["body"], ""));
        return lines;
    }
    if how.starts_with("keys:") {
        for (path, value) in want["keys"].as_object().into_iter().flatten() {
            lines.extend(difference(value, &dig(&got["body"], path), path));
        }
        return lines;
    }
    for part in ["type", "warnings"] {
        if let Some(want) = want.get(part) {
            lines.extend(difference(want, &got[part], part));
        }
    }
    lines.extend(difference(&want["body"], &got["body"], ""));
    lines
}

/// Hides what time and revision numbers leave in an answer.
fn settle(value: &Value, key: &str) -> Value {
    match value {
        Value::String(text) if VERSION.is_match(text) => NUMBER.replace_all(text, "<n>").into(),
        Value::Object(fields) => {
            let settled: Map<String, Value> = fields.iter().map(|(k, v)| (k.clone(), settle(v, k))).collect();
            Value::Object(settled)
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| settle(item, "")).collect();
            if key.ends_with("managedFields") {
                items.sort_by_cached_key(|entry| {
                    let part = |name: &str| entry[name].to_string();
                    ["manager", "operation", "subresource", "apiVersion"].map(part)
                });
            }
            Value::Array(items)
        }
        other => other.clone(),
    }
}

fn same(want: &Value, got: &Value) -> bool {
    match (want, got) {
        (Value::String(want), Value::String(got)) => match GO.find(want) {
            Some(cut) => got.starts_with(&want[..cut.start()]),
            None => want == got,
        },
        (Value::Number(want), Value::Number(got)) => want == got || want.as_f64() == got.as_f64(),
        _ => want == got,
    }
}

fn cut(value: &Value, length: usize) -> String {
    value.to_string().chars().take(length).collect()
}

fn difference(want: &Value, got: &Value, path: &str) -> Vec<String> {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            let mut out = Vec::new();
            let mut keys: Vec<&String> = want.keys().chain(got.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (want.get(key), got.get(key)) {
                    (Some(want), Some(got)) => out.extend(difference(want, got, &here)),
                    (Some(want), None) => out.push(format!("{here}: missing, want {}", cut(want, 160))),
                    (None, Some(got)) => out.push(format!("{here}: unexpected {}", cut(got, 160))),
                    (None, None) => {}
                }
            }
            out
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            let pairs = want.iter().zip(got).enumerate();
            pairs.flat_map(|(i, (want, got))| difference(want, got, &format!("{path}.{i}"))).collect()
        }
        _ if same(want, got) => Vec::new(),
        _ => vec![format!("{path}: want {}, got {}", cut(want, 300), cut(got, 300))],
    }
}

fn subset(want: &Value, got: &Value, path: &str) -> Vec<String> {
    match want {
        Value::Object(fields) => match got {
            Value::Object(_) => {
                fields.iter().flat_map(|(k, v)| subset(v, &got[k], &format!("{path}.{k}"))).collect()
            }
            _ => vec![format!("{path}: want an object")],
        },
        Value::Array(items) => match got.as_array() {
            Some(found) if found.len() >= items.len() => {
                let pairs = items.iter().zip(found).enumerate();
                pairs.flat_map(|(i, (want, got))| subset(want, got, &format!("{path}.{i}"))).collect()
            }
            _ => vec![format!("{path}: want a list of at least {}", items.len())],
        },
        _ if same(want, got) => Vec::new(),
        _ => vec![format!("{path}: want {}, got {}", cut(want, 300), cut(got, 300))],
    }
}

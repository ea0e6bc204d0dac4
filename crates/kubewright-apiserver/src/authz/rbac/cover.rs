//! Whether rules give no more than other rules do, and what is missing in the words of the real server.
//!
//! Rules flow in; nothing is read and nobody is asked.

use kubewright_machinery::field::quote;

use super::{Rule, covers_path};

/// What `wanted` allows and `held` does not: one line a missing right, sorted, rights on the same thing in one.
/// Empty when everything is held.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let mut rights: Vec<Rule> = Vec::new();
    for right in wanted.iter().flat_map(single_rights) {
        if held.iter().any(|rule| covers(rule, &right)) {
            continue;
        }
        let same = |r: &&mut Rule| {
            right.non_resource_urls.is_empty()
                && r.api_groups == right.api_groups
                && r.resources == right.resources
                && r.resource_names == right.resource_names
        };
        match rights.iter_mut().find(same) {
            Some(known) if known.verbs.contains(&right.verbs[0]) => {}
            Some(known) => known.verbs.extend(right.verbs),
            None => rights.push(right),
        }
    }
    let mut lines: Vec<String> = rights.iter().map(compact).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// A rule taken apart: one verb on one thing each.
fn single_rights(rule: &Rule) -> Vec<Rule> {
    let mut out = Vec::new();
    let one = |text: &str| vec![Box::from(text)];
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let right = Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(right);
                } else {
                    let named = |name: &str| Rule { resource_names: one(name), ..right.clone() };
                    out.extend(rule.resource_names.iter().map(|name| named(name)));
                }
            }
        }
    }
    for path in &rule.non_resource_urls {
        for verb in &rule.verbs {
            out.push(Rule { verbs: one(verb), non_resource_urls: one(path), ..Rule::default() });
        }
    }
    out
}

/// Whether a rule includes a single right.
fn covers(rule: &Rule, right: &Rule) -> bool {
    let all = |has: &[Box<str>], wants: &[Box<str>]| wants.iter().all(|w| has.contains(w));
    let star = |has: &[Box<str>]| has.iter().any(|h| &**h == "*");
    let verbs = star(&rule.verbs) || all(&rule.verbs, &right.verbs);
    let groups = star(&rule.api_groups) || all(&rule.api_groups, &right.api_groups);
    let resources = star(&rule.resources)
        || right.resources.iter().all(|wanted| {
            rule.resources.contains(wanted)
                || wanted
                    .split_once('/')
                    .is_some_and(|(_, sub)| rule.resources.iter().any(|r| r.strip_prefix("*/") == Some(sub)))
        });
    let names = rule.resource_names.is_empty()
        || (!right.resource_names.is_empty() && all(&rule.resource_names, &right.resource_names));
    let paths = right
        .non_resource_urls
        .iter()
        .all(|wanted| rule.non_resource_urls.iter().any(|r| covers_path(r, wanted)));
    verbs && groups && resources && names && paths
}

/// A rule as the real server prints it.
fn compact(rule: &Rule) -> String {
    let mut parts = Vec::new();
    for (name, items) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ] {
        if !items.is_empty() {
            parts.push(format!("{name}:{}", quoted(items.iter().map(|i| &**i))));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

/// `["a" "b"]`.
pub(super) fn quoted<'t>(items: impl Iterator<Item = &'t str>) -> String {
    format!("[{}]", items.map(quote).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(value: Value) -> Vec<Rule> {
        Rule::all_of(&json!({ "rules": value }))
    }

    #[test]
    fn missing_verbs_on_one_resource_are_one_line() {
        let held = rules(
            json!([{"apiGroups": [""], "resources": ["configmaps", "pods"], "verbs": ["get", "list"]}]),
        );
        let wanted = rules(
            json!([{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "delete"]}]),
        );
        assert_eq!(
            missing(&held, &wanted),
            [
                "{APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"delete\"]}",
                "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}",
            ]
        );
    }

    #[test]
    fn names_make_a_right_smaller_and_never_larger() {
        let all = rules(json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]));
        let named = rules(
            json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get"]}]),
        );
        assert!(missing(&all, &named).is_empty());
        assert_eq!(missing(&named, &all).len(), 1);
    }

    #[test]
    fn stars_cover_and_are_covered_by_stars_alone() {
        let star = Rule::everything();
        assert!(missing(&star, &star).is_empty());
        let pods = rules(json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]));
        assert_eq!(missing(&pods, &star).len(), 2);
        let scales = rules(json!([{"apiGroups": ["apps"], "resources": ["*/scale"], "verbs": ["get"]}]));
        let one =
            rules(json!([{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get"]}]));
        assert!(missing(&scales, &one).is_empty());
        assert_eq!(missing(&one, &scales).len(), 1);
    }

    #[test]
    fn paths_are_covered_by_prefixes_and_listed_verb_by_verb() {
        let held = rules(json!([{"nonResourceURLs": ["/metrics", "/x/*"], "verbs": ["get"]}]));
        assert!(missing(&held, &rules(json!([{"nonResourceURLs": ["/x/y"], "verbs": ["get"]}]))).is_empty());
        assert_eq!(
            missing(&held, &rules(json!([{"nonResourceURLs": ["/logs"], "verbs": ["get", "put"]}]))),
            [
                "{NonResourceURLs:[\"/logs\"], Verbs:[\"get\"]}",
                "{NonResourceURLs:[\"/logs\"], Verbs:[\"put\"]}",
            ]
        );
    }
}

//! FlowSchemas and PriorityLevelConfigurations. That the mandatory ones keep their specs is not checked here.

use kubewright_machinery::field::{self, Path};
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::workloads::SPEC;
use super::{checks, gotypes, metadata};

const EXEMPT: &str = "exempt";
const HIGHEST_PRECEDENCE: i64 = 10000;
const MOST_QUEUES: i64 = 10_000_000;
/// Bits of the hash that picks a hand of queues.
const HASH_BITS: f64 = 60.0;
const DISTINGUISHERS: [&str; 2] = ["ByNamespace", "ByUser"];
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const NOT_A_NAMESPACE: &str = "each member of this list must be '*' or a DNS-1123 label; ";
const POSITIVE: &str = "must be positive";

pub(super) fn schema(schema: &Value, e: &mut Errors) {
    metadata::create(schema, false, names::name_is_subdomain, e);
    let spec = schema.sub("spec");
    let (precedence, path) = (spec.int("matchingPrecedence"), SPEC.child("matchingPrecedence"));
    if precedence <= 0 {
        e.invalid(&path, precedence, "must be a positive value");
    }
    if precedence > HIGHEST_PRECEDENCE {
        e.invalid(&path, precedence, format!("must not be greater than {HIGHEST_PRECEDENCE}"));
    }
    if precedence == 1 && metadata::name(schema) != EXEMPT {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        e.invalid(&path, precedence, detail);
    }
    if let Some(method) =
        spec.some("distinguisherMethod").filter(|m| !DISTINGUISHERS.contains(&m.text("type")))
    {
        let path = SPEC.child("distinguisherMethod");
        e.not_supported_go(&path.child("type"), &gotypes::FLOW_DISTINGUISHER, method, &DISTINGUISHERS);
    }
    let path = SPEC.child("priorityLevelConfiguration");
    match spec.sub("priorityLevelConfiguration").text("name") {
        "" => e.required(&path.child("name"), "must reference a priority level"),
        level => checks::subdomain(level, &path.child("name"), e),
    }
    let rules = SPEC.child("rules");
    for (i, rule) in spec.items("rules").iter().enumerate() {
        self::rule(rule, &rules.index(i), e);
    }
    conditions(schema, e);
}

fn rule(rule: &Value, path: &Path<'_>, e: &mut Errors) {
    let list = path.child("subjects");
    if rule.items("subjects").is_empty() {
        e.required(&list, "subjects must contain at least one value");
    }
    for (i, found) in rule.items("subjects").iter().enumerate() {
        subject(found, &list.index(i), e);
    }
    let (resources, paths) = (rule.items("resourceRules"), rule.items("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        e.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (i, rule) in resources.iter().enumerate() {
        resource_rule(rule, &path.child("resourceRules").index(i), e);
    }
    for (i, rule) in paths.iter().enumerate() {
        path_rule(rule, &path.child("nonResourceRules").index(i), e);
    }
}

fn subject(subject: &Value, path: &Path<'_>, e: &mut Errors) {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.text("kind");
    let Some((_, field)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        return e.not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
    };
    let named = path.child(field);
    match subject.some(field) {
        None => e.required(&named, format!("{field} is required when subject kind is '{kind}'")),
        Some(account) if kind == "ServiceAccount" => {
            match account.text("name") {
                "" => e.required(&named.child("name"), ""),
                "*" => {}
                name => checks::subdomain(name, &named.child("name"), e),
            }
            match account.text("namespace") {
                "" => e.required(&named.child("namespace"), "must specify namespace for service account"),
                namespace => checks::namespace_name(namespace, &named.child("namespace"), e),
            }
        }
        Some(who) => {
            if who.text("name").is_empty() {
                e.required(&named.child("name"), "");
            }
        }
    }
    for (other, field) in KINDS.iter().filter(|(other, field)| *other != kind && subject.has(field)) {
        e.forbidden(&path.child(field), format!("{field} is forbidden when subject kind is not '{other}'"));
    }
}

fn verbs(rule: &Value, path: &Path<'_>, e: &mut Errors) {
    let (verbs, path) = (rule.strings("verbs"), path.child("verbs"));
    if verbs.is_empty() {
        e.required(&path, "verbs must contain at least one value");
    } else if verbs.contains(&"*") {
        if verbs.len() > 1 {
            e.invalid(&path, verbs, "if '*' is present, must not specify other verbs");
        }
    } else if !verbs.iter().all(|verb| VERBS.contains(verb)) {
        e.not_supported(&path, verbs, &VERBS);
    }
}

fn resource_rule(rule: &Value, path: &Path<'_>, e: &mut Errors) {
    verbs(rule, path, e);
    for (field, one, others) in
        [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
    {
        let (values, path) = (rule.strings(field), path.child(field));
        if values.is_empty() {
            e.required(&path, format!("resource rules must supply at least one {one}"));
        } else if values.len() > 1 && values.contains(&"*") {
            e.invalid(&path, values, format!("if '*' is present, must not specify other {others}"));
        }
    }
    let (namespaces, path) = (rule.strings("namespaces"), path.child("namespaces"));
    if namespaces.is_empty() && !rule.flag("clusterScope") {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        e.required(&path, detail);
    } else if namespaces.contains(&"*") {
        if namespaces.len() > 1 {
            e.invalid(&path, namespaces, "if '*' is present, must not specify other namespaces");
        }
    } else {
        for (i, namespace) in namespaces.into_iter().enumerate() {
            for message in names::name_is_label(namespace, false) {
                e.invalid(&path.index(i), namespace, format!("{NOT_A_NAMESPACE}{message}"));
            }
        }
    }
}

fn path_rule(rule: &Value, path: &Path<'_>, e: &mut Errors) {
    verbs(rule, path, e);
    let (urls, path) = (rule.strings("nonResourceURLs"), path.child("nonResourceURLs"));
    if urls.is_empty() {
        e.required(&path, "nonResourceURLs must contain at least one value");
    } else if urls.contains(&"*") {
        if urls.len() > 1 {
            e.invalid(&path, urls, "if '*' is present, must not specify other non-resource URLs");
        }
    } else {
        for (i, url) in urls.into_iter().enumerate() {
            if let Some(fault) = url_fault(url) {
                e.invalid(&path.index(i), url, fault);
            }
        }
    }
}

/// What is wrong with the path of requests that are for no resource.
fn url_fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("must not be empty");
    }
    if path == "/" {
        return None;
    }
    if !path.starts_with('/') {
        return Some("must start with slash");
    }
    if path.contains(' ') {
        return Some("must not contain white-space");
    }
    if path.contains("//") {
        return Some("must not contain double slash");
    }
    let wildcards = path.matches('*').count();
    (wildcards > 1 || (wildcards == 1 && !path.ends_with("/*")))
        .then_some("wildcard can only do suffix matching")
}

fn conditions(object: &Value, e: &mut Errors) {
    let path = Path::new("status");
    let path = path.child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in object.sub("status").items("conditions").iter().enumerate() {
        let (kind, item) = (condition.text("type"), path.index(i));
        if seen.contains(&kind) {
            e.duplicate(&item.child("type"), kind);
        }
        seen.push(kind);
        if kind.is_empty() {
            e.required(&item.child("type"), "must not be empty");
        }
    }
}

pub(super) fn level(level: &Value, e: &mut Errors) {
    metadata::create(level, false, names::name_is_subdomain, e);
    let spec = level.sub("spec");
    let kind = spec.text("type");
    if (metadata::name(level) == EXEMPT) != (kind == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        e.invalid(&SPEC.child("type"), kind, detail);
    }
    let (exempt_path, limited_path) = (SPEC.child("exempt"), SPEC.child("limited"));
    let (exempt, limited) = (spec.some("exempt"), spec.some("limited"));
    match kind {
        "Exempt" => {
            if limited.is_some() {
                e.forbidden(&limited_path, "must be nil if the type is not Limited");
            }
            if let Some(exempt) = exempt {
                shares(exempt, &exempt_path, e);
                lendable(exempt, &exempt_path, e);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                e.forbidden(&exempt_path, "must be nil if the type is Limited");
            }
            match limited {
                None => e.required(&limited_path, "must not be empty when type is Limited"),
                Some(limited) => self::limited(limited, &limited_path, e),
            }
        }
        _ => e.not_supported(&SPEC.child("type"), kind, &["Exempt", "Limited"]),
    }
    conditions(level, e);
}

pub(super) fn status(object: &Value, e: &mut Errors) {
    conditions(object, e);
}

fn shares(share: &Value, path: &Path<'_>, e: &mut Errors) {
    if let Some(shares) = share.opt_int("nominalConcurrencyShares").filter(|s| *s < 0) {
        e.invalid(&path.child("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
}

fn lendable(share: &Value, path: &Path<'_>, e: &mut Errors) {
    if let Some(percent) = share.opt_int("lendablePercent").filter(|p| !(0..=100).contains(p)) {
        e.invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(limited: &Value, path: &Path<'_>, e: &mut Errors) {
    shares(limited, path, e);
    let (response, response_path) = (limited.sub("limitResponse"), path.child("limitResponse"));
    let queuing_path = response_path.child("queuing");
    match (response.text("type"), response.some("queuing")) {
        ("Reject", Some(_)) => {
            e.forbidden(&queuing_path, "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", None) => {
            e.required(&queuing_path, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", Some(queuing)) => self::queuing(queuing, &queuing_path, e),
        ("Reject", None) => {}
        (kind, _) => e.not_supported(&response_path.child("type"), kind, &["Queue", "Reject"]),
    }
    lendable(limited, path, e);
    if let Some(percent) = limited.opt_int("borrowingLimitPercent").filter(|p| *p < 0) {
        let detail = "if specified, must be a non-negative integer";
        e.invalid(&path.child("borrowingLimitPercent"), percent, detail);
    }
}

fn queuing(queuing: &Value, path: &Path<'_>, e: &mut Errors) {
    let (queues, hand) = (queuing.int("queues"), queuing.int("handSize"));
    let length = queuing.int("queueLengthLimit");
    if length <= 0 {
        e.invalid(&path.child("queueLengthLimit"), length, POSITIVE);
    }
    if queues <= 0 {
        e.invalid(&path.child("queues"), queues, POSITIVE);
    } else if queues > MOST_QUEUES {
        e.invalid(&path.child("queues"), queues, format!("must not be greater than {MOST_QUEUES}"));
    }
    let path = path.child("handSize");
    if hand <= 0 {
        e.invalid(&path, hand, POSITIVE);
    } else if hand > queues {
        e.invalid(&path, hand, format!("should not be greater than queues ({queues})"));
    } else if entropy(queues, hand) > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        e.invalid(&path, hand, detail);
    }
}

/// Bits of hash that it takes to deal a hand from a deck. Both are 32-bit numbers, which floats hold exactly.
fn entropy(deck: i64, hand: i64) -> f64 {
    let float = |n: i64| field::number(&n.into()).parse().unwrap_or(f64::MAX);
    (f64::log2(float(deck)) * float(hand)).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;
    use serde_json::json;

    #[test]
    fn a_schema_refers_to_a_level_for_someone() {
        let object = json!({"metadata": {"name": "s"}, "spec": {"matchingPrecedence": 1, "rules": [{"subjects": [{"kind": "User", "group": {"name": "g"}}]}]}});
        assert_eq!(
            texts(|e| schema(&object, e)),
            [
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ]
        );
    }

    #[test]
    fn hands_are_small_enough_for_the_hash() {
        let level_with = |queues: i64, hand: i64| {
            json!({"metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": {
            "limitResponse": {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 1}}}}})
        };
        assert!(texts(|e| level(&level_with(64, 8), e)).is_empty());
        assert_eq!(
            texts(|e| level(&level_with(64, 11), e)),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 should not be greater than 60"
            ]
        );
    }
}

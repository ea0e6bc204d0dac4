//! A decision of RBAC among 10 000 bindings: from the index, beside two scans over all of them.
//!
//! One scan goes over the bindings as the server holds them, which is what it would do without an index. The other gets
//! everything that helps it: bindings that were read before into little more than three strings, so that it passes those
//! of other namespaces in a nanosecond. Both find roles by a hash. What neither has is an order by subject.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use kubewright_apiserver::authn::UserInfo;
use kubewright_apiserver::authz::rbac::{Index, Policies, Rule, decide};
use kubewright_apiserver::authz::{Attributes, Decision};
use kubewright_apiserver::resources::Snapshot;
use serde_json::{Value, json};

/// Bindings of namespaces, and of the cluster.
const BINDINGS: (usize, usize) = (9_000, 1_000);
const NAMESPACES: usize = 500;
const ROLES: usize = 200;

/// One of three sorts of subjects.
fn subject(i: usize) -> Value {
    match i % 3 {
        0 => json!({"kind": "User", "name": format!("user-{i}"), "apiGroup": "rbac.authorization.k8s.io"}),
        1 => json!({"kind": "Group", "name": format!("group-{i}"), "apiGroup": "rbac.authorization.k8s.io"}),
        _ => {
            json!({"kind": "ServiceAccount", "name": format!("account-{i}"), "namespace": format!("team-{}", i % NAMESPACES)})
        }
    }
}

fn binding(namespace: Option<String>, name: &str, i: usize) -> Value {
    let role = format!("role-{}", i % ROLES);
    json!({"metadata": {"name": name, "namespace": namespace}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [subject(i)]})
}

fn snapshot(objects: impl Iterator<Item = (String, Value)>) -> Snapshot {
    let objects: BTreeMap<Box<str>, Arc<Value>> =
        objects.map(|(key, object)| (key.into(), Arc::new(object))).collect();
    Snapshot { serial: 1, objects: Arc::new(objects) }
}

fn policies() -> Policies {
    let role = |i: usize| {
        json!({"rules": [
            {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": [format!("kind-{i}"), "configmaps"]},
            {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["deployments"]},
        ]})
    };
    Policies {
        roles: snapshot(std::iter::empty()),
        role_bindings: snapshot((0..BINDINGS.0).map(|i| {
            let name = format!("binding-{i:05}");
            let namespace = format!("team-{}", i % NAMESPACES);
            (format!("{namespace}/{name}"), binding(Some(namespace), &name, i))
        })),
        cluster_roles: snapshot((0..ROLES).map(|i| (format!("role-{i}"), role(i)))),
        cluster_role_bindings: snapshot((0..BINDINGS.1).map(|i| {
            let name = format!("cluster-{i:05}");
            let i = BINDINGS.0 + i;
            (name.clone(), binding(None, &name, i))
        })),
    }
}

/// A binding as a scan sees it.
struct Binding {
    /// Empty for the cluster.
    namespace: String,
    subjects: Vec<Subject>,
    role: String,
}

enum Subject {
    User(String),
    Group(String),
    Account(String),
}

/// All bindings in order, cluster-wide ones first, and the rules of the roles.
struct Scan {
    bindings: Vec<Binding>,
    roles: HashMap<String, Vec<Rule>>,
}

impl Scan {
    fn new(policies: &Policies) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let read = |namespace: &str, binding: &Value| Binding {
            namespace: namespace.into(),
            subjects: binding["subjects"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|subject| match subject["kind"].as_str() {
                    Some("User") => Subject::User(text(&subject["name"])),
                    Some("Group") => Subject::Group(text(&subject["name"])),
                    _ => Subject::Account(format!(
                        "system:serviceaccount:{}:{}",
                        text(&subject["namespace"]),
                        text(&subject["name"])
                    )),
                })
                .collect(),
            role: text(&binding["roleRef"]["name"]),
        };
        let of_cluster = policies.cluster_role_bindings.objects.values().map(|object| read("", object));
        let of_namespaces =
            policies.role_bindings.objects.iter().map(|(key, object)| {
                read(key.split_once('/').map_or("", |(namespace, _)| namespace), object)
            });
        let roles = policies.cluster_roles.objects.iter();
        Self {
            bindings: of_cluster.chain(of_namespaces).collect(),
            roles: roles.map(|(name, role)| (name.to_string(), Rule::all_of(role))).collect(),
        }
    }

    fn allows(&self, asked: &Attributes<'_>) -> bool {
        let concerns = |binding: &&Binding| {
            (binding.namespace.is_empty() || binding.namespace == asked.namespace)
                && binding.subjects.iter().any(|subject| match subject {
                    Subject::User(name) | Subject::Account(name) => *name == asked.user.name,
                    Subject::Group(name) => asked.user.groups.contains(name),
                })
        };
        let bound = self.bindings.iter().filter(concerns).filter_map(|binding| self.roles.get(&binding.role));
        bound.flatten().any(|rule| rule.allows(asked))
    }
}

/// A scan over the bindings as the server holds them.
fn scan_objects(policies: &Policies, roles: &HashMap<String, Vec<Rule>>, asked: &Attributes<'_>) -> bool {
    let concerns = |namespace: &str, binding: &Value| {
        (namespace.is_empty() || namespace == asked.namespace)
            && binding["subjects"].as_array().into_iter().flatten().any(|subject| {
                let name = subject["name"].as_str().unwrap_or_default();
                match subject["kind"].as_str() {
                    Some("User") => name == asked.user.name,
                    Some("Group") => asked.user.groups.iter().any(|group| group == name),
                    _ => asked.user.name.strip_prefix("system:serviceaccount:").is_some_and(|rest| {
                        rest.split_once(':').is_some_and(|(of, account)| {
                            account == name && Some(of) == subject["namespace"].as_str()
                        })
                    }),
                }
            })
    };
    let of_cluster = policies.cluster_role_bindings.objects.values().map(|binding| ("", binding));
    let of_namespaces = policies
        .role_bindings
        .objects
        .values()
        .map(|binding| (binding["metadata"]["namespace"].as_str().unwrap_or_default(), binding));
    let bound = of_cluster.chain(of_namespaces).filter(|(namespace, binding)| concerns(namespace, binding));
    let role = |binding: &Value| roles.get(binding["roleRef"]["name"].as_str().unwrap_or_default());
    bound.filter_map(|(_, binding)| role(binding)).flatten().any(|rule| rule.allows(asked))
}

fn asked<'a>(user: &'a UserInfo, namespace: &'a str, resource: &'a str) -> Attributes<'a> {
    Attributes {
        user,
        verb: "get".into(),
        group: "".into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: "".into(),
        namespace: namespace.into(),
        name: "one".into(),
        path: "".into(),
        resource_request: true,
        label_selector: None,
        field_selector: None,
    }
}

fn decisions(c: &mut Criterion) {
    let policies = policies();
    let index = Index::build(&policies);
    let scan = Scan::new(&policies);
    let groups = ["system:authenticated", "group-8599"];
    // Bound by two of the last bindings, once as itself and once through a group, so that a scan goes over all of them;
    // and bound to nothing that helps.
    let account = UserInfo::new("system:serviceaccount:team-99:account-8099", &groups[..1]);
    let member = UserInfo::new("somebody", &groups);
    let cases = [
        ("an account is allowed", asked(&account, "team-99", "configmaps")),
        ("a member of a group is allowed", asked(&member, "team-99", "configmaps")),
        ("a member of a group is refused", asked(&member, "team-99", "secrets")),
    ];
    for (name, attributes) in &cases {
        let decided = matches!(decide(&index, attributes), Decision::Allow(_));
        let scanned = [scan.allows(attributes), scan_objects(&policies, &scan.roles, attributes)];
        assert_eq!((decided, scanned), (name.ends_with("allowed"), [decided; 2]), "{name}");
        let mut group = c.benchmark_group(*name);
        group
            .bench_function("index of 10 000 bindings", |b| b.iter(|| decide(&index, black_box(attributes))));
        group.bench_function("scan of 10 000 bindings as they are held", |b| {
            b.iter(|| scan_objects(&policies, &scan.roles, black_box(attributes)))
        });
        group.bench_function("scan of 10 000 bindings read before", |b| {
            b.iter(|| scan.allows(black_box(attributes)))
        });
        group.finish();
    }
    c.bench_function("index of 10 000 bindings, built", |b| b.iter(|| Index::build(black_box(&policies))));
}

criterion_group!(benches, decisions);
criterion_main!(benches);

//! What a controller declares to do with the API, and the judgement of requests against it. The same
//! declarations make the RBAC rules, so that neither can drift from the other.

use std::collections::{BTreeMap, BTreeSet};

use super::request::{ResourceRequest, Verb};
use crate::kind::{Kind, Object};

/// A declared use of a resource: which verbs on which group, resource and subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    group: String,
    resource: String,
    /// Names of the only objects it is for; empty for all.
    names: BTreeSet<String>,
    verbs: BTreeSet<Verb>,
}

/// Group, resource (`resource/subresource`) and names of objects, with the verbs on them: a rule of a role.
pub(crate) type NamedRules = BTreeMap<(String, String, Vec<String>), BTreeSet<Verb>>;

impl Permit {
    /// Verbs on a typed kind.
    pub fn on<K: Object>(verbs: impl IntoIterator<Item = Verb>) -> Permit {
        let kind = Kind::of::<K>();
        Permit::on_resource(&kind.group, &kind.plural, verbs)
    }

    /// Verbs on a subresource of a typed kind, such as `binding` of a Pod.
    pub fn on_sub<K: Object>(subresource: &str, verbs: impl IntoIterator<Item = Verb>) -> Permit {
        let kind = Kind::of::<K>();
        Permit::on_resource(&kind.group, &format!("{}/{subresource}", kind.plural), verbs)
    }

    /// Verbs on a resource known by name; `*` stands for every group, resource or subresource.
    pub fn on_resource(group: &str, resource: &str, verbs: impl IntoIterator<Item = Verb>) -> Permit {
        let (group, resource) = (group.into(), resource.into());
        Permit { group, resource, names: BTreeSet::new(), verbs: verbs.into_iter().collect() }
    }

    /// Limits it to objects of these names. Creations can't be limited so, and lists and watches only where they
    /// select a name (`fieldSelector=metadata.name=NAME`).
    #[must_use]
    pub fn named<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Permit {
        self.names.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Everything. For controllers of the cluster itself, such as garbage collection.
    pub fn everything() -> Permit {
        use Verb::*;
        let verbs = [Get, List, Watch, Create, Update, Patch, Delete, DeleteCollection, Impersonate];
        Permit::on_resource("*", "*", verbs)
    }

    fn covers(&self, request: &ResourceRequest) -> bool {
        let resource = match self.resource.split_once('/') {
            None if self.resource == "*" => true,
            None => self.resource == request.resource && request.subresource.is_none(),
            Some((resource, subresource)) => {
                (resource == "*" || resource == request.resource)
                    && request
                        .subresource
                        .as_deref()
                        .is_some_and(|asked| subresource == "*" || subresource == asked)
            }
        };
        let named =
            self.names.is_empty() || request.name.as_ref().is_some_and(|name| self.names.contains(name));
        resource
            && named
            && (self.group == "*" || self.group == request.group)
            && self.verbs.contains(&request.verb)
    }
}

/// What a controller may do.
#[derive(Clone, Debug, Default)]
pub struct Permits {
    permits: Vec<Permit>,
    /// Kinds by group and resource, so that an error can name the Rust type.
    kinds: BTreeMap<(String, String), Kind>,
}

impl Permits {
    /// Whether nothing is permitted.
    pub fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }

    /// Adds a permit.
    pub fn add(&mut self, permit: Permit) {
        self.permits.push(permit);
    }

    /// Adds everything another set has.
    pub fn extend(&mut self, others: &Permits) {
        self.permits.extend(others.permits.iter().cloned());
        self.kinds.extend(others.kinds.iter().map(|(resource, kind)| (resource.clone(), kind.clone())));
    }

    /// Remembers a kind: its name for error messages, its scope for roles.
    pub fn name(&mut self, kind: &Kind) {
        self.kinds.insert((kind.group.clone(), kind.plural.clone()), kind.clone());
    }

    /// Whether a resource (or `resource/subresource`) is known to live in namespaces.
    pub(crate) fn is_namespaced(&self, group: &str, resource: &str) -> bool {
        let resource = resource.split('/').next().unwrap_or_default();
        self.kinds.get(&(group.to_owned(), resource.to_owned())).is_some_and(|kind| kind.namespaced)
    }

    /// The rules of a role for objects of certain names, merged.
    pub(crate) fn named_rules(&self) -> NamedRules {
        let mut rules = NamedRules::new();
        for permit in self.permits.iter().filter(|permit| !permit.names.is_empty()) {
            let names = permit.names.iter().cloned().collect();
            let verbs = rules.entry((permit.group.clone(), permit.resource.clone(), names)).or_default();
            verbs.extend(permit.verbs.iter().copied());
        }
        rules
    }

    /// Verbs by group and resource (`resource/subresource`), merged: the rules of a role for objects of any name.
    pub fn rules(&self) -> BTreeMap<(String, String), BTreeSet<Verb>> {
        let mut rules: BTreeMap<(String, String), BTreeSet<Verb>> = BTreeMap::new();
        for permit in self.permits.iter().filter(|permit| permit.names.is_empty()) {
            let verbs = rules.entry((permit.group.clone(), permit.resource.clone())).or_default();
            verbs.extend(permit.verbs.iter().copied());
        }
        rules
    }

    /// Judges a request.
    ///
    /// # Errors
    /// When no permit covers it; the error names the declaration to add.
    pub fn check(&self, request: &ResourceRequest) -> Result<(), Undeclared> {
        if self.permits.iter().any(|permit| permit.covers(request)) {
            return Ok(());
        }
        let named = self.kinds.get(&(request.group.clone(), request.resource.clone()));
        Err(Undeclared::new(
            request,
            named.map_or_else(|| type_name(&request.resource), |kind| kind.kind.clone()),
        ))
    }
}

/// A call that the controller does not declare.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("undeclared call: {verb} {resource}{group}; declare it on the controller with {declaration}", verb = .verb.as_str(), group = dotted(.group))]
pub struct Undeclared {
    /// The verb of the call.
    pub verb: Verb,
    /// The group of the call.
    pub group: String,
    /// The resource, with its subresource.
    pub resource: String,
    /// What to add to the controller, as Rust.
    pub declaration: String,
}

impl Undeclared {
    pub(crate) fn new(request: &ResourceRequest, kind: String) -> Undeclared {
        let verb = request.verb;
        let (resource, declaration) = match &request.subresource {
            subresource if verb == Verb::Impersonate => {
                let subresource = subresource.as_ref().map(|sub| format!("/{sub}")).unwrap_or_default();
                let (group, name) = (&request.group, request.name.as_deref().unwrap_or_default());
                let resource = format!("{}{subresource}", request.resource);
                let declaration = format!(
                    "`.permits(Permit::on_resource({group:?}, {resource:?}, [Verb::Impersonate]).named([{name:?}]))`"
                );
                (resource, declaration)
            }
            Some(subresource) => (
                format!("{}/{subresource}", request.resource),
                format!(
                    "`.permits(Permit::on_sub::<{kind}>(\"{subresource}\", [Verb::{}]))`",
                    verb.variant()
                ),
            ),
            None if verb.is_read() => (request.resource.clone(), format!("`.reads::<{kind}>()`")),
            None => (
                request.resource.clone(),
                format!("`.owns::<{kind}>()` or `.writes::<{kind}>([Verb::{}])`", verb.variant()),
            ),
        };
        Undeclared { verb, group: request.group.clone(), resource, declaration }
    }

    pub(crate) fn read(kind: &Kind) -> Undeclared {
        Undeclared {
            verb: Verb::List,
            group: kind.group.clone(),
            resource: kind.plural.clone(),
            declaration: format!("`.reads::<{}>()`", kind.kind),
        }
    }
}

fn dotted(group: &str) -> String {
    if group.is_empty() { String::new() } else { format!(".{group}") }
}

/// Kinds whose name can't be guessed from the resource: more than one word.
const WORDS: [(&str, &str); 28] = [
    ("configmaps", "ConfigMap"),
    ("cronjobs", "CronJob"),
    ("daemonsets", "DaemonSet"),
    ("replicasets", "ReplicaSet"),
    ("statefulsets", "StatefulSet"),
    ("controllerrevisions", "ControllerRevision"),
    ("serviceaccounts", "ServiceAccount"),
    ("persistentvolumes", "PersistentVolume"),
    ("persistentvolumeclaims", "PersistentVolumeClaim"),
    ("replicationcontrollers", "ReplicationController"),
    ("resourcequotas", "ResourceQuota"),
    ("limitranges", "LimitRange"),
    ("podtemplates", "PodTemplate"),
    ("endpointslices", "EndpointSlice"),
    ("networkpolicies", "NetworkPolicy"),
    ("ingressclasses", "IngressClass"),
    ("storageclasses", "StorageClass"),
    ("priorityclasses", "PriorityClass"),
    ("runtimeclasses", "RuntimeClass"),
    ("rolebindings", "RoleBinding"),
    ("clusterroles", "ClusterRole"),
    ("clusterrolebindings", "ClusterRoleBinding"),
    ("poddisruptionbudgets", "PodDisruptionBudget"),
    ("horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("customresourcedefinitions", "CustomResourceDefinition"),
    ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
    ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
    ("apiservices", "APIService"),
];

fn type_name(resource: &str) -> String {
    if let Some((_, kind)) = WORDS.iter().find(|(plural, _)| *plural == resource) {
        return (*kind).to_owned();
    }
    let singular = match resource {
        _ if resource.ends_with("ies") => format!("{}y", &resource[..resource.len() - 3]),
        _ if resource.ends_with("sses") => resource[..resource.len() - 2].to_owned(),
        "endpoints" => resource.to_owned(),
        _ => resource.strip_suffix('s').unwrap_or(resource).to_owned(),
    };
    let mut letters = singular.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use http::Method;
    use k8s_openapi::api::core::v1::{Node, Pod};

    use super::*;

    fn request(method: Method, path: &str) -> ResourceRequest {
        ResourceRequest::read(&method, path, None).unwrap()
    }

    #[test]
    fn an_undeclared_write_names_what_to_declare() {
        let error = Permits::default()
            .check(&request(Method::DELETE, "/api/v1/namespaces/n/configmaps/c"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "undeclared call: delete configmaps; declare it on the controller with `.owns::<ConfigMap>()` or `.writes::<ConfigMap>([Verb::Delete])`"
        );
        let error = Permits::default().check(&request(Method::GET, "/apis/apps/v1/deployments")).unwrap_err();
        assert!(
            error.to_string().contains("list deployments.apps")
                && error.declaration.contains(".reads::<Deployment>()")
        );
        let error = Permits::default()
            .check(&request(Method::POST, "/api/v1/namespaces/n/pods/p/binding"))
            .unwrap_err();
        assert!(error.declaration.contains("Permit::on_sub::<Pod>(\"binding\", [Verb::Create])"), "{error}");
    }

    #[test]
    fn permits_cover_their_verbs_and_nothing_more() {
        let mut permits = Permits::default();
        permits.add(Permit::on::<Pod>([Verb::Create]));
        permits.add(Permit::on_sub::<Node>("status", [Verb::Patch]));
        assert!(permits.check(&request(Method::POST, "/api/v1/namespaces/n/pods")).is_ok());
        assert!(permits.check(&request(Method::POST, "/apis/other/v1/namespaces/n/pods")).is_err());
        assert!(permits.check(&request(Method::POST, "/api/v1/namespaces/n/pods/p/eviction")).is_err());
        assert!(permits.check(&request(Method::PATCH, "/api/v1/nodes/n/status")).is_ok());
        assert!(permits.check(&request(Method::PATCH, "/api/v1/nodes/n")).is_err());
        permits.add(Permit::everything());
        assert!(permits.check(&request(Method::PATCH, "/api/v1/nodes/n")).is_ok());
    }

    #[test]
    fn a_permit_may_be_for_objects_of_certain_names() {
        let mut permits = Permits::default();
        permits.add(Permit::on_resource("", "secrets", [Verb::Get, Verb::Watch]).named(["certificates"]));
        let secrets = "/api/v1/namespaces/n/secrets";
        assert!(permits.check(&request(Method::GET, &format!("{secrets}/certificates"))).is_ok());
        assert!(permits.check(&request(Method::GET, &format!("{secrets}/others"))).is_err());
        assert!(permits.check(&request(Method::GET, secrets)).is_err());
        let watch = |query| ResourceRequest::read(&Method::GET, secrets, Some(query)).unwrap();
        assert!(permits.check(&watch("watch=true&fieldSelector=metadata.name%3Dcertificates")).is_ok());
        assert!(permits.check(&watch("watch=true&fieldSelector=metadata.name=others")).is_err());
        assert!(permits.check(&watch("watch=true")).is_err());
        assert!(permits.rules().is_empty());
        let key = (String::new(), "secrets".to_owned(), vec!["certificates".to_owned()]);
        assert_eq!(permits.named_rules()[&key], BTreeSet::from([Verb::Get, Verb::Watch]));
    }

    #[test]
    fn rules_merge_verbs_by_resource() {
        let mut permits = Permits::default();
        permits.add(Permit::on::<Pod>([Verb::List]));
        permits.add(Permit::on::<Pod>([Verb::Get]));
        let rules = permits.rules();
        assert_eq!(rules[&(String::new(), "pods".into())], BTreeSet::from([Verb::Get, Verb::List]));
    }
}

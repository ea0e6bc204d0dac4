//! The node authorizer: what kubelets may do. A kubelet reads what the pods on its node need, and writes what is its own;
//! the admission plugin `NodeRestriction` sees to the rest of the latter.
//!
//! Never denies: who is refused here may be allowed by another policy.

use kubewright_apiserver::authn::UserInfo;
use kubewright_apiserver::authz::rbac::Rule;
use kubewright_apiserver::authz::{Attributes, Authorizer, Decision, UserRules};
use kubewright_apiserver::server::Core;
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::field::quote;
use kubewright_machinery::meta;
use kubewright_machinery::selector::FieldSelector;
use tokio::sync::Mutex;

use super::graph::{Graph, Related};
use crate::bootstrap::rbac;

/// The group of kubelets.
const NODES: &str = "system:nodes";
/// What their user names begin with.
const PREFIX: &str = "system:node:";
/// The namespace of their leases.
pub(crate) const LEASES: &str = "kube-node-lease";

/// The node that a user is the kubelet of; `None` where it is no kubelet. The name may be empty.
pub(crate) fn node_of(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.in_group(NODES))
}

/// Decides about kubelets.
pub struct NodeAuthorizer {
    rules: Vec<Rule>,
    graph: Mutex<Graph>,
}

impl Default for NodeAuthorizer {
    fn default() -> Self {
        let roles = rbac::objects();
        let role =
            roles.iter().find(|role| role["kind"] == "ClusterRole" && meta::name(role) == "system:node");
        Self { rules: role.map(Rule::all_of).unwrap_or_default(), graph: Mutex::default() }
    }
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

impl NodeAuthorizer {
    async fn decide(&self, core: &Core, asked: &Attributes<'_>) -> Decision {
        let Some(node) = node_of(asked.user) else { return no("") };
        if node.is_empty() {
            return no(format!("unknown node for user {}", quote(&asked.user.name)));
        }
        if asked.resource_request {
            match (&*asked.group, &*asked.resource) {
                ("", "secrets") => return self.read(core, node, Related::Secret, asked).await,
                ("", "configmaps") => return self.read(core, node, Related::ConfigMap, asked).await,
                ("", "persistentvolumeclaims") if asked.subresource == "status" => {
                    return match &*asked.verb {
                        "update" | "patch" => self.related(core, node, Related::Claim, asked).await,
                        _ => no("can only get/update/patch this type"),
                    };
                }
                ("", "persistentvolumeclaims") => return self.get(core, node, Related::Claim, asked).await,
                ("", "persistentvolumes") => return self.get(core, node, Related::Volume, asked).await,
                ("resource.k8s.io", "resourceclaims") => {
                    return self.get(core, node, Related::ResourceClaim, asked).await;
                }
                ("storage.k8s.io", "volumeattachments") => {
                    return self.get(core, node, Related::Attachment, asked).await;
                }
                ("", "serviceaccounts") => return self.account(core, node, asked).await,
                ("coordination.k8s.io", "leases") => return lease(node, asked),
                ("storage.k8s.io", "csinodes") => return csi_node(node, asked),
                ("resource.k8s.io", "resourceslices") => return self.slice(core, node, asked).await,
                ("", "nodes") => return own_node(node, asked),
                ("", "pods") => return self.pod(core, node, asked).await,
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(asked)) { yes() } else { no("") }
    }

    /// What the graph says.
    async fn related(&self, core: &Core, node: &str, about: Related, asked: &Attributes<'_>) -> Decision {
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        let mut graph = self.graph.lock().await;
        let known = graph.catch_up(&**core.store(), about).await;
        if known.is_ok() && graph.relates(node, about, &asked.namespace, &asked.name) {
            return yes();
        }
        no(format!("no relationship found between node '{node}' and this object"))
    }

    async fn get(&self, core: &Core, node: &str, about: Related, asked: &Attributes<'_>) -> Decision {
        if asked.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(core, node, about, asked).await
    }

    async fn read(&self, core: &Core, node: &str, about: Related, asked: &Attributes<'_>) -> Decision {
        if !matches!(&*asked.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(core, node, about, asked).await
    }

    async fn account(&self, core: &Core, node: &str, asked: &Attributes<'_>) -> Decision {
        if asked.verb != "create" || asked.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(core, node, Related::Account, asked).await
    }

    async fn slice(&self, core: &Core, node: &str, asked: &Attributes<'_>) -> Decision {
        if !asked.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match &*asked.verb {
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(core, node, Related::Slice, asked).await,
            "watch" | "list" | "deletecollection" if selects(asked, "spec.nodeName", node) => yes(),
            "watch" | "list" | "deletecollection" if selects(asked, "nodeName", node) => yes(),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    async fn pod(&self, core: &Core, node: &str, asked: &Attributes<'_>) -> Decision {
        match (&*asked.subresource, &*asked.verb) {
            ("", "get") => self.get(core, node, Related::Pod, asked).await,
            ("", "list" | "watch") if selects(asked, "spec.nodeName", node) => yes(),
            ("", "list" | "watch") if !asked.name.is_empty() => {
                self.related(core, node, Related::Pod, asked).await
            }
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => yes(),
            _ => no(""),
        }
    }
}

/// Whether the field selector of a request asks for this value.
fn selects(asked: &Attributes<'_>, field: &str, value: &str) -> bool {
    let selector = asked.field_selector.as_deref().and_then(|text| FieldSelector::parse(text).ok());
    selector.is_some_and(|selector| selector.exact_value(field) == Some(value))
}

fn is_own_write(asked: &Attributes<'_>) -> bool {
    matches!(&*asked.verb, "get" | "create" | "update" | "patch" | "delete")
}

fn lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !is_own_write(asked) {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != LEASES {
        return no(format!("can only access leases in the {} system namespace", quote(LEASES)));
    }
    // The name of what is created is not known yet.
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !is_own_write(asked) {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

fn own_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (&*asked.subresource, &*asked.verb, &*asked.name) {
        ("", "create" | "update" | "patch", _) | ("status", "update" | "patch", _) => yes(),
        ("", "get" | "list" | "watch", name) if name == node => yes(),
        ("", "get" | "list" | "watch", "") => {
            no(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch", name) => {
            no(format!("node '{node}' cannot read '{name}', only its own Node object"))
        }
        _ => no(""),
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize<'a>(&'a self, core: &'a Core, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        if node_of(attributes.user).is_none() {
            return ready(no(""));
        }
        Box::pin(self.decide(core, attributes))
    }

    fn rules<'a>(
        &'a self,
        _core: &'a Core,
        user: &'a UserInfo,
        _namespace: &'a str,
    ) -> BoxFuture<'a, UserRules> {
        ready(match node_of(user) {
            None => UserRules::default(),
            Some(_) => UserRules {
                incomplete: true,
                errors: vec!["node authorizer does not support user rule resolution".into()],
                ..UserRules::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubewright_apiserver::server::{Server, ServerConfig};
    use kubewright_storage::{Expect, MemoryStore, Store as _};
    use serde_json::{Value, json};

    use super::*;
    use kubewright_apiserver::resources::{Storage, splice};

    async fn put(store: &MemoryStore, group: &str, plural: &str, object: Value) {
        let mut key = Storage::prefix_of(group, plural);
        if !meta::namespace(&object).is_empty() {
            key.push_str(meta::namespace(&object));
            key.push('/');
        }
        key.push_str(meta::name(&object));
        store.put(&key, splice::at_rest(&object), Expect::Any).await.expect("memory takes it");
    }

    fn pod(name: &str, node: &str, annotations: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "team", "annotations": annotations},
            "spec": {
                "nodeName": node, "serviceAccountName": format!("{name}-sa"),
                "volumes": [
                    {"name": "a", "secret": {"secretName": format!("{name}-secret")}},
                    {"name": "b", "persistentVolumeClaim": {"claimName": format!("{name}-claim")}},
                ],
            },
        })
    }

    struct Asker {
        server: Server,
        authorizer: NodeAuthorizer,
    }

    impl Asker {
        async fn may(&self, node: &str, verb: &str, what: (&str, &str), at: (&str, &str)) -> bool {
            let user = UserInfo::new(format!("system:node:{node}"), &["system:nodes"]);
            let (resource, subresource) = what.1.split_once('/').unwrap_or((what.1, ""));
            let attributes = Attributes {
                subresource: subresource.into(),
                namespace: at.0.into(),
                name: at.1.into(),
                ..Attributes::of_resource(&user, verb, what.0, "v1", resource)
            };
            matches!(self.authorizer.authorize(self.server.core(), &attributes).await, Decision::Allow(_))
        }
    }

    async fn asker(store: &Arc<MemoryStore>) -> Asker {
        let server = Server::new(ServerConfig::new(Arc::clone(store) as _)).await.expect("a server");
        Asker { server, authorizer: NodeAuthorizer::default() }
    }

    #[tokio::test]
    async fn a_node_reads_what_its_pods_need_and_nothing_of_others() {
        let store = Arc::new(MemoryStore::default());
        put(&store, "", "pods", pod("web", "n1", json!({}))).await;
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"},
            "spec": {
                "claimRef": {"namespace": "team", "name": "web-claim"},
                "csi": {"nodeStageSecretRef": {"name": "disk-key", "namespace": "keys"}},
            },
        });
        put(&store, "", "persistentvolumes", volume).await;
        let asker = asker(&store).await;
        for (what, at) in [
            ("secrets", ("team", "web-secret")),
            ("secrets", ("keys", "disk-key")),
            ("persistentvolumeclaims", ("team", "web-claim")),
            ("persistentvolumes", ("", "disk")),
            ("pods", ("team", "web")),
        ] {
            assert!(asker.may("n1", "get", ("", what), at).await, "{what} {at:?}");
            assert!(!asker.may("n2", "get", ("", what), at).await, "{what} {at:?}");
            assert!(!asker.may("n1", "get", ("", what), (at.0, "other")).await, "{what}");
        }
        assert!(!asker.may("n1", "list", ("", "secrets"), ("team", "")).await);
        assert!(!asker.may("n1", "update", ("", "secrets"), ("team", "web-secret")).await);
        assert!(asker.may("n1", "create", ("", "serviceaccounts/token"), ("team", "web-sa")).await);
        assert!(!asker.may("n1", "create", ("", "serviceaccounts/token"), ("team", "other")).await);

        // It follows what happens.
        store.delete("/registry/core/pods/team/web", Expect::Any).await.expect("it is there");
        assert!(!asker.may("n1", "get", ("", "secrets"), ("team", "web-secret")).await);
        put(&store, "", "pods", pod("web", "n2", json!({}))).await;
        assert!(asker.may("n2", "get", ("", "secrets"), ("team", "web-secret")).await);
    }

    #[tokio::test]
    async fn a_pod_that_the_node_made_itself_gives_no_rights() {
        let store = Arc::new(MemoryStore::default());
        let mirror = json!({"kubernetes.io/config.mirror": "x"});
        put(&store, "", "pods", pod("static", "n1", mirror)).await;
        let asker = asker(&store).await;
        assert!(asker.may("n1", "get", ("", "pods"), ("team", "static")).await);
        assert!(!asker.may("n1", "get", ("", "secrets"), ("team", "static-secret")).await);
    }

    #[tokio::test]
    async fn a_node_has_its_own_node_lease_and_slices() {
        let store = Arc::new(MemoryStore::default());
        let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
            "metadata": {"name": "s"}, "spec": {"nodeName": "n1"}});
        put(&store, "resource.k8s.io", "resourceslices", slice).await;
        let asker = asker(&store).await;
        assert!(asker.may("n1", "get", ("", "nodes"), ("", "n1")).await);
        assert!(!asker.may("n1", "get", ("", "nodes"), ("", "n2")).await);
        assert!(!asker.may("n1", "list", ("", "nodes"), ("", "")).await);
        assert!(!asker.may("n1", "delete", ("", "nodes"), ("", "n1")).await);
        let leases = ("coordination.k8s.io", "leases");
        assert!(asker.may("n1", "update", leases, (LEASES, "n1")).await);
        assert!(!asker.may("n1", "update", leases, (LEASES, "n2")).await);
        assert!(!asker.may("n1", "update", leases, ("default", "n1")).await);
        let slices = ("resource.k8s.io", "resourceslices");
        assert!(asker.may("n1", "delete", slices, ("", "s")).await);
        assert!(!asker.may("n2", "delete", slices, ("", "s")).await);
        assert!(asker.may("n1", "list", ("", "services"), ("", "")).await);
        assert!(!asker.may("n1", "list", ("", "endpointslices"), ("", "")).await);
    }

    #[tokio::test]
    async fn who_is_in_the_group_alone_is_no_node() {
        let store = Arc::new(MemoryStore::default());
        let asker = asker(&store).await;
        assert_eq!(node_of(&UserInfo::new("eve", &["system:nodes"])), None);
        assert_eq!(node_of(&UserInfo::new("system:node:n1", &[])), None);
        assert!(!asker.may("", "list", ("", "services"), ("", "")).await);
    }
}

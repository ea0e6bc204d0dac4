//! The objects of the cluster that follow from an operator's webhooks: configurations, the Service, the Secret, and what
//! cert-manager needs where it is used. Values in, JSON out.

use serde_json::{Value, json};

use super::certificates::{Certificates, Source};
use super::names::{Names, PORT_NAME, SERVICE_PORT};
use super::{FailurePolicy, SideEffects, Webhook};

impl Webhook {
    /// The entry in a configuration.
    pub(super) fn entry(&self, names: &Names) -> Value {
        let operations: Vec<&str> = self.operations.iter().map(|operation| operation.as_str()).collect();
        let mut entry = json!({
            "name": self.full_name(names),
            "clientConfig": {"service": {
                "name": names.service(), "namespace": names.namespace, "path": self.served_at(), "port": SERVICE_PORT,
            }},
            "rules": [{
                "apiGroups": [self.kind.group],
                "apiVersions": [self.kind.version],
                "operations": operations,
                "resources": self.resources,
                "scope": if self.kind.namespaced { "Namespaced" } else { "Cluster" },
            }],
            "failurePolicy": match self.failure_policy {
                FailurePolicy::Fail => "Fail",
                FailurePolicy::Ignore => "Ignore",
            },
            "sideEffects": match self.side_effects {
                SideEffects::None => "None",
                SideEffects::NoneOnDryRun => "NoneOnDryRun",
            },
            "matchPolicy": "Equivalent",
            "timeoutSeconds": self.timeout,
            "admissionReviewVersions": ["v1"],
        });
        match &self.namespaces {
            Some(selector) => entry["namespaceSelector"] = json!(selector),
            None if self.kind.namespaced && is_built_in(&self.kind.group) => {
                entry["namespaceSelector"] = json!({"matchExpressions": [{
                    "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [names.namespace],
                }]});
            }
            None => {}
        }
        if let Some(selector) = &self.objects {
            entry["objectSelector"] = json!(selector);
        }
        if self.mutating {
            entry["reinvocationPolicy"] = if self.reinvoke { "IfNeeded" } else { "Never" }.into();
        }
        entry
    }

    fn full_name(&self, names: &Names) -> String {
        self.name.clone().unwrap_or_else(|| {
            let verb = if self.mutating { "mutate" } else { "validate" };
            let group =
                if self.kind.group.is_empty() { String::new() } else { format!(".{}", self.kind.group) };
            format!("{verb}.{}{group}.{}", self.kind.plural, names.operator)
        })
    }
}

/// Whether a group is Kubernetes' own: those of custom kinds have a domain that isn't.
fn is_built_in(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

/// The configurations of all webhooks: a validating and a mutating one, where there are any.
pub(super) fn configurations(hooks: &[Webhook], names: &Names, certificates: &Certificates) -> Vec<Value> {
    let mut objects = Vec::new();
    for (mutating, kind) in
        [(true, "MutatingWebhookConfiguration"), (false, "ValidatingWebhookConfiguration")]
    {
        let entries: Vec<Value> =
            hooks.iter().filter(|hook| hook.mutating == mutating).map(|hook| hook.entry(names)).collect();
        if entries.is_empty() {
            continue;
        }
        let mut object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": names.operator}, "webhooks": entries,
        });
        if let Some((key, value)) = annotation(certificates, names) {
            object["metadata"]["annotations"] = json!({key: value});
        }
        objects.push(object);
    }
    objects
}

/// What tells cert-manager to fill in the authorities.
pub(super) fn annotation(certificates: &Certificates, names: &Names) -> Option<(&'static str, String)> {
    match certificates.source {
        Source::CertManager { .. } => {
            Some(("cert-manager.io/inject-ca-from", format!("{}/{}", names.namespace, names.service())))
        }
        _ => None,
    }
}

/// The Service, and where the certificates are kept.
pub(super) fn service(names: &Names, certificates: &Certificates, port: u16) -> Vec<Value> {
    let metadata = |name: String| json!({"name": name, "namespace": names.namespace});
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(names.service()),
        "spec": {
            "selector": {"app.kubernetes.io/name": names.operator},
            "ports": [{"name": PORT_NAME, "port": SERVICE_PORT, "targetPort": port, "protocol": "TCP"}],
        },
    })];
    match &certificates.source {
        // Empty: who applies this again leaves what the operator has put into it.
        Source::Own { .. } => objects.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata(names.secret()), "type": "Opaque",
        })),
        Source::Files { .. } => {}
        Source::CertManager { issuer, .. } => {
            let issuer_name = issuer.clone().unwrap_or_else(|| names.service());
            let issuer_kind = if issuer.is_some() { "ClusterIssuer" } else { "Issuer" };
            if issuer.is_none() {
                objects.push(json!({
                    "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": metadata(names.service()),
                    "spec": {"selfSigned": {}},
                }));
            }
            objects.push(json!({
                "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": metadata(names.service()),
                "spec": {
                    "dnsNames": names.dns(),
                    "issuerRef": {"kind": issuer_kind, "name": issuer_name},
                    "secretName": names.secret(),
                },
            }));
        }
    }
    objects
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use k8s_openapi::api::core::v1::{Namespace, Pod};

    use super::*;
    use crate::Result;
    use crate::kind::{Kind, Object};
    use crate::webhook::{Admission, Handler, Operation, Verdict};

    struct Agrees;

    impl Handler for Agrees {
        async fn handle(&self, _: &Admission) -> Result<Verdict> {
            Ok(Verdict::allow())
        }
    }

    fn validating<K: Object>() -> Webhook {
        Webhook::validating_raw(&Kind::of::<K>(), Agrees)
    }

    fn names() -> Names {
        Names::new("op", "op-system")
    }

    #[test]
    fn an_entry_follows_from_what_is_registered() {
        let entry = validating::<Pod>().subresource("ephemeralcontainers").entry(&names());
        assert_eq!(entry["name"], "validate.pods.op");
        let service =
            json!({"name": "op-webhook", "namespace": "op-system", "path": "/validate--v1-pod", "port": 443});
        assert_eq!(entry["clientConfig"]["service"], service);
        assert_eq!(
            entry["rules"],
            json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["pods", "pods/ephemeralcontainers"], "scope": "Namespaced"}])
        );
        let values = &entry["namespaceSelector"]["matchExpressions"][0]["values"];
        assert_eq!(values, &json!(["op-system"]), "its own pods must be able to start");
        let entry = validating::<Namespace>()
            .operations([Operation::Delete])
            .failure_policy(FailurePolicy::Ignore)
            .timeout_seconds(99)
            .entry(&names());
        assert_eq!(entry["rules"][0]["scope"], "Cluster");
        assert_eq!((&entry["failurePolicy"], &entry["timeoutSeconds"]), (&json!("Ignore"), &json!(30)));
        assert!(entry.get("namespaceSelector").is_none());
    }

    #[test]
    fn there_is_one_configuration_of_each_sort_that_is_needed() {
        let mutating = Webhook::mutating_raw(&Kind::of::<Pod>(), Agrees).reinvoke_if_needed();
        let objects = configurations(&[validating::<Pod>(), mutating], &names(), &Certificates::own());
        let kinds: Vec<&Value> = objects.iter().map(|object| &object["kind"]).collect();
        assert_eq!(kinds, ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]);
        assert_eq!(objects[0]["webhooks"][0]["reinvocationPolicy"], "IfNeeded");
        assert_eq!(configurations(&[validating::<Pod>()], &names(), &Certificates::own()).len(), 1);
    }

    #[test]
    fn the_source_of_certificates_decides_what_stands_beside_the_service() {
        let kinds = |certificates: &Certificates| {
            let objects = service(&names(), certificates, 9443);
            objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&Certificates::own()), ["Service", "Secret"]);
        assert_eq!(kinds(&Certificates::files(PathBuf::from("/x"))), ["Service"]);
        assert_eq!(kinds(&Certificates::cert_manager()), ["Service", "Issuer", "Certificate"]);
        assert_eq!(kinds(&Certificates::cert_manager().issuer("company")), ["Service", "Certificate"]);
        let annotated = configurations(&[validating::<Pod>()], &names(), &Certificates::cert_manager());
        let annotations = &annotated[0]["metadata"]["annotations"];
        assert_eq!(annotations, &json!({"cert-manager.io/inject-ca-from": "op-system/op-webhook"}));
    }
}

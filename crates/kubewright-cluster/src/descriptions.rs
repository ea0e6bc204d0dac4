//! What the types of Kubernetes and their fields are for, as the k8s-openapi crate documents them: `kubectl explain`
//! prints it.
//!
//! The words stay in that crate. They are asked for when a document is rendered, and nothing of them is kept here.

use k8s_openapi::api::admissionregistration::v1 as admissionregistration;
use k8s_openapi::api::autoscaling::{v1 as autoscaling_v1, v2 as autoscaling_v2};
use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    batch::v1 as batch, certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, flowcontrol::v1 as flowcontrol,
    networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac,
    resource::v1 as resource, scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use k8s_openapi::schemars::SchemaGenerator;
use kubewright_apiserver::openapi::Descriptions;
use serde_json::{Map, Value};

/// The documentation of the k8s-openapi crate, in the version that the program selects.
pub(crate) struct Documented;

impl Descriptions for Documented {
    fn schemas(&self, group: &str, version: &str) -> Map<String, Value> {
        let mut generator = SchemaGenerator::default();
        let g = &mut generator;
        /// Adds types and all they refer to.
        macro_rules! add {
            ($($module:ident: $($kind:ident),+;)+) => {{ $($(g.subschema_for::<$module::$kind>();)+)+ }};
        }
        add! { meta: DeleteOptions, Status; }
        match (group, version) {
            ("", "v1") => add! {
                core: Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
                    PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota,
                    Secret, Service, ServiceAccount;
                authentication: TokenRequest;
                autoscaling_v1: Scale;
                policy: Eviction;
            },
            ("admissionregistration.k8s.io", "v1") => add! {
                admissionregistration: MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
                    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
                    ValidatingWebhookConfiguration;
            },
            ("apiextensions.k8s.io", "v1") => add! { apiextensions: CustomResourceDefinition; },
            ("apiregistration.k8s.io", "v1") => add! { apiregistration: APIService; },
            ("apps", "v1") => add! {
                apps: ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet;
                autoscaling_v1: Scale;
            },
            ("authentication.k8s.io", "v1") => add! { authentication: SelfSubjectReview, TokenReview; },
            ("authorization.k8s.io", "v1") => add! {
                authorization: LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
                    SubjectAccessReview;
            },
            ("autoscaling", "v1") => add! { autoscaling_v1: HorizontalPodAutoscaler; },
            ("autoscaling", "v2") => add! { autoscaling_v2: HorizontalPodAutoscaler; },
            ("batch", "v1") => add! { batch: CronJob, Job; },
            ("certificates.k8s.io", "v1") => add! { certificates: CertificateSigningRequest; },
            ("coordination.k8s.io", "v1") => add! { coordination: Lease; },
            ("discovery.k8s.io", "v1") => add! { discovery: EndpointSlice; },
            ("events.k8s.io", "v1") => add! { events: Event; },
            ("flowcontrol.apiserver.k8s.io", "v1") => add! {
                flowcontrol: FlowSchema, PriorityLevelConfiguration;
            },
            ("networking.k8s.io", "v1") => add! {
                networking: IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR;
            },
            ("node.k8s.io", "v1") => add! { node: RuntimeClass; },
            ("policy", "v1") => add! { policy: PodDisruptionBudget; },
            ("rbac.authorization.k8s.io", "v1") => add! {
                rbac: ClusterRole, ClusterRoleBinding, Role, RoleBinding;
            },
            ("resource.k8s.io", "v1") => add! {
                resource: DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
            },
            ("scheduling.k8s.io", "v1") => add! { scheduling: PriorityClass; },
            ("storage.k8s.io", "v1") => add! {
                storage: CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
                    VolumeAttributesClass;
            },
            _ => {}
        }
        generator.take_definitions(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubewright_kinds::Options;

    #[test]
    fn every_built_in_kind_and_its_fields_are_described() {
        let options = Options::new("10.0.0.0/24".parse().expect("a range"));
        for resource in kubewright_kinds::resources(&options) {
            let schemas = Documented.schemas(&resource.group, &resource.version);
            let name = resource.schema.name.as_deref().expect("a built-in type has a name");
            let about = schemas.get(name).unwrap_or_else(|| panic!("nothing is said of {name}"));
            assert!(about["description"].is_string(), "{name}: {about}");
            // What every object has is not described by every kind.
            for field in resource.schema.properties.keys().filter(|field| &***field != "metadata") {
                assert!(about["properties"][&**field]["description"].is_string(), "{name}.{field}");
            }
        }
    }
}

//! What a pod or a volume refers to: the objects that whoever runs it has to read.
//!
//! Pure: an object comes in, names come out, possibly more than once.

use serde_json::Value;

use crate::fields::{items, text};

/// What a pod refers to in its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// Secrets.
    pub secrets: Vec<Box<str>>,
    /// ConfigMaps.
    pub config_maps: Vec<Box<str>>,
    /// PersistentVolumeClaims.
    pub claims: Vec<Box<str>>,
    /// ResourceClaims.
    pub resource_claims: Vec<Box<str>>,
}

/// Volume sources that name a Secret by `secretRef`.
const BY_REFERENCE: [&str; 7] = ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"];

/// What a pod refers to.
pub(crate) fn of_pod(pod: &Value) -> References {
    let mut found = References::default();
    let spec = &pod["spec"];
    let add = |list: &mut Vec<Box<str>>, name: &str| {
        if !name.is_empty() {
            list.push(name.into());
        }
    };
    for secret in items(spec, &["imagePullSecrets"]) {
        add(&mut found.secrets, text(secret, &["name"]));
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    for container in containers.into_iter().flat_map(|list| items(spec, &[list])) {
        for source in items(container, &["envFrom"]) {
            add(&mut found.secrets, text(source, &["secretRef", "name"]));
            add(&mut found.config_maps, text(source, &["configMapRef", "name"]));
        }
        for variable in items(container, &["env"]) {
            add(&mut found.secrets, text(variable, &["valueFrom", "secretKeyRef", "name"]));
            add(&mut found.config_maps, text(variable, &["valueFrom", "configMapKeyRef", "name"]));
        }
    }
    for volume in items(spec, &["volumes"]) {
        add(&mut found.secrets, text(volume, &["secret", "secretName"]));
        add(&mut found.secrets, text(volume, &["azureFile", "secretName"]));
        add(&mut found.secrets, text(volume, &["csi", "nodePublishSecretRef", "name"]));
        for source in BY_REFERENCE {
            add(&mut found.secrets, text(volume, &[source, "secretRef", "name"]));
        }
        add(&mut found.config_maps, text(volume, &["configMap", "name"]));
        for source in items(volume, &["projected", "sources"]) {
            add(&mut found.secrets, text(source, &["secret", "name"]));
            add(&mut found.config_maps, text(source, &["configMap", "name"]));
        }
        add(&mut found.claims, text(volume, &["persistentVolumeClaim", "claimName"]));
        if !volume["ephemeral"].is_null() {
            let claim = format!("{}-{}", text(pod, &["metadata", "name"]), text(volume, &["name"]));
            found.claims.push(claim.into());
        }
    }
    for claim in items(spec, &["resourceClaims"]) {
        add(&mut found.resource_claims, text(claim, &["resourceClaimName"]));
    }
    for claim in items(pod, &["status", "resourceClaimStatuses"]) {
        add(&mut found.resource_claims, text(claim, &["resourceClaimName"]));
    }
    add(
        &mut found.resource_claims,
        text(pod, &["status", "extendedResourceClaimStatus", "resourceClaimName"]),
    );
    found
}

/// The Secrets that a kubelet needs for a persistent volume: namespace and name.
pub(crate) fn secrets_of_volume(volume: &Value) -> Vec<(Box<str>, Box<str>)> {
    let spec = &volume["spec"];
    let own = text(spec, &["claimRef", "namespace"]);
    let mut found = Vec::new();
    let mut add = |namespace: &str, name: &str| {
        if !name.is_empty() {
            found.push((if namespace.is_empty() { own } else { namespace }.into(), name.into()));
        }
    };
    add(text(spec, &["azureFile", "secretNamespace"]), text(spec, &["azureFile", "secretName"]));
    for source in BY_REFERENCE {
        let at = |field: &str| text(spec, &[source, "secretRef", field]);
        add(at("namespace"), at("name"));
    }
    for reference in ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"] {
        let at = |field: &str| text(spec, &["csi", reference, field]);
        add(at("namespace"), at("name"));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_of_naming_an_object_is_found() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "imagePullSecrets": [{"name": "s1"}],
                "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s2"}}}]}],
                "containers": [{
                    "envFrom": [{"secretRef": {"name": "s3"}}, {"configMapRef": {"name": "c1"}}],
                    "env": [{"valueFrom": {"configMapKeyRef": {"name": "c2"}}}, {"value": "x"}],
                }],
                "volumes": [
                    {"secret": {"secretName": "s4"}}, {"configMap": {"name": "c3"}},
                    {"projected": {"sources": [{"secret": {"name": "s5"}}, {"configMap": {"name": "c4"}}]}},
                    {"csi": {"nodePublishSecretRef": {"name": "s6"}}}, {"rbd": {"secretRef": {"name": "s7"}}},
                    {"persistentVolumeClaim": {"claimName": "v1"}}, {"name": "tmp", "ephemeral": {}},
                ],
                "resourceClaims": [{"name": "a", "resourceClaimName": "r1"}],
            },
            "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "r2"}]},
        });
        let found = of_pod(&pod);
        let names = |list: &[Box<str>]| list.join(" ");
        assert_eq!(names(&found.secrets), "s1 s2 s3 s4 s5 s6 s7");
        assert_eq!(names(&found.config_maps), "c1 c2 c3 c4");
        assert_eq!(names(&found.claims), "v1 p-tmp");
        assert_eq!(names(&found.resource_claims), "r1 r2");
    }

    #[test]
    fn a_volume_names_secrets_in_its_claims_namespace_or_in_its_own() {
        let volume = json!({"spec": {
            "claimRef": {"namespace": "team"},
            "csi": {"nodeStageSecretRef": {"name": "a", "namespace": "other"}, "controllerPublishSecretRef": {"name": "b"}},
            "azureFile": {"secretName": "c"},
        }});
        let found = secrets_of_volume(&volume);
        assert_eq!(found, [("team".into(), "c".into()), ("other".into(), "a".into())]);
    }
}

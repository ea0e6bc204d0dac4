//! Which ReplicaSet is of which template, and how revisions are numbered.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Annotations;

/// The label that tells the pods of one set from those of another.
pub const HASH: &str = "pod-template-hash";
/// The annotation that numbers the sets of a deployment.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// What is the deployment's own and not passed on to its sets.
const NOT_INHERITED: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", REVISION];

/// A short name for a template: the same for the same template, in letters that form no words.
pub fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = serde_json::to_string(template).unwrap_or_default();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes().chain(collisions.to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (0..10)
        .map(|_| {
            let letter = LETTERS[(hash % 27) as usize];
            hash /= 27;
            char::from(letter)
        })
        .collect()
}

/// Whether a set is of the present template: the same but for the label that tells sets apart.
pub fn is_of(set: &ReplicaSet, spec: &DeploymentSpec) -> bool {
    let Some(mut template) = set.spec.as_ref().and_then(|spec| spec.template.clone()) else { return false };
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH);
    }
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        // No metadata, no labels and empty labels are the same.
        let meta = template.metadata.get_or_insert_default();
        if meta.labels.as_ref().is_some_and(|labels| labels.is_empty()) {
            meta.labels = None;
        }
        template
    };
    bare(&template) == bare(&spec.template)
}

/// The revision in the annotations; 0 where there is none.
pub fn of(meta: &ObjectMeta) -> i64 {
    meta.annotations.as_ref().and_then(|all| all.get(REVISION)?.parse().ok()).unwrap_or(0)
}

/// The highest revision of some sets.
pub fn highest(sets: &[Arc<ReplicaSet>]) -> i64 {
    sets.iter().map(|set| of(&set.metadata)).max().unwrap_or(0)
}

/// The annotations that a deployment passes on.
pub fn inherited(deployment: &Deployment) -> Annotations {
    let own = deployment.metadata.annotations.clone().unwrap_or_default();
    own.into_iter().filter(|(name, _)| !NOT_INHERITED.contains(&name.as_str())).collect()
}

/// Those of them that a set lacks or has otherwise: what the deployment got after the set, such as the cause of a
/// change. What the deployment lost stays with the set.
pub fn not_yet_inherited(deployment: &Deployment, set: &ReplicaSet) -> Annotations {
    let there = set.metadata.annotations.as_ref();
    let mut missing = inherited(deployment);
    missing.retain(|name, value| there.and_then(|there| there.get(name)) != Some(&*value));
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}))
            .unwrap()
    }

    #[test]
    fn the_hash_depends_on_the_template_and_on_collisions() {
        assert_eq!(hash(&template("a"), 0), hash(&template("a"), 0));
        assert_ne!(hash(&template("a"), 0), hash(&template("b"), 0));
        assert_ne!(hash(&template("a"), 0), hash(&template("a"), 1));
    }

    #[test]
    fn a_set_gets_what_its_deployment_is_annotated_with_later() {
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {"annotations":
            {"cause": "new", "same": "1", REVISION: "2", NOT_INHERITED[0]: "{}"}}}))
        .unwrap();
        let set: ReplicaSet = serde_json::from_value(
            json!({"metadata": {"annotations": {"cause": "old", "same": "1", "own": "2"}}}),
        )
        .unwrap();
        assert_eq!(not_yet_inherited(&deployment, &set), [("cause".to_owned(), "new".to_owned())].into());
    }

    #[test]
    fn a_set_is_of_its_template_whatever_its_hash() {
        let spec = DeploymentSpec { template: template("a"), ..DeploymentSpec::default() };
        let mut own = template("a");
        own.metadata.as_mut().unwrap().labels.as_mut().unwrap().insert(HASH.into(), "x".into());
        let set: ReplicaSet =
            serde_json::from_value(json!({"spec": {"selector": {}, "template": own}})).unwrap();
        assert!(is_of(&set, &spec));
        assert!(!is_of(&set, &DeploymentSpec { template: template("b"), ..DeploymentSpec::default() }));
    }
}

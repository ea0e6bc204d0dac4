//! The Deployment that runs an operator from an image: what its process needs of the kubelet, said once.

use std::time::Duration;

use serde_json::{Value, json};

use super::manifests::{METRICS_PORT, yaml};
use crate::Result;
use crate::manager::STOPPING;
use crate::webhook::names::Names;

/// Where health is served by convention (kubebuilder's).
const HEALTH_PORT: u16 = 8081;
const WEBHOOK_PORT: u16 = 9443;

/// A Secret and the folder where its files have to be.
pub(crate) type Mount = (String, String);

/// The Deployment. `webhooks` says whether there are any, and what their certificates need to be mounted.
pub(super) fn print(
    names: &Names,
    image: &str,
    watched: &[&str],
    grace: Duration,
    webhooks: Option<Option<Mount>>,
) -> Result<String> {
    let labels = json!({"app.kubernetes.io/name": names.operator});
    let mut arguments = vec![
        "run".to_owned(),
        "--leader-elect".into(),
        format!("--metrics-address=:{METRICS_PORT}"),
        format!("--health-address=:{HEALTH_PORT}"),
    ];
    if !watched.is_empty() {
        arguments.push(format!("--namespace={}", watched.join(",")));
    }
    let mut ports = vec![port("https", METRICS_PORT), port("health", HEALTH_PORT)];
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    if let Some(certificates) = webhooks {
        ports.push(port("webhook", WEBHOOK_PORT));
        if let Some((secret, folder)) = certificates {
            volumes.push(json!({"name": "webhook-certificates", "secret": {"secretName": secret}}));
            mounts.push(json!({"name": "webhook-certificates", "mountPath": folder, "readOnly": true}));
        }
    }
    let probe = |path: &str, period: u32| json!({"httpGet": {"path": path, "port": "health"}, "periodSeconds": period});
    let mut container = json!({
        "name": "operator",
        "image": image,
        "args": arguments,
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "ports": ports,
        "livenessProbe": probe("/healthz", 20),
        "readinessProbe": probe("/readyz", 10),
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
    });
    let mut pod = json!({
        "serviceAccountName": names.operator,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        // The kubelet kills what has not ended by then.
        "terminationGracePeriodSeconds": (grace + STOPPING).as_secs() + 1,
    });
    if !volumes.is_empty() {
        container["volumeMounts"] = Value::Array(mounts);
        pod["volumes"] = Value::Array(volumes);
    }
    pod["containers"] = json!([container]);
    yaml(&[json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": names.operator, "namespace": names.namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })])
}

fn port(name: &str, number: u16) -> Value {
    json!({"name": name, "containerPort": number, "protocol": "TCP"})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(webhooks: Option<Option<Mount>>) -> Value {
        let names = Names::new("op", "op-system");
        let text =
            print(&names, "example.com/op:1", &["team", "other"], Duration::from_secs(30), webhooks).unwrap();
        serde_saphyr::from_str(text.trim_start_matches("---\n")).unwrap()
    }

    #[test]
    fn the_kubelet_waits_longer_than_stopping_may_take() {
        let pod = printed(None)["spec"]["template"]["spec"].clone();
        let seconds = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(Duration::from_secs(seconds) > Duration::from_secs(30) + STOPPING);
        assert_eq!(pod["containers"][0]["args"][4], "--namespace=team,other");
        assert_eq!(pod["containers"][0]["ports"].as_array().unwrap().len(), 2);
        assert!(pod.get("volumes").is_none());
    }

    #[test]
    fn certificates_of_others_are_mounted() {
        let pod = printed(Some(Some(("op-webhook-certificates".into(), "/certs".into()))));
        let pod = &pod["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"][0]["secret"]["secretName"], "op-webhook-certificates");
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/certs");
        assert_eq!(pod["containers"][0]["ports"][2]["containerPort"], 9443);
    }
}

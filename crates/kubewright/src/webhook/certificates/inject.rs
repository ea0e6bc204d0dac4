//! The bundle of trusted authorities, put where API servers read it: into configurations of webhooks and into the
//! conversion of definitions. Only entries that call this operator's own Service are touched, under optimistic
//! concurrency; everything else of the objects stays as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use serde_json::Value;

use super::super::names::Names;
use crate::client::{Permit, Verb};

/// An object that names this operator's Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Validating(String),
    Mutating(String),
    /// The conversion of a definition.
    Definition(String),
}

impl Target {
    fn resource(&self) -> (&'static str, &'static str) {
        match self {
            Target::Validating(_) => ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
            Target::Mutating(_) => ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
            Target::Definition(_) => ("apiextensions.k8s.io", "customresourcedefinitions"),
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Target::Validating(name) | Target::Mutating(name) | Target::Definition(name) => name,
        }
    }

    /// The path of its collection.
    pub(super) fn collection(&self) -> String {
        let (group, resource) = self.resource();
        format!("/apis/{group}/v1/{resource}")
    }

    /// What looking after it takes.
    pub(crate) fn permit(&self) -> Permit {
        let (group, resource) = self.resource();
        Permit::on_resource(group, resource, [Verb::Get, Verb::Watch, Verb::Update]).named([self.name()])
    }

    /// The `clientConfig`s in it that call the Service.
    fn clients<'a>(&self, object: &'a mut Value, names: &Names) -> Vec<&'a mut Value> {
        let ours = |client: &&mut Value| {
            let service = &client["service"];
            service["name"] == names.service() && service["namespace"] == *names.namespace
        };
        match self {
            Target::Validating(_) | Target::Mutating(_) => {
                let hooks = object["webhooks"].as_array_mut().into_iter().flatten();
                hooks.filter_map(|hook| hook.get_mut("clientConfig")).filter(ours).collect()
            }
            Target::Definition(_) => {
                let client = object.pointer_mut("/spec/conversion/webhook/clientConfig");
                client.into_iter().filter(ours).collect()
            }
        }
    }

    /// Sets the bundle; whether anything changed.
    fn set(&self, object: &mut Value, names: &Names, bundle: &str) -> bool {
        let bundle = STANDARD.encode(bundle);
        let mut changed = false;
        for client in self.clients(object, names) {
            if client["caBundle"] != *bundle {
                client["caBundle"] = bundle.clone().into();
                changed = true;
            }
        }
        changed
    }
}

/// Attempts at writing an object that others write too.
const ATTEMPTS: usize = 5;

/// Makes an object hold the bundle. An object that isn't there needs none: it is looked at again when it appears.
///
/// # Errors
/// When the object can't be read or written.
pub(super) async fn inject(
    client: &kube::Client,
    target: &Target,
    names: &Names,
    bundle: &str,
) -> Result<(), kube::Error> {
    let path = format!("{}/{}", target.collection(), target.name());
    let mut attempt = 1;
    loop {
        let get = Request::get(&path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let mut object: Value = match client.request(get).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                tracing::debug!(path, "there is nothing to put the authorities into");
                return Ok(());
            }
            other => other?,
        };
        if !target.set(&mut object, names, bundle) {
            return Ok(());
        }
        let put = Request::put(&path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(object.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        match client.request::<Value>(put).await {
            Ok(_) => {
                tracing::info!(path, "has the authorities to trust");
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        Names::new("op", "op-system")
    }

    #[test]
    fn only_entries_that_call_the_own_service_get_the_bundle() {
        let client = |name: &str, namespace: &str| json!({"clientConfig": {"service": {"name": name, "namespace": namespace}}});
        let mut object = json!({"webhooks": [
            client("op-webhook", "op-system"),
            client("op-webhook", "elsewhere"),
            {"clientConfig": {"url": "https://example.com"}},
        ]});
        let target = Target::Validating("op".into());
        assert!(target.set(&mut object, &names(), "pem"));
        let bundles: Vec<&Value> =
            (0..3).map(|i| &object["webhooks"][i]["clientConfig"]["caBundle"]).collect();
        assert_eq!(bundles, [&json!(STANDARD.encode("pem")), &Value::Null, &Value::Null]);
        assert!(!target.set(&mut object, &names(), "pem"));
        assert!(target.set(&mut object, &names(), "another"));
    }

    #[test]
    fn the_conversion_of_a_definition_gets_it_too() {
        let mut object = json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": {
            "clientConfig": {"service": {"name": "op-webhook", "namespace": "op-system"}}}}}});
        let target = Target::Definition("widgets.example.com".into());
        assert!(target.set(&mut object, &names(), "pem"));
        assert!(!target.set(&mut json!({"spec": {}}), &names(), "pem"));
        assert!(!target.set(&mut Value::Null, &names(), "pem"));
    }
}

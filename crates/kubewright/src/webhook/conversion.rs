//! Conversion of custom resources between versions through a hub: each version converts to the hub and back with `From`
//! or `TryFrom`, and what leads from one to another follows. Objects flow in and out as JSON; their metadata stays.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, ServiceReference, WebhookClientConfig,
    WebhookConversion,
};
use kube::CustomResourceExt;
use kube::core::crd::merge_crds;
use serde::Deserialize;
use serde_json::{Value, json};

use super::names::Names;
use super::review::Review;
use crate::kind::{Kind, Object};
use crate::{Error, Result};

/// Where conversions are asked for.
pub(super) const PATH: &str = "/convert";

type ToHub<H> = Box<dyn Fn(Value) -> Result<H, String> + Send + Sync>;
type FromHub<H> = Box<dyn Fn(H) -> Result<Value, String> + Send + Sync>;

/// The versions of a custom kind, and the hub that all of them convert to and from.
///
/// ```no_run
/// # mod v1 {
/// #     #[derive(kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug)]
/// #     #[kube(group = "example.com", version = "v1", kind = "Widget", namespaced)]
/// #     pub struct WidgetSpec { pub size: u32 }
/// # }
/// # mod v2 {
/// #     #[derive(kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug)]
/// #     #[kube(group = "example.com", version = "v2", kind = "Widget", namespaced)]
/// #     pub struct WidgetSpec { pub sizes: Vec<u32> }
/// # }
/// use kubewright::Operator;
/// use kubewright::webhook::Conversion;
///
/// impl From<v1::Widget> for v2::Widget {
///     fn from(old: v1::Widget) -> v2::Widget {
///         v2::Widget::new("", v2::WidgetSpec { sizes: vec![old.spec.size] })
///     }
/// }
///
/// impl TryFrom<v2::Widget> for v1::Widget {
///     type Error = &'static str;
///
///     fn try_from(new: v2::Widget) -> Result<v1::Widget, &'static str> {
///         let [size] = new.spec.sizes[..] else { return Err("only one size can be told in v1") };
///         Ok(v1::Widget::new("", v1::WidgetSpec { size }))
///     }
/// }
///
/// let operator = Operator::new("widgets")
///     .conversion(Conversion::through::<v2::Widget>().version::<v1::Widget>());
/// # drop(operator);
/// ```
///
/// Metadata need not be converted: an object keeps its own. Labels and annotations that a conversion sets are added.
pub struct Conversion<H> {
    hub: Kind,
    stored: String,
    definitions: Vec<CustomResourceDefinition>,
    versions: BTreeMap<String, (ToHub<H>, FromHub<H>)>,
}

impl Conversion<()> {
    /// All versions convert to and from this one, which is also the one that is stored.
    pub fn through<H: Object + CustomResourceExt>() -> Conversion<H> {
        let hub = Kind::of::<H>();
        let to: ToHub<H> = Box::new(decode::<H>);
        let from: FromHub<H> = Box::new(|hub| encode(&hub));
        Conversion {
            stored: hub.version.clone(),
            definitions: vec![H::crd()],
            versions: BTreeMap::from([(hub.api_version(), (to, from))]),
            hub,
        }
    }
}

impl<H: Object + CustomResourceExt> Conversion<H> {
    /// Another version of the kind.
    #[must_use]
    pub fn version<V>(mut self) -> Conversion<H>
    where
        V: Object + CustomResourceExt + TryInto<H> + TryFrom<H>,
        <V as TryInto<H>>::Error: Display,
        <V as TryFrom<H>>::Error: Display,
    {
        let to: ToHub<H> =
            Box::new(|object| decode::<V>(object)?.try_into().map_err(|error| error.to_string()));
        let from: FromHub<H> = Box::new(|hub| encode(&V::try_from(hub).map_err(|error| error.to_string())?));
        self.versions.insert(Kind::of::<V>().api_version(), (to, from));
        self.definitions.push(V::crd());
        self
    }

    /// Stores objects in another version than the hub.
    #[must_use]
    pub fn stored(mut self, version: &str) -> Conversion<H> {
        self.stored = version.into();
        self
    }
}

impl<H> fmt::Debug for Conversion<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversion({} through {})", self.hub, self.hub.version)
    }
}

fn decode<K: Object>(object: Value) -> Result<K, String> {
    serde_json::from_value(object).map_err(|error| error.to_string())
}

fn encode<K: Object>(object: &K) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| error.to_string())
}

/// A conversion without its types.
pub(crate) trait Converts: Send + Sync {
    /// Group and kind whose objects it converts.
    fn kind(&self) -> &Kind;

    /// The definition with all versions, which sends the API server here to convert.
    fn definition(&self, names: &Names) -> Result<CustomResourceDefinition>;

    /// Converts one object.
    fn convert(&self, object: Value, desired: &str) -> Result<Value, String>;
}

impl<H: Object> Converts for Conversion<H> {
    fn kind(&self) -> &Kind {
        &self.hub
    }

    fn definition(&self, names: &Names) -> Result<CustomResourceDefinition> {
        let mut merged = merge_crds(self.definitions.clone(), &self.stored).map_err(|error| {
            Error::Usage(format!("the versions of {} don't fit together: {error}", self.hub))
        })?;
        merged.spec.conversion = Some(CustomResourceConversion {
            strategy: "Webhook".into(),
            webhook: Some(WebhookConversion {
                client_config: Some(WebhookClientConfig {
                    service: Some(ServiceReference {
                        name: names.service(),
                        namespace: names.namespace.clone(),
                        path: Some(PATH.into()),
                        port: Some(super::names::SERVICE_PORT.into()),
                    }),
                    ..WebhookClientConfig::default()
                }),
                conversion_review_versions: vec!["v1".into()],
            }),
        });
        Ok(merged)
    }

    fn convert(&self, object: Value, desired: &str) -> Result<Value, String> {
        let found = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        if found == desired {
            return Ok(object);
        }
        let versions = |version: &str| {
            self.versions.get(version).ok_or_else(|| format!("{} has no version {version}", self.hub))
        };
        let ((to_hub, _), (_, from_hub)) = (versions(&found)?, versions(desired)?);
        let metadata = object["metadata"].clone();
        let mut converted = from_hub(to_hub(object)?)?;
        converted["apiVersion"] = desired.into();
        converted["kind"] = self.hub.kind.clone().into();
        converted["metadata"] = keep(metadata, &converted["metadata"]);
        Ok(converted)
    }
}

/// The object's own metadata, with the labels and annotations of the converted one: all of them where the conversion
/// took the metadata over, else those that it set.
fn keep(mut own: Value, converted: &Value) -> Value {
    let taken_over = ["name", "generateName"]
        .iter()
        .any(|field| own[*field].as_str().is_some_and(|name| !name.is_empty() && converted[*field] == name));
    let Some(fields) = own.as_object_mut() else { return converted.clone() };
    for field in ["labels", "annotations"] {
        match (&converted[field], taken_over) {
            (Value::Object(set), true) => drop(fields.insert(field.into(), set.clone().into())),
            (_, true) => drop(fields.remove(field)),
            (Value::Object(set), false) if !set.is_empty() => {
                let kept = fields.entry(field).or_insert_with(|| json!({}));
                for (key, value) in set {
                    kept[key] = value.clone();
                }
            }
            (_, false) => {}
        }
    }
    own
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    #[serde(default)]
    objects: Vec<Value>,
}

/// The answer to a ConversionReview, and whether something panicked on the way. The first object that can't be
/// converted fails the whole review: there is no way to say less.
///
/// # Errors
/// When the body is no ConversionReview.
pub(super) fn review(conversions: &[Arc<dyn Converts>], body: &[u8]) -> Result<(Vec<u8>, bool), String> {
    let review: Review<Request> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let known = ["apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1beta1"];
    if review.kind != "ConversionReview" || !known.contains(&&*review.api_version) {
        return Err(format!("expected a ConversionReview, got {} of {:?}", review.kind, review.api_version));
    }
    let request = review.request.ok_or("the review has no request")?;
    let mut converted = Vec::with_capacity(request.objects.len());
    let mut failure = None;
    let mut panicked = false;
    for object in request.objects {
        let name = described(&object);
        match catch_unwind(AssertUnwindSafe(|| convert(conversions, object, &request.desired_api_version))) {
            Ok(Ok(object)) => converted.push(object),
            Ok(Err(error)) => failure = Some(format!("{name}: {error}")),
            Err(panic) => {
                panicked = true;
                let message = crate::controller::panic_message(&*panic);
                tracing::error!(object = name, message, "a conversion panicked");
                failure = Some(format!("{name}: the conversion panicked"));
            }
        }
        if failure.is_some() {
            break;
        }
    }
    let mut response = json!({"uid": request.uid, "result": {"status": "Success"}});
    match failure {
        Some(message) => response["result"] = json!({"status": "Failure", "message": message}),
        None => response["convertedObjects"] = converted.into(),
    }
    let answer = json!({"kind": "ConversionReview", "apiVersion": review.api_version, "response": response});
    Ok((answer.to_string().into_bytes(), panicked))
}

fn convert(conversions: &[Arc<dyn Converts>], object: Value, desired: &str) -> Result<Value, String> {
    let (group, _) = desired.rsplit_once('/').unwrap_or(("", desired));
    let kind = object["kind"].as_str().unwrap_or_default();
    let found = conversions.iter().find(|one| one.kind().group == group && one.kind().kind == kind);
    found.ok_or_else(|| format!("{kind} of group {group:?} is not converted here"))?.convert(object, desired)
}

fn described(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or("object");
    match text("namespace") {
        "" => format!("{kind} {}", text("name")),
        namespace => format!("{kind} {namespace}/{}", text("name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod v1 {
        #[derive(
            kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug,
        )]
        #[kube(group = "example.com", version = "v1", kind = "Widget", namespaced)]
        pub struct WidgetSpec {
            pub size: u32,
        }
    }
    mod v2 {
        #[derive(
            kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug,
        )]
        #[kube(group = "example.com", version = "v2", kind = "Widget", namespaced)]
        pub struct WidgetSpec {
            pub sizes: Vec<u32>,
        }
    }
    mod v3 {
        #[derive(
            kube::CustomResource, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Clone, Debug,
        )]
        #[kube(group = "example.com", version = "v3", kind = "Widget", namespaced)]
        pub struct WidgetSpec {
            pub largest: u32,
        }
    }

    impl From<v1::Widget> for v2::Widget {
        fn from(old: v1::Widget) -> v2::Widget {
            assert_ne!(old.spec.size, 13, "unlucky");
            v2::Widget::new("", v2::WidgetSpec { sizes: vec![old.spec.size] })
        }
    }

    impl TryFrom<v2::Widget> for v1::Widget {
        type Error = &'static str;

        fn try_from(new: v2::Widget) -> Result<v1::Widget, &'static str> {
            let [size] = new.spec.sizes[..] else { return Err("only one size can be told in v1") };
            Ok(v1::Widget::new("", v1::WidgetSpec { size }))
        }
    }

    impl From<v3::Widget> for v2::Widget {
        fn from(old: v3::Widget) -> v2::Widget {
            let mut new = v2::Widget::new("", v2::WidgetSpec { sizes: vec![old.spec.largest] });
            new.metadata = old.metadata;
            new.metadata.annotations = None;
            new
        }
    }

    impl From<v2::Widget> for v3::Widget {
        fn from(new: v2::Widget) -> v3::Widget {
            let largest = new.spec.sizes.iter().copied().max().unwrap_or_default();
            let mut old = v3::Widget::new("", v3::WidgetSpec { largest });
            old.metadata.annotations = Some([("sizes".to_owned(), format!("{:?}", new.spec.sizes))].into());
            old
        }
    }

    fn conversion() -> Conversion<v2::Widget> {
        Conversion::through().version::<v1::Widget>().version::<v3::Widget>()
    }

    fn widget(version: &str, spec: Value) -> Value {
        let metadata = json!({"name": "w", "namespace": "n", "uid": "u", "labels": {"a": "b"},
            "annotations": {"keep": "me"}, "managedFields": [{"manager": "m"}], "newer": true});
        json!({"kind": "Widget", "apiVersion": format!("example.com/{version}"), "metadata": metadata, "spec": spec})
    }

    fn asked(desired: &str, objects: Value) -> (Value, bool) {
        let body = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": "r", "desiredAPIVersion": format!("example.com/{desired}"), "objects": objects}});
        let conversions: [Arc<dyn Converts>; 1] = [Arc::new(conversion())];
        let (answer, panicked) = review(&conversions, body.to_string().as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"]["uid"], "r");
        (answer["response"].clone(), panicked)
    }

    #[test]
    fn versions_convert_through_the_hub_and_metadata_stays() {
        let (response, _) =
            asked("v2", json!([widget("v1", json!({"size": 1})), widget("v2", json!({"sizes": [4]}))]));
        assert_eq!(response["result"]["status"], "Success");
        let objects = &response["convertedObjects"];
        assert_eq!(objects[0], widget("v2", json!({"sizes": [1]})));
        assert_eq!(objects[1], widget("v2", json!({"sizes": [4]})));
        let (response, _) = asked("v3", json!([widget("v1", json!({"size": 7}))]));
        let object = &response["convertedObjects"][0];
        assert_eq!(
            (&object["apiVersion"], &object["spec"]),
            (&json!("example.com/v3"), &json!({"largest": 7}))
        );
        assert_eq!(object["metadata"]["annotations"], json!({"keep": "me", "sizes": "[7]"}));
    }

    #[test]
    fn a_conversion_that_takes_the_metadata_over_may_drop_annotations() {
        let (response, _) = asked("v2", json!([widget("v3", json!({"largest": 7}))]));
        let metadata = &response["convertedObjects"][0]["metadata"];
        assert_eq!((metadata.get("annotations"), &metadata["labels"]), (None, &json!({"a": "b"})));
        assert_eq!((&metadata["uid"], &metadata["newer"]), (&json!("u"), &json!(true)));
    }

    #[test]
    fn an_object_that_can_not_be_converted_fails_the_review_by_name() {
        let (response, panicked) =
            asked("v1", json!([widget("v2", json!({"sizes": [1]})), widget("v2", json!({"sizes": [1, 2]}))]));
        assert!(response.get("convertedObjects").is_none() && !panicked);
        let failure = json!({"status": "Failure", "message": "Widget n/w: only one size can be told in v1"});
        assert_eq!(response["result"], failure);
        let (response, _) = asked("v1", json!([widget("v2", json!({"sizes": "many"}))]));
        assert_eq!(response["result"]["status"], "Failure");
        let (response, _) = asked("v9", json!([widget("v2", json!({"sizes": [1]}))]));
        assert!(response["result"]["message"].as_str().unwrap().contains("no version example.com/v9"));
    }

    #[test]
    fn a_panic_fails_the_review_and_is_told() {
        let (response, panicked) = asked("v2", json!([widget("v1", json!({"size": 13}))]));
        assert!(panicked);
        assert_eq!(response["result"]["message"], "Widget n/w: the conversion panicked");
    }

    #[test]
    fn the_definition_has_all_versions_and_leads_here() {
        let definition = conversion().definition(&Names::new("op", "op-system")).unwrap();
        let versions: Vec<(&str, bool)> =
            definition.spec.versions.iter().map(|version| (&*version.name, version.storage)).collect();
        assert_eq!(versions, [("v2", true), ("v3", false), ("v1", false)]);
        let conversion = definition.spec.conversion.unwrap();
        let service = conversion.webhook.unwrap().client_config.unwrap().service.unwrap();
        assert_eq!((&*service.name, &*service.namespace), ("op-webhook", "op-system"));
    }

    #[test]
    fn what_is_no_review_is_refused() {
        assert!(review(&[], b"{}").is_err());
        assert!(review(&[], b"[").is_err());
    }
}

//! `serviceaccounts/token`: TokenRequest in, a signed token out.

use std::sync::Arc;

use jiff::SignedDuration;
use kubewright_machinery::field::{Error, Path, quote};
use kubewright_machinery::status::{Details, Status};
use kubewright_machinery::{meta, time};
use serde_json::{Value, json};

use super::issuer::{Binding, Grant, Issuer};
use crate::BoxFuture;
use crate::resources::{Action, Answer, WriteContext};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
/// How long a token is good when the request says nothing, in seconds.
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// Answers TokenRequests with the tokens of an issuer.
pub struct TokenRequests(pub Arc<Issuer>);

impl Action for TokenRequests {
    fn takes_any_name(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, cx: &'a WriteContext<'a>, body: Value) -> BoxFuture<'a, Result<Answer, Status>> {
        Box::pin(self.answer(cx, body))
    }
}

impl TokenRequests {
    async fn answer(&self, cx: &WriteContext<'_>, mut request: Value) -> Result<Answer, Status> {
        let own = meta::name(&request);
        if !own.is_empty() && own != cx.name {
            let path = Path::new("metadata");
            let error =
                Error::invalid(&path.child("name"), own, "must match the service account name if specified");
            return Err(Status::invalid(GROUP, KIND, cx.name, &[error]));
        }
        let account = object(cx, "serviceaccounts", cx.namespace, cx.name).await?;

        let spec = request["spec"].as_object().cloned().unwrap_or_default();
        let asked: Vec<String> = spec
            .get("audiences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect();
        let audiences = if asked.is_empty() { cx.core.config().api_audiences.clone() } else { asked };
        let seconds = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_SECONDS);
        validate(seconds)?;
        let reference = spec.get("boundObjectRef").cloned().unwrap_or(Value::Null);
        let binding = if reference.is_null() { Binding::default() } else { bind(cx, &reference).await? };

        let grant = Grant {
            namespace: cx.namespace,
            name: cx.name,
            uid: meta::uid(&account),
            audiences: &audiences,
            binding,
            now: cx.now,
            seconds,
            id: cx.core.uid(),
        };
        let token = self.0.issue(&grant).ok_or_else(|| Status::internal("failed to sign the token"))?;
        meta::set(&mut request, "name", cx.name);
        meta::set(&mut request, "namespace", cx.namespace);
        meta::set(&mut request, "creationTimestamp", time::format(cx.now));
        let end = cx.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(cx.now);
        request["spec"] =
            json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference});
        request["status"] = json!({"token": token, "expirationTimestamp": time::format(end)});
        Ok(Answer { code: 201, body: request })
    }
}

fn validate(seconds: i64) -> Result<(), Status> {
    let path = Path::new("spec");
    let wrong = |why: &str| {
        let error = Error::invalid(&path.child("expirationSeconds"), seconds, why);
        Err(Status::invalid(GROUP, KIND, "", &[error]))
    };
    match seconds {
        ..MIN_SECONDS => wrong("may not specify a duration less than 10 minutes"),
        MIN_SECONDS..=MAX_SECONDS => Ok(()),
        _ => wrong("may not specify a duration larger than 2^32 seconds"),
    }
}

/// What the token is bound to, with the uids that are there now.
async fn bind(cx: &WriteContext<'_>, reference: &Value) -> Result<Binding, Status> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
    let mut binding = Binding::default();
    let found = match (api_version, kind) {
        ("v1", "Pod") => {
            let pod = object(cx, "pods", cx.namespace, name).await?;
            let runs_as = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if runs_as != cx.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                    quote(cx.name)
                )));
            }
            if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                let there = cx.core.reader().get("", "nodes", "", node).await.map_err(Status::internal)?;
                let uid = there.map(|n| meta::uid(&n).to_string()).unwrap_or_default();
                binding.node = Some((node.to_string(), uid));
            }
            binding.pod = Some((name.to_string(), meta::uid(&pod).to_string()));
            pod
        }
        ("v1", "Secret") => {
            let secret = object(cx, "secrets", cx.namespace, name).await?;
            binding.secret = Some((name.to_string(), meta::uid(&secret).to_string()));
            secret
        }
        ("v1", "Node") => {
            let node = object(cx, "nodes", "", name).await?;
            binding.node = Some((name.to_string(), meta::uid(&node).to_string()));
            node
        }
        _ => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let what = format!("{group}/{version}, Kind={kind}");
            return Err(Status::bad_request(format!("cannot bind token to object of type {what}")));
        }
    };
    let uid = text("uid");
    if !uid.is_empty() && uid != meta::uid(&found) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        let details = Details { name: name.into(), kind: kind.into(), ..Details::default() };
        return Err(Status::conflict("", kind, name, why).with_details(details));
    }
    Ok(binding)
}

async fn object(
    cx: &WriteContext<'_>,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Arc<Value>, Status> {
    let found = cx.core.reader().get("", plural, namespace, name).await.map_err(Status::internal)?;
    found.ok_or_else(|| Status::not_found("", plural, name))
}

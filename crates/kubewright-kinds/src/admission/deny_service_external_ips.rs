//! DenyServiceExternalIPs: no new external addresses of services. Off by default.

use kubewright_apiserver::admission::{Admission, Attributes, Operation};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::status::Status;
use serde_json::Value;

use crate::fields::items;

/// The plugin `DenyServiceExternalIPs`.
pub struct DenyServiceExternalIps;

const ADDRESSES: &[&str] = &["spec", "externalIPs"];

fn adds(service: &Value, old: Option<&Value>) -> bool {
    let known = old.map_or(&[][..], |old| items(old, ADDRESSES));
    items(service, ADDRESSES).iter().any(|address| !known.contains(address))
}

impl Admission for DenyServiceExternalIps {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let refused = attributes.is("", "services")
            && attributes.object.as_ref().is_some_and(|service| adds(service, attributes.old.as_deref()));
        ready(match refused {
            true => Err(attributes.forbidden("Use of external IPs is denied by admission control")),
            false => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_that_were_there_may_stay() {
        let with = |list: Value| json!({"spec": {"externalIPs": list}});
        assert!(adds(&with(json!(["192.0.2.1"])), None));
        assert!(!adds(&with(json!(["192.0.2.1"])), Some(&with(json!(["192.0.2.2", "192.0.2.1"])))));
        assert!(!adds(&json!({"spec": {}}), None));
    }
}

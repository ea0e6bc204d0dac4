//! Component statuses: which parts of the control plane there are, as `kubectl get componentstatuses` shows them.
//!
//! They are parts of one process here, so that whoever can be asked runs; nothing is probed.

use kubewright_apiserver::BoxFuture;
use kubewright_apiserver::resources::{Virtual, WriteContext};
use kubewright_machinery::status::Status;
use serde_json::{Value, json};

/// The components that run, by name.
pub(crate) struct Components(pub Vec<Box<str>>);

/// A healthy component.
fn status(name: &str) -> Value {
    json!({
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
    })
}

impl Virtual for Components {
    fn get<'a>(&'a self, cx: &'a WriteContext<'a>) -> BoxFuture<'a, Result<Value, Status>> {
        let found = self.0.iter().find(|name| &***name == cx.name).map(|name| status(name));
        let absent = || Status::not_found(&cx.resource.group, &cx.resource.plural, cx.name);
        kubewright_apiserver::ready(found.ok_or_else(absent))
    }

    fn list<'a>(&'a self, _: &'a WriteContext<'a>) -> BoxFuture<'a, Result<Vec<Value>, Status>> {
        kubewright_apiserver::ready(Ok(self.0.iter().map(|name| status(name)).collect()))
    }
}

//! Admission that knows the built-in kinds: what a real server's default plugins do to and demand of them.
//!
//! Each plugin has the name it is disabled by. [`plugins`] gives them in the order Kubernetes runs them;
//! [`ResourceQuota`] is apart because it runs after everything else, webhooks and policies included.

mod classes;
mod limits;
mod nodes;
mod pods;
mod quota;
mod service_accounts;
mod usage;

use std::sync::Arc;

use kubewright_apiserver::admission::{Admission, Attributes};
use kubewright_machinery::status::Status;
use serde_json::{Map, Value};

pub use classes::{
    DefaultIngressClass, DefaultStorageClass, PersistentVolumeClaimResize, StorageObjectInUseProtection,
};
pub use kubewright_apiserver::admission::NamespaceLifecycle;
pub use limits::LimitRanger;
pub use nodes::TaintNodesByCondition;
pub use pods::{DefaultTolerationSeconds, Priority, RuntimeClass};
pub use quota::ResourceQuota;
pub use service_accounts::ServiceAccount;

/// All plugins of built-in kinds but [`ResourceQuota`], in order.
pub fn plugins() -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(NamespaceLifecycle),
        Arc::new(LimitRanger),
        Arc::new(ServiceAccount),
        Arc::new(TaintNodesByCondition),
        Arc::new(Priority),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(DefaultStorageClass),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(PersistentVolumeClaimResize),
        Arc::new(RuntimeClass),
        Arc::new(DefaultIngressClass),
    ]
}

/// The object of a write, to be changed; none on delete.
fn object<'a>(attributes: &'a mut Attributes<'_>) -> Option<&'a mut Map<String, Value>> {
    attributes.object.as_mut().and_then(Value::as_object_mut)
}

/// Objects of another kind that the plugin decides by.
async fn read(
    attributes: &Attributes<'_>,
    group: &str,
    plural: &str,
    namespace: &str,
) -> Result<Vec<Arc<Value>>, Status> {
    attributes.core.reader().list(group, plural, namespace).await.map_err(Status::internal)
}

/// Several reasons as one text: as it is for one, `[a, b]` for more.
fn aggregate(reasons: &[String]) -> String {
    match reasons {
        [one] => one.clone(),
        more => format!("[{}]", more.join(", ")),
    }
}

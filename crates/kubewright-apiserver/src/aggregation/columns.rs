//! The table columns of APIServices.

use std::sync::LazyLock;

use jiff::Timestamp;
use kubewright_machinery::crd::columns::{AGE_DOC, NAME_DOC};
use kubewright_machinery::{duration, meta};
use serde_json::Value;

use super::availability;
use crate::resources::{Column, Columns};

/// Name, service, availability, age.
pub(super) struct ServiceColumns;

impl Columns for ServiceColumns {
    fn columns(&self) -> &[Column] {
        static COLUMNS: LazyLock<[Column; 4]> = LazyLock::new(|| {
            let column = |name: &str, format: &str, description: &str| Column {
                name: name.into(),
                ty: "string".into(),
                format: format.into(),
                description: description.into(),
                priority: 0,
            };
            [
                column("Name", "name", NAME_DOC),
                column("Service", "", "The reference to the service that hosts this API endpoint."),
                column("Available", "", "Whether this service is available."),
                column("Age", "", AGE_DOC),
            ]
        });
        &*COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let service = match availability::is_local(object) {
            true => "Local".to_string(),
            false => {
                let text = |key: &str| object["spec"]["service"][key].as_str().unwrap_or_default();
                format!("{}/{}", text("namespace"), text("name"))
            }
        };
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let available = conditions.into_iter().flatten().find(|c| c["type"] == "Available").map_or_else(
            || "Unknown".to_string(),
            |condition| {
                let text = |key: &str| condition[key].as_str().unwrap_or_default();
                match (text("status"), text("reason")) {
                    (status @ "True", _) | (status, "") => status.to_string(),
                    (status, reason) => format!("{status} ({reason})"),
                }
            },
        );
        let age = meta::creation_timestamp(object).map_or("<unknown>".into(), |t| duration::since(t, now));
        vec![meta::name(object).into(), service.into(), available.into(), age.into()]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_remote_service_shows_why_it_is_not_available() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let remote = json!({"metadata": {"name": "v1.x.io", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"service": {"namespace": "n", "name": "s"}},
            "status": {"conditions": [{"type": "Available", "status": "False", "reason": "ServiceNotFound"}]}});
        let cells = Value::from(ServiceColumns.cells(&remote, now));
        assert_eq!(cells, json!(["v1.x.io", "n/s", "False (ServiceNotFound)", "60s"]));
    }
}

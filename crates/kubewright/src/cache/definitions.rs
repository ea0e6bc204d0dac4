//! Definitions of kinds that others serve: which objects those are, and which of their changes change what is served.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::informer::{Delta, What};
use super::select::Select;
use crate::kind::Kind;

/// CustomResourceDefinitions and APIServices.
pub(super) fn kinds() -> [Kind; 2] {
    [Kind::of::<CustomResourceDefinition>(), Kind::of::<APIService>()]
}

/// Definitions without their schemas, which are most of them.
pub(super) fn lean() -> Select {
    Select::all().keeping(|definition| {
        for version in definition["spec"]["versions"].as_array_mut().into_iter().flatten() {
            version["schema"].take();
        }
    })
}

/// Whether a change may change what is served: heartbeats in annotations and the like do not.
pub(super) fn changes(delta: &Delta) -> bool {
    let Some(before) = delta.before.as_ref().filter(|_| delta.what == What::Updated) else { return true };
    let told = [&["spec"][..], &["status"][..]];
    told.iter().any(|path| before.at(path) != delta.object.at(path))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::cache::Cached;

    #[test]
    fn only_changes_of_spec_and_status_change_what_is_served() {
        let definition = |version: u64, annotation: &str, established: &str| {
            let object = json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": version.to_string(),
                "annotations": {"seen": annotation}}, "spec": {"versions": []},
                "status": {"conditions": [{"type": "Established", "status": established}]}});
            Arc::new(Cached::read(object.to_string().as_bytes(), &kinds()[0]).unwrap())
        };
        let update =
            |before, object| Delta { what: What::Updated, before: Some(before), object, initial: false };
        let first = definition(1, "1", "False");
        assert!(!changes(&update(Arc::clone(&first), definition(2, "2", "False"))));
        assert!(changes(&update(Arc::clone(&first), definition(2, "1", "True"))));
        assert!(changes(&Delta { what: What::Deleted, object: first, before: None, initial: false }));
    }

    #[test]
    fn schemas_are_not_kept() {
        let object =
            json!({"metadata": {"name": "x"}, "spec": {"versions": [{"name": "v1", "schema": {"a": 1}}]}});
        let object = Cached::read(object.to_string().as_bytes(), &kinds()[0]).unwrap();
        let kept = lean().keep(object, &kinds()[0]).unwrap();
        assert!(!String::from_utf8_lossy(kept.json()).contains("\"a\""));
    }
}

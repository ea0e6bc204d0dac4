//! A definition as resources of the server: one for each served version, all with the same store prefix.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use kubewright_machinery::crd::{Definition, Version, jsonpath::JsonPath};

use super::columns::PrinterColumns;
use super::convert::{Family, VersionConverter};
use super::registry::Registry;
use super::strategy::{Facts, Main, StatusOnly};
use crate::discovery;
use crate::resources::{
    Backing, Converter, Generation, Resource, ScaleFacts, Storage, Subresource, SubresourceAction, Verb,
    Verbs, WriteRules,
};

/// The resources of a definition. What was stored up to the revision `settled` may be of an older schema.
pub(super) fn resources(
    definition: &Definition,
    settled: u64,
    terminating: &Arc<AtomicBool>,
    registry: &Weak<Registry>,
) -> Vec<Arc<Resource>> {
    let Some(storage) = definition.storage_version() else { return Vec::new() };
    let api_version = |name: &str| format!("{}/{name}", definition.group);
    let schemas = definition.versions.iter().map(|v| (api_version(&v.name), v.schema.clone()));
    let family = Arc::new(Family {
        name: format!("{}.{}", definition.accepted.plural, definition.group),
        kind: definition.accepted.kind.clone(),
        schemas: schemas.collect::<BTreeMap<_, _>>(),
        storage: api_version(&storage.name),
        conversion: definition.conversion.clone(),
        registry: registry.clone(),
    });
    definition
        .versions
        .iter()
        .filter(|version| version.served)
        .map(|version| {
            let paths = version.selectable.iter();
            let selectable: Vec<(Box<str>, JsonPath)> = paths
                .filter_map(|path| {
                    Some((path.strip_prefix('.').unwrap_or(path).into(), JsonPath::parse(path).ok()?))
                })
                .collect();
            let (names, paths) = selectable.into_iter().unzip();
            let facts = Arc::new(Facts {
                kind: definition.accepted.kind.clone(),
                api_version: api_version(&version.name),
                schema: version.schema.clone(),
                scale: version.scale.clone(),
                status: version.status,
                selectable: names,
                paths,
                terminating: Arc::clone(terminating),
                registry: registry.clone(),
            });
            let converter = VersionConverter::new(Arc::clone(&family), api_version(&version.name));
            Arc::new(resource(definition, version, &family, settled, facts, Arc::new(converter)))
        })
        .collect()
}

fn resource(
    definition: &Definition,
    version: &Version,
    family: &Family,
    settled: u64,
    facts: Arc<Facts>,
    converter: Arc<dyn Converter>,
) -> Resource {
    let (group, names) = (definition.group.as_str(), &definition.accepted);
    let boxed = |list: &[String]| list.iter().map(|name| name.as_str().into()).collect();
    let stored_as = family.storage.rsplit('/').next().unwrap_or_default();
    let unowned = if version.status { vec!["status".into()] } else { Vec::new() };
    Resource {
        singular: names.singular.as_str().into(),
        list_kind: names.list_kind.as_str().into(),
        short_names: boxed(&names.short_names),
        categories: boxed(&names.categories),
        verbs: Verbs::ALL,
        storage_version_hash: discovery::storage_version_hash(group, stored_as, &names.kind),
        schema: version.schema.clone(),
        backing: Backing::Stored(Storage {
            prefix: Storage::prefix_of(group, &names.plural).into(),
            api_version: family.storage.as_str().into(),
            converter: Some(converter),
            settled,
            store: None,
        }),
        strategy: Arc::new(Main(Arc::clone(&facts))),
        columns: Arc::new(PrinterColumns::new(&version.columns)),
        subresources: subresources(definition, version, facts),
        rules: WriteRules {
            unconditional_update: false,
            generation: Generation::AllExcept(unowned),
            ..WriteRules::default()
        },
        deprecation: definition.deprecation_warning(version).map(Into::into),
        custom: true,
        ..Resource::stored(group, &version.name, &names.kind, &names.plural, definition.namespaced)
    }
}

fn subresources(definition: &Definition, version: &Version, facts: Arc<Facts>) -> Vec<Subresource> {
    let mut subresources = Vec::new();
    if version.status {
        let kind = &definition.accepted.kind;
        let strategy = Arc::new(StatusOnly(facts));
        subresources.push(Subresource::status(&definition.group, &version.name, kind, strategy));
    }
    if let Some(scale) = &version.scale {
        subresources.push(Subresource {
            name: "scale".into(),
            group: "autoscaling".into(),
            version: "v1".into(),
            kind: "Scale".into(),
            schema: None,
            verbs: Verbs::of(&[Verb::Get, Verb::Patch, Verb::Update]),
            action: SubresourceAction::Scale(ScaleFacts {
                spec_replicas: scale.spec_replicas.as_str().into(),
                status_replicas: scale.status_replicas.as_str().into(),
                selector: scale.label_selector.as_deref().unwrap_or_default().into(),
            }),
        });
    }
    subresources
}

use serde_json::json;

use super::super::default;
use super::*;

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({"metadata": {"name": "things.c.example.com"}, "spec": {
        "group": "c.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                "properties": {"name": {"type": "string"}, "n": {"type": "number"}}}}}}}]}});
    change(&mut object);
    default(&mut object);
    object
}

fn faults(change: impl FnOnce(&mut Value)) -> Vec<String> {
    create(&with(change)).iter().map(ToString::to_string).collect()
}

fn fields(change: impl FnOnce(&mut Value)) -> Vec<String> {
    create(&with(change)).into_iter().map(|e| e.field).collect()
}

#[test]
fn a_plain_definition_is_valid() {
    assert_eq!(faults(|_| {}), Vec::<String>::new());
    assert_eq!(name_faults(&with(|_| {})), Vec::<String>::new());
}

#[test]
fn names_group_and_scope_are_judged() {
    assert_eq!(
        faults(|o| o["spec"]["group"] = json!("nodot")),
        ["spec.group: Invalid value: \"nodot\": should be a domain with at least one dot"]
    );
    assert_eq!(
        faults(|o| o["spec"]["scope"] = json!("Global")),
        ["spec.scope: Unsupported value: \"Global\": supported values: \"Cluster\", \"Namespaced\""]
    );
    assert_eq!(
        faults(|o| o["spec"]["names"]["listKind"] = json!("Thing")),
        ["spec.names.listKind: Invalid value: \"Thing\": kind and listKind may not be the same"]
    );
    assert_eq!(
        fields(|o| o["spec"]["names"] = json!({})),
        ["spec.names.plural", "spec.names.singular", "spec.names.kind", "spec.names.listKind"]
    );
    let object = with(|o| o["spec"]["names"]["plural"] = json!("others"));
    assert_eq!(name_faults(&object), ["must be spec.names.plural+\".\"+spec.group"]);
}

#[test]
fn an_empty_spec_gives_every_cause() {
    let object = json!({"spec": {}});
    let errors: Vec<String> = create(&object).iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "spec.group: Required value",
            "spec.scope: Required value",
            "spec.versions: Invalid value: null: must have exactly one version marked as storage version",
            "spec.names.plural: Required value",
            "spec.names.singular: Required value",
            "spec.names.kind: Required value",
            "spec.names.listKind: Required value",
            "status.storedVersions: Invalid value: null: must have at least one stored version",
        ]
    );
}

#[test]
fn what_all_versions_share_is_named_at_the_top() {
    let bad = json!({"openAPIV3Schema": {"type": "object", "properties": {"x": {}}}});
    assert_eq!(
        fields(|o| o["spec"]["versions"][0]["schema"] = bad),
        ["spec.validation.openAPIV3Schema.properties[x].type"]
    );
}

#[test]
fn a_fault_of_one_version_is_named_there() {
    assert_eq!(
        fields(|o| {
            let mut second = o["spec"]["versions"][0].clone();
            second["name"] = json!("v2");
            second["storage"] = json!(false);
            second["schema"] = json!({"openAPIV3Schema": {"type": "object", "properties": {"x": {}}}});
            o["spec"]["versions"].as_array_mut().unwrap().push(second);
        }),
        ["spec.versions[1].schema.openAPIV3Schema.properties[x].type"]
    );
}

#[test]
fn versions_have_schemas_and_one_storage() {
    assert_eq!(
        fields(|o| o["spec"]["versions"][0]["schema"] = Value::Null),
        ["spec.versions[0].schema.openAPIV3Schema"]
    );
    assert_eq!(
        fields(|o| o["spec"]["versions"][0]["name"] = json!("v1.1")),
        ["spec.versions[0].name", "spec.version"]
    );
    assert_eq!(
        fields(|o| o["spec"]["versions"][0]["storage"] = json!(false)),
        ["spec.versions", "status.storedVersions"]
    );
    assert_eq!(
        faults(|o| o["spec"]["versions"][0]["deprecationWarning"] = json!("old")),
        [
            "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions"
        ]
    );
}

#[test]
fn little_may_be_at_the_root_beside_a_status() {
    let errors = create(&with(|o| {
        let version = &mut o["spec"]["versions"][0];
        version["subresources"] = json!({"status": {}});
        version["schema"]["openAPIV3Schema"]["maxProperties"] = json!(9);
    }));
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].field, "spec.validation.openAPIV3Schema");
    assert!(errors[0].body().starts_with("Invalid value: {\"ID\":\"\",\"Schema\":\"\""));
    assert!(errors[0].detail.starts_with("only [Description Type Format Title Maximum"));
}

#[test]
fn columns_and_scale_have_simple_paths() {
    assert_eq!(
        faults(|o| o["spec"]["versions"][0]["additionalPrinterColumns"] =
            json!([{"name": "a", "type": "text", "jsonPath": "spec.a"}])),
        [
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of \
             boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec.a\": must be a simple json path \
             starting with .",
        ]
    );
    assert_eq!(
        faults(|o| o["spec"]["versions"][0]["subresources"] =
            json!({"scale": {"specReplicasPath": ".status.n"}})),
        [
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.n\": should be a json path under .spec",
            "spec.subresources.scale.statusReplicasPath: Required value",
        ]
    );
}

#[test]
fn selectable_fields_are_scalar_fields_of_the_schema() {
    let select = |paths: &[&str]| {
        let selectable: Vec<Value> = paths.iter().map(|path| json!({"jsonPath": path})).collect();
        faults(|o| o["spec"]["versions"][0]["selectableFields"] = selectable.into())
    };
    assert_eq!(select(&[".spec.name"]), Vec::<String>::new());
    assert_eq!(
        select(&[".spec.nothing"]),
        [
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.nothing\": is an invalid path: does not refer to a \
         valid field"
        ]
    );
    assert_eq!(
        select(&[".spec.name", ".spec.name"]),
        ["spec.selectableFields[1].jsonPath: Duplicate value: \".spec.name\""]
    );
    assert_eq!(select(&[".spec.n"]).len(), 1);
}

#[test]
fn conversion_by_webhook_needs_a_webhook() {
    let convert = |conversion: Value| faults(|o| o["spec"]["conversion"] = conversion);
    assert_eq!(
        convert(json!({"strategy": "Magic"})),
        ["spec.conversion.strategy: Unsupported value: \"Magic\": supported values: \"None\", \"Webhook\""]
    );
    assert_eq!(
        convert(json!({"strategy": "Webhook"})),
        [
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ]
    );
    let webhook =
        json!({"clientConfig": {"url": "https://a.example.com"}, "conversionReviewVersions": ["v9"]});
    assert_eq!(
        convert(json!({"strategy": "Webhook", "webhook": webhook})),
        [
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1"
        ]
    );
    assert_eq!(convert(json!({"strategy": "None", "webhook": webhook})).len(), 2);
}

#[test]
fn community_groups_need_an_annotation() {
    let group = |o: &mut Value| o["spec"]["group"] = json!("x.k8s.io");
    assert_eq!(fields(group), ["metadata.annotations[api-approved.kubernetes.io]"]);
    assert_eq!(
        fields(|o| {
            group(o);
            o["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, test"});
        }),
        Vec::<String>::new()
    );
}

#[test]
fn an_established_definition_keeps_its_names_scope_and_stored_versions() {
    let old = with(|o| {
        o["status"] = json!({"storedVersions": ["v1"],
        "conditions": [{"type": "Established", "status": "True"}]})
    });
    let update = |change: fn(&mut Value)| -> Vec<String> {
        let mut new = old.clone();
        change(&mut new);
        super::update(&new, &old).iter().map(ToString::to_string).collect()
    };
    assert_eq!(update(|_| {}), Vec::<String>::new());
    assert_eq!(
        update(|o| o["spec"]["scope"] = json!("Cluster")),
        ["spec.scope: Invalid value: \"Cluster\": field is immutable"]
    );
    assert_eq!(
        update(|o| o["spec"]["names"]["kind"] = json!("Gadget")),
        ["spec.names.kind: Invalid value: \"Gadget\": field is immutable"]
    );
    let missing = update(|o| {
        o["spec"]["versions"][0]["name"] = json!("v2");
        o["status"]["storedVersions"] = json!(["v1", "v2"]);
    });
    assert_eq!(missing.len(), 1);
    assert!(
        missing[0]
            .starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions;")
    );
}

#[test]
fn an_update_is_not_held_to_what_the_old_definition_broke() {
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}});
    let old = with(|o| {
        o["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["set"] = set;
    });
    assert_eq!(create(&old).len(), 1);
    assert_eq!(update(&old, &old), Vec::new());
}

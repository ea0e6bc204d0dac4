//! ConfigMaps, Secrets and ServiceAccounts.

use base64::Engine as _;
use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::{Fields, same};
use super::{checks, gojson, metadata};

const MAX_SIZE: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";
const DATA: Path<'static> = Path::new("data");

/// Bytes that a base64 text stands for.
fn decoded_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

pub(super) fn config_map_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    let mut size = 0;
    for (key, value) in object.entries("data") {
        e.each(&DATA.key(key), key, names::is_config_map_key(key));
        if object.sub("binaryData").get(key).is_some() {
            e.invalid(&DATA.key(key), key, "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in object.entries("binaryData") {
        e.each(&Path::new("binaryData").key(key), key, names::is_config_map_key(key));
        size += value.as_str().map_or(0, decoded_len);
    }
    if size > MAX_SIZE {
        e.too_long(&Path::new(""), MAX_SIZE);
    }
}

pub(super) fn config_map_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    frozen(object, old, &["data", "binaryData"], e);
    config_map_create(object, e);
}

fn frozen(object: &Value, old: &Value, fields: &[&str], e: &mut Errors) {
    if !old.flag("immutable") {
        return;
    }
    if !object.flag("immutable") {
        e.forbidden(&Path::new("immutable"), FROZEN);
    }
    let empty = |v: &Value| v.is_null() || v.as_object().is_some_and(serde_json::Map::is_empty);
    for field in fields {
        let (new, old) = (object.sub(field), old.sub(field));
        if !(same(new, old) || empty(new) && empty(old)) {
            e.forbidden(&Path::new(field), FROZEN);
        }
    }
}

pub(super) fn secret_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    let mut size = 0;
    for (key, value) in object.entries("data") {
        e.each(&DATA.key(key), key, names::is_config_map_key(key));
        size += value.as_str().map_or(0, decoded_len);
    }
    if size > MAX_SIZE {
        e.too_long(&DATA, MAX_SIZE);
    }
    let data = object.sub("data");
    let required = |key: &str, e: &mut Errors| e.required(&DATA.key(key), "");
    match object.text("type") {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if metadata::annotation(object, ACCOUNT).unwrap_or_default().is_empty() {
                e.required(&Path::new("metadata").child("annotations").key(ACCOUNT), "");
            }
        }
        "kubernetes.io/dockercfg" => docker_config(data, ".dockercfg", e),
        "kubernetes.io/dockerconfigjson" => docker_config(data, ".dockerconfigjson", e),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            required("username", e);
            required("password", e);
        }
        "kubernetes.io/ssh-auth" if data.text("ssh-privatekey").is_empty() => required("ssh-privatekey", e),
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if data.get(key).is_none() {
                    required(key, e);
                }
            }
        }
        _ => {}
    }
}

fn docker_config(data: &Value, key: &str, e: &mut Errors) {
    let Some(text) = data.opt_text(key) else { return e.required(&DATA.key(key), "") };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    if let Some(error) = gojson::object_error(&bytes) {
        e.invalid(&DATA.key(key), "<secret contents redacted>", error);
    }
}

pub(super) fn secret_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    if object.text("type") != old.text("type") {
        e.invalid(&Path::new("type"), object.text("type"), checks::IMMUTABLE);
    }
    frozen(object, old, &["data"], e);
    secret_create(object, e);
}

pub(super) fn service_account_create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
}

pub(super) fn service_account_update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    service_account_create(object, e);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors::texts;
    use serde_json::json;

    #[test]
    fn a_key_is_in_one_of_the_two_bags() {
        let c = json!({"metadata": {"name": "c", "namespace": "n"}, "data": {"a": "x"}, "binaryData": {"a": "eA=="}});
        assert_eq!(
            texts(|e| config_map_create(&c, e)),
            [r#"data[a]: Invalid value: "a": duplicate of key present in binaryData"#]
        );
    }

    #[test]
    fn a_frozen_config_map_keeps_its_data() {
        let c = |v: &str| json!({"metadata": {"name": "c", "namespace": "n", "resourceVersion": "1"}, "immutable": true, "data": {"a": v}});
        assert_eq!(
            texts(|e| config_map_update(&c("2"), &c("1"), e)),
            ["data: Forbidden: field is immutable when `immutable` is set"]
        );
    }

    #[test]
    fn typed_secrets_need_their_keys() {
        let s = |kind: &str, data: Value| json!({"metadata": {"name": "s", "namespace": "n"}, "type": kind, "data": data});
        assert_eq!(
            texts(|e| secret_create(&s("kubernetes.io/basic-auth", json!({})), e)),
            ["data[username]: Required value", "data[password]: Required value"]
        );
        let not_json = s("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "bm90IGpzb24="}));
        assert_eq!(
            texts(|e| secret_create(&not_json, e)),
            [
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'o' in literal null (expecting 'u')"
            ]
        );
    }
}

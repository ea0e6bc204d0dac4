//! Bodies in protobuf. Input: the body.

use kubewright_kinds::catalogue::Catalogue;
use kubewright_kinds::protobuf;
use kubewright_machinery::gvk::{GroupVersion, GroupVersionKind};
use kubewright_machinery::{decode, meta};

/// A body is read or refused; what was read is an object of its kind, as the same body in JSON is.
pub fn check(input: &[u8]) {
    let default = GroupVersionKind { group: String::new(), version: "v1".into(), kind: "Pod".into() };
    let Ok(object) = protobuf::decode(input, &default) else { return };
    let kind = meta::kind(&object);
    let version: GroupVersion = meta::api_version(&object).parse().expect("it names a version");
    // DeleteOptions are of every version, with the schema of one.
    let Some(schema) = Catalogue::builtin().kind(&version.group, &version.version, kind) else { return };
    let body = object.to_string();
    // The text of a quantity is looked at then.
    let decoded = match decode::value_as(object, schema) {
        Err(decode::Error::Quantity(_)) => return,
        decoded => decoded.unwrap_or_else(|error| panic!("{error}: {body}")),
    };
    assert!(decoded.strict.is_empty(), "{:?} in {body}", decoded.strict);
    assert_eq!(decode::json_as(decoded.value.to_string().as_bytes(), schema), Ok(decoded));
}

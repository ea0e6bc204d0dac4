//! Reading configuration files: text, certificates, kubeconfigs, and objects of a kind whose every field is known.

use std::path::Path;

use kubewright_apiserver::outbound::Peer;
use kubewright_machinery::decode;
use kubewright_pki::{Bundle, ClientVerifier};
use serde::de::DeserializeOwned;

use super::AccessError;

const GROUP: &str = "apiserver.config.k8s.io";

pub(crate) fn read(path: &Path) -> Result<String, AccessError> {
    std::fs::read_to_string(path).map_err(|source| AccessError::Read { path: path.into(), source })
}

/// Who is vouched for by the authorities in a file.
pub(super) fn verifier(path: &Path) -> Result<ClientVerifier, AccessError> {
    let wrong = |source| AccessError::Certificates { path: path.into(), source };
    let bundle = Bundle::from_pem(&read(path)?).map_err(wrong)?;
    ClientVerifier::new(&bundle).map_err(wrong)
}

/// The server that a kubeconfig names.
pub(super) fn peer(path: &Path) -> Result<Peer, AccessError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    Peer::from_kubeconfig(&read(path)?, folder)
        .map_err(|source| AccessError::Webhook { path: path.into(), source })
}

/// An object of a kind of configuration. Fields that are not known are an error: what they ask for would not be done.
pub(super) fn object<T: DeserializeOwned>(path: &Path, kind: &str) -> Result<T, AccessError> {
    let wrong = |reason: String| AccessError::File { path: path.into(), reason };
    let mut value = decode::yaml(read(path)?.as_bytes()).map_err(|error| wrong(error.to_string()))?.value;
    let version = value["apiVersion"].as_str().and_then(|v| v.strip_prefix(GROUP)?.strip_prefix('/'));
    if value["kind"] != kind || !matches!(version, Some("v1" | "v1beta1" | "v1alpha1")) {
        return Err(wrong(format!("it is no {kind} of {GROUP}/v1")));
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
}

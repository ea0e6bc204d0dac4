//! The Secret that replicas share, read and written: certificates and keys as PEM under the names that others use too
//! (`ca.crt`, `tls.crt`, `tls.key`), beside the newest authority and how far its introduction has come.
//!
//! Values in, values out. What can't be read is told, and made anew by the rotation; it never ends the process.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use kubewright_pki::{Authority, Bundle, Identity, PkiError};

use super::rotation::{Material, Phase};

const TRUSTED: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const SIGNER: &str = "signer.crt";
const SIGNER_KEY: &str = "signer.key";
const PHASE: &str = "phase";

/// Why the contents of a Secret can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// A part is absent or no text.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The phase is none.
    #[error("{0:?} is no phase of a rotation")]
    Phase(String),
    /// Certificates or keys are unreadable, or don't belong together.
    #[error("the certificates can't be used")]
    Pki(#[from] PkiError),
}

/// The data of the Secret.
pub(crate) fn encode(material: &Material) -> BTreeMap<String, ByteString> {
    let text = |text: String| ByteString(text.into_bytes());
    BTreeMap::from([
        (TRUSTED.to_owned(), text(material.trusted.to_pem())),
        (CERTIFICATE.to_owned(), text(material.serving.certificate_pem())),
        (KEY.to_owned(), text(material.serving.key_pem())),
        (SIGNER.to_owned(), text(material.signer.certificate_pem())),
        (SIGNER_KEY.to_owned(), text(material.signer.key_pem())),
        (PHASE.to_owned(), text(phase(material.phase))),
    ])
}

/// What the data of a Secret hold; nothing where there are none.
pub(crate) fn decode(data: &BTreeMap<String, ByteString>) -> Result<Option<Material>, SecretError> {
    let text = |name: &'static str| {
        let bytes = data.get(name).ok_or(SecretError::Missing(name))?;
        std::str::from_utf8(&bytes.0).map_err(|_| SecretError::Missing(name))
    };
    if data.is_empty() {
        return Ok(None);
    }
    Ok(Some(Material {
        trusted: Bundle::from_pem(text(TRUSTED)?)?,
        signer: Authority::from_pem(text(SIGNER)?, text(SIGNER_KEY)?)?,
        serving: Identity::from_pem(text(CERTIFICATE)?, text(KEY)?)?,
        phase: read_phase(text(PHASE)?)?,
    }))
}

fn phase(phase: Phase) -> String {
    let at = |since: SystemTime| since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    match phase {
        Phase::Stable => "stable".into(),
        Phase::Introducing => "introducing".into(),
        Phase::Trusted(since) => format!("trusted {}", at(since)),
        Phase::Retiring(since) => format!("retiring {}", at(since)),
    }
}

fn read_phase(text: &str) -> Result<Phase, SecretError> {
    let (name, since) = text.trim().split_once(' ').unwrap_or((text.trim(), "0"));
    let since = since.parse().ok().and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)));
    match (name, since) {
        ("stable", _) => Ok(Phase::Stable),
        ("introducing", _) => Ok(Phase::Introducing),
        ("trusted", Some(since)) => Ok(Phase::Trusted(since)),
        ("retiring", Some(since)) => Ok(Phase::Retiring(since)),
        _ => Err(SecretError::Phase(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn material(phase: Phase) -> Material {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let signer = Authority::new("ca", now).unwrap();
        let serving = signer.server(&["a.b.svc"], &[], now).unwrap();
        Material { trusted: signer.bundle(), signer, serving, phase }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for phase in [Phase::Stable, Phase::Introducing, Phase::Trusted(since), Phase::Retiring(since)] {
            let written = material(phase);
            let read = decode(&encode(&written)).unwrap().unwrap();
            assert_eq!(read.phase, phase);
            assert_eq!(read.trusted, written.trusted);
            assert_eq!(read.serving.chain(), written.serving.chain());
            assert_eq!(read.signer.key_pem(), written.signer.key_pem());
        }
        assert!(decode(&BTreeMap::new()).unwrap().is_none());
    }

    #[test]
    fn damage_is_told_and_never_panics() {
        let whole = encode(&material(Phase::Stable));
        for name in whole.keys() {
            let mut damaged = whole.clone();
            damaged.remove(name);
            assert!(matches!(decode(&damaged), Err(SecretError::Missing(missing)) if missing == name));
            damaged.insert(name.clone(), ByteString(b"nonsense".to_vec()));
            assert!(decode(&damaged).is_err(), "{name}");
            damaged.insert(name.clone(), ByteString(vec![0xff]));
            assert!(decode(&damaged).is_err(), "{name}");
        }
        let mut foreign = whole.clone();
        foreign.insert(SIGNER_KEY.into(), ByteString(material(Phase::Stable).signer.key_pem().into()));
        assert!(matches!(decode(&foreign), Err(SecretError::Pki(PkiError::KeyMismatch))));
    }
}

//! Writing the kubeconfig of the cluster, without ever touching a file that is somebody else's.

use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;
use thiserror::Error;

/// The name of our cluster, user and context.
pub const CONTEXT: &str = "kubewright";

/// Why a kubeconfig was not written.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    /// The file holds entries that are not ours.
    #[error("{path} is not ours: it holds {found}; give another file with --kubeconfig")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found there.
        found: String,
    },
    /// The file is there and can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file can't be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The kubeconfig can't be put in words.
    #[error("cannot encode the kubeconfig: {0}")]
    Encode(String),
}

/// Refuses a path that holds somebody else's kubeconfig. Costs one read; to be called before a cluster is started.
pub fn check(path: &Path) -> Result<(), KubeconfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(KubeconfigError::Read { path: path.into(), source }),
    };
    match foreign(&text) {
        None => Ok(()),
        Some(found) => Err(KubeconfigError::Foreign { path: path.into(), found }),
    }
}

/// Writes `config` to `path` (mode 0600, atomically), unless the file there is not ours.
pub fn write(path: &Path, config: &Kubeconfig) -> Result<(), KubeconfigError> {
    check(path)?;
    let write_error = |source| KubeconfigError::Write { path: path.into(), source };
    // Through JSON, so that no key of the client library's own (such as empty extensions) is written.
    let value = serde_json::to_value(config).map_err(|e| KubeconfigError::Encode(e.to_string()))?;
    // One line a value, as other tools write and grep them.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(&value, options)
        .map_err(|e| KubeconfigError::Encode(e.to_string()))?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(write_error)?;
    }
    let draft = path.with_extension("new");
    write_private(&draft, &text).map_err(write_error)?;
    std::fs::rename(&draft, path).map_err(write_error)
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// What in a file is not ours, in words; `None` for an empty file and for one that has only our entries.
fn foreign(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return None;
    }
    let Ok(config) = Kubeconfig::from_yaml(text) else {
        return Some("something that is no kubeconfig".into());
    };
    let others: Vec<String> = (config.clusters.iter().map(|c| ("cluster", &c.name)))
        .chain(config.auth_infos.iter().map(|u| ("user", &u.name)))
        .chain(config.contexts.iter().map(|c| ("context", &c.name)))
        .filter(|(_, name)| name.as_str() != CONTEXT)
        .map(|(what, name)| format!("{what} \"{name}\""))
        .collect();
    if others.is_empty() && config.clusters.is_empty() {
        return Some("no cluster of ours".into());
    }
    (!others.is_empty()).then(|| others.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str =
        "clusters:\n- name: kubewright\nusers:\n- name: kubewright\ncontexts:\n- name: kubewright\n";

    #[test]
    fn a_file_with_only_our_entries_is_ours() {
        assert_eq!(foreign(OURS), None);
        assert_eq!(foreign("\n"), None);
    }

    #[test]
    fn a_file_with_another_cluster_is_foreign_and_named() {
        let found = foreign(&OURS.replace("users:\n- name: kubewright", "users:\n- name: prod")).unwrap();
        assert_eq!(found, "user \"prod\"");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_foreign() {
        assert!(foreign("dear diary").is_some());
        assert!(foreign("a: 1\n").is_some());
    }

    #[test]
    fn a_foreign_file_is_left_as_it_was() {
        let dir = std::env::temp_dir().join(format!("kubewright-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("config");
        std::fs::write(&path, "clusters:\n- name: prod\n").unwrap();
        assert!(matches!(write(&path, &Kubeconfig::default()), Err(KubeconfigError::Foreign { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "clusters:\n- name: prod\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

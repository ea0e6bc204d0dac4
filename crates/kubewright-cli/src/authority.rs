//! The cluster's authority, kept beside the kubeconfig, so that kubeconfigs and running operators survive a restart.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use kubewright_pki::Authority;

use crate::kubeconfig::write_private;

/// The authority of the cluster of a kubeconfig: the one in `FILE.authority.pem` while it is valid, or a new one.
pub fn load_or_create(kubeconfig: &Path) -> anyhow::Result<Authority> {
    let path = path_for(kubeconfig);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let authority = Authority::from_pem(&text, &text)
                .with_context(|| format!("{} is no authority of ours: move it away", path.display()))?;
            if authority.not_after() > SystemTime::now() {
                return Ok(authority);
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let authority = Authority::new("kubewright", SystemTime::now())?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    // The key comes first: readers of keys look at the first block alone.
    write_private(&path, &(authority.key_pem() + &authority.certificate_pem()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(authority)
}

fn path_for(kubeconfig: &Path) -> PathBuf {
    let mut name = kubeconfig.file_name().unwrap_or_default().to_os_string();
    name.push(".authority.pem");
    kubeconfig.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_authority_is_found_again() {
        let dir = std::env::temp_dir().join(format!("kubewright-authority-{}", std::process::id()));
        let kubeconfig = dir.join("kubeconfig");
        let first = load_or_create(&kubeconfig).unwrap().certificate_pem();
        assert_eq!(load_or_create(&kubeconfig).unwrap().certificate_pem(), first);
        std::fs::write(path_for(&kubeconfig), "nonsense").unwrap();
        assert!(load_or_create(&kubeconfig).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

//! Tells when the sources of a project change: one word for a burst of changes, none for what builds write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// How long a burst of changes (an editor saving several files) may last before it is told.
const SETTLE: Duration = Duration::from_millis(200);

/// The changes of a project's sources.
pub struct Changes {
    events: mpsc::UnboundedReceiver<PathBuf>,
    // Dropping the watcher ends the watch.
    _watcher: notify::RecommendedWatcher,
}

impl Changes {
    /// Watches the folder of a project.
    pub fn of(dir: &Path) -> notify::Result<Self> {
        let (send, events) = mpsc::unbounded_channel();
        let root = dir.to_owned();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if !(event.kind.is_create() || event.kind.is_modify() || event.kind.is_remove()) {
                return;
            }
            for path in event.paths {
                if is_source(&root, &path) {
                    // The receiver is gone when the command ends.
                    let _ = send.send(path);
                }
            }
        })?;
        watcher.watch(dir, RecursiveMode::Recursive)?;
        Ok(Self { events, _watcher: watcher })
    }

    /// The next change; further ones that follow closely are part of it.
    pub async fn next(&mut self) -> Option<PathBuf> {
        let first = self.events.recv().await?;
        while let Ok(Some(_)) = tokio::time::timeout(SETTLE, self.events.recv()).await {}
        Some(first)
    }
}

/// Whether a change of `path` means another build: Rust sources, manifests, and what is under `config`; never what a
/// build or an editor writes beside them.
fn is_source(root: &Path, path: &Path) -> bool {
    let Ok(relative) = path.strip_prefix(root) else { return false };
    let hidden = relative.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name == "target" || name.starts_with('.') || name.ends_with('~')
    });
    !hidden
        && relative
            .extension()
            .is_some_and(|e| ["rs", "toml", "yaml", "yml", "json"].iter().any(|known| e == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_samples_are_watched_and_build_output_is_not() {
        let root = Path::new("/p");
        let source = |path: &str| is_source(root, Path::new(path));
        assert!(source("/p/src/main.rs"));
        assert!(source("/p/config/samples/a.yaml"));
        assert!(source("/p/Cargo.toml"));
        assert!(!source("/p/target/debug/build/x.rs"));
        assert!(!source("/p/.git/config.toml"));
        assert!(!source("/p/src/main.rs~"));
        assert!(!source("/elsewhere/main.rs"));
    }
}

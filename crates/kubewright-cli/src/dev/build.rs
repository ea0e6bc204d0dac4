//! The project as Cargo sees it: its name, how it is built, its samples.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::process::Command;

/// An operator project.
#[derive(Debug)]
pub struct Project {
    /// Its folder, absolute.
    pub dir: PathBuf,
    /// The package's name.
    pub name: String,
    manifest: PathBuf,
    profile: String,
}

impl Project {
    /// Opens the project in `dir`; an error says what is missing there.
    pub fn open(dir: &Path, profile: &str) -> anyhow::Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("no folder {}", dir.display()))?;
        let manifest = dir.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest)
            .with_context(|| format!("{} is no Cargo package: cannot read its Cargo.toml", dir.display()))?;
        let name = package_name(&text)
            .with_context(|| format!("{} has no [package] with a name", manifest.display()))?;
        Ok(Self { dir, name, manifest, profile: profile.to_owned() })
    }

    /// Builds the project and gives its binary. Cargo's own messages go to stderr.
    pub async fn build(&self) -> anyhow::Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--message-format=json-render-diagnostics", "--profile", &self.profile, "--bins"])
            .arg("--manifest-path")
            .arg(&self.manifest)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run cargo")?;
        if !output.status.success() {
            bail!("the build of {} failed", self.name);
        }
        executable(&String::from_utf8_lossy(&output.stdout), &self.manifest)
            .with_context(|| format!("{} has no binary", self.name))
    }

    /// The objects in `config/samples`, in the order of the files' names.
    pub fn samples(&self) -> anyhow::Result<Vec<Value>> {
        let folder = self.dir.join("config/samples");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"))
            // What kustomize reads is no object.
            .filter(|path| path.file_stem().is_some_and(|stem| stem != "kustomization"))
            .collect();
        files.sort();
        let mut objects = Vec::new();
        for file in files {
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            objects.extend(documents(&text).with_context(|| format!("{} is no YAML", file.display()))?);
        }
        Ok(objects)
    }
}

/// The objects of a text of YAML documents; empty documents are left out.
pub fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(values.into_iter().filter(|value| !value.is_null()).collect())
}

/// The name in `[package]` of a Cargo.toml.
fn package_name(manifest: &str) -> Option<String> {
    let mut in_package = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_package = line == "[package]";
        } else if in_package
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "name"
        {
            return Some(value.trim().trim_matches(['"', '\'']).to_owned());
        }
    }
    None
}

/// The binary of the package with this manifest among Cargo's messages; the last one where there are several.
fn executable(messages: &str, manifest: &Path) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| message["manifest_path"].as_str().map(Path::new) == Some(manifest))
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_name_is_that_of_the_package_table() {
        let manifest = "[lib]\nname = \"other\"\n[package]\nedition = \"2024\"\nname = \"mine\"\n";
        assert_eq!(package_name(manifest).as_deref(), Some("mine"));
        assert_eq!(package_name("[workspace]\n"), None);
    }

    #[test]
    fn the_executable_is_that_of_the_projects_own_package() {
        let line = |manifest: &str, exe: &str| {
            serde_json::json!({"reason": "compiler-artifact", "manifest_path": manifest, "executable": exe})
                .to_string()
        };
        let messages =
            [line("/a/Cargo.toml", "/t/a"), "noise".into(), line("/b/Cargo.toml", "/t/b")].join("\n");
        assert_eq!(executable(&messages, Path::new("/a/Cargo.toml")), Some("/t/a".into()));
        assert_eq!(executable(&messages, Path::new("/c/Cargo.toml")), None);
    }

    #[test]
    fn documents_leave_out_the_empty_ones() {
        let objects = documents("---\nkind: A\n---\n---\nkind: B\n").unwrap();
        assert_eq!(objects.iter().map(|o| o["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["A", "B"]);
    }
}

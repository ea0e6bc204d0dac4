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
    selection: Vec<String>,
}

impl Project {
    /// Opens the project in `dir`; an error says what is missing there.
    pub async fn open(dir: &Path, profile: &str) -> anyhow::Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("no folder {}", dir.display()))?;
        let manifest = dir.join("Cargo.toml");
        if !manifest.is_file() {
            bail!("{} is no Cargo package: it has no Cargo.toml", dir.display());
        }
        let told = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
            .arg(&manifest)
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run cargo")?;
        if !told.status.success() {
            let why = String::from_utf8_lossy(&told.stderr);
            bail!("cargo cannot read {}: {}", manifest.display(), why.trim());
        }
        let metadata: Value = serde_json::from_slice(&told.stdout)
            .with_context(|| format!("cannot read what cargo tells of {}", manifest.display()))?;
        let (name, selection) = package(&metadata, &manifest)?;
        Ok(Self { dir, name, manifest, profile: profile.to_owned(), selection })
    }

    /// Builds the project and gives its binary. Cargo's own messages go to stderr.
    pub async fn build(&self) -> anyhow::Result<PathBuf> {
        let output = cargo()
            .args(["build", "--message-format=json-render-diagnostics", "--profile", &self.profile])
            .args(&self.selection)
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

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The name of the package with this manifest, and the arguments that make `cargo build` build its binaries.
///
/// Features are taken from the whole workspace where that is possible: built alone, a package may have fewer features
/// of what it depends on, and everything above would be compiled a second time beside the workspace's own builds.
fn package(metadata: &Value, manifest: &Path) -> anyhow::Result<(String, Vec<String>)> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |package: &Value| package["manifest_path"].as_str().map(Path::new) == Some(manifest);
    let Some(package) = packages.iter().find(|package| of(package)) else {
        bail!("{} has no [package] with a name", manifest.display());
    };
    let name = package["name"].as_str().unwrap_or_default();
    let own = binaries(package);
    if own.is_empty() {
        bail!("{name} has no binary");
    }
    let unique = |binary: &&str| !packages.iter().any(|p| !of(p) && binaries(p).contains(binary));
    let mut selection: Vec<String> = Vec::new();
    if packages.len() > 1 && own.iter().all(unique) {
        selection.push("--workspace".into());
        selection.extend(own.iter().flat_map(|binary| ["--bin".into(), (*binary).into()]));
    } else {
        selection.push("--bins".into());
    }
    Ok((name.to_owned(), selection))
}

/// The names of a package's binaries.
fn binaries(package: &Value) -> Vec<&str> {
    let targets = package["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let binary =
        |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "bin"));
    targets.iter().filter(binary).filter_map(|target| target["name"].as_str()).collect()
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

    fn described(name: &str, binaries: &[&str]) -> Value {
        let mut targets: Vec<Value> =
            binaries.iter().map(|name| serde_json::json!({"kind": ["bin"], "name": name})).collect();
        targets.push(serde_json::json!({"kind": ["lib"], "name": "library"}));
        serde_json::json!({"name": name, "manifest_path": format!("/{name}/Cargo.toml"), "targets": targets})
    }

    #[test]
    fn a_package_is_built_with_the_features_of_its_workspace() {
        let workspace = serde_json::json!({"packages": [described("a", &["a"]), described("b", &["tool"])]});
        let (name, selection) = package(&workspace, Path::new("/a/Cargo.toml")).unwrap();
        assert_eq!((name.as_str(), selection.join(" ").as_str()), ("a", "--workspace --bin a"));
        let alone = serde_json::json!({"packages": [described("a", &["a", "b"])]});
        assert_eq!(package(&alone, Path::new("/a/Cargo.toml")).unwrap().1, ["--bins"]);
    }

    #[test]
    fn a_package_is_built_alone_where_another_has_a_binary_of_its_name() {
        let workspace = serde_json::json!({"packages": [described("a", &["run"]), described("b", &["run"])]});
        assert_eq!(package(&workspace, Path::new("/a/Cargo.toml")).unwrap().1, ["--bins"]);
    }

    #[test]
    fn a_package_without_a_binary_and_a_manifest_without_a_package_are_errors() {
        let workspace = serde_json::json!({"packages": [described("a", &[]), described("b", &["b"])]});
        let of = |path| package(&workspace, Path::new(path)).unwrap_err().to_string();
        assert_eq!(of("/a/Cargo.toml"), "a has no binary");
        assert_eq!(of("/Cargo.toml"), "/Cargo.toml has no [package] with a name");
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

//! Objects of files in a test: what `kubectl apply -f` does, definitions first.

use std::path::{Path, PathBuf};

use kubewright_cluster::apply;
use serde_json::Value;

use crate::{TestCluster, TestError};

impl TestCluster {
    /// Applies objects, given as YAML or JSON, any number of documents; those without a namespace go to `default`. Definitions
    /// are applied first and served when this returns, wherever they stand.
    ///
    /// ```no_run
    /// # use kubewright_testing::{TestCluster, TestError};
    /// # async fn example(cluster: &TestCluster) -> Result<(), TestError> {
    /// cluster.apply(r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}"#).await?;
    /// cluster.apply_files("config/crd").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the text is no YAML, or the cluster refuses an object; those before it stay.
    pub async fn apply(&self, objects: &str) -> Result<(), TestError> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(objects).map_err(TestError::Yaml)?;
        self.apply_all(objects).await
    }

    /// Applies the objects of a file, or of all files of a folder that end in `.yaml`, `.yml` or `.json`, as
    /// [`apply`](Self::apply).
    ///
    /// # Errors
    /// When a file can't be read or is no YAML, or the cluster refuses an object.
    pub async fn apply_files(&self, path: impl AsRef<Path>) -> Result<(), TestError> {
        let mut objects = Vec::new();
        for file in files(path.as_ref())? {
            let text =
                std::fs::read_to_string(&file).map_err(|source| TestError::Read { path: file, source })?;
            objects.extend(serde_saphyr::from_multiple::<Value>(&text).map_err(TestError::Yaml)?);
        }
        self.apply_all(objects).await
    }

    pub(crate) async fn apply_all(&self, mut objects: Vec<Value>) -> Result<(), TestError> {
        // A document that is empty, or of comments alone.
        objects.retain(|object| !object.is_null());
        let (definitions, others): (Vec<Value>, Vec<Value>) =
            objects.into_iter().partition(|object| object["kind"] == "CustomResourceDefinition");
        for objects in [definitions, others] {
            let applied =
                apply::apply(&self.client(), &objects, "default").await.map_err(TestError::Apply)?;
            apply::established(&self.client(), &applied).await.map_err(TestError::Apply)?;
        }
        Ok(())
    }
}

/// The files that a path stands for, in order.
fn files(path: &Path) -> Result<Vec<PathBuf>, TestError> {
    let unreadable = |source| TestError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let wanted =
            file.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|one| end == *one));
        if wanted && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

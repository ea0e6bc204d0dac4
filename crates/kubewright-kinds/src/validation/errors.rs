//! The collector of field errors that every validator writes to, in the order of its checks.

use kubewright_machinery::field::{Error, Path};
use serde_json::Value;

use super::gotypes::{self, Go};

/// Field errors, in order.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<Error>);

impl Errors {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn into_vec(self) -> Vec<Error> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, error: Error) {
        self.0.push(error);
    }

    pub fn extend(&mut self, errors: impl IntoIterator<Item = Error>) {
        self.0.extend(errors);
    }

    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.0.push(Error::invalid(path, value, detail));
    }

    /// An invalid value that is a Go struct: the message shows it as Go would print its internal type.
    pub fn invalid_go(&mut self, path: &Path<'_>, go: &Go, value: &Value, detail: impl Into<String>) {
        self.0.push(Error::invalid(path, value.clone(), detail).showing(gotypes::render(go, value)));
    }

    pub fn duplicate_go(&mut self, path: &Path<'_>, go: &Go, value: &Value, detail: &str) {
        let mut error = Error::duplicate(path, value.clone()).showing(gotypes::render(go, value));
        error.detail = detail.to_string();
        self.0.push(error);
    }

    /// An invalid value that the message leaves out.
    pub fn invalid_unshown(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        let detail: String = detail.into();
        self.0.push(Error::invalid(path, Value::Null, "").showing(detail));
    }

    pub fn required(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.0.push(Error::required(path, detail));
    }

    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.0.push(Error::forbidden(path, detail));
    }

    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.0.push(Error::duplicate(path, value));
    }

    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.0.push(Error::not_found(path, value));
    }

    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        self.0.push(Error::not_supported(path, value, supported));
    }

    pub fn not_supported_go(&mut self, path: &Path<'_>, go: &Go, value: &Value, supported: &[&str]) {
        self.0.push(Error::not_supported(path, value.clone(), supported).showing(gotypes::render(go, value)));
    }

    pub fn too_long(&mut self, path: &Path<'_>, max: usize) {
        self.0.push(Error::too_long(path, max));
    }

    pub fn too_many(&mut self, path: &Path<'_>, actual: usize, max: usize) {
        self.0.push(Error::too_many(path, actual, max));
    }

    /// One invalid value, with each of the messages.
    pub fn each(&mut self, path: &Path<'_>, value: &str, messages: Vec<String>) {
        self.0.extend(messages.into_iter().map(|m| Error::invalid(path, value, m)));
    }
}

/// The messages of what a check finds, as tests compare them.
#[cfg(test)]
pub(super) fn texts(check: impl FnOnce(&mut Errors)) -> Vec<String> {
    let mut e = Errors::new();
    check(&mut e);
    e.into_vec().iter().map(ToString::to_string).collect()
}

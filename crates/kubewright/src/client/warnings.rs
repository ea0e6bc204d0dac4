//! Warnings of the API server (`Warning: 299 - "…"`), such as of deprecated versions: logged once each, however
//! often they come. Nothing is kept of requests.

use std::collections::HashSet;

use http::{HeaderMap, header};
use parking_lot::Mutex;

/// Distinct warnings remembered; after so many the memory starts anew, and they are logged once more.
const REMEMBERED: usize = 1000;

/// What was warned of so far.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    seen: Mutex<HashSet<String>>,
    /// Nobody wants to know.
    ignored: bool,
}

impl Warnings {
    /// Warnings of which nothing is logged, or is.
    pub(crate) fn ignored(ignored: bool) -> Warnings {
        Warnings { ignored, ..Warnings::default() }
    }

    /// Logs the warnings of an answer that were not logged before.
    pub(crate) fn surface(&self, headers: &HeaderMap, method: &http::Method, path: &str) {
        for text in headers.get_all(header::WARNING).iter().filter_map(|value| read(value.to_str().ok()?)) {
            if self.is_new(&text) {
                tracing::warn!(%method, path, "the API server warns: {text}");
            }
        }
    }

    fn is_new(&self, text: &str) -> bool {
        if self.ignored {
            return false;
        }
        let mut seen = self.seen.lock();
        if seen.len() >= REMEMBERED && !seen.contains(text) {
            seen.clear();
        }
        seen.insert(text.to_owned())
    }
}

/// The text of a warning of code 299, the one that Kubernetes uses.
fn read(value: &str) -> Option<String> {
    let rest = value.trim().strip_prefix("299 ")?;
    let quoted = rest[rest.find('"')? + 1..].chars();
    let (mut text, mut escaped) = (String::new(), false);
    for letter in quoted {
        match letter {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Some(text),
            letter => {
                text.push(letter);
                escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_read_as_kubernetes_writes_them() {
        assert_eq!(
            read(r#"299 - "v1beta1 is \"old\" and \\ gone""#).as_deref(),
            Some(r#"v1beta1 is "old" and \ gone"#)
        );
        for other in [r#"199 - "x""#, "299", r#"299 - "without end"#, ""] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_warning_is_new_once() {
        let warnings = Warnings::default();
        assert!(warnings.is_new("a") && !warnings.is_new("a") && warnings.is_new("b"));
        (0..REMEMBERED).for_each(|number| {
            warnings.is_new(&number.to_string());
        });
        assert!(warnings.seen.lock().len() <= REMEMBERED);
    }

    #[test]
    fn a_warning_that_nobody_wants_to_know_of_is_not_news() {
        assert!(!Warnings::ignored(true).is_new("a") && Warnings::ignored(false).is_new("a"));
    }
}

//! Field selectors: `a=b,c!=d` with `\` escapes (apimachinery `fields`). Which fields a kind has is the caller's
//! knowledge: see [`FieldSelector::transform`].

use std::borrow::Cow;
use std::fmt;

/// A field selector's text has no meaning. The text is the server's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A part without operator.
    #[error("invalid selector: '{selector}'; can't understand '{part}'")]
    NoOperator {
        /// The whole text.
        selector: String,
        /// The part.
        part: String,
    },
    /// `\` before something that needs no escape.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// `,` or `=` in a value; the character's code point.
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The field, such as `metadata.name`.
    pub field: String,
    /// Whether the value must differ.
    pub negated: bool,
    /// The value.
    pub value: String,
}

/// Conditions that all have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    /// Matches every object.
    pub const fn everything() -> Self {
        Self { terms: Vec::new() }
    }

    /// One field that must have a value.
    pub fn equal(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self { terms: vec![Term { field: field.into(), negated: false, value: value.into() }] }
    }

    /// Reads the text of a `fieldSelector` parameter; empty parts are ignored, the others sorted.
    ///
    /// # Errors
    /// With the words of the API server.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = split(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|p| !p.is_empty()) {
            let Some((field, negated, value)) = operator(part) else {
                return Err(Error::NoOperator { selector: text.to_string(), part: part.to_string() });
            };
            terms.push(Term { field: field.to_string(), negated, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// The conditions.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether every object matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that a field has to have, if the selector says so.
    pub fn exact_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| !t.negated && t.field == field).map(|t| t.value.as_str())
    }

    /// Maps every field and value, as kinds do that rename or refuse fields; a term whose field and value both
    /// become empty is dropped.
    ///
    /// # Errors
    /// The first error of `map`.
    pub fn transform<E>(
        self,
        mut map: impl FnMut(String, String) -> Result<(String, String), E>,
    ) -> Result<Self, E> {
        let mut terms = Vec::with_capacity(self.terms.len());
        for term in self.terms {
            let (field, value) = map(term.field, term.value)?;
            if !field.is_empty() || !value.is_empty() {
                terms.push(Term { field, negated: term.negated, value });
            }
        }
        Ok(Self { terms })
    }

    /// Whether the fields match, given as a look-up; an absent field reads as the empty text.
    pub fn matches<'v>(&self, field: impl Fn(&str) -> Option<Cow<'v, str>>) -> bool {
        self.terms.iter().all(|t| (field(&t.field).as_deref().unwrap_or_default() == t.value) != t.negated)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

/// Escapes a value for use in a field selector's text.
pub fn escape(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', ',', '=']) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 4);
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    Cow::Owned(out)
}

fn unescape(value: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(Error::Escape(format!("\\{c}"))),
                None => return Err(Error::Escape("\\".into())),
            },
            ',' | '=' => return Err(Error::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Splits at commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

/// Field, whether negated, and value.
fn operator(part: &str) -> Option<(&str, bool, &str)> {
    let at = part
        .char_indices()
        .map(|(i, _)| i)
        .find(|i| part[*i..].starts_with("!=") || part[*i..].starts_with('='))?;
    let (field, rest) = part.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, true, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, false, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terms_are_sorted_and_printed_back() {
        let s = FieldSelector::parse("b!=2,,a==1").unwrap();
        assert_eq!(s.to_string(), "a=1,b!=2");
        assert_eq!(s.exact_value("a"), Some("1"));
        assert_eq!(s.exact_value("b"), None);
        assert!(s.matches(|f| (f == "a").then_some(Cow::Borrowed("1"))));
        assert!(!s.matches(|_| Some(Cow::Borrowed("2"))));
    }

    #[test]
    fn faults_have_the_servers_words() {
        let error = |t: &str| FieldSelector::parse(t).unwrap_err().to_string();
        assert_eq!(
            error("metadata.name"),
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
        assert_eq!(error(r"a=\b"), r"invalid field selector: invalid escape sequence: \b");
        assert_eq!(error("a=b=c"), "invalid field selector: unescaped character in value: 61");
    }

    #[test]
    fn a_transformation_may_refuse_or_drop() {
        let s = FieldSelector::parse("a=1,b=2").unwrap();
        let out = s
            .clone()
            .transform(|f, v| Ok::<_, ()>(if f == "a" { (String::new(), String::new()) } else { (f, v) }));
        assert_eq!(out.unwrap().to_string(), "b=2");
        assert_eq!(s.transform(|f, _| Err::<(String, String), _>(f)), Err("a".to_string()));
    }

    proptest! {
        #[test]
        fn values_survive_printing_and_parsing(value in "[a-z\\\\,=!]{0,8}") {
            let s = FieldSelector::equal("f", value);
            prop_assert_eq!(FieldSelector::parse(&s.to_string()), Ok(s));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-c\\\\,=!é]{0,16}") {
            let _ = FieldSelector::parse(&text);
        }
    }
}

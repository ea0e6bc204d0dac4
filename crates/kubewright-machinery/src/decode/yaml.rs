//! YAML → the same tree as JSON. Scalars have YAML 1.1's meaning, as Kubernetes reads it (`yes` is a boolean);
//! duplicate keys are noted with their line, and the last wins.
//!
//! Lines are YAML 1.2's: U+0085, U+2028 and U+2029 are characters as any other, where Kubernetes' reader has them end a
//! line and drops the spaces around them. Numbers beyond the greatest float are refused, where Kubernetes reads strings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::tree::Node;
use super::{Error, MAX_DEPTH};

/// The first document, and its duplicate keys in the order of the text.
pub(super) fn parse(bytes: &[u8]) -> Result<(Node, Vec<String>), Error> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let duplicates = RefCell::new(Vec::new());
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Yaml("invalid UTF-8".into()))?;
    let text = first_document(text);
    if text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#') || l.trim() == "---") {
        return Ok((Node::Null, Vec::new()));
    }
    let seed = Document { duplicates: &duplicates, depth: 0 };
    let node = serde_saphyr::with_deserializer_from_str_with_options(text, options, |d| seed.deserialize(d))
        .map_err(|e| {
            Error::Yaml(in_libyaml_words(
                &e.to_string(),
                e.location().map(|at| {
                    (usize::try_from(at.line()).unwrap_or(1), usize::try_from(at.column()).unwrap_or(1))
                }),
                text,
            ))
        })?;
    Ok((node, duplicates.into_inner()))
}

/// A parser's message in the words of libyaml, which people know from Kubernetes, with the line that libyaml counts.
fn in_libyaml_words(message: &str, at: Option<(usize, usize)>, text: &str) -> String {
    // The place is said once, in front.
    let said = message.rsplit_once(" at line ").map_or(message, |(said, _)| said);
    let Some((line, column)) = at.filter(|_| !said.starts_with("line")) else { return said.to_owned() };
    let said = match said.split_once(", ") {
        Some((context, said)) if context.starts_with("while parsing") => said,
        _ => said,
    };
    // Errors of the scanner count lines from one, those of the parser from zero; neither names a first line.
    let (before, said) = match said {
        "unclosed bracket '{'" => (text.lines().count(), "did not find expected ',' or '}'"),
        "unclosed bracket '['" => (text.lines().count(), "did not find expected ',' or ']'"),
        "did not find expected key" | "did not find expected '-' indicator" => (line - 1, said),
        "alias references unknown anchor" => {
            let alias =
                text.lines().nth(line - 1).and_then(|line| line.get(column - 1..)).unwrap_or_default();
            let name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            let name: String = alias.trim_start_matches('*').chars().take_while(name).collect();
            return format!("unknown anchor '{name}' referenced");
        }
        "invalid !!binary base64" => return "!!binary value contains invalid base64 data".into(),
        said if said.starts_with("unexpected character: `\\u{") => {
            return "control characters are not allowed".into();
        }
        said => {
            let (line, said) = match said {
                "invalid indentation in multiline quoted scalar" => (line, "found unexpected end of stream"),
                "simple key expected ':'" => (line + 1, "could not find expected ':'"),
                said if said.starts_with("tabs disallowed") || said.starts_with("unexpected character") => {
                    (line, "found character that cannot start any token")
                }
                said => (line, said),
            };
            (if line > 1 { line } else { 0 }, said)
        }
    };
    if before == 0 { said.to_owned() } else { format!("line {before}: {said}") }
}

/// Up to the `---` that begins a second document.
fn first_document(text: &str) -> &str {
    let mut at = 0;
    let mut content = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") {
            if content {
                return &text[..at];
            }
            content = bare != "---";
        } else if !bare.is_empty() && !bare.starts_with(['#', '%']) {
            content = true;
        }
        at += line.len();
    }
    text
}

#[derive(Clone, Copy)]
struct Document<'a> {
    duplicates: &'a RefCell<Vec<String>>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

/// A key: any scalar, as its text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Key)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string().into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string().into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        match serde_json::Number::from_f64(value) {
            Some(number) => Ok(Node::Number(crate::field::number(&number).into())),
            None => Err(E::custom("a number that JSON can't hold")),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let below = Document { depth: self.depth + 1, ..self };
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            out.push(item);
        }
        Ok(Node::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let below = Document { depth: self.depth + 1, ..self };
        let mut out: Vec<(String, Node)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some(key) = members.next_key::<Spanned<Key>>()? {
            let line = key.referenced.line();
            let Key(name) = key.value;
            let value = members.next_value_seed(below)?;
            match places.get(&name).and_then(|place| out.get_mut(*place)) {
                Some(before) => {
                    let fault = format!("line {line}: key {} already set in map", crate::field::quote(&name));
                    self.duplicates.borrow_mut().push(fault);
                    before.1 = value;
                }
                None => {
                    places.insert(name.clone(), out.len());
                    out.push((name, value));
                }
            }
        }
        Ok(Node::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_said_as_libyaml_says_them() {
        for (text, fault) in [
            ("a: b: c", "mapping values are not allowed in this context"),
            ("x: 1\na: b: c", "line 2: mapping values are not allowed in this context"),
            ("x: 1\na: {b\n", "line 2: did not find expected ',' or '}'"),
            ("x: 1\na: [b\n", "line 2: did not find expected ',' or ']'"),
            ("a: \"b\n", "line 2: found unexpected end of stream"),
            ("a:\n\tb: c\n", "line 2: found character that cannot start any token"),
            ("x: 1\na: @b\n", "line 2: found character that cannot start any token"),
            ("a: b\nkind\n", "line 3: could not find expected ':'"),
            ("a: b\n- c\n", "line 1: did not find expected key"),
            ("x: 1\na: *b\n", "unknown anchor 'b' referenced"),
            ("a: !!binary '*'\n", "!!binary value contains invalid base64 data"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), Error::Yaml(fault.into()), "{text:?}");
        }
    }
}

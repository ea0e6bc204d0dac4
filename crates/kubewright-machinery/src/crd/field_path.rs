//! Paths of selectable fields and of rules: accessors of fields and map keys, checked against a schema.

use crate::schema::Schema;

/// A path that was found in a schema.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The path as field errors write it (`spec.a[key]`); equal paths are equal texts.
    pub path: String,
    /// The schema it leads to; none for the untyped values of a map.
    pub schema: Option<&'a Schema>,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `[` where only dots may be.
    #[error("array notation is not allowed")]
    ArrayNotation,
    /// The text ends too early.
    #[error("unexpected end of JSON path")]
    End,
    /// A key that is not in single quotes.
    #[error("expected single quoted string but got {0}")]
    Unquoted(String),
    /// An escape that does not exist.
    #[error("invalid string literal: invalid escape char {0}")]
    Escape(String),
    /// The schema has no such field.
    #[error("does not refer to a valid field")]
    NoField,
    /// A key whose bracket is not closed.
    #[error("expected ] but got {0}")]
    Unclosed(String),
    /// A step that begins with neither dot nor bracket.
    #[error("expected [ or . but got: {0}")]
    NoStep(String),
}

/// Follows `.spec.name` or `.map['key']` through a schema. Keys are taken only with `brackets`.
///
/// # Errors
/// The first step that is malformed or not in the schema.
pub fn find<'a>(path: &str, schema: &'a Schema, brackets: bool) -> Result<Found<'a>, Error> {
    let mut tokens = tokens(path).into_iter();
    let mut found = Found { path: String::new(), schema: Some(schema) };
    while let Some(token) = tokens.next() {
        match token {
            "[" if !brackets => return Err(Error::ArrayNotation),
            "[" => {
                let key = tokens.next().ok_or(Error::End)?;
                let inner = key.strip_prefix('\'').and_then(|k| k.strip_suffix('\''));
                let inner = inner.ok_or_else(|| Error::Unquoted(key.into()))?;
                step(&mut found, &unescape(inner)?)?;
                match tokens.next() {
                    None => return Err(Error::End),
                    Some("]") => {}
                    Some(other) => return Err(Error::Unclosed(other.into())),
                }
            }
            "." => step(&mut found, tokens.next().ok_or(Error::End)?)?,
            other => return Err(Error::NoStep(other.into())),
        }
    }
    Ok(found)
}

fn step(found: &mut Found<'_>, name: &str) -> Result<(), Error> {
    let schema = found.schema.ok_or(Error::NoField)?;
    if !schema.properties.is_empty() {
        if !found.path.is_empty() {
            found.path.push('.');
        }
        found.path.push_str(name);
        found.schema = Some(schema.properties.get(name).ok_or(Error::NoField)?);
    } else if schema.additional.is_some() || schema.additional_false {
        found.path.push_str(&format!("[{name}]"));
        found.schema = schema.additional.as_deref().filter(|s| !s.is_untyped());
    } else {
        return Err(Error::NoField);
    }
    Ok(())
}

/// Dots, brackets, and the text between them; a text in single quotes is one token.
fn tokens(path: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = if rest.starts_with('\'') {
            let bytes = rest.as_bytes();
            let close = (1..bytes.len()).find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\');
            close.map_or(rest.len(), |i| i + 1)
        } else {
            rest.find(['.', '[', ']']).map_or(rest.len(), |i| i.max(1))
        };
        let (token, tail) = rest.split_at(end);
        out.push(token);
        rest = tail;
    }
    out
}

fn unescape(text: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = chars.next() else {
            out.push('\\');
            break;
        };
        out.push(match escape {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\'' | '\\' => escape,
            other => return Err(Error::Escape(format!("\\{other}"))),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::structural::parse;

    #[test]
    fn paths_are_followed_through_the_schema() {
        let schema = parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"name": {"type": "string"}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}}}}));
        let find = |path: &str| find(path, &schema, true);
        assert_eq!(find(".spec.name").unwrap().path, "spec.name");
        assert_eq!(find(".map['a.b']").unwrap().path, "map[a.b]");
        assert_eq!(find(".spec.nothing").unwrap_err(), Error::NoField);
        assert_eq!(find("spec").unwrap_err(), Error::NoStep("spec".into()));
        assert_eq!(find(".spec.").unwrap_err(), Error::End);
        assert_eq!(super::find(".map['a']", &schema, false).unwrap_err(), Error::ArrayNotation);
    }
}

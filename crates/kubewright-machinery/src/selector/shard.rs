//! Shard selectors (KEP-5866): objects whose uid or namespace hashes into given ranges. The text is a chain of
//! `shardRange(object.metadata.uid, '0x…', '0x…')` calls joined by `||`; the hash is 64-bit FNV-1a.

use std::fmt;

use serde_json::Value;

use crate::field::quote;
use crate::meta;

/// A shard selector's text has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing but space.
    #[error("empty shard selector is not allowed; omit the parameter for unfiltered lists")]
    Empty,
    /// No expression of CEL, or one of a kind that has no place here.
    #[error("CEL parse error: Syntax error: unexpected {found}")]
    Syntax {
        /// What stands there.
        found: String,
    },
    /// A call of something else.
    #[error("unsupported function {}; only shardRange() and || are allowed", quote(.0))]
    Function(String),
    /// A number of arguments other than three.
    #[error("shardRange() requires exactly 3 arguments, got {0}")]
    Arguments(usize),
    /// A field that has no shards.
    #[error("unsupported field path {}; supported: object.metadata.uid, object.metadata.namespace", quote(.0))]
    Field(String),
    /// A bound that is no string.
    #[error("{bound} must be a string literal (e.g. '0xff')")]
    NotAString {
        /// `hexStart` or `hexEnd`.
        bound: &'static str,
    },
    /// A bound without `0x`.
    #[error("{bound} must have '0x' prefix, got {}", quote(.text))]
    Prefix {
        /// `hexStart` or `hexEnd`.
        bound: &'static str,
        /// The text.
        text: String,
    },
    /// A bound without digits.
    #[error("{bound}: hex value is required after '0x'")]
    NoDigits {
        /// `hexStart` or `hexEnd`.
        bound: &'static str,
    },
    /// A bound of more than 17 digits.
    #[error("{bound}: hex value too long ({} chars, max 17): {}", .digits.chars().count(), quote(.digits))]
    TooLong {
        /// `hexStart` or `hexEnd`.
        bound: &'static str,
        /// The digits.
        digits: String,
    },
    /// A bound with something that is no lower-case hexadecimal digit.
    #[error("{bound}: invalid hex character {} in {}", quote(&.character.to_string()), quote(.text))]
    Digit {
        /// `hexStart` or `hexEnd`.
        bound: &'static str,
        /// The character.
        character: char,
        /// The text.
        text: String,
    },
    /// 17 digits that are not 2⁶⁴.
    #[error("{bound}: 17-digit hex value must be '0x10000000000000000' (2^64), got {}", quote(.text))]
    Above {
        /// `hexStart` or `hexEnd`.
        bound: &'static str,
        /// The text.
        text: String,
    },
    /// Fewer than 16 digits.
    #[error("{bound} must be a 0x-prefixed 16-digit hex value, got {} (did you mean \"0x{digits:0>16}\"?)", quote(&format!("0x{digits}")))]
    Short {
        /// `hexStart` or `hexEnd`.
        bound: &'static str,
        /// The digits.
        digits: String,
    },
    /// An empty range.
    #[error("shard range start {start} must be less than end {end}")]
    EmptyRange {
        /// The start as written.
        start: String,
        /// The end as written.
        end: String,
    },
    /// Ranges of different fields.
    #[error("all shard ranges must use the same field, got {} and {}", quote(.0), quote(.1))]
    MixedFields(String, String),
}

/// What is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `object.metadata.uid`.
    Uid,
    /// `object.metadata.namespace`.
    Namespace,
}

impl Key {
    fn path(self) -> &'static str {
        match self {
            Key::Uid => "object.metadata.uid",
            Key::Namespace => "object.metadata.namespace",
        }
    }
}

/// Ranges of hashes of one field; an object whose hash lies in any of them matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSelector {
    key: Key,
    ranges: Vec<(u128, u128)>,
}

/// FNV-1a, 64 bit.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

impl ShardSelector {
    /// The ranges `start..end` (end up to 2⁶⁴) of one field.
    pub fn new(key: Key, ranges: Vec<(u128, u128)>) -> Self {
        Self { key, ranges }
    }

    /// Shard `index` of `count` of even size, by uid; an index past the last shard gives the last.
    pub fn nth(index: u32, count: u32) -> Self {
        let count = u128::from(count.max(1));
        let index = u128::from(index).min(count - 1);
        let bound = |i: u128| (i << 64) / count;
        Self::new(Key::Uid, vec![(bound(index), bound(index + 1))])
    }

    /// Reads the text of a `shardSelector` parameter.
    ///
    /// # Errors
    /// With the words of the API server, but for texts that are no CEL at all.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Err(Error::Empty);
        }
        let mut parser = Parser { rest: text };
        let mut found: Vec<(Key, u128, u128)> = Vec::new();
        // `||` is associative and nothing else may stand beside it, so parentheses only have to balance.
        let mut open = 0;
        loop {
            while parser.eat("(") {
                open += 1;
            }
            found.push(parser.call()?);
            while open > 0 && parser.eat(")") {
                open -= 1;
            }
            if parser.eat("||") {
                continue;
            }
            if !parser.rest.trim_start().is_empty() || open > 0 {
                return Err(parser.unexpected());
            }
            break;
        }
        let key = found[0].0;
        if let Some((other, ..)) = found.iter().find(|(k, ..)| *k != key) {
            return Err(Error::MixedFields(key.path().into(), other.path().into()));
        }
        Ok(Self { key, ranges: found.into_iter().map(|(_, start, end)| (start, end)).collect() })
    }

    /// What is hashed.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The ranges `start..end`.
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// Whether the text of the key's field hashes into one of the ranges.
    pub fn accepts(&self, value: &str) -> bool {
        let hash = u128::from(hash(value));
        self.ranges.iter().any(|(start, end)| (*start..*end).contains(&hash))
    }

    /// Whether an object matches.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.accepts(match self.key {
            Key::Uid => meta::uid(object),
            Key::Namespace => meta::namespace(object),
        })
    }
}

impl fmt::Display for ShardSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (start, end)) in self.ranges.iter().enumerate() {
            let or = if i > 0 { " || " } else { "" };
            write!(f, "{or}shardRange({}, '0x{start:016x}', '0x{end:016x}')", self.key.path())?;
        }
        Ok(())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn unexpected(&self) -> Error {
        let found = self.rest.trim_start().chars().next();
        Error::Syntax { found: found.map_or("end of text".into(), |c| quote(&c.to_string())) }
    }

    /// An identifier with dots.
    fn path(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end =
            text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(text.len());
        let (path, rest) = text.split_at(end);
        if path.is_empty() || path.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(path)
    }

    /// A string literal without escapes.
    fn string(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let mark = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let inner = &text[1..];
        let end = inner.find(mark)?;
        self.rest = &inner[end + 1..];
        Some(&inner[..end])
    }

    fn call(&mut self) -> Result<(Key, u128, u128), Error> {
        let function = self.path().ok_or_else(|| self.unexpected())?;
        if !self.eat("(") {
            return Err(self.unexpected());
        }
        if function != "shardRange" {
            return Err(Error::Function(function.to_string()));
        }
        let mut texts: Vec<Result<&str, &str>> = Vec::new();
        if !self.eat(")") {
            loop {
                let argument = match self.string() {
                    Some(text) => Ok(text),
                    None => Err(self.path().or_else(|| self.digits()).ok_or_else(|| self.unexpected())?),
                };
                texts.push(argument);
                if self.eat(")") {
                    break;
                }
                if !self.eat(",") {
                    return Err(self.unexpected());
                }
            }
        }
        let [field, start, end] = texts.as_slice() else { return Err(Error::Arguments(texts.len())) };
        let key = match field {
            Err("object.metadata.uid") => Key::Uid,
            Err("object.metadata.namespace") => Key::Namespace,
            Ok(other) | Err(other) => return Err(Error::Field((*other).to_string())),
        };
        let (low, high) = (bound(*start, "hexStart")?, bound(*end, "hexEnd")?);
        if low >= high {
            let text = |b: &Result<&str, &str>| b.unwrap_or_default().to_string();
            return Err(Error::EmptyRange { start: text(start), end: text(end) });
        }
        Ok((key, low, high))
    }

    /// A number, so that its place can be named.
    fn digits(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        self.rest = rest;
        (!digits.is_empty()).then_some(digits)
    }
}

fn bound(text: Result<&str, &str>, bound: &'static str) -> Result<u128, Error> {
    let text = text.map_err(|_| Error::NotAString { bound })?;
    let digits = text.strip_prefix("0x").ok_or_else(|| Error::Prefix { bound, text: text.to_string() })?;
    if digits.is_empty() {
        return Err(Error::NoDigits { bound });
    }
    if digits.len() > 17 {
        return Err(Error::TooLong { bound, digits: digits.to_string() });
    }
    if let Some(character) = digits.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
        return Err(Error::Digit { bound, character, text: text.to_string() });
    }
    match digits.len() {
        17 if digits != "10000000000000000" => Err(Error::Above { bound, text: text.to_string() }),
        16 | 17 => {
            Ok(digits.bytes().fold(0, |n, b| n * 16 + u128::from(char::from(b).to_digit(16).unwrap_or(0))))
        }
        _ => Err(Error::Short { bound, digits: digits.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn shards_cover_every_object_once() {
        let shards: Vec<_> = (0..3).map(|i| ShardSelector::nth(i, 3)).collect();
        for uid in ["", "a", "5b6ff1ea-0d4c-4f2e-8f1c-6d2a1c3b4d5e", "x"] {
            assert_eq!(shards.iter().filter(|s| s.accepts(uid)).count(), 1);
        }
        assert_eq!(shards[2].ranges()[0].1, 1 << 64);
    }

    #[test]
    fn calls_are_joined_by_or() {
        let text = "shardRange(object.metadata.uid,'0x0000000000000000','0x4000000000000000')||(shardRange(object.metadata.uid, \"0x8000000000000000\", '0x10000000000000000'))";
        let s = ShardSelector::parse(text).unwrap();
        assert_eq!(s.ranges(), [(0, 1 << 62), (1 << 63, 1 << 64)]);
        assert_eq!(ShardSelector::parse(&s.to_string()), Ok(s));
    }

    #[test]
    fn faults_have_the_servers_words() {
        let error = |t: &str| ShardSelector::parse(t).unwrap_err().to_string();
        let uid = "object.metadata.uid";
        assert_eq!(
            error(" "),
            "empty shard selector is not allowed; omit the parameter for unfiltered lists"
        );
        assert_eq!(error("f(1)"), "unsupported function \"f\"; only shardRange() and || are allowed");
        assert_eq!(error("shardRange()"), "shardRange() requires exactly 3 arguments, got 0");
        assert_eq!(
            error("shardRange(object.spec, '0x0', '0x1')"),
            "unsupported field path \"object.spec\"; supported: object.metadata.uid, object.metadata.namespace"
        );
        assert_eq!(
            error(&format!("shardRange({uid}, '0xff', '0x1')")),
            "hexStart must be a 0x-prefixed 16-digit hex value, got \"0xff\" (did you mean \"0x00000000000000ff\"?)"
        );
        assert_eq!(
            error(&format!("shardRange({uid}, '0x0000000000000001', '0x0000000000000001')")),
            "shard range start 0x0000000000000001 must be less than end 0x0000000000000001"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[shardRange(),'0x.|é \"]{0,24}|(shardRange|\\(|\\)|,|object\\.metadata\\.uid|'0x0000000000000000'|'0x8000000000000000'|\\|\\|){0,10}") {
            if let Ok(s) = ShardSelector::parse(&text) {
                prop_assert_eq!(ShardSelector::parse(&s.to_string()), Ok(s));
            }
        }
    }
}

//! JSON text, read piece by piece: the order of members, duplicate keys and numbers as written are all seen. The faults
//! of the text are named as Go's scanner names them.

use std::borrow::Cow;

use super::reader::{Reader, Token};
use super::{Error, MAX_DEPTH};
use crate::field::quote;

/// Reads a text.
pub(super) struct Text<'a> {
    bytes: &'a [u8],
    /// The same where it is UTF-8; where it is not, strings get replacement characters.
    text: Option<&'a str>,
    at: usize,
    /// How many arrays and objects are open.
    depth: usize,
    /// Nothing was read yet of the innermost of them.
    fresh: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, text: std::str::from_utf8(bytes).ok(), at: 0, depth: 0, fresh: false }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The text from `start` to here.
    fn since(&self, start: usize) -> Cow<'a, str> {
        match self.text {
            Some(text) => Cow::Borrowed(&text[start..self.at]),
            None => String::from_utf8_lossy(&self.bytes[start..self.at]),
        }
    }

    /// The fault that the next byte is, or that there is none.
    fn unexpected(&self, context: impl Into<String>) -> Error {
        match self.peek() {
            None => Error::UnexpectedEnd,
            Some(b'\'') => Error::Syntax { character: r"'\''".into(), context: context.into() },
            Some(b'"') => Error::Syntax { character: "'\"'".into(), context: context.into() },
            Some(byte) => {
                let quoted = quote(&char::from(byte).to_string());
                Error::Syntax {
                    character: format!("'{}'", &quoted[1..quoted.len() - 1]),
                    context: context.into(),
                }
            }
        }
    }

    fn literal(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, Error> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(self.unexpected(context));
            }
            self.at += 1;
        }
        Ok(token)
    }

    fn open(&mut self, token: Token<'a>) -> Result<Token<'a>, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::Depth);
        }
        self.at += 1;
        self.fresh = true;
        Ok(token)
    }

    /// Goes to the next item or member of what is open; false where it ends here, as it does at its `last` byte.
    fn advance(&mut self, last: u8, context: &str) -> Result<bool, Error> {
        self.space();
        let fresh = std::mem::take(&mut self.fresh);
        match self.peek() {
            Some(byte) if byte == last => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                Ok(false)
            }
            _ if fresh => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.unexpected(context)),
        }
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at > start
    }

    fn number(&mut self) -> Result<Token<'a>, Error> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // Nothing may follow a leading zero.
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else if !self.digits() {
            return Err(self.unexpected("in numeric literal"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.digits() {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !self.digits() {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
        }
        Ok(Token::Number(self.since(start)))
    }

    /// Goes over what stands for itself in a string, eight bytes at a time.
    fn plain(&mut self) {
        let ends = |b: &u8| *b == b'"' || *b == b'\\' || *b < 0x20;
        let rest = &self.bytes[self.at..];
        let (words, tail) = rest.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            let ends = ends_in(u64::from_le_bytes(*word));
            if ends != 0 {
                self.at += i * 8 + (ends.trailing_zeros() / 8) as usize;
                return;
            }
        }
        self.at += words.len() * 8 + tail.iter().position(ends).unwrap_or(tail.len());
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        self.at += 1;
        let mut start = self.at;
        self.plain();
        if self.peek() == Some(b'"') {
            let text = self.since(start);
            self.at += 1;
            return Ok(text);
        }
        let mut out = self.since(start).into_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                _ => return Err(self.unexpected("in string literal")),
            }
            start = self.at;
            self.plain();
            out.push_str(&self.since(start));
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Error> {
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(out),
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        out.push(c);
        Ok(())
    }

    /// `\uXXXX`, or a pair of surrogates; a surrogate alone becomes U+FFFD.
    fn unicode_escape(&mut self, out: &mut String) -> Result<(), Error> {
        self.at += 1;
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let point = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                out.push(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
                return Ok(());
            }
            self.at = before;
        }
        out.push(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(16)) else {
                return Err(self.unexpected(r"in \u hexadecimal character escape"));
            };
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }
}

/// A set bit for the first of eight bytes that ends what stands for itself in a string: a quote, a backslash or a control
/// character. The bits after the first mean nothing: a borrow can have made them.
pub(crate) fn ends_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let less = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word;
    let control = less(word, 0x20);
    let quote = less(word ^ (ONES * b'"' as u64), 1);
    let backslash = less(word ^ (ONES * b'\\' as u64), 1);
    (control | quote | backslash) & HIGH
}

impl<'a> Reader<'a> for Text<'a> {
    fn token(&mut self) -> Result<Token<'a>, Error> {
        self.space();
        match self.peek() {
            Some(b'{') => self.open(Token::Object),
            Some(b'[') => self.open(Token::Array),
            Some(b'"') => self.string().map(Token::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Token::Bool(true)),
            Some(b'f') => self.literal("false", Token::Bool(false)),
            Some(b'n') => self.literal("null", Token::Null),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn item(&mut self) -> Result<bool, Error> {
        self.advance(b']', "after array element")
    }

    fn key(&mut self) -> Result<Option<Cow<'a, str>>, Error> {
        if !self.advance(b'}', "after object key:value pair")? {
            return Ok(None);
        }
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("looking for beginning of object key string"));
        }
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("after object key"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    fn end(&mut self) -> Result<(), Error> {
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }
}

//! A small checked scanner over the JSON of one object: it finds members and skips values without
//! building anything. Brackets, strings and literals are checked; what it skips is checked when the
//! object is decoded. No recursion; it answers `None` to anything it does not understand, and callers
//! fall back on the full parser.

use std::ops::Range;

/// Deepest nesting the scanner follows; one bit a level.
const MAX_DEPTH: u32 = 127;

/// A cursor over JSON bytes.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Whether to look at further members of an object.
pub(crate) enum Flow {
    /// The closure consumed the value; go on.
    Next,
    /// The closure found what it wanted; the rest is not read.
    Stop,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Scanner<'a> {
        Scanner { bytes, at: 0 }
    }

    /// Offset of the next byte to read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Skips white space and shows the next byte.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Whether the first byte after white space at an offset is a comma.
    pub(crate) fn is_comma(&self, at: usize) -> bool {
        self.bytes.get(at..).is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b','))
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// A string's bytes between its quotes, and whether it has escapes.
    fn raw_string(&mut self) -> Option<(&'a [u8], bool)> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let found = memchr::memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            self.at += found;
            if self.bytes[self.at] == b'"' {
                let text = &self.bytes[start..self.at];
                self.at += 1;
                return Some((text, escaped));
            }
            escaped = true;
            self.at += 2;
        }
    }

    /// The value of a string.
    pub(crate) fn string(&mut self) -> Option<std::borrow::Cow<'a, str>> {
        self.peek()?;
        let start = self.at;
        let (text, escaped) = self.raw_string()?;
        if escaped {
            serde_json::from_slice::<String>(&self.bytes[start..self.at]).ok().map(Into::into)
        } else {
            std::str::from_utf8(text).ok().map(Into::into)
        }
    }

    /// The value of an integer or boolean as its text.
    pub(crate) fn scalar(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'a'..=b'z' | b'E') {
                break;
            }
            self.at += 1;
        }
        (self.at > start).then(|| std::str::from_utf8(&self.bytes[start..self.at]).ok()).flatten()
    }

    /// Skips one value and tells where it lies.
    pub(crate) fn skip(&mut self) -> Option<Range<usize>> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => {
                self.raw_string()?;
            }
            b'{' | b'[' => self.skip_container()?,
            b't' | b'f' | b'n' => {
                if !matches!(self.scalar()?, "true" | "false" | "null") {
                    return None;
                }
            }
            b'-' | b'0'..=b'9' => {
                self.scalar()?;
            }
            _ => return None,
        }
        Some(start..self.at)
    }

    fn skip_container(&mut self) -> Option<()> {
        let (mut depth, mut objects) = (0u32, 0u128);
        loop {
            match self.bytes.get(self.at)? {
                b'"' => {
                    self.raw_string()?;
                    continue;
                }
                open @ (b'{' | b'[') => {
                    if depth >= MAX_DEPTH {
                        return None;
                    }
                    depth += 1;
                    objects = objects << 1 | u128::from(*open == b'{');
                }
                close @ (b'}' | b']') => {
                    if (objects & 1 == 1) != (*close == b'}') {
                        return None;
                    }
                    depth -= 1;
                    objects >>= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Some(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Visits the members of an object. The closure gets the name and must consume the value; the
    /// last argument is where the member begins, its separating comma included (for cutting it out).
    pub(crate) fn members(
        &mut self,
        mut visit: impl FnMut(&mut Scanner<'a>, &str, usize) -> Option<Flow>,
    ) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        let mut begins = self.at;
        loop {
            let name = self.string()?;
            self.expect(b':')?;
            if let Flow::Stop = visit(self, &name, begins)? {
                return Some(());
            }
            begins = self.at;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Visits the elements of an array; the closure must consume each.
    pub(crate) fn elements(&mut self, mut visit: impl FnMut(&mut Scanner<'a>) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            visit(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }
}

/// The value at a path of member names.
pub(crate) fn find<'a>(bytes: &'a [u8], path: &[&str]) -> Option<&'a [u8]> {
    let mut value = bytes;
    for step in path {
        let mut found = None;
        Scanner::new(value).members(|scanner, name, _| {
            let range = scanner.skip()?;
            if name == *step {
                found = Some(range);
                return Some(Flow::Stop);
            }
            Some(Flow::Next)
        })?;
        value = &value[found?];
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_path_is_found_without_parsing_the_rest() {
        let text = br#"{"a":[{"x":"}]"}],"b":{"c\"d":1,"e":"f"}, broken"#;
        assert_eq!(find(text, &["b", "e"]), Some(&br#""f""#[..]));
        assert_eq!(find(text, &["b", "c\"d"]), Some(&b"1"[..]));
        assert_eq!(find(text, &["z"]), None);
    }

    #[test]
    fn mismatched_brackets_are_refused() {
        for text in ["{]", "[}", "{\"a\":[}", "\"", "{\"a\"", "", "nul", &"[".repeat(200)] {
            assert_eq!(Scanner::new(text.as_bytes()).skip(), None, "{text}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| json!(map.into_iter().collect::<serde_json::Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn skip_ends_exactly_where_a_value_ends(value in json_value(), pretty: bool) {
            let mut text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let length = text.len();
            text.extend_from_slice(b" ,true]");
            prop_assert_eq!(Scanner::new(&text).skip(), Some(0..length));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Scanner::new(&bytes).skip();
            let _ = find(&bytes, &["a"]);
        }
    }
}

//! What Go's `encoding/json` says about bytes that are no JSON object.

/// The reason why `bytes` are no JSON object, in Go's words, or nothing.
pub(super) fn object_error(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { bytes, at: 0 };
    if let Err(error) = scanner.document() {
        return Some(error);
    }
    let kind = match bytes.iter().find(|b| !b.is_ascii_whitespace())? {
        b'{' | b'n' => return None,
        b'[' => "array",
        b'"' => "string",
        b't' | b'f' => "bool",
        _ => "number",
    };
    Some(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
}

const MAX_DEPTH: usize = 10_000;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Checked = Result<(), String>;

fn shown(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_string(),
        b'"' => r#"'"'"#.to_string(),
        b'\\' => r"'\\'".to_string(),
        b'\n' => r"'\n'".to_string(),
        b'\r' => r"'\r'".to_string(),
        b'\t' => r"'\t'".to_string(),
        b' '..=b'~' => format!("'{}'", char::from(byte)),
        0x80.. => format!("'{}'", char::from(byte)),
        _ => format!(r"'\x{byte:02x}'"),
    }
}

impl Scanner<'_> {
    fn blanks(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn bad<T>(&self, context: &str) -> Result<T, String> {
        match self.bytes.get(self.at) {
            Some(byte) => Err(format!("invalid character {} {context}", shown(*byte))),
            None => Err("unexpected end of JSON input".to_string()),
        }
    }

    fn document(&mut self) -> Checked {
        // A stack of the closing brackets that are still due keeps deep input off the call stack.
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.blanks();
            self.value_start(&mut open)?;
            loop {
                self.blanks();
                match (open.last(), self.bytes.get(self.at)) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return self.bad("after top-level value"),
                    (Some(b'}'), Some(b',')) => {
                        self.at += 1;
                        self.key("looking for beginning of object key string")?;
                        break;
                    }
                    (Some(_), Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (Some(close), Some(byte)) if close == byte => {
                        self.at += 1;
                        open.pop();
                    }
                    (Some(b'}'), _) => return self.bad("after object key:value pair"),
                    (Some(_), _) => return self.bad("after array element"),
                }
            }
        }
    }

    /// A scalar whole, or the beginning of an object or array up to its first value.
    fn value_start(&mut self, open: &mut Vec<u8>) -> Checked {
        loop {
            self.blanks();
            match self.bytes.get(self.at) {
                Some(b'{') => {
                    self.at += 1;
                    self.blanks();
                    if self.bytes.get(self.at) == Some(&b'}') {
                        self.at += 1;
                        return Ok(());
                    }
                    open.push(b'}');
                    self.key("looking for beginning of object key string")?;
                }
                Some(b'[') => {
                    self.at += 1;
                    self.blanks();
                    if self.bytes.get(self.at) == Some(&b']') {
                        self.at += 1;
                        return Ok(());
                    }
                    open.push(b']');
                }
                Some(b'"') => return self.string(),
                Some(b't') => return self.literal("true"),
                Some(b'f') => return self.literal("false"),
                Some(b'n') => return self.literal("null"),
                Some(b'-' | b'0'..=b'9') => return self.number(),
                _ => return self.bad("looking for beginning of value"),
            }
            if open.len() > MAX_DEPTH {
                return Err("exceeded max depth".to_string());
            }
        }
    }

    fn key(&mut self, context: &str) -> Checked {
        self.blanks();
        if self.bytes.get(self.at) != Some(&b'"') {
            return self.bad(context);
        }
        self.string()?;
        self.blanks();
        if self.bytes.get(self.at) != Some(&b':') {
            return self.bad("after object key");
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Checked {
        for (i, expected) in word.bytes().enumerate() {
            if self.bytes.get(self.at) != Some(&expected) {
                return self
                    .bad(&format!("in literal {word} (expecting '{}')", char::from(word.as_bytes()[i])));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Checked {
        self.at += 1;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.bytes.get(self.at) {
                        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.bytes.get(self.at).is_some_and(u8::is_ascii_hexdigit) {
                                    return self.bad("in \\u hexadecimal character escape");
                                }
                                self.at += 1;
                            }
                        }
                        _ => return self.bad("in string escape code"),
                    }
                }
                Some(0..=0x1f) => return self.bad("in string literal"),
                Some(_) => self.at += 1,
                None => return self.bad(""),
            }
        }
    }

    fn digits(&mut self, context: &str) -> Checked {
        if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return self.bad(context);
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Checked {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if self.bytes.get(self.at).is_some_and(|b| matches!(b, b'e' | b'E')) {
            self.at += 1;
            if self.bytes.get(self.at).is_some_and(|b| matches!(b, b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::object_error;

    #[test]
    fn faults_are_told_in_the_words_of_go() {
        assert_eq!(object_error(b"{\"a\": [1, {\"b\": null}]}"), None);
        assert_eq!(object_error(b"").as_deref(), Some("unexpected end of JSON input"));
        assert_eq!(
            object_error(b"not").as_deref(),
            Some("invalid character 'o' in literal null (expecting 'u')")
        );
        assert_eq!(
            object_error(b"x").as_deref(),
            Some("invalid character 'x' looking for beginning of value")
        );
        assert_eq!(
            object_error(b"{a}").as_deref(),
            Some("invalid character 'a' looking for beginning of object key string")
        );
        assert_eq!(
            object_error(b"[]").as_deref(),
            Some("json: cannot unmarshal array into Go value of type map[string]interface {}")
        );
    }
}

//! Patterns in RE2 syntax, as Kubernetes' validators read them, compiled with the `regex` crate.
//!
//! Both engines are linear-time automata with nearly the same syntax; here the differences are translated (ASCII
//! Perl classes, literal braces, class set operators) and RE2's own error texts are given.

use regex::Regex;

/// Why a pattern does not compile, in the words of Go's `regexp`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{expression}`")]
pub struct Error {
    what: &'static str,
    expression: String,
}

/// Compiles a pattern.
///
/// # Errors
/// What RE2 refuses, and the little that cannot be expressed (scripts such as `\p{Greek}`).
pub fn compile(pattern: &str) -> Result<Regex, Error> {
    let translated = Translator { pattern, rest: pattern, out: String::new(), open: 0 }.run()?;
    Regex::new(&translated).map_err(|_| Error { what: "invalid escape sequence", expression: pattern.into() })
}

const MAX_REPEAT: u32 = 1000;

struct Translator<'a> {
    pattern: &'a str,
    rest: &'a str,
    out: String,
    open: usize,
}

impl<'a> Translator<'a> {
    fn run(mut self) -> Result<String, Error> {
        // The text of the last repetition operator, where the last thing was one; and whether there is an operand.
        let mut repeated: Option<&'a str> = None;
        let mut operand = false;
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            match c {
                '\\' => {
                    self.escape(false)?;
                    (repeated, operand) = (None, true);
                }
                '[' => {
                    self.class()?;
                    (repeated, operand) = (None, true);
                }
                '(' => {
                    self.group()?;
                    (repeated, operand) = (None, false);
                }
                ')' => {
                    if self.open == 0 {
                        return Err(self.error("unexpected )", self.pattern));
                    }
                    self.open -= 1;
                    self.copy(1);
                    (repeated, operand) = (None, true);
                }
                '|' | '^' => {
                    self.copy(1);
                    (repeated, operand) = (None, c == '^');
                }
                '*' | '+' | '?' | '{' => {
                    let Some(len) = self.operator()? else {
                        self.out.push_str("\\{");
                        self.rest = &self.rest[1..];
                        (repeated, operand) = (None, true);
                        continue;
                    };
                    let operator = &before[..len];
                    if !operand {
                        return Err(self.error("missing argument to repetition operator", operator));
                    }
                    if let Some(last) = repeated {
                        let both = &self.pattern[self.pattern.len() - before.len() - last.len()..];
                        return Err(
                            self.error("invalid nested repetition operator", &both[..last.len() + len])
                        );
                    }
                    self.copy(len);
                    repeated = Some(operator);
                }
                '}' => {
                    self.out.push_str("\\}");
                    self.rest = &self.rest[1..];
                    (repeated, operand) = (None, true);
                }
                _ => {
                    self.copy(c.len_utf8());
                    (repeated, operand) = (None, true);
                }
            }
        }
        if self.open > 0 {
            return Err(self.error("missing closing )", self.pattern));
        }
        Ok(self.out)
    }

    fn error(&self, what: &'static str, expression: &str) -> Error {
        Error { what, expression: expression.into() }
    }

    fn copy(&mut self, len: usize) {
        let (head, tail) = self.rest.split_at(len);
        self.out.push_str(head);
        self.rest = tail;
    }

    /// Length of the repetition operator at the start of the rest; none for a literal brace.
    fn operator(&self) -> Result<Option<usize>, Error> {
        let lazy = |len: usize| len + usize::from(self.rest[len..].starts_with('?'));
        if !self.rest.starts_with('{') {
            return Ok(Some(lazy(1)));
        }
        let Some(end) = self.rest.find('}') else { return Ok(None) };
        let (low, high) = match self.rest[1..end].split_once(',') {
            Some((low, high)) => (low, Some(high)),
            None => (&self.rest[1..end], None),
        };
        let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let bounds = number(low) && high.is_none_or(|h| h.is_empty() || number(h));
        if !bounds {
            return Ok(None);
        }
        let parse = |s: &str| s.parse::<u32>().ok().filter(|n| *n <= MAX_REPEAT);
        let fits = match (parse(low), high) {
            (Some(_), None | Some("")) => true,
            (Some(low), Some(high)) => parse(high).is_some_and(|high| low <= high),
            (None, _) => false,
        };
        if fits {
            Ok(Some(lazy(end + 1)))
        } else {
            Err(self.error("invalid repeat count", &self.rest[..=end]))
        }
    }

    fn group(&mut self) -> Result<(), Error> {
        self.open += 1;
        if !self.rest.starts_with("(?") {
            self.copy(1);
            return Ok(());
        }
        let named = self.rest.starts_with("(?P<") || self.rest.starts_with("(?<");
        if named && !self.rest.starts_with("(?<=") && !self.rest.starts_with("(?<!") {
            let Some(end) = self.rest.find('>') else {
                return Err(self.error("invalid named capture", self.rest));
            };
            let start = self.rest.find('<').map_or(0, |i| i + 1);
            let name = &self.rest[start..end];
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(self.error("invalid named capture", &self.rest[..=end]));
            }
            self.copy(end + 1);
            return Ok(());
        }
        let end = self.rest[2..].find(|c: char| !"imsU-".contains(c)).map_or(self.rest.len(), |i| i + 2);
        match self.rest[end..].chars().next() {
            Some(':') => self.copy(end + 1),
            Some(')') if end > 2 => {
                self.open -= 1;
                self.copy(end + 1);
            }
            None => return Err(self.error("missing closing )", self.pattern)),
            Some(c) => {
                return Err(
                    self.error("invalid or unsupported Perl syntax", &self.rest[..end + c.len_utf8()])
                );
            }
        }
        Ok(())
    }

    /// The escape at the start of the rest.
    fn escape(&mut self, in_class: bool) -> Result<(), Error> {
        let Some(c) = self.rest[1..].chars().next() else {
            return Err(self.error("trailing backslash at end of expression", ""));
        };
        let len = 1 + c.len_utf8();
        let replaced = match c {
            'd' => "[0-9]",
            'D' => "[^0-9]",
            'w' => "[0-9A-Za-z_]",
            'W' => "[^0-9A-Za-z_]",
            's' => "[\\t\\n\\f\\r ]",
            'S' => "[^\\t\\n\\f\\r ]",
            'b' if !in_class => "(?-u:\\b)",
            'B' if !in_class => "\\B",
            'A' if !in_class => "\\A",
            'z' if !in_class => "\\z",
            'Q' if !in_class => {
                let text = &self.rest[2..];
                let (quoted, rest) = text.split_once("\\E").unwrap_or((text, ""));
                self.out.push_str(&regex::escape(quoted));
                self.rest = rest;
                return Ok(());
            }
            'a' => "\\x07",
            'v' => "\\x0B",
            'f' | 'n' | 'r' | 't' => {
                self.copy(len);
                return Ok(());
            }
            'p' | 'P' => {
                let end = match self.rest[2..].chars().next() {
                    Some('{') => self.rest.find('}').map(|end| end + 1),
                    Some(letter) => Some(2 + letter.len_utf8()),
                    None => None,
                };
                let Some(end) = end else {
                    return Err(self.error("invalid character class range", self.rest));
                };
                if Regex::new(&self.rest[..end]).is_err() {
                    return Err(self.error("invalid character class range", &self.rest[..end]));
                }
                self.copy(end);
                return Ok(());
            }
            'x' => {
                let hex = &self.rest[2..];
                let end = match hex.strip_prefix('{') {
                    Some(inner) => inner.find('}').map(|end| end + 4),
                    None => hex.get(..2).map(|_| 4),
                };
                let digits = end.map(|end| self.rest[2..end].trim_matches(['{', '}']));
                let valid = digits.and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32);
                return match (end, valid) {
                    (Some(end), Some(_)) => {
                        self.copy(end);
                        Ok(())
                    }
                    _ => Err(self.error("invalid escape sequence", &self.rest[..len])),
                };
            }
            '0'..='7' => {
                let digits: String =
                    self.rest[1..].chars().take(3).take_while(|c| ('0'..='7').contains(c)).collect();
                if c != '0' && digits.len() < 2 {
                    return Err(self.error("invalid escape sequence", &self.rest[..len]));
                }
                let code = u32::from_str_radix(&digits, 8).unwrap_or(0);
                self.out.push_str(&format!("\\x{{{code:x}}}"));
                self.rest = &self.rest[1 + digits.len()..];
                return Ok(());
            }
            c if c.is_ascii_punctuation() => {
                self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
                self.rest = &self.rest[len..];
                return Ok(());
            }
            _ => return Err(self.error("invalid escape sequence", &self.rest[..len])),
        };
        self.out.push_str(replaced);
        self.rest = &self.rest[len..];
        Ok(())
    }

    /// The bracket expression at the start of the rest.
    fn class(&mut self) -> Result<(), Error> {
        let start = self.rest;
        self.copy(1);
        if self.rest.starts_with('^') {
            self.copy(1);
        }
        let mut first = true;
        loop {
            let Some(c) = self.rest.chars().next() else {
                return Err(self.error("missing closing ]", start));
            };
            if c == ']' && !first {
                self.copy(1);
                return Ok(());
            }
            // The colon of `[:]` does not both begin and end a name.
            if let Some(named) = self.rest.strip_prefix("[:")
                && let Some(end) = named.find(":]")
            {
                let name = named[..end].strip_prefix('^').unwrap_or(&named[..end]);
                const NAMES: [&str; 14] = [
                    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
                    "space", "upper", "word", "xdigit",
                ];
                if !NAMES.contains(&name) {
                    return Err(self.error("invalid character class range", &self.rest[..end + 4]));
                }
                self.copy(end + 4);
                first = false;
                continue;
            }
            let from = self.rest;
            let low = self.class_char()?;
            first = false;
            let range = self.rest.starts_with('-') && !self.rest[1..].starts_with(']') && self.rest.len() > 1;
            if range && low.is_some() {
                self.copy(1);
                let high = self.class_char()?;
                if high.is_none() || high < low {
                    let text = &from[..from.len() - self.rest.len()];
                    return Err(self.error("invalid character class range", text));
                }
            }
        }
    }

    /// One character of a class; none where it is a set such as `\d`.
    fn class_char(&mut self) -> Result<Option<char>, Error> {
        let Some(c) = self.rest.chars().next() else {
            return Err(self.error("missing closing ]", self.rest));
        };
        if c == '\\' {
            let escape = self.rest;
            let len = self.out.len();
            self.escape(true)?;
            let next = escape[1..].chars().next();
            if next.is_some_and(|c| "dDwWsSpP".contains(c)) {
                return Ok(None);
            }
            // What the escape stands for, read back from the translated text.
            let class = format!("[{}]", &self.out[len..]);
            let single = Regex::new(&class).ok().and_then(|re| {
                (0..=0x7f_u8).map(char::from).find(|c| re.is_match(c.encode_utf8(&mut [0; 4])))
            });
            return Ok(single.or(Some(char::MAX)));
        }
        if "[]&~-^".contains(c) {
            self.out.push('\\');
        }
        self.copy(c.len_utf8());
        Ok(Some(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(pattern: &str) -> String {
        compile(pattern).unwrap_err().to_string()
    }

    #[test]
    fn errors_are_those_of_go() {
        for (pattern, what) in [
            ("([", "missing closing ]: `[`"),
            ("(?!a)b", "invalid or unsupported Perl syntax: `(?!`"),
            ("(?<=a)b", "invalid or unsupported Perl syntax: `(?<`"),
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:^^alpha:]]", "invalid character class range: `[:^^alpha:]`"),
            ("[[:]:]", "invalid character class range: `[:]:]`"),
            ("[[::]]", "invalid character class range: `[::]`"),
            ("[[:", "missing closing ]: `[[:`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("\\y", "invalid escape sequence: `\\y`"),
            ("a\\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(fault(pattern), format!("error parsing regexp: {what}"), "{pattern}");
        }
    }

    #[test]
    fn perl_classes_are_ascii() {
        assert!(compile("^\\d+$").unwrap().is_match("12"));
        assert!(!compile("^\\d+$").unwrap().is_match("١"));
        assert!(!compile("^[\\w-]+$").unwrap().is_match("é"));
        assert!(compile("^[\\w-]+$").unwrap().is_match("a-_1"));
    }

    #[test]
    fn literal_braces_and_class_operators_mean_themselves() {
        assert!(compile("^a{,2}$").unwrap().is_match("a{,2}"));
        assert!(compile("^[a&&b]+$").unwrap().is_match("a&b"));
        assert!(compile("^[[a]$").unwrap().is_match("["));
        assert!(compile("^[^a-c-]$").unwrap().is_match("d"));
        assert!(compile("^(\\$\\{[a-z]+\\})?$").unwrap().is_match("${ab}"));
        assert!(compile("^[]a]$").unwrap().is_match("]"));
    }

    #[test]
    fn a_bracket_and_a_colon_without_a_name_mean_themselves() {
        for (pattern, fits, not) in [("^[[:]$", "[", "]"), ("^[[:]$", ":", "[:"), ("^[a[:]]$", "a]", "a")] {
            assert!(compile(pattern).unwrap().is_match(fits), "{pattern}");
            assert!(!compile(pattern).unwrap().is_match(not), "{pattern}");
        }
        assert!(compile("^[[:^alpha:]]$").unwrap().is_match("1"));
    }

    #[test]
    fn usual_patterns_compile() {
        for pattern in [
            "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
            "^(?i)x(?:y|z)+?$",
            "(?P<n>a)\\b",
            "^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$",
            "^\\S+@\\S+\\.\\S+$",
            "^[^\\s/]+\\/[\\x20-\\x7e]*$",
            "^\\pL[[:alpha:]]\\Qa.b\\E$",
        ] {
            compile(pattern).unwrap();
        }
    }
}

//! YAML out, as sigs.k8s.io/yaml writes JSON values, which is libyaml's manner: keys in natural order, lists not
//! indented, strings quoted only where they would read as something else, lines folded after 80 columns.
//!
//! It differs where only a reader of YAML 1.1 gets back what was written: words that read as something else in any
//! spelling and numbers too large for a float are quoted, and the line breaks of Unicode (U+2028, U+2029) escaped.
//! libyaml indents the text after such a break, which to YAML 1.2 is a character as any other, with spaces after it.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

const WIDTH: usize = 80;

/// Writes a value as a YAML document.
pub fn write(value: &Value) -> String {
    let mut emitter = Emitter { out: String::new(), column: 0, whitespace: true, indention: true };
    emitter.node(value, None, false);
    emitter.indent(0);
    emitter.out
}

struct Emitter {
    out: String,
    column: usize,
    /// Whether the last that was written is white.
    whitespace: bool,
    /// Whether only indention and its like is on the line so far.
    indention: bool,
}

impl Emitter {
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn line_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn indent(&mut self, to: usize) {
        if !self.indention || self.column > to || (self.column == to && !self.whitespace) {
            self.line_break();
        }
        while self.column < to {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    /// Writes an indicator, after a space if one is needed; `-`, `?` and `:` of a long key still are indention.
    fn indicator(&mut self, text: &str, after_space: bool, is_indention: bool) {
        if after_space && !self.whitespace {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        self.whitespace = false;
        self.indention &= is_indention;
    }

    /// Writes a value in a collection that is indented by `at`.
    fn node(&mut self, value: &Value, at: Option<usize>, in_mapping: bool) {
        let deeper = at.map_or(0, |at| at + 2);
        match value {
            Value::Object(fields) if !fields.is_empty() => self.mapping(fields, deeper),
            Value::Array(items) if !items.is_empty() => {
                let at = at.filter(|_| in_mapping && !self.indention).unwrap_or(deeper);
                for item in items {
                    self.indent(at);
                    self.indicator("-", true, true);
                    self.node(item, Some(at), false);
                }
            }
            Value::String(s) => self.scalar(s, at.unwrap_or(0) + 2, false),
            Value::Object(_) => self.indicator("{}", true, false),
            Value::Array(_) => self.indicator("[]", true, false),
            Value::Number(n) => self.indicator(&number(n), true, false),
            Value::Bool(_) | Value::Null => self.indicator(&value.to_string(), true, false),
        }
    }

    fn mapping(&mut self, fields: &Map<String, Value>, at: usize) {
        for (key, value) in sorted(fields.iter().collect()) {
            self.indent(at);
            if key.len() <= 128 && !key.contains(is_break) {
                self.scalar(key, at + 2, true);
                self.indicator(":", false, false);
            } else {
                self.indicator("?", true, true);
                self.scalar(key, at + 2, false);
                self.indent(at);
                self.indicator(":", true, true);
            }
            self.node(value, Some(at), true);
        }
    }

    /// Writes a string, with its further lines indented by `at`; a key is one line.
    fn scalar(&mut self, s: &str, at: usize, key: bool) {
        let style = Allowed::of(s);
        let fold = !key;
        if s.contains('\n') {
            if style.block {
                self.literal(s, at);
            } else {
                self.double_quoted(s, at, fold);
            }
        } else if resolves(s) {
            self.double_quoted(s, at, fold);
        } else if style.plain {
            self.plain(s, at, fold);
        } else if style.single_quoted {
            self.single_quoted(s, at, fold);
        } else {
            self.double_quoted(s, at, fold);
        }
    }

    fn literal(&mut self, s: &str, at: usize) {
        self.indicator("|", true, false);
        if s.starts_with([' ', '\n']) {
            self.put('2');
        }
        let mut last = s.chars().rev();
        match (last.next() == Some('\n'), last.next().is_none_or(|c| c == '\n')) {
            (false, _) => self.put('-'),
            (true, true) => self.put('+'),
            (true, false) => {}
        }
        self.line_break();
        self.whitespace = true;
        self.indention = true;
        let mut breaks = true;
        for c in s.chars() {
            if c == '\n' {
                self.line_break();
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.indent(at);
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
    }

    fn plain(&mut self, s: &str, at: usize, fold: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        self.folded(s, at, fold);
        self.whitespace = false;
        self.indention = false;
    }

    fn single_quoted(&mut self, s: &str, at: usize, fold: bool) {
        self.indicator("'", true, false);
        let inner = s.trim_matches(' ');
        let lead = s.len() - s.trim_start_matches(' ').len();
        s[..lead].chars().for_each(|c| self.put(c));
        self.folded(&inner.replace('\'', "''"), at, fold);
        s[lead + inner.len()..].chars().for_each(|c| self.put(c));
        self.indicator("'", false, false);
    }

    /// Writes text with line breaks for single spaces after column 80.
    fn folded(&mut self, s: &str, at: usize, fold: bool) {
        let mut spaces = false;
        let mut chars = s.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ' ' {
                if fold && !spaces && self.column > WIDTH && chars.peek() != Some(&' ') {
                    self.indent(at);
                } else {
                    self.put(c);
                }
                spaces = true;
            } else {
                self.put(c);
                self.indention = false;
                spaces = false;
            }
        }
    }

    fn double_quoted(&mut self, s: &str, at: usize, fold: bool) {
        self.indicator("\"", true, false);
        let mut spaces = false;
        let mut chars = s.char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            if c == ' ' {
                let between = i > 0 && i < s.len() - 1;
                if fold && !spaces && self.column > WIDTH && between {
                    self.indent(at);
                    if chars.peek().is_some_and(|(_, c)| *c == ' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
            } else if !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                escape(c).chars().for_each(|c| self.put(c));
            } else {
                self.put(c);
            }
            self.indention = false;
            spaces = c == ' ';
        }
        self.indicator("\"", false, false);
    }
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\x07' => 'a',
        '\x08' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\x0b' => 'v',
        '\x0c' => 'f',
        '\r' => 'r',
        '\x1b' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => {
            let code = u32::from(c);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether a character is written as it is: what libyaml takes as printable, which is none beyond 16 bits, but for the
/// line breaks that are none in YAML 1.2.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// The styles that a string may have: in single quotes only if it is one line.
struct Allowed {
    plain: bool,
    single_quoted: bool,
    block: bool,
}

impl Allowed {
    fn of(s: &str) -> Self {
        let white = |c: Option<char>| c.is_none_or(|c| matches!(c, ' ' | '\t'));
        let mut indicators = s.starts_with("---") || s.starts_with("...");
        let (mut space_break, mut special) = (false, false);
        let mut before = None;
        let mut chars = s.chars().peekable();
        while let Some(c) = chars.next() {
            let after = chars.peek().copied();
            indicators |= match (c, before) {
                (
                    '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
                    | '`',
                    None,
                ) => true,
                ('?' | '-', None) | (':', _) => after.is_none_or(|c| matches!(c, ' ' | '\t')),
                ('#', _) => white(before),
                _ => false,
            };
            special |= !is_printable(c);
            space_break |= c == '\n' && before == Some(' ');
            before = Some(c);
        }
        let trailing_space = s.ends_with(' ');
        let quote = s.starts_with(' ') || trailing_space || indicators;
        let double = space_break || special;
        Self { plain: !double && !quote, single_quoted: !double, block: !double && !trailing_space }
    }
}

/// Whether a plain string would read as null, a boolean, a number or a time, by the rules of YAML 1.1.
fn resolves(s: &str) -> bool {
    const WORDS: [&str; 15] = [
        "", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan", ".inf", "+.inf",
        "-.inf",
    ];
    // However they are spelt: `nulL` is a string by these rules, but not to every reader, ours among them.
    if WORDS.iter().any(|word| word.eq_ignore_ascii_case(s)) {
        return true;
    }
    match s.as_bytes().first() {
        Some(b'.') => float(s),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let plain = s.replace('_', "");
            time(s) || integer(&plain) || float(&plain) || base_60(s)
        }
        _ => false,
    }
}

/// Also beyond the greatest float, which is a string by these rules and a fault to readers such as ours.
fn float(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && s.parse::<f64>().is_ok()
}

/// Whether Go reads an integer of 64 bits whose base is told by its prefix.
fn integer(s: &str) -> bool {
    let digits = s.trim_start_matches(['+', '-']);
    if s.len() - digits.len() > 1 {
        return false;
    }
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', b'o' | b'O', ..] => (&digits[2..], 8),
        [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    let max = match s.as_bytes()[0] {
        b'-' => 1 << 63,
        b'+' => (1 << 63) - 1,
        _ => u64::MAX,
    };
    !digits.starts_with('+') && u64::from_str_radix(digits, radix).is_ok_and(|n| n <= max)
}

/// `1:30`: a number in base 60, which is quoted for the sake of older readers.
fn base_60(s: &str) -> bool {
    let s = s.strip_prefix(['+', '-']).unwrap_or(s);
    let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    first.starts_with(|c: char| c.is_ascii_digit())
        && first.chars().chain(fraction.chars()).all(|c| c.is_ascii_digit() || c == '_')
        && whole.contains(':')
        && parts.all(|p| matches!(p.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']))
}

/// Whether the text is a date, or a date and a time.
fn time(s: &str) -> bool {
    let year: usize = s.bytes().take_while(u8::is_ascii_digit).count();
    if year != 4 || s.as_bytes().get(4) != Some(&b'-') {
        return false;
    }
    let (date, rest) = s[5..].find(['T', 't', ' ']).map_or((&s[5..], ""), |i| s[5..].split_at(i));
    let short = |s: &str, max: u8| {
        (1..=2).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_digit())
            && s.parse().is_ok_and(|n: u8| n <= max)
    };
    let Some((month, day)) = date.split_once('-') else { return false };
    if !short(month, 12) || !short(day, 31) {
        return false;
    }
    let (Ok(y), Ok(m), Ok(d)) = (s[..4].parse(), month.parse(), day.parse()) else { return false };
    if jiff::civil::Date::new(y, m, d).is_err() {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    let zoned = !rest.starts_with(' ');
    let clock = &rest[1..];
    let clock = match clock.strip_suffix('Z') {
        Some(clock) if zoned => clock,
        _ if zoned => {
            let Some((clock, zone)) = clock.split_at_checked(clock.len().saturating_sub(6)) else {
                return false;
            };
            let [b'+' | b'-', h1, h2, b':', m1, m2] = zone.as_bytes() else { return false };
            if ![h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) {
                return false;
            }
            clock
        }
        _ => clock,
    };
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, "0"));
    let parts: Vec<_> = clock.split(':').collect();
    let [hour, minute, second] = parts[..] else { return false };
    short(hour, 23)
        && short(minute, 59)
        && short(second, 59)
        && !fraction.is_empty()
        && fraction.bytes().all(|b| b.is_ascii_digit())
}

/// A number as Go's `%g` has it.
fn number(n: &Number) -> String {
    let float = match n.as_f64() {
        Some(float) if n.as_i64().is_none() && n.as_u64().is_none() => float,
        _ => return n.to_string(),
    };
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse() {
        Ok(exponent @ (..-4 | 6..)) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, i32::abs(exponent))
        }
        _ => float.to_string(),
    }
}

/// Fields in the natural order of their keys. That is no total order (`1a`, `2`, `12`, `1a` ascend all the way), at
/// which the sorts of the standard library may panic; where keys contradict each other, any order of them will do.
fn sorted<'a>(mut fields: Vec<(&'a String, &'a Value)>) -> Vec<(&'a String, &'a Value)> {
    if fields.len() < 2 {
        return fields;
    }
    let mut right = sorted(fields.split_off(fields.len() / 2)).into_iter().peekable();
    let mut left = sorted(fields).into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let side = if natural(a.0, b.0).is_le() { &mut left } else { &mut right };
        merged.extend(side.next());
    }
    merged.extend(left.chain(right));
    merged
}

/// The order of two keys: what is no letter before letters, numbers by their value.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(i) = a.iter().zip(&b).position(|(a, b)| a != b) else { return a.len().cmp(&b.len()) };
    match (a[i].is_alphabetic(), b[i].is_alphabetic()) {
        (true, true) => return a[i].cmp(&b[i]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Zeros count within a number only.
    let within = (a[i] == '0' || b[i] == '0')
        && a[..i].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let run = |s: &[char]| {
        let digits = s[i..].iter().map_while(|c| c.to_digit(10));
        digits
            .fold((i64::from(within), 0), |(n, len), d| (n.wrapping_mul(10).wrapping_add(d.into()), len + 1))
    };
    run(&a).cmp(&run(&b)).then(a[i].cmp(&b[i]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        kubewright_machinery::decode::yaml(text.as_bytes()).unwrap().value
    }

    #[test]
    fn a_document_is_written_as_kubernetes_writes_it() {
        let value = json!({
            "kind": "APIGroup", "versions": [{"groupVersion": "policy/v1", "version": "v1"}], "empty": {},
            "number": "1", "time": "2020-01-01T00:00:00Z", "yes": "true", "a": {"b": ["x", 2]},
        });
        let text = "a:\n  b:\n  - x\n  - 2\nempty: {}\nkind: APIGroup\nnumber: \"1\"\n\
                    time: \"2020-01-01T00:00:00Z\"\nversions:\n- groupVersion: policy/v1\n  version: v1\n\"yes\": \"true\"\n";
        assert_eq!(write(&value), text);
    }

    #[test]
    fn what_is_written_reads_back() {
        for s in [
            "",
            "a: b",
            "...",
            "... and so on",
            "- x",
            "line\nline\n",
            "x\n\ny",
            " lead",
            "it's",
            "tab\t",
            "#",
            "null",
            "nulL",
            "yEs",
            "é",
            "0x1f",
            "a #b",
            "1e320",
            "-1.5e309",
            "1_0e320",
            "0xfffffffffffffffffffff",
            "0b1111111111111111111111111111111111111111111111111111111111111111111111",
            "99999999999999999999999",
            "1e5_0",
            "07777777777777777777777777",
        ] {
            let value = json!({"k": {"list": [s, {"v": s}]}});
            assert_eq!(read(&write(&value)), value, "{s:?}\n{}", write(&value));
        }
    }

    #[test]
    fn nested_lists_and_objects_in_lists_read_back() {
        let value = json!([[1, [2, {"a": [3], "b": {"c": null}}]], {"x": [], "y": {}}]);
        assert_eq!(read(&write(&value)), value, "{}", write(&value));
    }

    #[test]
    fn long_strings_are_folded_after_column_80() {
        let words = "word ".repeat(17);
        let cases = [
            (
                words.trim().to_owned(),
                "a: word word word word word word word word word word word word word word word word\n  word\n",
            ),
            (
                format!("x: {words}end"),
                "a: 'x: word word word word word word word word word word word word word word word\n  word word end'\n",
            ),
            (
                format!("\t{words}end"),
                "a: \"\\tword word word word word word word word word word word word word word word word\n  word end\"\n",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(write(&json!({"a": text})), expected);
            assert_eq!(read(expected), json!({"a": text}));
        }
    }

    #[test]
    fn line_breaks_of_unicode_are_escaped_so_that_no_reader_takes_in_the_indention_after_them() {
        for (text, expected) in [
            ("a\u{2028}[b", r#""a\L[b""#),
            ("\u{2029}: b", r#""\P: b""#),
            ("a\u{2028}b\nc", r#""a\Lb\nc""#),
            ("a\u{85}b", r#""a\Nb""#),
            ("a\rb", r#""a\rb""#),
        ] {
            assert_eq!(write(&json!({"k": [text]})), format!("k:\n- {expected}\n"));
            assert_eq!(write(&json!({text: 1})), format!("? {expected}\n: 1\n"));
            for value in [json!({"k": [text]}), json!({text: text})] {
                assert_eq!(read(&write(&value)), value);
            }
        }
    }

    #[test]
    fn keys_are_in_natural_order_and_long_ones_marked() {
        let value = json!({"a10": 1, "a2": 1.5e7, "a-b": [], "aB": "x \ny", "two\nlines": {"x": []}});
        let text = "a-b: []\na2: 1.5e+07\na10: 1\naB: \"x \\ny\"\n? |-\n  two\n  lines\n: x: []\n";
        assert_eq!(write(&value), text);
    }

    #[test]
    fn keys_whose_order_contradicts_itself_are_all_written() {
        // Short hexadecimal numbers do: after `1a` comes `2`, after `2` `12`, and after `12` `1a`.
        let fields = (0..22u32).map(|n| (format!("{:x}", n * 7919 % 1000), json!(n))).collect();
        let value = Value::Object(fields);
        assert_eq!(read(&write(&value)), value);
    }

    #[test]
    fn what_reads_as_another_type_is_quoted() {
        for s in [
            "1_000",
            "0x_f",
            "08",
            "12:30",
            "2020-1-2",
            "2020-01-02t3:04:05.6+00:00",
            ".5",
            "-.inf",
            "+1",
            "1e999",
            "Off",
        ] {
            assert_eq!(write(&json!([s])), format!("- \"{s}\"\n"));
        }
        for s in ["1.2.3", "0xfg", "2020-13-01", "2020-02-30", "1:60", "-", "=", "<<", "v1", "10Gi", "."] {
            let text = write(&json!([s]));
            assert!(!text.contains('"'), "{text}");
        }
    }
}

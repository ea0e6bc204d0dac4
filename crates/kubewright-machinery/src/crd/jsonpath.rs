//! The JSONPath of printer columns (client-go `util/jsonpath`, one action, missing keys allowed).
//!
//! Parsed once, evaluated on each object; evaluation allocates only its list of results.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// A path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A bracket is not closed.
    #[error("unterminated array")]
    Unterminated,
    /// What is in brackets is no index, slice, key, union or filter.
    #[error("invalid array index {0}")]
    Index(String),
    /// Text where a step should begin.
    #[error("unrecognized identifier {0}")]
    Identifier(String),
    /// The path nests deeper than any sensible one.
    #[error("path is nested too deeply")]
    TooDeep,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    /// Start, end and step of a slice; an index has no end.
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
        index: bool,
    },
    Union(Vec<Vec<Step>>),
    Filter {
        left: Operand,
        operator: Operator,
        right: Operand,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const MAX_DEPTH: usize = 16;

impl JsonPath {
    /// Parses a path such as `.status.conditions[?(@.type=="Ready")].status`.
    ///
    /// # Errors
    /// What a real server would not take either.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self { steps: steps(text, 0)? })
    }

    /// Everything the path leads to; none where it cannot be followed (an index out of bounds, a step into a scalar).
    pub fn find<'a>(&self, value: &'a Value) -> Option<Vec<&'a Value>> {
        follow(&self.steps, vec![value])
    }
}

fn steps(text: &str, depth: usize) -> Result<Vec<Step>, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            '$' | '@' | ' ' => rest = &rest[1..],
            '.' if rest.starts_with("..") => {
                out.push(Step::Recursive);
                let after = &rest[2..];
                // `..name` is a field of what was found.
                if after.starts_with(['[', '.']) || after.is_empty() {
                    rest = after;
                } else {
                    let (field, tail) = field(after);
                    out.push(field);
                    rest = tail;
                }
            }
            '.' => {
                let (field, tail) = field(&rest[1..]);
                out.push(field);
                rest = tail;
            }
            '[' => {
                let end = closing(rest).ok_or(Error::Unterminated)?;
                out.push(bracket(&rest[1..end], depth)?);
                rest = &rest[end + 1..];
            }
            _ => return Err(Error::Identifier(rest.into())),
        }
    }
    Ok(out)
}

fn field(text: &str) -> (Step, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            ' ' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}' => return (named(name), &text[i..]),
            c => name.push(c),
        }
    }
    (named(name), "")
}

fn named(name: String) -> Step {
    if name == "*" { Step::Wildcard } else { Step::Field(name) }
}

/// Where the bracket that opens the text closes, minding quotes and nesting.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

fn bracket(text: &str, depth: usize) -> Result<Step, Error> {
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return filter_step(filter, depth);
    }
    let invalid = || Error::Index(text.into());
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    let quoted =
        |t: &str| ['\'', '"'].iter().find_map(|q| Some(t.strip_prefix(*q)?.strip_suffix(*q)?.to_string()));
    if let Some(key) = quoted(text).filter(|key| !key.contains('\'')) {
        // A key is read as a path of its own: an unescaped dot in it is a step.
        return Ok(Step::Union(vec![steps(&format!(".{key}"), depth + 1)?]));
    }
    if text.contains(',') {
        let parts = text.split(',').map(|part| steps(&format!("[{}]", part.trim()), depth + 1));
        return Ok(Step::Union(parts.collect::<Result<_, _>>()?));
    }
    let mut parts = text.split(':').map(|part| match part {
        "" => Ok(None),
        part => part.parse::<i64>().map(Some).map_err(|_| invalid()),
    });
    let start = parts.next().transpose()?.flatten();
    let (end, step) = (parts.next().transpose()?, parts.next().transpose()?.flatten());
    if parts.next().is_some() || (text.is_empty()) {
        return Err(invalid());
    }
    Ok(Step::Slice { start, end: end.flatten(), step: step.unwrap_or(1), index: end.is_none() })
}

fn filter_step(text: &str, depth: usize) -> Result<Step, Error> {
    const OPERATORS: [(&str, Operator); 6] = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, _) => {
                if let Some((op, operator)) = OPERATORS.iter().find(|(op, _)| text[i..].starts_with(op)) {
                    let (left, right) = (&text[..i], &text[i + op.len()..]);
                    let (left, right) = (operand(left, depth)?, operand(right, depth)?);
                    return Ok(Step::Filter { left, operator: *operator, right });
                }
            }
        }
    }
    let left = operand(text, depth)?;
    Ok(Step::Filter { left, operator: Operator::Exists, right: Operand::Literal(Value::Null) })
}

fn operand(text: &str, depth: usize) -> Result<Operand, Error> {
    let text = text.trim();
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return Ok(Operand::Literal(inner.replace('\\', "").into()));
        }
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Operand::Literal(number.into()));
    }
    if let Ok(number) = text.parse::<f64>() {
        return Ok(Operand::Literal(number.into()));
    }
    match text {
        "true" => Ok(Operand::Literal(true.into())),
        "false" => Ok(Operand::Literal(false.into())),
        _ => Ok(Operand::Path(steps(text, depth + 1)?)),
    }
}

fn follow<'a>(steps: &[Step], mut values: Vec<&'a Value>) -> Option<Vec<&'a Value>> {
    for step in steps {
        let mut next = Vec::new();
        for value in values {
            apply(step, value, &mut next)?;
        }
        values = next;
    }
    Some(values)
}

fn apply<'a>(step: &Step, value: &'a Value, out: &mut Vec<&'a Value>) -> Option<()> {
    match step {
        Step::Field(name) if name.is_empty() => out.push(value),
        Step::Field(name) => out.extend(value.get(name.as_str())),
        Step::Wildcard => out.extend(children(value)),
        Step::Recursive => descendants(value, out),
        Step::Slice { start, end, step, index } => {
            if value.is_null() {
                return Some(());
            }
            let items = value.as_array()?;
            let len = i64::try_from(items.len()).ok()?;
            let place = |n: i64| if n < 0 { n + len } else { n };
            let start = place(start.unwrap_or(0));
            if *index {
                out.push(usize::try_from(start).ok().and_then(|i| items.get(i))?);
                return Some(());
            }
            let end = end.map_or(len, place).min(len);
            if start < 0 || *step <= 0 || start > len {
                return None;
            }
            let mut i = start;
            while i < end {
                out.push(items.get(usize::try_from(i).ok()?)?);
                i += step;
            }
        }
        Step::Union(parts) => {
            for part in parts {
                out.extend(follow(part, vec![value])?);
            }
        }
        Step::Filter { left, operator, right } => {
            if value.is_null() {
                return Some(());
            }
            for item in value.as_array()? {
                if holds(left, *operator, right, item)? {
                    out.push(item);
                }
            }
        }
    }
    Some(())
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descendants<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    if children(value).next().is_some() {
        out.push(value);
        children(value).for_each(|child| descendants(child, out));
    }
}

fn holds(left: &Operand, operator: Operator, right: &Operand, item: &Value) -> Option<bool> {
    fn resolve<'a>(operand: &'a Operand, item: &'a Value) -> Option<Vec<&'a Value>> {
        match operand {
            Operand::Literal(value) => Some(vec![value]),
            Operand::Path(steps) => follow(steps, vec![item]),
        }
    }
    let left = resolve(left, item)?;
    if operator == Operator::Exists {
        return Some(!left.is_empty());
    }
    let right = resolve(right, item)?;
    let (Some(left), Some(right)) = (left.first(), right.first()) else { return Some(false) };
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.total_cmp(&b.as_f64()?),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => return Some(operator == Operator::NotEqual),
    };
    Some(match operator {
        Operator::Exists => true,
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    })
}

/// Follows a simple path of field names (`.spec.replicas`), as scale paths and selectable fields are. A dot in a name
/// cannot be written.
pub fn simple<'a>(path: &str, value: &'a Value) -> Option<&'a Value> {
    path.trim_start_matches('.').split('.').try_fold(value, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(path: &str) -> Option<Value> {
        let object = json!({"metadata": {"labels": {"app.kubernetes.io/name": "web"}},
            "spec": {"tags": ["a", "b", "c"], "n": 3, "null": null},
            "status": {"conditions": [{"type": "Other", "status": "No"}, {"type": "Ready", "status": "True", "n": 5}]}});
        let found = JsonPath::parse(path).unwrap().find(&object)?;
        Some(found.into_iter().cloned().collect())
    }

    #[test]
    fn paths_lead_to_values() {
        for (path, expected) in [
            (".spec.n", json!([3])),
            (".spec.missing", json!([])),
            (".spec.tags[0]", json!(["a"])),
            (".spec.tags[-1]", json!(["c"])),
            (".spec.tags[1:]", json!(["b", "c"])),
            (".spec.tags[0,2]", json!(["a", "c"])),
            (".spec.tags[*]", json!(["a", "b", "c"])),
            (".spec['n']", json!([3])),
            (".metadata.labels.app\\.kubernetes\\.io/name", json!(["web"])),
            (".metadata.labels['app\\.kubernetes\\.io/name']", json!(["web"])),
            (".metadata.labels['app.kubernetes.io/name']", json!([])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type!='Ready')].status", json!(["No"])),
            (".status.conditions[?(@.n)].type", json!(["Ready"])),
            (".status.conditions[?(@.n > 4)].type", json!(["Ready"])),
            ("..type", json!(["Other", "Ready"])),
        ] {
            assert_eq!(find(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_followed_gives_nothing() {
        assert_eq!(find(".spec.tags[9]"), None);
        assert_eq!(find(".spec.n[0]"), None);
        assert!(JsonPath::parse("spec.n").is_err() && JsonPath::parse(".spec[").is_err());
        assert!(JsonPath::parse(".spec[x]").is_err());
    }
}

//! Label selectors: the text form of query parameters (apimachinery `labels`) and `metav1.LabelSelector`.

use std::fmt;

use serde_json::{Map, Value};

use crate::field::{self, Path};
use crate::{meta, names, scan};

/// A label selector's text, or a `metav1.LabelSelector`, has no meaning. The text is the server's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A token stands where it can't.
    #[error("found '{found}', expected: {expected}")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What could.
        expected: &'static str,
    },
    /// As [`Error::Unexpected`], in the one place where Kubernetes leaves out the comma.
    #[error("found '{found}' expected: '('")]
    NoParenthesis {
        /// What stands there.
        found: String,
    },
    /// A requirement can't be read.
    #[error("unable to parse requirement: {0}")]
    Requirement(#[source] Box<Error>),
    /// A key or value is not valid; the aggregate of the field errors.
    #[error("{0}")]
    Invalid(String),
    /// An operator that `metav1.LabelSelector` does not have.
    #[error("{} is not a valid label selector operator", field::quote(.0))]
    Operator(String),
}

/// How a key and values relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The value is one of several.
    In,
    /// There is no value, or it is none of several.
    NotIn,
    /// `=`.
    Equals,
    /// `==`.
    DoubleEquals,
    /// `!=`: no value, or another.
    NotEquals,
    /// The value is a greater integer.
    GreaterThan,
    /// The value is a lesser integer.
    LessThan,
    /// There is a value.
    Exists,
    /// There is no value.
    DoesNotExist,
}

const BINARY: &str = "in, notin, =, ==, !=, gt, lt";

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// A requirement; values are sorted and deduplicated.
    ///
    /// # Errors
    /// When key or values are no valid label key and values, or their number does not fit the operator.
    pub fn new(key: impl Into<String>, operator: Operator, mut values: Vec<String>) -> Result<Self, Error> {
        let key = key.into();
        values.sort();
        values.dedup();
        let mut errors = Vec::new();
        errors.extend(key_error(&key, &Path::new("key")));
        let path = Path::new("values");
        let count = |detail: &str| field::Error::invalid(&path, values.clone(), detail);
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.push(count("for 'in', 'notin' operators, values set can't be empty"));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                errors.push(count("exact-match compatibility requires one single value"));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                errors.push(count("values set must be empty for exists and does not exist"));
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    errors.push(count("for 'Gt', 'Lt' operators, exactly one value is required"));
                }
                for (i, value) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                    let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                    errors.push(field::Error::invalid(&path.index(i), value.as_str(), detail));
                }
            }
            _ => {}
        }
        for (i, value) in values.iter().enumerate() {
            let messages = names::is_label_value(value);
            if !messages.is_empty() {
                errors.push(field::Error::invalid(
                    &path.index(i).key(&key),
                    value.as_str(),
                    messages.join("; "),
                ));
            }
        }
        match field::aggregate(&errors) {
            Some(text) => Err(Error::Invalid(text)),
            None => Ok(Self { key, operator, values }),
        }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operator.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, sorted.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether a label's value (none if absent) fulfils the requirement.
    pub fn accepts(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        match (self.operator, value) {
            (Operator::In | Operator::Equals | Operator::DoubleEquals, value) => value.is_some_and(listed),
            (Operator::NotIn | Operator::NotEquals, value) => !value.is_some_and(listed),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::GreaterThan | Operator::LessThan, value) => {
                let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match (value.and_then(|v| v.parse::<i64>().ok()), bound) {
                    (Some(value), Some(bound)) if self.operator == Operator::GreaterThan => value > bound,
                    (Some(value), Some(bound)) => value < bound,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
        }
    }
}

/// Requirements that all have to hold, sorted by key; or the selector that nothing matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Option<Vec<Requirement>>,
}

impl LabelSelector {
    /// Matches every object.
    pub const fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Matches no object.
    pub const fn nothing() -> Self {
        Self { requirements: None }
    }

    /// All requirements together.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements: Some(requirements) }
    }

    /// Labels that have to be equal, taken as they are (invalid ones match nothing or what really has them).
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let equal = |(key, value): (&str, &str)| Requirement {
            key: key.to_string(),
            operator: Operator::Equals,
            values: vec![value.to_string()],
        };
        Self::new(labels.into_iter().map(equal).collect())
    }

    /// Reads the text of a `labelSelector` parameter; the empty text matches everything.
    ///
    /// # Errors
    /// With the words of the API server.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Parser { tokens: tokens(text), at: 0 }.selector().map(Self::new)
    }

    /// Reads a `metav1.LabelSelector`: absent or null matches nothing, an empty one everything.
    ///
    /// # Errors
    /// When an operator, key or value is not valid.
    pub fn from_value(selector: Option<&Value>) -> Result<Self, Error> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_string()];
            requirements.push(Requirement::new(key, Operator::Equals, values)?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let operator = match meta::top(expression, "operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(Error::Operator(other.to_string())),
            };
            let values = strings(expression, "values").map(str::to_string).collect();
            requirements.push(Requirement::new(meta::top(expression, "key"), operator, values)?);
        }
        Ok(Self::new(requirements))
    }

    /// The requirements; none for the selector that matches nothing.
    pub fn requirements(&self) -> Option<&[Requirement]> {
        self.requirements.as_deref()
    }

    /// Whether every object matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// The value that one label has to have for an object to match, if the selector names exactly one.
    pub fn exact_value(&self, key: &str) -> Option<&str> {
        let found = self.requirements.as_ref()?.iter().find(|r| r.key == key)?;
        match (found.operator, found.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }

    /// Whether labels match, given as a look-up.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|r| r.accepts(label(&r.key))))
    }

    /// Whether a map of labels matches.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches(|key| labels?.get(key)?.as_str())
    }

    /// Whether an object's labels match.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches_labels(meta::labels(object))
    }

    /// Whether the labels of an object at rest match; takes the JSON of its labels ([`scan::Header::labels`]).
    pub fn matches_json(&self, labels: Option<&[u8]>) -> bool {
        if self.is_empty() {
            return true;
        }
        let entries = labels.map(scan::entries).unwrap_or_default();
        self.matches(|key| entries.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_ref()))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().flatten().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

fn strings<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    value.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn key_error(key: &str, path: &Path<'_>) -> Option<field::Error> {
    let messages = names::is_qualified_name(key);
    (!messages.is_empty()).then(|| field::Error::invalid(path, key, messages.join("; ")))
}

/// Validates a `metav1.LabelSelector` that is a field of an object. With `any_value`, values that are no label
/// values pass (updates of objects that had such values before).
pub fn validate(selector: &Value, any_value: bool, path: &Path<'_>) -> Vec<field::Error> {
    let mut errors = Vec::new();
    meta::validate_labels(
        selector.get("matchLabels").and_then(Value::as_object),
        &path.child("matchLabels"),
        &mut errors,
    );
    let list = path.child("matchExpressions");
    for (i, expression) in
        selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        let item = list.index(i);
        let values: Vec<&str> = strings(expression, "values").collect();
        let values_path = item.child("values");
        match meta::top(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(field::Error::required(
                &values_path,
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(field::Error::forbidden(
                &values_path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(field::Error::invalid(
                &item.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        let key = meta::top(expression, "key");
        let messages = names::is_qualified_name(key);
        errors.extend(messages.into_iter().map(|m| field::Error::invalid(&item.child("key"), key, m)));
        if !any_value {
            for (i, value) in values.into_iter().enumerate() {
                let messages = names::is_label_value(value);
                errors.extend(
                    messages.into_iter().map(|m| field::Error::invalid(&values_path.index(i), value, m)),
                );
            }
        }
    }
    errors
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Less,
    NotEquals,
    Open,
    In,
    NotIn,
    Word(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::Close => ")",
            Token::Comma => ",",
            Token::Not => "!",
            Token::DoubleEquals => "==",
            Token::Equals => "=",
            Token::Greater => ">",
            Token::Less => "<",
            Token::NotEquals => "!=",
            Token::Open => "(",
            Token::In => "in",
            Token::NotIn => "notin",
            Token::Word(word) => word,
            Token::End => "",
        }
    }

    /// `in` and `notin` are words where no operator is expected.
    fn as_word(self) -> Self {
        match self {
            Token::In => Token::Word("in"),
            Token::NotIn => Token::Word("notin"),
            other => other,
        }
    }

    fn unexpected(self, expected: &'static str) -> Error {
        Error::Unexpected { found: self.text().to_string(), expected }
    }
}

/// Splits the text; a NUL ends it, as it does in Kubernetes.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let text = text.split('\0').next().unwrap_or_default();
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', '\r', '\n']);
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '=' if rest.starts_with("==") => (Token::DoubleEquals, 2),
            '!' if rest.starts_with("!=") => (Token::NotEquals, 2),
            '=' => (Token::Equals, 1),
            '!' => (Token::Not, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '>' => (Token::Greater, 1),
            '<' => (Token::Less, 1),
            _ => {
                let length = rest
                    .find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<'])
                    .unwrap_or(rest.len());
                let token = match &rest[..length] {
                    "in" => Token::In,
                    "notin" => Token::NotIn,
                    word => Token::Word(word),
                };
                (token, length)
            }
        };
        out.push(token);
        rest = rest[length..].trim_start_matches([' ', '\t', '\r', '\n']);
    }
    out
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End).as_word()
    }

    fn operator_token(&mut self) -> Token<'a> {
        let token = self.tokens.get(self.at).copied().unwrap_or(Token::End);
        self.at += 1;
        token
    }

    fn take(&mut self) -> Token<'a> {
        self.operator_token().as_word()
    }

    fn selector(mut self) -> Result<Vec<Requirement>, Error> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Not => {}
                Token::End => return Ok(out),
                other => return Err(other.unexpected("!, identifier, or 'end of string'")),
            }
            out.push(self.requirement().map_err(|e| Error::Requirement(Box::new(e)))?);
            match self.take() {
                Token::End => return Ok(out),
                Token::Comma => {
                    if !matches!(self.peek(), Token::Word(_) | Token::Not) {
                        return Err(self.peek().unexpected("identifier after ','"));
                    }
                }
                other => return Err(other.unexpected("',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let mut token = self.take();
        let negated = token == Token::Not;
        if negated {
            token = self.take();
        }
        let Token::Word(key) = token else { return Err(token.unexpected("identifier")) };
        if let Some(error) = key_error(key, &Path::ROOT) {
            return Err(Error::Invalid(error.to_string()));
        }
        // A negated key takes no operator, whatever follows.
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let operator = match self.operator_token() {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            other => return Err(other.unexpected(BINARY)),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(key, operator, values)
    }

    fn exact_value(&mut self) -> Result<String, Error> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.take() {
            Token::Word(word) => Ok(word.to_string()),
            other => Err(other.unexpected("identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, Error> {
        match self.take() {
            Token::Open => {}
            other => return Err(Error::NoParenthesis { found: other.text().to_string() }),
        }
        match self.peek() {
            Token::Close => {
                self.at += 1;
                Ok(vec![String::new()])
            }
            Token::Word(_) | Token::Comma => {
                let values = self.listed()?;
                self.at += 1;
                Ok(values)
            }
            other => Err(other.unexpected("',', ')' or identifier")),
        }
    }

    /// Values up to the closing parenthesis, which stays; between commas may be nothing, the empty value.
    fn listed(&mut self) -> Result<Vec<String>, Error> {
        let mut out = Vec::new();
        loop {
            match self.take() {
                Token::Word(word) => {
                    out.push(word.to_string());
                    match self.peek() {
                        Token::Comma => {}
                        Token::Close => return Ok(out),
                        other => return Err(other.unexpected("',' or ')'")),
                    }
                }
                Token::Comma => {
                    if out.is_empty() {
                        out.push(String::new());
                    }
                    match self.peek() {
                        Token::Close => {
                            out.push(String::new());
                            return Ok(out);
                        }
                        Token::Comma => out.push(String::new()),
                        _ => {}
                    }
                }
                other => return Err(other.unexpected("',', or identifier")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn error(text: &str) -> String {
        LabelSelector::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_form_is_read_and_printed_back() {
        for (text, canonical) in [
            ("", ""),
            ("a", "a"),
            ("!a", "!a"),
            ("a=", "a="),
            (" a = b , c!=d ", "a=b,c!=d"),
            ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z notin ()"),
            ("b==1,a>2", "a>2,b==1"),
            ("in in (in,notin)", "in in (in,notin)"),
        ] {
            let s = LabelSelector::parse(text).unwrap();
            assert_eq!(s.to_string(), canonical);
            assert_eq!(LabelSelector::parse(canonical), Ok(s));
        }
    }

    #[test]
    fn faults_have_the_servers_words() {
        assert_eq!(
            error("k IN (a)"),
            "unable to parse requirement: found 'IN', expected: in, notin, =, ==, !=, gt, lt"
        );
        assert_eq!(
            error(&format!("k={}", "a".repeat(64))),
            format!(
                r#"unable to parse requirement: values[0][k]: Invalid value: "{}": must be no more than 63 bytes"#,
                "a".repeat(64)
            )
        );
        assert_eq!(error("a,"), "found '', expected: identifier after ','");
        assert_eq!(error(",a"), "found ',', expected: !, identifier, or 'end of string'");
        assert_eq!(error("a in b"), "unable to parse requirement: found 'b' expected: '('");
        assert_eq!(error("a=b c"), "found 'c', expected: ',' or 'end of string'");
        assert_eq!(
            error("a>b"),
            r#"unable to parse requirement: values[0]: Invalid value: "b": for 'Gt', 'Lt' operators, the value must be an integer"#
        );
        assert!(error("a/b/c").starts_with(
            r#"unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key must"#
        ));
    }

    #[test]
    fn absent_labels_fulfil_negative_requirements_only() {
        let none = json!({});
        let some = json!({"metadata": {"labels": {"a": "1", "e": ""}}});
        for (text, on_none, on_some) in [
            ("", true, true),
            ("a", false, true),
            ("!a", true, false),
            ("a=1", false, true),
            ("a!=1", true, false),
            ("a in (1,2)", false, true),
            ("a notin (2)", true, true),
            ("a>0,a<2", false, true),
            ("e=", false, true),
        ] {
            let s = LabelSelector::parse(text).unwrap();
            assert_eq!((s.matches_object(&none), s.matches_object(&some)), (on_none, on_some), "{text}");
            assert_eq!(s.matches_json(Some(br#"{"a":"1","e":""}"#)), on_some);
        }
    }

    #[test]
    fn a_null_selector_object_matches_nothing_and_an_empty_one_everything() {
        let o = json!({"metadata": {"labels": {"app": "x"}}});
        assert!(!LabelSelector::from_value(None).unwrap().matches_object(&o));
        assert!(LabelSelector::from_value(Some(&json!({}))).unwrap().matches_object(&o));
        let s = json!({"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "t", "operator": "DoesNotExist"}]});
        let s = LabelSelector::from_value(Some(&s)).unwrap();
        assert!(s.matches_object(&o));
        assert_eq!(s.exact_value("app"), Some("x"));
        let bad = json!({"matchExpressions": [{"key": "t", "operator": "Odd"}]});
        assert_eq!(
            LabelSelector::from_value(Some(&bad)).unwrap_err().to_string(),
            "\"Odd\" is not a valid label selector operator"
        );
    }

    #[test]
    fn a_selector_object_is_validated_field_by_field() {
        let s = json!({"matchExpressions": [{"key": "a b", "operator": "In"}, {"key": "k", "operator": "Exists", "values": ["-"]}]});
        let found: Vec<_> =
            validate(&s, false, &Path::new("selector")).into_iter().map(|e| e.field).collect();
        assert_eq!(
            found,
            [
                "selector.matchExpressions[0].values",
                "selector.matchExpressions[0].key",
                "selector.matchExpressions[1].values",
                "selector.matchExpressions[1].values[0]"
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_prints_back(text in "[a-z0-9 =!(),<>\\-._/\u{0}é]{0,24}|(a|b|in|notin| |,|\\(|\\)|=|!|1){0,12}") {
            if let Ok(s) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&s.to_string()), Ok(s));
            }
        }
    }
}

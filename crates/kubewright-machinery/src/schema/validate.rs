//! Validation of a value against the value validations of a schema: types, bounds, lengths, patterns, formats, enums,
//! required fields and junctors, with the messages of kube-openapi's validator.
//!
//! Cost is linear in the value (times the junctors that apply); nothing is allocated for a valid value. List types
//! are judged in [`super::list_map`], embedded resources in [`super::embedded`], rules elsewhere.

use std::fmt;

use serde_json::{Number, Value};

use super::{ListType, Schema, Type, Validation, format};
use crate::field::{self, Error, Kind, Path};
use crate::gojson::{self, Style};

/// The faults of a new value. `base` is the path of the value, none for a whole resource; messages name fields below
/// it only.
pub fn validate(schema: &Schema, value: &Value, base: Option<&Path<'_>>) -> Vec<Error> {
    Validator { base, raw: false }.run(schema, value, None)
}

/// The faults of a default at `base`. Like [`validate`], but a real server judges defaults by another form of the schema:
/// an int-or-string has the type that is stated, if any, and formats count that mean nothing for their type.
pub fn validate_default(schema: &Schema, value: &Value, base: &Path<'_>) -> Vec<Error> {
    Validator { base: Some(base), raw: true }.run(schema, value, None)
}

/// The faults of a changed value. Faults of parts that are as they were are forgiven (ratcheting, KEP-4008): fields
/// are compared by name, items of lists of type map by their keys; other lists count as a whole.
pub fn validate_update(schema: &Schema, value: &Value, old: &Value, base: Option<&Path<'_>>) -> Vec<Error> {
    Validator { base, raw: false }.run(schema, value, Some(old))
}

struct Validator<'a> {
    base: Option<&'a Path<'a>>,
    /// Whether by the form for defaults.
    raw: bool,
}

/// The name of a value in messages: the path from where validation began.
#[derive(Clone, Copy)]
enum Name<'a> {
    Root,
    Field(&'a Name<'a>, &'a str),
    /// A field that has a dot before it even at the root.
    Dotted(&'a Name<'a>, &'a str),
    Item(&'a Name<'a>, usize),
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Root => Ok(()),
            Name::Field(Name::Root, name) => f.write_str(name),
            Name::Field(parent, name) | Name::Dotted(parent, name) => write!(f, "{parent}.{name}"),
            Name::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Fault {
    /// What the validator says; two faults that say the same are one.
    message: String,
    error: Error,
}

/// Faults, and how many checks were made: the alternative of anyOf and oneOf that got furthest is the one reported.
#[derive(Default)]
struct Outcome {
    faults: Vec<Fault>,
    checks: u32,
}

impl Outcome {
    fn add(&mut self, fault: Fault) {
        if self.faults.iter().all(|f| f.message != fault.message) {
            self.faults.push(fault);
        }
    }

    fn merge(&mut self, other: Outcome) {
        self.checks += other.checks;
        other.faults.into_iter().for_each(|fault| self.add(fault));
    }
}

impl Validator<'_> {
    fn run(&self, schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<Error> {
        self.value(schema, value, &Name::Root, old).faults.into_iter().map(|f| f.error).collect()
    }

    fn value(&self, schema: &Schema, value: &Value, name: &Name<'_>, old: Option<&Value>) -> Outcome {
        let mut outcome = self.judge(schema, value, name, old);
        if !outcome.faults.is_empty() && old == Some(value) {
            outcome.faults.clear();
        }
        outcome
    }

    fn judge(&self, schema: &Schema, value: &Value, name: &Name<'_>, old: Option<&Value>) -> Outcome {
        let mut out = Outcome::default();
        let validation = schema.validation.as_deref();
        if value.is_null() {
            if self.has_type(schema) && !schema.nullable {
                out.add(self.wrong_type(name, self.types(schema), "null"));
            }
            self.enumerated(validation, value, name, &mut out);
            return out;
        }
        let format = self.format(schema);
        if self.has_type(schema) || format.is_some() {
            match self.typed(schema, format, value, name) {
                Some(fault) => out.add(fault),
                None => out.checks += 1,
            }
            out.checks += 1;
        }
        if let Some(validation) = validation {
            self.junctors(validation, value, name, &mut out);
        }
        out.checks += 2;
        match value {
            Value::String(text) => {
                if let Some(fault) = validation.and_then(|v| self.text(v, text, name)) {
                    out.add(fault);
                }
                out.checks += 1;
                if let Some(format) = format.filter(|f| format::is_known(f)) {
                    if !format::is_valid(format, text) {
                        out.add(self.wrong_type(name, format, text));
                    }
                    out.checks += 1;
                }
            }
            Value::Number(number) => {
                self.number(schema, validation, number, name, &mut out);
                out.checks += 2;
            }
            Value::Array(items) => {
                self.items(schema, validation, items, name, old, &mut out);
                out.checks += 2;
            }
            _ => {}
        }
        self.enumerated(validation, value, name, &mut out);
        out.checks += 1;
        if let Value::Object(fields) = value {
            self.fields(schema, validation, fields, name, old, &mut out);
            out.checks += 1;
        }
        out.checks += 1;
        out
    }

    fn is_int_or_string(&self, schema: &Schema) -> bool {
        schema.int_or_string && !self.raw
    }

    fn has_type(&self, schema: &Schema) -> bool {
        schema.ty.is_some() || self.is_int_or_string(schema)
    }

    fn accepts(&self, schema: &Schema, actual: &str) -> bool {
        if self.is_int_or_string(schema) {
            return actual == "integer" || actual == "string";
        }
        schema.ty.is_some_and(|ty| ty.name() == actual)
    }

    fn types(&self, schema: &Schema) -> &'static str {
        if self.is_int_or_string(schema) {
            return "integer,string";
        }
        schema.ty.map_or("", Type::name)
    }

    /// The format of a schema, where it means something for its type.
    fn format<'s>(&self, schema: &'s Schema) -> Option<&'s str> {
        let format = schema.format.as_deref()?;
        let ty = schema.ty.filter(|_| !schema.int_or_string);
        (self.raw || format::applies(ty, format)).then_some(format)
    }

    fn field(&self, name: &Name<'_>) -> String {
        let name = name.to_string();
        let name = name.strip_prefix('.').unwrap_or(&name);
        match (self.base, name) {
            (Some(base), "") => base.to_string(),
            (Some(base), name) => base.child(name).to_string(),
            (None, "") => "<nil>".into(),
            (None, name) => name.into(),
        }
    }

    fn fault(&self, kind: Kind, name: &Name<'_>, value: Value, message: String) -> Fault {
        let error = Error { kind, field: self.field(name), value, detail: message.clone(), shown: None };
        Fault { message, error }
    }

    fn invalid(&self, name: &Name<'_>, value: impl Into<Value>, what: impl fmt::Display) -> Fault {
        self.fault(Kind::Invalid, name, value.into(), format!("{name} in body {what}"))
    }

    fn wrong_type(&self, name: &Name<'_>, expected: &str, actual: &str) -> Fault {
        let message = format!("{name} in body must be of type {expected}: {}", field::quote(actual));
        self.fault(Kind::TypeInvalid, name, actual.into(), message)
    }

    /// A fault that names no field of its own: it is reported at the base.
    fn at_base(&self, message: String) -> Fault {
        self.fault(Kind::Invalid, &Name::Root, "".into(), message)
    }

    fn typed(&self, schema: &Schema, format: Option<&str>, value: &Value, name: &Name<'_>) -> Option<Fault> {
        let (actual, actual_format) = match value {
            Value::Null => ("null", ""),
            Value::Bool(_) => ("boolean", ""),
            Value::String(_) => ("string", ""),
            Value::Number(n) if n.is_i64() => ("integer", "int64"),
            Value::Number(_) => ("number", "float64"),
            Value::Array(_) => ("array", ""),
            Value::Object(_) => ("object", ""),
        };
        let whole = value.as_f64().is_some_and(is_whole);
        let fits = self.accepts(schema, actual)
            || (actual == "number" && whole && self.accepts(schema, "integer"))
            || (actual == "integer" && self.accepts(schema, "number"));
        let textual = matches!(value, Value::String(_) | Value::Array(_));
        if let Some(format) = format {
            if !textual && !fits && actual_format != format {
                return Some(self.wrong_type(name, format, actual_format));
            }
            if textual && !self.accepts(schema, "number") && !self.accepts(schema, "integer") {
                return None;
            }
        }
        (!fits).then(|| self.wrong_type(name, self.types(schema), actual))
    }

    fn enumerated(&self, validation: Option<&Validation>, value: &Value, name: &Name<'_>, out: &mut Outcome) {
        let Some(values) = validation.map(|v| &v.one_of_values).filter(|v| !v.is_empty()) else { return };
        if !value.is_null() && values.iter().any(|allowed| equals(value, allowed)) {
            return;
        }
        let shown = |value: &Value| {
            let mut text = String::new();
            match value {
                Value::String(value) => text.push_str(value),
                value => gojson::write(&mut text, value, Style::Standard),
            }
            text
        };
        let texts: Vec<String> = values.iter().map(shown).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut error = Error::not_supported(&Path::ROOT, value.clone(), &texts);
        error.field = self.field(name);
        out.add(Fault { message: format!("{name} in body should be one of [{}]", texts.join(" ")), error });
    }

    fn text(&self, validation: &Validation, text: &str, name: &Name<'_>) -> Option<Fault> {
        let bounded = validation.max_length.is_some() || validation.min_length.is_some();
        let length = if bounded { text.chars().count() as i64 } else { 0 };
        if let Some(max) = validation.max_length.filter(|max| length > *max) {
            let mut error = Error::too_long(&Path::ROOT, usize::try_from(max).unwrap_or(0));
            error.field = self.field(name);
            return Some(Fault {
                message: format!("{name} in body should be at most {max} chars long"),
                error,
            });
        }
        if let Some(min) = validation.min_length.filter(|min| length < *min) {
            return Some(self.invalid(name, text, format_args!("should be at least {min} chars long")));
        }
        let pattern = validation.pattern.as_deref()?;
        if validation.regex().is_some_and(|re| re.is_match(text)) {
            return None;
        }
        Some(self.invalid(name, text, format_args!("should match '{pattern}'")))
    }

    fn number(
        &self,
        schema: &Schema,
        validation: Option<&Validation>,
        number: &Number,
        name: &Name<'_>,
        out: &mut Outcome,
    ) {
        let range = Range::of(schema);
        let int = number.as_i64();
        let float = number.as_f64().unwrap_or_default();
        if !range.holds(int, float) {
            out.add(self.at_base(range.fault("Checked", name)));
        }
        let Some(validation) = validation else { return };
        let value = || Value::Number(number.clone());
        // A bound that the type cannot hold is a fault of its own, and the value is then compared as a float.
        let native = |bound: f64, what: &str, out: &mut Outcome| {
            let holds = range.holds(None, bound);
            if !holds {
                out.add(self.at_base(range.fault(what, name)));
            }
            int.filter(|_| holds)
        };
        if let Some(factor) = validation.multiple_of {
            match native(factor, "MultipleOf", out) {
                Some(int) => {
                    let factor = factor as i64;
                    if factor <= 0 {
                        out.add(self.bad_factor(name, factor.into(), factor));
                    } else if int % factor != 0 {
                        out.add(self.invalid(
                            name,
                            value(),
                            format_args!("should be a multiple of {factor}"),
                        ));
                    }
                }
                None if factor <= 0.0 => {
                    out.add(self.bad_factor(name, factor.into(), field::float(factor)));
                }
                None => {
                    let multiple = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
                    if !is_whole(multiple) {
                        let factor = field::float(factor);
                        out.add(self.invalid(
                            name,
                            value(),
                            format_args!("should be a multiple of {factor}"),
                        ));
                    }
                }
            }
        }
        // The order of the faults is the multiple's, the minimum's, the maximum's.
        let bounds = [
            (validation.minimum, validation.exclusive_minimum, "Minimum boundary", "greater", true),
            (validation.maximum, validation.exclusive_maximum, "Maximum boundary", "less", false),
        ];
        for (bound, exclusive, what, word, lower) in bounds {
            let Some(bound) = bound else { continue };
            let (order, text) = match native(bound, what, out) {
                Some(int) => (int.cmp(&(bound as i64)), (bound as i64).to_string()),
                None => (float.total_cmp(&bound), field::float(bound)),
            };
            let beyond = if lower { order.is_lt() } else { order.is_gt() };
            if beyond || (exclusive && order.is_eq()) {
                let than = if exclusive { "than" } else { "than or equal to" };
                out.add(self.invalid(name, value(), format_args!("should be {word} {than} {text}")));
            }
        }
    }

    fn bad_factor(&self, name: &Name<'_>, value: Value, text: impl fmt::Display) -> Fault {
        let message = format!("factor MultipleOf declared for {name} must be positive: {text}");
        self.fault(Kind::Invalid, name, value, message)
    }

    fn items(
        &self,
        schema: &Schema,
        validation: Option<&Validation>,
        items: &[Value],
        name: &Name<'_>,
        old: Option<&Value>,
        out: &mut Outcome,
    ) {
        if let Some(item_schema) = schema.items.as_deref() {
            let old = old.and_then(Value::as_array).filter(|_| schema.list_type == ListType::Map);
            for (i, item) in items.iter().enumerate() {
                let old = old.and_then(|old| correlated(schema, old, i, item));
                out.merge(self.value(item_schema, item, &Name::Item(name, i), old));
            }
        }
        let Some(validation) = validation else { return };
        let size = items.len();
        if let Some(min) = validation.min_items.filter(|min| (size as i64) < *min) {
            out.add(self.invalid(name, size, format_args!("should have at least {min} items")));
        }
        if let Some(max) = validation.max_items.filter(|max| (size as i64) > *max) {
            out.add(self.too_many(name, size, max, "items"));
        }
        if validation.unique_items && items.iter().enumerate().any(|(i, item)| items[..i].contains(item)) {
            out.add(self.invalid(name, "", "shouldn't contain duplicates"));
        }
    }

    fn too_many(&self, name: &Name<'_>, size: usize, max: i64, what: &str) -> Fault {
        let mut error = Error::too_many(&Path::ROOT, size, usize::try_from(max).unwrap_or(0));
        error.field = self.field(name);
        Fault { message: format!("{name} in body should have at most {max} {what}"), error }
    }

    fn fields(
        &self,
        schema: &Schema,
        validation: Option<&Validation>,
        fields: &serde_json::Map<String, Value>,
        name: &Name<'_>,
        old: Option<&Value>,
        out: &mut Outcome,
    ) {
        let size = fields.len();
        if let Some(min) = validation.and_then(|v| v.min_properties).filter(|min| (size as i64) < *min) {
            out.add(self.invalid(name, size, format_args!("should have at least {min} properties")));
        }
        if let Some(max) = validation.and_then(|v| v.max_properties).filter(|max| (size as i64) > *max) {
            out.add(self.too_many(name, size, max, "properties"));
        }
        let at_root = matches!(name, Name::Root);
        let old = old.and_then(Value::as_object);
        let before = |key: &str| {
            // A change of apiVersion cannot be seen here, so these two are always judged.
            old.filter(|_| !(at_root && (key == "kind" || key == "apiVersion"))).and_then(|old| old.get(key))
        };
        let others = || fields.iter().filter(|(key, _)| !schema.properties.contains_key(key.as_str()));
        if schema.additional_false {
            for (key, _) in others() {
                let message = format!("{name}.{key} in body is a forbidden property");
                out.add(self.fault(Kind::Invalid, name, key.as_str().into(), message));
            }
        } else if let Some(additional) = schema.additional.as_deref() {
            for (key, value) in others() {
                out.merge(self.value(additional, value, &Name::Dotted(name, key), before(key)));
            }
        }
        for (key, property) in &schema.properties {
            if let Some(value) = fields.get(&**key) {
                out.merge(self.value(property, value, &Name::Field(name, key), before(key)));
            }
        }
        for key in schema.required.iter().filter(|key| !fields.contains_key(&***key)) {
            let name = Name::Dotted(name, key);
            let message = format!("{name} in body is required");
            let error = self.fault(Kind::Required, &name, Value::Null, String::new()).error;
            out.add(Fault { message, error });
        }
    }

    fn junctors(&self, validation: &Validation, value: &Value, name: &Name<'_>, out: &mut Outcome) {
        let judge = |schema: &Schema| self.judge(schema, value, name, None);
        if !validation.any_of.is_empty() {
            let mut best: Option<Outcome> = None;
            let mut valid = None;
            for schema in &validation.any_of {
                let outcome = judge(schema);
                if outcome.faults.is_empty() {
                    valid = Some(outcome);
                    break;
                }
                if best.as_ref().is_none_or(|b| outcome.checks > b.checks) {
                    best = Some(outcome);
                }
            }
            if valid.is_none() {
                out.add(self.at_base(format!("\"{name}\" must validate at least one schema (anyOf)")));
            }
            if let Some(outcome) = valid.or(best) {
                out.merge(outcome);
            }
        }
        if !validation.one_of.is_empty() {
            let mut best: Option<Outcome> = None;
            let mut first = None;
            let mut valid = 0;
            for schema in &validation.one_of {
                let outcome = judge(schema);
                if outcome.faults.is_empty() {
                    valid += 1;
                    first.get_or_insert(outcome);
                } else if valid == 0 && best.as_ref().is_none_or(|b| outcome.checks > b.checks) {
                    best = Some(outcome);
                }
            }
            if valid == 1 {
                first.into_iter().for_each(|outcome| out.merge(outcome));
            } else {
                let found = match valid {
                    0 => "Found none valid".to_string(),
                    n => format!("Found {n} valid alternatives"),
                };
                let message = format!("\"{name}\" must validate one and only one schema (oneOf). {found}");
                out.add(self.at_base(message));
                best.into_iter().filter(|_| valid == 0).for_each(|outcome| out.merge(outcome));
            }
        }
        if !validation.all_of.is_empty() {
            let mut valid = 0;
            for schema in &validation.all_of {
                let outcome = judge(schema);
                valid += usize::from(outcome.faults.is_empty());
                out.merge(outcome);
            }
            if valid < validation.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                out.add(self.at_base(format!("\"{name}\" must validate all the schemas (allOf){none}")));
            }
        }
        if validation.not.as_deref().is_some_and(|schema| judge(schema).faults.is_empty()) {
            out.add(self.at_base(format!("\"{name}\" must not validate the schema (not)")));
        }
    }
}

/// The old item with the keys of a new one: mostly the one at the same place.
fn correlated<'a>(schema: &Schema, old: &'a [Value], index: usize, item: &Value) -> Option<&'a Value> {
    let same = |old: &&Value| same_keys(schema, old, item);
    old.get(index).filter(same).or_else(|| old.iter().find(same))
}

/// Whether two items of a list of type map have the same keys; an absent key equals its default.
fn same_keys(schema: &Schema, a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return false };
    schema.list_map_keys.iter().all(|key| {
        let default = || schema.items.as_deref()?.properties.get(key)?.default.as_deref();
        a.get(&**key).or_else(default) == b.get(&**key).or_else(default)
    })
}

/// Equality of a value with one of an enum: numbers are compared as the type of the enum's.
fn equals(value: &Value, allowed: &Value) -> bool {
    match (value, allowed) {
        (Value::Number(value), Value::Number(allowed)) => match (allowed.as_i64(), value.as_i64()) {
            (Some(a), Some(b)) => a == b,
            (Some(a), None) => value.as_f64().is_some_and(|f| f as i64 == a),
            (None, _) => allowed.as_f64() == value.as_f64(),
        },
        _ => value == allowed,
    }
}

/// Whether a float is an integer that JSON can carry exactly.
fn is_whole(n: f64) -> bool {
    const MAX: f64 = 9_007_199_254_740_991.0;
    const EPSILON: f64 = 1e-9;
    if !n.is_finite() || n.abs() > MAX {
        return false;
    }
    let truncated = n.trunc();
    let difference = (n - truncated).abs();
    truncated == n || (truncated != 0.0 && difference / (n.abs() + truncated.abs()) < EPSILON)
}

/// The numbers that a type and format can hold.
struct Range<'a> {
    integer: bool,
    format: Option<&'a str>,
    named: &'static str,
}

impl<'a> Range<'a> {
    fn of(schema: &'a Schema) -> Self {
        let ty = schema.ty.filter(|_| !schema.int_or_string);
        let integer = ty == Some(Type::Integer);
        let formats: &[&str] = match ty {
            Some(Type::Integer) => &["int32", "int64"],
            Some(Type::Number) => &["float", "double"],
            _ => &[],
        };
        let format = schema.format.as_deref().filter(|f| formats.contains(f));
        Self { integer, format, named: if formats.is_empty() { "" } else { ty.map_or("", Type::name) } }
    }

    fn holds(&self, int: Option<i64>, float: f64) -> bool {
        if self.integer {
            let int = int.or_else(|| {
                // 2^63, the first float beyond.
                const END: f64 = 9_223_372_036_854_775_808.0;
                let fits = float.fract() == 0.0 && (-END..END).contains(&float);
                fits.then_some(float as i64)
            });
            return int.is_some_and(|n| self.format != Some("int32") || i32::try_from(n).is_ok());
        }
        self.format != Some("float") || float.abs() <= f64::from(f32::MAX)
    }

    fn fault(&self, what: &str, name: &Name<'_>) -> String {
        match self.format {
            Some(format) => {
                format!("{what} value must be of type {} with format {format} in {name}", self.named)
            }
            None => format!("{what} value must be of type {} (default format) in {name}", self.named),
        }
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;

//! The defaults in a definition's schema: each must be valid and hold no field that pruning would remove.

use serde_json::{Value, json};

use crate::field::{self, Error, Path};
use crate::schema::{Schema, embedded, prune, validate};

/// The faults of all defaults of the schema of a resource, at `path`. With `pruned`, unknown fields are faults.
pub fn check(schema: &Schema, path: &Path<'_>, pruned: bool) -> Vec<Error> {
    let mut checker = Checker { pruned, errors: Vec::new() };
    let root = Schema { embedded_resource: true, ..schema.clone() };
    checker.schema(&root, path, &Around { root: &root, steps: None }, false);
    checker.errors
}

/// Where a default is in the resource around it, innermost step first.
#[derive(Clone, Copy)]
struct Around<'a> {
    root: &'a Schema,
    steps: Option<&'a Steps<'a>>,
}

struct Steps<'a> {
    outer: Option<&'a Steps<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Field(&'a str),
    Item,
}

impl Around<'_> {
    /// The smallest resource that has the value in its place.
    fn resource(&self, value: &Value) -> Value {
        let mut out = value.clone();
        let mut steps = self.steps;
        while let Some(step) = steps {
            out = match step.step {
                Step::Field(name) => json!({name: out}),
                Step::Item => json!([out]),
            };
            steps = step.outer;
        }
        if let Some(fields) = out.as_object_mut() {
            fields.entry("kind").or_insert_with(|| "Validation".into());
            fields.entry("apiVersion").or_insert_with(|| "validation/v1".into());
        }
        out
    }
}

struct Checker {
    pruned: bool,
    errors: Vec<Error>,
}

impl Checker {
    fn schema(&mut self, schema: &Schema, path: &Path<'_>, around: &Around<'_>, in_metadata: bool) {
        let own = Around { root: schema, steps: None };
        let (around, in_metadata) =
            if schema.embedded_resource { (&own, false) } else { (around, in_metadata) };
        if let Some(value) = schema.default.as_deref() {
            let path = path.child("default");
            if in_metadata {
                self.in_metadata(schema, value, &path, around);
            } else {
                self.default(schema, value, &path);
            }
        }
        // Defaults may not be in additionalProperties at all, so there are none to judge.
        if let Some(items) = schema.items.as_deref() {
            let steps = Steps { outer: around.steps, step: Step::Item };
            let around = Around { steps: Some(&steps), ..*around };
            self.schema(items, &path.child("items"), &around, in_metadata);
        }
        for (name, property) in &schema.properties {
            let steps = Steps { outer: around.steps, step: Step::Field(name) };
            let around = Around { steps: Some(&steps), ..*around };
            let in_metadata =
                in_metadata || (schema.embedded_resource && prune::RESOURCE_FIELDS.contains(&&**name));
            self.schema(property, &path.child("properties").key(name), &around, in_metadata);
        }
    }

    fn default(&mut self, schema: &Schema, value: &Value, path: &Path<'_>) {
        let mut copy = value.clone();
        if self.pruned {
            prune::prune(&mut copy, schema, schema.embedded_resource);
            if &copy != value {
                self.errors.push(Error::invalid(path, value.clone(), "must not have unknown fields"));
            }
            copy = value.clone();
        }
        if let Err(error) = embedded::coerce(&mut copy, schema, schema.embedded_resource, false, path) {
            self.errors.push(*error);
            return;
        }
        let errors = embedded::validate(schema, &copy, schema.embedded_resource, path);
        if errors.is_empty() {
            self.errors.extend(validate::validate_default(schema, &copy, path));
        } else {
            self.errors.extend(errors);
        }
    }

    fn in_metadata(&mut self, schema: &Schema, value: &Value, path: &Path<'_>, around: &Around<'_>) {
        let mut resource = around.resource(value);
        let wrong = match embedded::coerce(&mut resource, around.root, true, false, &Path::ROOT) {
            Err(error) => Some(error.to_string()),
            Ok(_) => field::aggregate(&embedded::validate(around.root, &resource, true, &Path::ROOT)),
        };
        match wrong {
            Some(text) => {
                let detail = format!("must result in valid metadata: {text}");
                self.errors.push(Error::invalid(path, value.clone(), detail));
            }
            None => self.errors.extend(validate::validate_default(schema, value, path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::structural::parse;

    fn of_x(x: Value) -> Vec<String> {
        let schema = parse(&json!({"type": "object", "properties": {"x": x}}));
        check(&schema, &Path::new("s"), true).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_default_must_be_valid_and_pruned() {
        assert_eq!(
            of_x(json!({"type": "integer", "default": "a"})),
            [
                "s.properties[x].default: Invalid value: \"string\":  in body must be of type integer: \"string\""
            ]
        );
        let object = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        let with = |default: Value| {
            let mut x = object.clone();
            x["default"] = default;
            of_x(x)
        };
        assert_eq!(with(json!({"a": "1"})), Vec::<String>::new());
        assert_eq!(with(json!({})), ["s.properties[x].default.a: Required value"]);
        assert_eq!(
            with(json!({"a": "1", "b": "2"})),
            [
                "s.properties[x].default: Invalid value: {\"a\":\"1\",\"b\":\"2\"}: must not have unknown fields"
            ]
        );
    }

    #[test]
    fn the_type_of_an_int_or_string_default_is_not_looked_at() {
        assert_eq!(of_x(json!({"x-kubernetes-int-or-string": true, "default": true})), Vec::<String>::new());
    }

    #[test]
    fn a_default_of_a_resource_needs_its_type() {
        let x = json!({"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true, "default": {}});
        assert_eq!(
            of_x(x),
            [
                "s.properties[x].default.apiVersion: Required value",
                "s.properties[x].default.kind: Required value",
            ]
        );
    }

    #[test]
    fn a_default_in_embedded_metadata_must_make_valid_metadata() {
        let x = |name: &str| {
            of_x(json!({"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true, "properties": {"metadata": {"type": "object",
            "properties": {"name": {"type": "string", "default": name}}}}}))
        };
        assert_eq!(x("good"), Vec::<String>::new());
        assert_eq!(
            x("a/b"),
            [
                "s.properties[x].properties[metadata].properties[name].default: Invalid value: \"a/b\": must result in \
             valid metadata: metadata.name: Invalid value: \"a/b\": may not contain '/'"
            ]
        );
    }
}

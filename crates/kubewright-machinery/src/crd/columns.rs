//! Printer columns of custom resources: the table a server makes of them (`additionalPrinterColumns`).

use serde_json::{Value, json};

use super::Column;
use super::jsonpath::JsonPath;
use crate::{duration, field};

/// What the column Name says of itself.
pub const NAME_DOC: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
    resources may allow a client to request the generation of an appropriate name automatically. Name is primarily \
    intended for creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

/// What the column Age says of itself.
pub const AGE_DOC: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. \
    It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. \
    It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The columns of one version, ready to make cells.
#[derive(Clone, Debug)]
pub struct Columns {
    definitions: Vec<Value>,
    paths: Vec<(Box<str>, JsonPath)>,
}

impl Columns {
    /// Name, then the columns given; Age where there are none. A column whose path cannot be read ends the table.
    pub fn new(columns: &[Column]) -> Self {
        let age = [Column {
            name: "Age".into(),
            ty: "date".into(),
            description: AGE_DOC.into(),
            json_path: ".metadata.creationTimestamp".into(),
            ..Column::default()
        }];
        let mut out =
            Self { definitions: vec![definition("Name", "string", "name", NAME_DOC, 0)], paths: vec![] };
        for column in if columns.is_empty() { &age } else { columns } {
            let Ok(path) = JsonPath::parse(&column.json_path) else { break };
            let doc = if column.description.is_empty() {
                format!("Custom resource definition column (in JSONPath format): {}", column.json_path)
            } else {
                column.description.clone()
            };
            out.definitions.push(definition(&column.name, &column.ty, &column.format, &doc, column.priority));
            out.paths.push((column.ty.as_str().into(), path));
        }
        out
    }

    /// `columnDefinitions` of the Table.
    pub fn definitions(&self) -> &[Value] {
        &self.definitions
    }

    /// The cells of one object.
    pub fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let name = object.pointer("/metadata/name").cloned().unwrap_or_else(|| "".into());
        let others = self.paths.iter().map(|(ty, path)| match path.find(object).as_deref() {
            Some([first, ..]) => cell(ty, first, now),
            _ => Value::Null,
        });
        std::iter::once(name).chain(others).collect()
    }
}

fn definition(name: &str, ty: &str, format: &str, description: &str, priority: i64) -> Value {
    json!({"name": name, "type": ty, "format": format, "description": description, "priority": priority})
}

fn cell(ty: &str, value: &Value, now: jiff::Timestamp) -> Value {
    match (ty, value) {
        ("string", value) => text(value).into(),
        ("integer", Value::Number(n)) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)).into(),
        ("number", Value::Number(n)) => match n.as_f64() {
            Some(f) if f.fract() == 0.0 && f.abs() < 9.0e15 => Value::from(f as i64),
            Some(f) => Value::from(f),
            None => Value::Null,
        },
        ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(time)) => duration::since(time, now).into(),
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => field::float(n.as_f64().unwrap_or_default()),
        Value::Null => "<no value>".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, ty: &str, path: &str) -> Column {
        Column { name: name.into(), ty: ty.into(), json_path: path.into(), ..Column::default() }
    }

    #[test]
    fn cells_are_converted_by_type_and_null_where_they_do_not_fit() {
        let columns = Columns::new(&[
            column("Size", "integer", ".spec.size"),
            column("Ratio", "number", ".spec.ratio"),
            column("On", "boolean", ".spec.on"),
            column("Tags", "string", ".spec.tags"),
            column("When", "date", ".spec.when"),
            column("Mis", "integer", ".spec.image"),
            column("First", "string", ".spec.tags[0]"),
        ]);
        let now = "2024-01-01T00:05:00Z".parse().unwrap();
        let full = json!({"metadata": {"name": "full"}, "spec": {"size": 3, "ratio": 1.5, "on": false,
            "tags": ["a", "b"], "when": "2024-01-01T00:00:00Z", "image": "nginx"}});
        let expected = json!(["full", 3, 1.5, false, "[\"a\",\"b\"]", "5m", null, "a"]);
        assert_eq!(Value::from(columns.cells(&full, now)), expected);
        let empty = json!({"metadata": {"name": "empty"}, "spec": {"when": "not-a-date", "tags": []}});
        let expected = json!(["empty", null, null, null, "[]", "<invalid>", null, null]);
        assert_eq!(Value::from(columns.cells(&empty, now)), expected);
        assert_eq!(
            columns.definitions()[1]["description"],
            "Custom resource definition column (in JSONPath format): .spec.size"
        );
    }

    #[test]
    fn without_columns_the_age_is_shown() {
        let columns = Columns::new(&[]);
        let now = "2024-01-01T00:05:00Z".parse().unwrap();
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:04:00Z"}});
        assert_eq!(Value::from(columns.cells(&object, now)), json!(["a", "60s"]));
        assert_eq!(columns.definitions()[1]["name"], "Age");
    }
}

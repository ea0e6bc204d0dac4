//! The table columns of a kind (`as=Table`, what kubectl prints).

use jiff::Timestamp;
use serde_json::Value;

/// One column (`metav1.TableColumnDefinition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Header.
    pub name: Box<str>,
    /// OpenAPI type of the cells.
    pub ty: Box<str>,
    /// OpenAPI format; `name` marks the identifying column.
    pub format: Box<str>,
    /// What it shows.
    pub description: Box<str>,
    /// Above 0: only shown wide.
    pub priority: i32,
}

/// Columns and how to fill them.
pub trait Columns: Send + Sync {
    /// The columns, in order.
    fn columns(&self) -> &[Column];

    /// Whether a table without rows says null: only that of kinds without columns of their own does.
    fn rows_may_be_null(&self) -> bool {
        false
    }

    /// The cells of one object, one for each column.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value>;

    /// Conditions of the row (`metav1.TableRowCondition`), such as `Completed` of a finished pod.
    fn conditions(&self, object: &Value) -> Vec<Value> {
        let _ = object;
        Vec::new()
    }
}

/// What kinds without columns of their own have: `Name` and `Created At`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameAndAge;

/// Swagger text of `metadata.name`, which the default table shows.
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
/// Swagger text of `metadata.creationTimestamp`.
const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

impl Columns for NameAndAge {
    fn columns(&self) -> &[Column] {
        static COLUMNS: std::sync::LazyLock<[Column; 2]> = std::sync::LazyLock::new(|| {
            let column = |name: &str, ty: &str, format: &str, description: &str| Column {
                name: name.into(),
                ty: ty.into(),
                format: format.into(),
                description: description.into(),
                priority: 0,
            };
            [column("Name", "string", "name", NAME), column("Created At", "date", "", CREATED)]
        });
        &*COLUMNS
    }

    fn rows_may_be_null(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let meta = &object["metadata"];
        vec![meta["name"].clone(), meta["creationTimestamp"].clone()]
    }
}

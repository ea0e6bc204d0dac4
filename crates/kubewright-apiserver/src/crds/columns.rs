//! The printer columns of a custom resource as table columns.

use jiff::Timestamp;
use kubewright_machinery::crd;
use serde_json::Value;

use crate::resources::{Column, Columns};

/// Name, then what the definition lists, or the age.
pub(crate) struct PrinterColumns {
    columns: Vec<Column>,
    cells: crd::columns::Columns,
}

impl PrinterColumns {
    pub(crate) fn new(columns: &[crd::Column]) -> Self {
        let cells = crd::columns::Columns::new(columns);
        let columns = cells.definitions().iter().map(column).collect();
        Self { columns, cells }
    }
}

fn column(definition: &Value) -> Column {
    let text = |key: &str| definition[key].as_str().unwrap_or_default().into();
    Column {
        name: text("name"),
        ty: text("type"),
        format: text("format"),
        description: text("description"),
        priority: definition["priority"].as_i64().and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
    }
}

impl Columns for PrinterColumns {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.cells.cells(object, now)
    }
}

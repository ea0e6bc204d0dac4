//! Conflicts of an apply: fields that others own with other values.

use std::fmt::{self, Write as _};

use super::managers::ManagerId;
use super::path::Path;
use crate::status::{Cause, Details, Status};

/// A field that an apply wants to change and another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: ManagerId,
    /// The field.
    pub path: Path,
}

/// The conflicts of an apply: by manager, then in the order of their sets. Never none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Conflicts(pub Vec<Conflict>);

/// As the message of the Status: one conflict in a line, several grouped by manager.
impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [conflict] = self.0.as_slice() {
            return write!(
                f,
                "Apply failed with 1 conflict: conflict with {}: {}",
                conflict.manager, conflict.path
            );
        }
        let mut lines = String::new();
        let mut manager = None;
        for conflict in &self.0 {
            if manager != Some(&conflict.manager) {
                manager = Some(&conflict.manager);
                let _ = write!(
                    lines,
                    "{}conflicts with {}:",
                    if lines.is_empty() { "" } else { "\n" },
                    conflict.manager
                );
            }
            let _ = write!(lines, "\n- {}", conflict.path);
        }
        write!(f, "Apply failed with {} conflicts: {lines}", self.0.len())
    }
}

impl Conflicts {
    /// The 409 with one cause a field.
    pub fn to_status(&self) -> Status {
        let causes = self
            .0
            .iter()
            .map(|conflict| Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {}", conflict.manager),
                field: conflict.path.to_string(),
            })
            .collect();
        Status::failure(409, "Conflict", self.to_string())
            .with_details(Details { causes, ..Details::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::managers::Operation;
    use super::*;

    fn conflict(manager: &str, operation: Operation, field: &str) -> Conflict {
        Conflict {
            manager: ManagerId::new(manager, operation, "v1", ""),
            path: Path::fields(&["data", field]),
        }
    }

    #[test]
    fn one_conflict_is_a_line() {
        let status = Conflicts(vec![conflict("m1", Operation::Apply, "k")]).to_status();
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({
                "code": 409, "reason": "Conflict", "status": "Failure",
                "message": "Apply failed with 1 conflict: conflict with \"m1\": .data.k",
                "details": {"causes": [{"field": ".data.k", "message": "conflict with \"m1\"", "reason": "FieldManagerConflict"}]},
            })
        );
    }

    #[test]
    fn several_are_grouped_by_manager() {
        let conflicts = Conflicts(vec![
            conflict("m1", Operation::Apply, "m"),
            conflict("m2", Operation::Apply, "k"),
            conflict("u", Operation::Update, "m"),
            conflict("u", Operation::Update, "n"),
        ]);
        assert_eq!(
            conflicts.to_string(),
            "Apply failed with 4 conflicts: conflicts with \"m1\":\n- .data.m\nconflicts with \"m2\":\n- .data.k\nconflicts with \"u\" using v1:\n- .data.m\n- .data.n"
        );
    }
}

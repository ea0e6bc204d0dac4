//! Sets looked at with a schema and without an object.

use super::ty::{Kind, Relation, Ty};
use crate::fieldset::path::PathElement;
use crate::fieldset::set::Set;

fn below<'a>(ty: Ty<'a>, element: &PathElement) -> Option<Ty<'a>> {
    match element {
        PathElement::Field(name) if ty.first_kind() == Kind::Map => ty.child(name).map(|child| child.ty),
        PathElement::Key(_) if ty.first_kind() == Kind::List || matches!(ty, Ty::Deduced | Ty::Opaque) => {
            Some(ty.list().item)
        }
        _ => None,
    }
}

pub(super) fn with_named_fields(ty: Option<Ty<'_>>, set: &Set) -> Set {
    let mut members = set.members().to_vec();
    let mut children = Vec::with_capacity(set.children().len());
    for (element, child) in set.children() {
        if let (PathElement::Field(name), Some(ty)) = (element, ty)
            && ty.first_kind() == Kind::Map
            && ty.child(name).is_some_and(|child| child.declared)
        {
            members.push(element.clone());
        }
        let ty = ty.and_then(|ty| below(ty, element));
        children.push((element.clone(), with_named_fields(ty, child)));
    }
    Set::from_parts(members, children)
}

/// What becomes of a field.
enum Outcome {
    Same,
    /// The field is now owned as a whole.
    Whole,
    /// Something below it changed.
    Below(Set),
}

pub(super) fn reconcile(ty: Ty<'_>, set: &Set) -> Option<Set> {
    let list = ty.list();
    let kind = ty.first_kind();
    if kind == Kind::Scalar || (kind == Kind::Map && ty.map_unknown()) {
        return None;
    }
    let type_of = |element: &PathElement| match (kind, element) {
        (Kind::List, _) => Some(list.item),
        (_, PathElement::Field(name)) => ty.child(name).map(|child| child.ty),
        _ => None,
    };
    let mut changed = false;
    let mut members = set.members().to_vec();
    let mut children = Vec::with_capacity(set.children().len());
    for (element, child) in set.children() {
        match type_of(element).map_or(Outcome::Same, |ty| field(ty, child)) {
            Outcome::Same => children.push((element.clone(), child.clone())),
            Outcome::Whole => {
                members.push(element.clone());
                changed = true;
            }
            Outcome::Below(set) => {
                children.push((element.clone(), set));
                changed = true;
            }
        }
    }
    changed.then(|| Set::from_parts(members, children))
}

/// A field with members below it. One without is a leaf, whatever its type, and stays.
fn field(ty: Ty<'_>, set: &Set) -> Outcome {
    let whole = match ty.first_kind() {
        Kind::Scalar => return Outcome::Same,
        Kind::Map => ty.map_atomic() && !ty.map_unknown(),
        Kind::List => matches!(ty.list().relation, Relation::Atomic),
    };
    if whole {
        return Outcome::Whole;
    }
    reconcile(ty, set).map_or(Outcome::Same, Outcome::Below)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{ObjectType, crd, ty};
    use super::*;

    fn set(spec: Value) -> Set {
        Set::from_value(&json!({ "f:spec": spec })).unwrap()
    }

    #[test]
    fn named_fields_above_members_become_members_and_items_do_not() {
        let named = ty().with_named_fields(&set(json!({
            "f:items": {"k:{\"name\":\"a\"}": {"f:sub": {"f:a": {}}}}, "f:structs": {"f:k": {"f:a": {}}},
        })));
        let expected = json!({"f:spec": {
            ".": {},
            "f:items": {".": {}, "k:{\"name\":\"a\"}": {"f:sub": {".": {}, "f:a": {}}}},
            "f:structs": {".": {}, "f:k": {"f:a": {}}},
        }});
        assert_eq!(named.to_value(), expected);
    }

    fn granular() -> (ObjectType, ObjectType) {
        let granular = crd(
            json!({"list": [{"name": "string"}, "map", "name"], "map": {"*": "string"}, "deep": {"map": {"*": "string"}}}),
        );
        let atomic = crd(
            json!({"list": [{"name": "string"}, "atomic"], "map": {"*": "string", "!": true}, "deep": {"map": {"*": "string", "!": true}}}),
        );
        (granular, atomic)
    }

    #[test]
    fn what_became_atomic_is_owned_as_a_whole() {
        let (granular, atomic) = granular();
        let owned = set(json!({
            "f:deep": {"f:map": {"f:x": {}}}, "f:list": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}, "f:map": {".": {}, "f:a": {}},
        }));
        assert_eq!(granular.reconcile(&owned), None);
        assert_eq!(
            atomic.reconcile(&owned),
            Some(set(json!({"f:deep": {"f:map": {}}, "f:list": {}, "f:map": {}})))
        );
    }

    #[test]
    fn what_became_granular_stays_owned_as_a_whole() {
        let (granular, atomic) = granular();
        let owned = set(json!({"f:list": {}, "f:map": {}}));
        assert_eq!(granular.reconcile(&owned), None);
        assert_eq!(atomic.reconcile(&owned), None);
    }

    #[test]
    fn fields_that_left_the_schema_and_unknown_ground_stay() {
        let owned = set(json!({"f:gone": {"f:a": {}}, "f:free": {"f:a": {"k:{\"name\":\"a\"}": {}}}}));
        assert_eq!(ty().reconcile(&owned), None);
    }
}

//! Sets of fields as `metadata.managedFields` has them (`fieldsV1`). Input: two lines with a set each.

use kubewright_machinery::fieldset::Set;

/// A set is read or refused, prints as text that reads as the same set, and the algebra of sets holds.
pub fn check(input: &[u8]) {
    let mut sets = input.split(|&byte| byte == b'\n').map(Set::from_json);
    let Some(Ok(a)) = sets.next() else { return };
    let printed = a.to_json();
    assert_eq!(Set::from_json(&printed).expect("what was printed can be read"), a);
    let Some(Ok(b)) = sets.next() else { return };

    let union = a.union(&b);
    assert_eq!(union, b.union(&a));
    let both = a.intersection(&b);
    assert_eq!(both, b.intersection(&a));
    assert!(both.is_subset(&a) && both.is_subset(&b) && a.is_subset(&union) && b.is_subset(&union));
    let rest = a.difference(&b);
    assert!(rest.intersection(&b).is_empty());
    assert_eq!(rest.union(&both), a);
    assert_eq!(a.len() + b.len(), union.len() + both.len());
    assert!(a.recursive_difference(&b).is_subset(&rest));
    assert!(a.leaves().is_subset(&a));
}

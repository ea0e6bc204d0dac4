//! Field selectors. Input: the text of a selector.

use std::borrow::Cow;

use kubewright_machinery::selector::FieldSelector;

/// What is read prints as text that reads as the same; an object with just these values is chosen.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(selector) = FieldSelector::parse(text) else { return };
    let printed = selector.to_string();
    // A field's name stands as it was written.
    let again = FieldSelector::parse(&printed).expect("what was printed can be read");
    let sorted = |selector: &FieldSelector| {
        let mut terms: Vec<_> =
            selector.terms().iter().map(|t| (t.field.clone(), t.negated, t.value.clone())).collect();
        terms.sort();
        terms
    };
    assert_eq!(sorted(&again), sorted(&selector), "{text:?} as {printed:?}");
    let contradictory = selector.terms().iter().any(|a| {
        selector
            .terms()
            .iter()
            .any(|b| a.field == b.field && (a.negated != b.negated) == (a.value == b.value))
    });
    let value = |field: &str| {
        let of_field = || selector.terms().iter().filter(|term| term.field == field);
        let term = of_field().find(|term| !term.negated).or_else(|| of_field().next())?;
        let value = if term.negated { format!("{}x", term.value) } else { term.value.clone() };
        Some(Cow::Owned(value))
    };
    // Several exclusions may exclude what was made up.
    if !contradictory && selector.terms().iter().filter(|term| term.negated).count() < 2 {
        assert!(selector.matches(value), "{text:?}");
    }
}

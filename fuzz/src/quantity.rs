//! Quantities. Input: a line with one, a line with another.

use kubewright_machinery::quantity::Quantity;

/// What is read prints as text that reads as the same amount; sums and orders agree with each other.
pub fn check(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let mut lines = input.split('\n');
    let Ok(a) = lines.next().unwrap_or_default().parse::<Quantity>() else { return };
    let again: Quantity = a.to_string().parse().expect("what was printed can be read");
    assert_eq!(again, a);
    // As in Kubernetes, a binary quantity that 1024 does not divide is written without a suffix, which reads as a
    // decimal one: `1000.9765625Ki` becomes `1025000`, and that `1025k`. Otherwise the first writing is the last.
    if again.format() == a.format() {
        assert_eq!(again.to_string(), a.to_string());
    }
    let last: Quantity = again.to_string().parse().expect("what was printed again can be read");
    assert_eq!(last, a);
    assert_eq!(last.to_string(), again.to_string());
    assert_eq!(a.signum() == 0, a.is_zero());

    let Ok(b) = lines.next().unwrap_or_default().parse::<Quantity>() else { return };
    assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    if a <= b {
        assert!(a.value() <= b.value() && a.milli_value() <= b.milli_value(), "{a} {b}");
    }
    let mut sum = a.clone();
    sum.add(&b);
    let mut other = b.clone();
    other.add(&a);
    assert_eq!(sum, other);
    let printed: Quantity = sum.to_string().parse().expect("a sum can be read");
    // What is beyond the greatest binary quantity, or below its negative, is read as that.
    let bounded = |sum: &Quantity| sum.value().max(-i64::MAX);
    assert!(printed == sum || bounded(&printed) == bounded(&sum), "{a} + {b} = {sum}, read as {printed}");
    let mut negative = a.clone();
    negative.neg();
    assert_eq!(negative.signum(), -a.signum());
    a.clone().round_up(0);
}

//! Sets of job indexes as text: `0,3-5,7`.

fn number(text: &str, completions: i64) -> Result<i64, String> {
    let number: i64 =
        text.parse().map_err(|_| format!("cannot convert string to integer for index: \"{text}\""))?;
    if number >= completions { Err(format!("too large index: \"{text}\"")) } else { Ok(number) }
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [one] => number(one, completions).map(|n| (n, n)),
        [first, last] => {
            let (first, last) = (number(first, completions)?, number(last, completions)?);
            if first >= last {
                return Err(format!("non-increasing order, previous: {first}, current: {last}"));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment \"{text}\" violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

/// How many indexes the text names, all below `completions`.
pub(super) fn total(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that is in both sets.
pub(super) fn overlap(a: &str, b: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (a, b) = (intervals(a), intervals(b));
    a.iter()
        .flat_map(|x| b.iter().map(move |y| (x.0.max(y.0), x.1.min(y.1))))
        .filter(|(s, t)| s <= t)
        .map(|(s, _)| s)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_and_checked() {
        assert_eq!(total("0,3-5,7", 8), Ok(5));
        assert_eq!(total("5,3", 8), Err("non-increasing order, previous: 5, current: 3".to_string()));
        assert_eq!(total("8", 8), Err("too large index: \"8\"".to_string()));
        assert_eq!(overlap("0,3-5", "4-7", 8), Some(4));
    }
}

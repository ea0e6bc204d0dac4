//! Unified differences of lines, with the matching of Ratcliff and Obershelp (longest common block first),
//! which is what the API's messages show.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

const CONTEXT: usize = 3;

/// A block of `len` equal lines: `old[a..a + len]` and `new[b..b + len]`.
#[derive(Clone, Copy)]
struct Block {
    a: usize,
    b: usize,
    len: usize,
}

fn longest(old: &[String], a: Range<usize>, b: Range<usize>, positions: &HashMap<&str, Vec<usize>>) -> Block {
    let mut best = Block { a: a.start, b: b.start, len: 0 };
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for i in a {
        let mut next = HashMap::new();
        for &j in positions.get(old[i].as_str()).map(Vec::as_slice).unwrap_or_default() {
            if !b.contains(&j) {
                continue;
            }
            let len = 1 + j.checked_sub(1).and_then(|j| lengths.get(&j)).copied().unwrap_or_default();
            next.insert(j, len);
            if len > best.len {
                best = Block { a: i + 1 - len, b: j + 1 - len, len };
            }
        }
        lengths = next;
    }
    best
}

fn blocks(old: &[String], new: &[String]) -> Vec<Block> {
    let mut positions: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in new.iter().enumerate() {
        positions.entry(line).or_default().push(j);
    }
    let mut found = Vec::new();
    let mut queue = vec![(0..old.len(), 0..new.len())];
    while let Some((a, b)) = queue.pop() {
        let block = longest(old, a.clone(), b.clone(), &positions);
        if block.len == 0 {
            continue;
        }
        found.push(block);
        queue.push((a.start..block.a, b.start..block.b));
        queue.push((block.a + block.len..a.end, block.b + block.len..b.end));
    }
    found.sort_by_key(|block| (block.a, block.b));
    found.push(Block { a: old.len(), b: new.len(), len: 0 });
    found
}

/// A run of lines: the same in both, or replaced.
struct Run {
    equal: bool,
    a: Range<usize>,
    b: Range<usize>,
}

fn runs(old: &[String], new: &[String]) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::new();
    let (mut a, mut b) = (0, 0);
    for block in blocks(old, new) {
        if a < block.a || b < block.b {
            out.push(Run { equal: false, a: a..block.a, b: b..block.b });
        }
        if block.len > 0 {
            match out.last_mut() {
                Some(last) if last.equal => {
                    last.a.end = block.a + block.len;
                    last.b.end = block.b + block.len;
                }
                _ => out.push(Run {
                    equal: true,
                    a: block.a..block.a + block.len,
                    b: block.b..block.b + block.len,
                }),
            }
        }
        (a, b) = (block.a + block.len, block.b + block.len);
    }
    out
}

fn range(of: &Range<usize>) -> String {
    match of.len() {
        1 => format!("{}", of.start + 1),
        0 => format!("{},0", of.start),
        n => format!("{},{n}", of.start + 1),
    }
}

/// The difference with three lines of context; empty when there is none.
pub(super) fn unified(old: &[String], new: &[String]) -> String {
    let runs = runs(old, new);
    let mut hunks: Vec<Vec<Run>> = vec![Vec::new()];
    let last = runs.len().saturating_sub(1);
    for (i, run) in runs.into_iter().enumerate() {
        let Some(hunk) = hunks.last_mut() else { break };
        if !run.equal {
            hunk.push(run);
            continue;
        }
        let len = run.a.len();
        let head = CONTEXT.min(len);
        let before = |n: usize| Run { equal: true, a: run.a.end - n..run.a.end, b: run.b.end - n..run.b.end };
        let after =
            |n: usize| Run { equal: true, a: run.a.start..run.a.start + n, b: run.b.start..run.b.start + n };
        if i == 0 {
            hunk.push(before(head));
        } else if i == last {
            hunk.push(after(head));
        } else if len > 2 * CONTEXT {
            hunk.push(after(CONTEXT));
            hunks.push(vec![before(CONTEXT)]);
        } else {
            hunk.push(after(len));
        }
    }
    let mut out = String::new();
    for hunk in hunks.iter().filter(|h| h.iter().any(|run| !run.equal)) {
        let (Some(first), Some(end)) = (hunk.first(), hunk.last()) else { continue };
        let _ = writeln!(
            out,
            "@@ -{} +{} @@",
            range(&(first.a.start..end.a.end)),
            range(&(first.b.start..end.b.end))
        );
        for run in hunk {
            for line in &old[run.a.clone()] {
                let _ = writeln!(out, "{}{line}", if run.equal { ' ' } else { '-' });
            }
            if !run.equal {
                for line in &new[run.b.clone()] {
                    let _ = writeln!(out, "+{line}");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn distant_changes_are_separate_hunks() {
        let diff = unified(&lines("abcdefghijklmnop"), &lines("aXcdefghijklmnYp"));
        assert_eq!(
            diff,
            "@@ -1,5 +1,5 @@\n a\n-b\n+X\n c\n d\n e\n@@ -12,5 +12,5 @@\n l\n m\n n\n-o\n+Y\n p\n"
        );
    }

    #[test]
    fn equal_lines_have_no_difference() {
        assert_eq!(unified(&lines("abc"), &lines("abc")), "");
    }
}

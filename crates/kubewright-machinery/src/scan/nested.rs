//! Where an object or array ends, looked for in 64 bytes at a time: of each block a word says which bytes are quotes,
//! which open and which close, so that what a string holds is passed over without a branch for each. Written so that
//! compilers compare many bytes at once; no instruction of one kind of processor is named.

/// How many bytes are looked at together: as many as a word has bits.
const BLOCK: usize = 64;

/// The bit that stands for each byte among its eight.
const BITS: [u8; BLOCK] = {
    let mut bits = [0; BLOCK];
    let mut at = 0;
    while at < BLOCK {
        bits[at] = 1 << (at % 8);
        at += 1;
    }
    bits
};

/// What has been met so far.
#[derive(Default)]
struct Nested {
    depth: usize,
    /// All ones within a string.
    inside: u64,
    /// 1 where the block before ended with a backslash that stands before what follows.
    escaped: u64,
}

/// The place behind the object or array that begins with the first byte; none when it does not end, or nests deeper
/// than `deepest`.
pub(super) fn end(json: &[u8], deepest: usize) -> Option<usize> {
    let mut nested = Nested::default();
    let (blocks, rest) = json.as_chunks::<BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        match nested.pass(block, deepest) {
            Passed::On => {}
            Passed::End(at) => return Some(number * BLOCK + at),
            Passed::TooDeep => return None,
        }
    }
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    match nested.pass(&last, deepest) {
        Passed::End(at) => Some(blocks.len() * BLOCK + at),
        Passed::On | Passed::TooDeep => None,
    }
}

enum Passed {
    On,
    End(usize),
    TooDeep,
}

impl Nested {
    fn pass(&mut self, block: &[u8; BLOCK], deepest: usize) -> Passed {
        let quotes = which(block, |byte| byte == b'"') & !self.escapes(which(block, |byte| byte == b'\\'));
        // A byte is within a string where an odd number of quotes stands before it, its own included.
        let mut inside = quotes;
        for step in [1, 2, 4, 8, 16, 32] {
            inside ^= inside << step;
        }
        inside ^= self.inside;
        self.inside = 0_u64.wrapping_sub(inside >> (BLOCK - 1));
        let opens = which(block, |byte| byte | 0x20 == b'{') & !inside;
        let closes = which(block, |byte| byte | 0x20 == b'}') & !inside;
        let (opened, closed) = (opens.count_ones() as usize, closes.count_ones() as usize);
        if closed < self.depth && self.depth + opened <= deepest {
            self.depth = self.depth + opened - closed;
            return Passed::On;
        }
        self.walk(opens, closes, deepest)
    }

    /// The characters that a backslash stands before.
    fn escapes(&mut self, backslashes: u64) -> u64 {
        let mut escaped = std::mem::take(&mut self.escaped);
        let mut left = backslashes & !escaped;
        while left != 0 {
            let first = left & left.wrapping_neg();
            let next = first << 1;
            escaped |= next;
            self.escaped = u64::from(next == 0);
            left &= !(first | next);
        }
        escaped
    }

    /// The same bracket by bracket.
    fn walk(&mut self, opens: u64, closes: u64, deepest: usize) -> Passed {
        let mut brackets = opens | closes;
        while brackets != 0 {
            let at = brackets.trailing_zeros() as usize;
            let bracket = brackets & brackets.wrapping_neg();
            brackets ^= bracket;
            if opens & bracket != 0 {
                self.depth += 1;
                if self.depth > deepest {
                    return Passed::TooDeep;
                }
            } else {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return Passed::End(at + 1);
                }
            }
        }
        Passed::On
    }
}

/// Which bytes of a block are meant, the first as the lowest bit.
#[inline(always)]
fn which(block: &[u8; BLOCK], meant: impl Fn(u8) -> bool) -> u64 {
    let mut hits = [0; BLOCK];
    for ((hit, byte), bit) in hits.iter_mut().zip(block).zip(BITS) {
        *hit = if meant(*byte) { bit } else { 0 };
    }
    // The bits of eight bytes are different ones, so that adding them up, which a multiplication does, joins them.
    let (eights, _) = hits.as_chunks::<8>();
    eights.iter().zip((0..).step_by(8)).fold(0, |which, (eight, place)| {
        let joined = u64::from_le_bytes(*eight).wrapping_mul(u64::from_ne_bytes([1; 8])) >> 56;
        which | joined << place
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, a byte at a time.
    fn plainly(json: &[u8], deepest: usize) -> Option<usize> {
        let (mut depth, mut string, mut escaped) = (0_usize, false, false);
        for (at, byte) in json.iter().enumerate() {
            if std::mem::take(&mut escaped) && matches!(byte, b'"' | b'\\') {
                continue;
            }
            match byte {
                b'\\' => escaped = true,
                b'"' => string = !string,
                b'{' | b'[' if !string => {
                    depth += 1;
                    if depth > deepest {
                        return None;
                    }
                }
                b'}' | b']' if !string => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    proptest! {
        #[test]
        fn blocks_end_where_single_bytes_do(
            bytes in prop::collection::vec(
                prop_oneof![
                    6 => prop::sample::select(&b"\"\"{{[[}]\\a:, "[..]),
                    2 => Just(b'x'),
                    1 => any::<u8>(),
                ],
                0..400,
            ),
            deepest in 1_usize..40,
        ) {
            let json = [b"{".as_slice(), &bytes].concat();
            prop_assert_eq!(end(&json, deepest), plainly(&json, deepest));
        }
    }

    #[test]
    fn strings_and_escapes_go_across_blocks() {
        for length in 0..200 {
            for text in ["}", "\\\"}", "\\\\", "\\\\\\\"]"] {
                let json = format!("{{\"{}{text}\":[1]}} ]", "a".repeat(length));
                assert_eq!(end(json.as_bytes(), 9), Some(json.len() - 2), "{json}");
            }
        }
    }

    #[test]
    fn what_does_not_end_or_nests_too_deeply_has_no_end() {
        assert_eq!(end(b"[[1]", 9), None);
        assert_eq!(end(br#"["]"#, 9), None);
        assert_eq!(end(b"[[]]", 2), Some(4));
        assert_eq!(end(b"[[]]", 1), None);
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!((end(deep.as_bytes(), 100), end(deep.as_bytes(), 99)), (Some(200), None));
    }
}

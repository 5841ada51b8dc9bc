//! Sums in the order of the fixed tree, element by element.
//!
//! The tree over `[0, n)` splits at the largest power of two below n: for powers of two that is
//! `(0 + 1) + (2 + 3) …`. IEEE addition is commutative, so which side is "mine" cannot show.

/// `into[i] += bytes[i]`, where `bytes` are f32 in this machine's order, perhaps unaligned.
///
/// # Panics
/// If the lengths differ (a bug of the caller).
pub(super) fn add_bytes(into: &mut [f32], bytes: &[u8]) {
    assert_eq!(into.len() * 4, bytes.len(), "a sum of unequal lengths");
    for (sum, word) in into.iter_mut().zip(bytes.chunks_exact(4)) {
        *sum += f32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
    }
}

/// `out[i] = sum over r of terms[r][i]`, in tree order.
///
/// # Panics
/// If there are no terms or the lengths differ (a bug of the caller).
pub(super) fn tree(out: &mut [f32], terms: &[&[f32]]) {
    assert!(terms.iter().all(|term| term.len() == out.len()), "a sum of unequal lengths");
    // Blocks whose partial sums stay in the first cache.
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let start = block * BLOCK;
        add_block(out, terms, start);
    }
}

fn add_block(out: &mut [f32], terms: &[&[f32]], start: usize) {
    let of = |r: usize| &terms[r][start..][..out.len()];
    match terms.len() {
        1 => out.copy_from_slice(of(0)),
        2 => {
            let (a, b) = (of(0), of(1));
            out.iter_mut().zip(a).zip(b).for_each(|((o, a), b)| *o = a + b);
        }
        4 => {
            let (a, b, c, d) = (of(0), of(1), of(2), of(3));
            let terms = a.iter().zip(b).zip(c.iter().zip(d));
            out.iter_mut().zip(terms).for_each(|(o, ((a, b), (c, d)))| *o = (a + b) + (c + d));
        }
        n => {
            let (left, right) = terms.split_at(split(n));
            let mut more = [0.0; BLOCK];
            let more = &mut more[..out.len()];
            add_block(out, left, start);
            add_block(more, right, start);
            out.iter_mut().zip(more).for_each(|(o, m)| *o += *m);
        }
    }
}

/// The largest power of two below `n`, which is above 1.
fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

/// Elements of a block: 4 KiB.
const BLOCK: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn by_recursion(terms: &[f32]) -> f32 {
        match terms.len() {
            1 => terms[0],
            n => {
                let (left, right) = terms.split_at(split(n));
                by_recursion(left) + by_recursion(right)
            }
        }
    }

    #[test]
    fn sums_follow_the_tree_to_the_bit() {
        for n in 1..=17 {
            for len in [0, 1, 7, BLOCK, 2 * BLOCK + 3] {
                let term = |r: usize, i: usize| {
                    [1.0e8, 1.0, -1.0e8, 0.333_333_34][(r * 7 + i) % 4] * (1 + r) as f32
                };
                let terms: Vec<Vec<f32>> =
                    (0..n).map(|r| (0..len).map(|i| term(r, i)).collect()).collect();
                let slices: Vec<&[f32]> = terms.iter().map(Vec::as_slice).collect();
                let mut out = vec![f32::NAN; len];
                tree(&mut out, &slices);
                for (i, got) in out.iter().enumerate() {
                    let column: Vec<f32> = (0..n).map(|r| term(r, i)).collect();
                    assert_eq!(got.to_bits(), by_recursion(&column).to_bits(), "{n} terms, {i}");
                }
            }
        }
    }
}

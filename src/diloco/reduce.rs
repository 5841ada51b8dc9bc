//! Sums over flat vectors, in f64 and one fixed order (docs/ARITHMETIC.md, section 17).
//!
//! Blocks of 4,096 elements; in a block element i goes to partial i mod 8, a chain from +0 over
//! exact products; partials meet in a butterfly (4, 2, 1), blocks in a chain from +0.

use rayon::prelude::*;

/// `x = f(x, y)`, element by element.
pub(super) fn each(x: &mut [f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    assert_eq!(x.len(), y.len(), "elements of both");
    x.par_iter_mut().zip(y).for_each(|(x, &y)| *x = f(*x, y));
}

/// Elements of a block.
pub(super) const BLOCK: usize = 4096;

/// Sum of squares of `x`.
pub(super) fn sum_of_squares(x: &[f32]) -> f64 {
    inner_product(x, x)
}

/// Inner product of two vectors of one length.
pub(super) fn inner_product(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len(), "elements of both");
    let pairs = x.par_chunks(BLOCK).zip(y.par_chunks(BLOCK));
    chain(pairs.map(|(x, y)| block_product(x, y)).collect())
}

/// The sums of blocks, added in order.
pub(super) fn chain(blocks: Vec<f64>) -> f64 {
    blocks.into_iter().fold(0.0, |sum, block| sum + block)
}

/// Inner product of one block.
pub(super) fn block_product(x: &[f32], y: &[f32]) -> f64 {
    let mut partials = [0.0f64; 8];
    for (x, y) in x.chunks(8).zip(y.chunks(8)) {
        for ((partial, &x), &y) in partials.iter_mut().zip(x).zip(y) {
            *partial += f64::from(x) * f64::from(y);
        }
    }
    for half in [4, 2, 1] {
        for i in 0..half {
            partials[i] += partials[i + half];
        }
    }
    partials[0]
}

/// Cosine of the angle between two vectors, from their sums of squares and inner product, kept within
/// -1 and 1; none where one of them is zero.
pub(super) fn cosine(xx: f64, yy: f64, xy: f64) -> Option<f64> {
    // Two roots: the product of two sums may pass the largest f64.
    let norms = xx.sqrt() * yy.sqrt();
    (norms > 0.0).then(|| (xy / norms).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_follow_the_written_order_whatever_the_length() {
        for len in [0, 1, 7, 8, 9, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 13] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37 % 101) as f32 - 50.3) * 1.7e3).collect();
            let y: Vec<f32> = (0..len).map(|i| ((i * 53 % 97) as f32 - 48.1) / 3.0).collect();
            let mut want = 0.0;
            for block in 0..len.div_ceil(BLOCK) {
                let inside = |i: &usize| i / BLOCK == block;
                let partial = |p: usize| {
                    let mine = (0..len).filter(inside).filter(|i| i % BLOCK % 8 == p);
                    mine.fold(0.0, |sum, i| sum + f64::from(x[i]) * f64::from(y[i]))
                };
                let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(partial);
                want += ((a + e) + (c + g)) + ((b + f) + (d + h));
            }
            assert_eq!(inner_product(&x, &y).to_bits(), want.to_bits(), "{len}");
        }
    }

    #[test]
    fn cosines_are_of_directions() {
        let of = |x: &[f32], y: &[f32]| {
            cosine(sum_of_squares(x), sum_of_squares(y), inner_product(x, y))
        };
        assert_eq!(of(&[3.0, 4.0], &[6.0, 8.0]), Some(1.0));
        assert!(of(&[3e30, 4e30], &[6.0, 8.0]).is_some_and(|c| (1.0 - 1e-15..=1.0).contains(&c)));
        assert_eq!(of(&[1.0, 0.0], &[0.0, -2.0]), Some(0.0));
        assert_eq!(of(&[1.0, 2.0], &[-1.0, -2.0]).map(|c| (c + 1.0).abs() < 1e-15), Some(true));
        assert_eq!(of(&[0.0], &[1.0]), None);
    }
}

//! What plans are probed with: matrices in which other orders of summing, and other roundings, show.

use crate::backend::cuda::door::Matrix;

/// A kind of numbers, for both factors of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Of sizes that lie some 2^24 apart, as in a training.
    Near,
    /// Of all sizes whose sums are finite, subnormal ones among them.
    Wide,
    /// Whose sums are about as small as f32 can hold, or smaller.
    Tiny,
    /// Each product is followed by one that cancels it, or nearly so.
    CancelAtOnce,
    /// The second half of k cancels the first: only what was cut on the way is left.
    CancelAtLast,
}

/// Which factor of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    /// The first.
    A,
    /// The second.
    B,
}

impl Numbers {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Near, Self::Wide, Self::Tiny, Self::CancelAtOnce, Self::CancelAtLast];

    /// Elements of `matrix`, whose rows run `along` k or else are steps of k, as bytes.
    pub fn fill(self, factor: Factor, matrix: &Matrix, along: bool) -> Vec<u8> {
        let k = if along { matrix.columns } else { matrix.rows };
        let element = |row: usize, column: usize| {
            let (outer, step) = if along { (row, column) } else { (column, row) };
            self.number(factor, outer, step, k)
        };
        let rows = 0..matrix.rows;
        rows.flat_map(|row| (0..matrix.columns).map(move |column| (row, column)))
            .flat_map(|(row, column)| element(row, column).to_le_bytes())
            .collect()
    }

    /// The bf16 number at `step` of the `k` steps of the row or column `outer`.
    fn number(self, factor: Factor, outer: usize, step: usize, k: usize) -> u16 {
        let partner = match self {
            Self::CancelAtOnce if step % 2 == 1 => Some(step - 1),
            Self::CancelAtLast if step >= k / 2 && step / 2 < k / 2 => Some(step - k / 2),
            _ => None,
        };
        let Some(partner) = partner else { return self.fresh(factor, outer, step, k) };
        let number = self.fresh(factor, outer, partner, k);
        let off = u16::from(mixed(outer, step, 3).is_multiple_of(8));
        match factor {
            Factor::A => number,
            Factor::B => (number ^ 0x8000) ^ off,
        }
    }

    /// A number that depends on no other.
    fn fresh(self, factor: Factor, outer: usize, step: usize, k: usize) -> u16 {
        let random = mixed(outer * k + step, outer, factor as u64 + 1);
        let sign = (random & 1) as u16 * 0x8000;
        // Some zeros of both signs, and some outputs that are nothing else.
        if random >> 1 & 31 == 0 || outer % 29 == 7 {
            return sign;
        }
        // Exponent fields; 127 is 1.
        let (first, count) = match (self, factor) {
            (Self::Near, _) => (115, 24),
            // The largest products are 2^106, and sums of 2^20 of them are finite.
            (Self::Wide, _) => (0, 181),
            (Self::Tiny, Factor::A) => (0, 60),
            (Self::Tiny, Factor::B) => (55, 13),
            (Self::CancelAtOnce | Self::CancelAtLast, _) => (100, 50),
        };
        let exponent = first + (random >> 8) % count;
        sign | (exponent as u16) << 7 | (random >> 40 & 0x7f) as u16
    }
}

/// `bytes` bytes for outputs to begin with: f32 numbers, or pairs of bf16 ones; some of middling size,
/// some tiny and some zero, so that sums of every size show beside them.
pub(super) fn leftovers(bytes: usize) -> Vec<u8> {
    let word = |i| {
        let random = mixed(i, 0, 7);
        let exponent = match random >> 40 & 3 {
            0 => return (random as u32 & 0x8000_0000).to_le_bytes(),
            1 => (random >> 8) % 12,
            _ => 110 + (random >> 8) % 24,
        };
        let fraction = random as u32 & 0x807f_ffff;
        (fraction | (exponent as u32) << 23).to_le_bytes()
    };
    (0..bytes.div_ceil(4)).flat_map(word).take(bytes).collect()
}

/// A random number that is addressed: SplitMix64's output function (Steele, Lea and Flood 2014).
fn mixed(first: usize, second: usize, stream: u64) -> u64 {
    let mut z = (first as u64) << 8 ^ (second as u64) << 44 ^ stream;
    z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::backend::cpu::tc::sum::chain;
    use crate::backend::cuda::door::Address;
    use crate::ops::TensorCore;

    fn row(numbers: Numbers, factor: Factor, outer: usize, k: usize) -> Vec<bf16> {
        (0..k).map(|step| bf16::from_bits(numbers.number(factor, outer, step, k))).collect()
    }

    #[test]
    fn layouts_hold_the_same_numbers() {
        let matrix =
            |rows, columns| Matrix { address: Address::default(), count: 1, rows, columns };
        let along = Numbers::Near.fill(Factor::A, &matrix(3, 8), true);
        let across = Numbers::Near.fill(Factor::A, &matrix(8, 3), false);
        for (outer, step) in [(0, 0), (2, 7), (1, 4)] {
            let (i, j) = (2 * (outer * 8 + step), 2 * (step * 3 + outer));
            assert_eq!(along[i..i + 2], across[j..j + 2]);
        }
    }

    #[test]
    fn sums_are_finite_and_other_sums_show() {
        let core = TensorCore::Hopper;
        for numbers in Numbers::ALL {
            let (mut halves, mut backward, mut small) = (0, 0, 0);
            for outer in 0..64 {
                let (a, b) =
                    (row(numbers, Factor::A, outer, 256), row(numbers, Factor::B, outer + 1, 256));
                let whole = chain(core, 0.0, &a, &b);
                assert!(whole.is_finite(), "{numbers:?}");
                let split =
                    chain(core, 0.0, &a[..128], &b[..128]) + chain(core, 0.0, &a[128..], &b[128..]);
                let turned = |x: &[bf16]| x.iter().rev().copied().collect::<Vec<_>>();
                let turned = chain(core, 0.0, &turned(&a), &turned(&b));
                halves += u32::from(split.to_bits() != whole.to_bits());
                backward += u32::from(turned.to_bits() != whole.to_bits());
                small += u32::from(whole.is_subnormal());
            }
            assert!(halves >= 10 && backward >= 10, "{numbers:?}: {halves} and {backward} of 64");
            assert!(numbers != Numbers::Tiny || small >= 10, "{small} of 64 are subnormal");
        }
    }
}

//! Sums of integers times powers of two, without rounding.
//!
//! A fixed-point number wide enough for every inner product of two updates (a long accumulator,
//! Kulisch 2013, "Computer Arithmetic and Validity", chapter 8). Its digits have 32 bits and are
//! kept in 64, so that carries wait: an addition touches three digits. Addition is associative
//! and exact, so terms may be summed in any order, on any thread or rank, and merged.

use super::Error;
use crate::codec::MAX_EXPONENT;
use crate::codec::MIN_EXPONENT;

/// A sum of terms `i64 * 2^exponent`, exact. It has room for 2^80 terms of any size.
#[derive(Clone, Debug)]
pub struct ExactSum {
    /// Digit `k` counts `2^(32 k + LOWEST)`. After [`Self::carry`] all but the last are in
    /// `[0, 2^32)`, and the last has the sign.
    digits: [i64; DIGITS],
    /// What was added since digits were last carried, in units of 2^32 per digit.
    pending: u32,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self::ZERO
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.carried().digits == other.carried().digits
    }
}

impl Eq for ExactSum {}

impl ExactSum {
    /// Nothing.
    pub const ZERO: Self = Self { digits: [0; DIGITS], pending: 0 };

    /// Smallest exponent of a term: that of a product of two codes.
    pub const LOWEST: i32 = 2 * MIN_EXPONENT;

    /// Largest exponent of a term.
    pub const HIGHEST: i32 = 2 * MAX_EXPONENT;

    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = 8 * DIGITS;

    /// Adds `value * 2^exponent`.
    ///
    /// # Panics
    /// If `exponent` is not within [`Self::LOWEST`] and [`Self::HIGHEST`].
    #[inline]
    pub fn add(&mut self, value: i64, exponent: i32) {
        assert!((Self::LOWEST..=Self::HIGHEST).contains(&exponent), "exponent {exponent}");
        let place = (exponent - Self::LOWEST) as usize;
        let wide = i128::from(value) << (place % 32);
        let digits = &mut self.digits[place / 32..place / 32 + 3];
        digits[0] += i64::from(wide as u32);
        digits[1] += i64::from((wide >> 32) as u32);
        digits[2] += (wide >> 64) as i64;
        self.pending += 1;
        if self.pending == MAX_PENDING {
            self.carry();
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.add_multiple(other, 1);
    }

    /// Adds `factor` times another sum; `factor` is small, 8 at most in magnitude.
    pub(super) fn add_multiple(&mut self, other: &Self, factor: i64) {
        debug_assert!(factor.abs() <= 8);
        let other = other.carried();
        self.digits.iter_mut().zip(other.digits).for_each(|(d, o)| *d += factor * o);
        self.pending = self.pending.saturating_add(8);
        if self.pending >= MAX_PENDING {
            self.carry();
        }
    }

    /// The nearest f64, ties to even. Sums that codes can have are neither subnormal nor infinite.
    pub fn to_f64(&self) -> f64 {
        let mut carried = self.carried();
        let is_negative = carried.digits[DIGITS - 1] < 0;
        if is_negative {
            carried.digits.iter_mut().for_each(|d| *d = -*d);
            carried.carry();
        }
        let digit = |k: usize| carried.digits[k] as u64 as u128;
        let Some(top) = carried.digits.iter().rposition(|&d| d != 0) else { return 0.0 };
        // 65 to 128 bits from the first one on; what is below only breaks a tie.
        let mut bits = digit(top) << 64;
        bits |= if top >= 1 { digit(top - 1) << 32 } else { 0 };
        bits |= if top >= 2 { digit(top - 2) } else { 0 };
        let is_more = carried.digits[..top.saturating_sub(2)].iter().any(|&d| d != 0);
        let magnitude = (bits | u128::from(is_more)) as f64;
        let exponent = 32 * (top as i32 - 2) + Self::LOWEST;
        let value = magnitude * power_of_two(exponent);
        if is_negative { -value } else { value }
    }

    /// Its digits, carried, each a little-endian i64: equal sums have equal bytes.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (bytes, digit) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.carried().digits) {
            *bytes = digit.to_le_bytes();
        }
        bytes
    }

    /// Reads [`Self::to_bytes`]; other bytes are an error.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, Error> {
        let mut sum = Self { pending: 1, ..Self::ZERO };
        for (digit, bytes) in sum.digits.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *digit = i64::from_le_bytes(*bytes);
        }
        let (last, others) = sum.digits.split_last().unwrap_or((&0, &[]));
        let carried = others.iter().all(|&d| (0..1 << 32).contains(&d));
        match carried && i32::try_from(*last).is_ok() {
            true => Ok(sum),
            false => Err(Error::Bytes { what: "a sum whose digits are out of range" }),
        }
    }

    fn carried(&self) -> Self {
        let mut carried = self.clone();
        carried.carry();
        carried
    }

    fn carry(&mut self) {
        for k in 0..DIGITS - 1 {
            self.digits[k + 1] += self.digits[k] >> 32;
            self.digits[k] &= 0xffff_ffff;
        }
        self.pending = 1;
    }
}

/// 18 digits of 32 bits: 250 bits more than the exponents of terms span.
const DIGITS: usize = 18;

/// Every pending addition moves a digit by less than 2^32, so digits stay below 2^62.
const MAX_PENDING: u32 = 1 << 30;

/// `2^exponent`, for exponents of normal f64.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    debug_assert!((-1022..=1023).contains(&exponent), "exponent {exponent}");
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(terms: &[(i64, i32)]) -> ExactSum {
        let mut sum = ExactSum::ZERO;
        terms.iter().for_each(|&(value, exponent)| sum.add(value, exponent));
        sum
    }

    #[test]
    fn what_cancels_leaves_what_was_small() {
        let huge = [(i64::MAX, ExactSum::HIGHEST), (i64::MIN, ExactSum::HIGHEST)];
        let mut terms = huge.to_vec();
        terms.extend([(1, ExactSum::HIGHEST), (-3, ExactSum::LOWEST)]);
        assert_eq!(sum(&terms).to_f64(), -3.0 * power_of_two(ExactSum::LOWEST));
        assert_eq!(sum(&[(5, 0), (-5, 0)]), ExactSum::ZERO);
        assert_eq!(sum(&[(5, 0), (-5, 0)]).to_f64().to_bits(), 0);
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // 2^53 + 1 is a tie; anything below it breaks the tie, however far down.
        let tie = [(1 << 53, 0), (1, 0)];
        assert_eq!(sum(&tie).to_f64(), 9_007_199_254_740_992.0);
        assert_eq!(sum(&[(3, 53), (3, 0)]).to_f64(), 3.0 * power_of_two(53) + 4.0);
        for below in [-1, -100, ExactSum::LOWEST] {
            let up = [tie[0], tie[1], (1, below)];
            assert_eq!(sum(&up).to_f64(), 9_007_199_254_740_994.0, "2^{below}");
            let down = [tie[0], tie[1], (-1, below)];
            assert_eq!(sum(&down).to_f64(), 9_007_199_254_740_992.0, "2^{below}");
            let negative = up.map(|(value, exponent)| (-value, exponent));
            assert_eq!(sum(&negative).to_f64(), -9_007_199_254_740_994.0, "2^{below}");
        }
    }

    #[test]
    fn single_terms_come_back() {
        for exponent in ExactSum::LOWEST..=ExactSum::HIGHEST {
            for value in [1, -1, (1 << 53) - 1, -(1 << 52), i64::MIN, 12345] {
                let expected = value as f64 * power_of_two(exponent);
                assert_eq!(sum(&[(value, exponent)]).to_f64(), expected, "{value} 2^{exponent}");
            }
        }
    }

    #[test]
    fn carries_wait_without_loss() {
        let mut sum = ExactSum { pending: MAX_PENDING - 3, ..ExactSum::ZERO };
        for _ in 0..10 {
            sum.add(-1, -252);
            sum.add(i64::MAX, 7);
        }
        let mut other = ExactSum { pending: MAX_PENDING - 1, ..ExactSum::ZERO };
        for _ in 0..10 {
            other.merge(&super::tests::sum(&[(i64::MAX, 7), (-1, -252)]));
        }
        assert_eq!(sum, other);
    }

    proptest! {
        #[test]
        fn order_and_division_do_not_show(
            terms in prop::collection::vec((any::<i64>(), -252i32..=206), 0..40),
            cut in 0usize..40,
        ) {
            let whole = sum(&terms);
            let reversed: Vec<_> = terms.iter().rev().copied().collect();
            prop_assert_eq!(&sum(&reversed), &whole);
            let (a, b) = terms.split_at(cut.min(terms.len()));
            let mut merged = sum(b);
            merged.merge(&sum(a));
            prop_assert_eq!(merged.to_f64().to_bits(), whole.to_f64().to_bits());
            prop_assert_eq!(merged.to_bytes(), whole.to_bytes());
            prop_assert_eq!(ExactSum::from_bytes(&whole.to_bytes()), Ok(whole));
        }

        /// Within 127 bits i128 is a reference, and its conversion to f64 is to nearest.
        #[test]
        fn narrow_sums_equal_i128(terms in prop::collection::vec((any::<i64>(), 0i32..=55), 1..60)) {
            let reference: i128 = terms.iter().map(|&(v, e)| i128::from(v) << e).sum();
            prop_assert_eq!(sum(&terms).to_f64(), reference as f64);
        }
    }
}

//! Which two magnitudes stand for those of a chunk.
//!
//! A level is an f32 with three bits after the leading one, kept as its number: its bits without
//! the 20 last. Two levels with the least squared error are the means of the magnitudes below and
//! above a threshold (Max 1960, Lloyd 1982); every threshold is tried. docs/WIRE.md tells what the
//! alternatives cost.

use super::super::MAX_EXPONENT;
use super::super::MIN_EXPONENT;

/// The levels of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Levels {
    pub(super) low: u16,
    /// Above `low`, or the same where one level stands for all.
    pub(super) high: u16,
}

/// Bits of an f32 that a level does not have.
const DROPPED: u32 = 20;

/// Exponent of the last bit of level 0.
const BIAS: i32 = 127 + 3;

/// The smallest level, eight times the smallest power of two of a chunk.
pub(super) const MIN_LEVEL: u16 = ((MIN_EXPONENT + BIAS) << 3) as u16;

/// The largest level: with the largest power of two its code has 24 bits.
pub(super) const MAX_LEVEL: u16 = ((MAX_EXPONENT + 20 + BIAS) << 3 | 7) as u16;

/// Bits of the smallest magnitude that is sent.
pub(super) const LEAST: u32 = (MIN_LEVEL as u32) << DROPPED;

impl Levels {
    /// Those of least squared error for the magnitudes whose bits `sorted` holds, ascending.
    ///
    /// # Panics
    /// If there are none.
    pub(super) fn fit(sorted: &[u32]) -> Self {
        let magnitude = |bits: &u32| f64::from(f32::from_bits(*bits));
        let total: f64 = sorted.iter().map(magnitude).sum();
        // The squared error is the sum of squares less this.
        let gain = |sum: f64, count: usize| sum * sum / count as f64;
        let n = sorted.len();
        let (mut best, mut below, mut split) = (gain(total, n), 0.0, (n, total));
        for (i, bits) in sorted[..n - 1].iter().enumerate() {
            below += magnitude(bits);
            let gain = gain(below, i + 1) + gain(total - below, n - 1 - i);
            if gain > best {
                (best, split) = (gain, (i + 1, below));
            }
        }
        let (count, below) = split;
        let low = nearest(below / count as f64);
        if count == n {
            return Self { low, high: low };
        }
        let levels = Self { low, high: nearest((total - below) / (n - count) as f64) };
        // Rounding may have left a level without magnitudes.
        let is_high = |bits: u32| f32::from_bits(bits) > levels.threshold();
        match (is_high(sorted[0]), is_high(sorted[n - 1])) {
            (false, true) => levels,
            (false, false) => Self { low, high: low },
            (true, _) => Self { low: levels.high, high: levels.high },
        }
    }

    /// A magnitude above it is written as the high level. Exact.
    pub(super) fn threshold(self) -> f32 {
        let magnitude = |level: u16| f32::from_bits(u32::from(level) << DROPPED);
        (magnitude(self.low) + magnitude(self.high)) * 0.5
    }

    /// Exponent of the chunk, and the codes of the low and the high level.
    pub(super) fn integers(self) -> (i32, [i32; 2]) {
        let binade = |level: u16| i32::from(level >> 3) - BIAS;
        let exponent = binade(self.low).min(MAX_EXPONENT);
        let code = |level: u16| i32::from(level & 7 | 8) << (binade(level) - exponent);
        (exponent, [code(self.low), code(self.high)])
    }
}

/// The level nearest to `mean`.
fn nearest(mean: f64) -> u16 {
    let level = ((mean as f32).to_bits() + (1 << (DROPPED - 1))) >> DROPPED;
    (level as u16).clamp(MIN_LEVEL, MAX_LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::MAX_CODE;

    fn value(level: u16) -> f32 {
        f32::from_bits(u32::from(level) << DROPPED)
    }

    #[test]
    fn integers_are_the_levels() {
        for low in MIN_LEVEL..=MAX_LEVEL {
            for high in (low..=MAX_LEVEL.min(low + 8 * 17)).step_by(5) {
                let (exponent, codes) = Levels { low, high }.integers();
                assert!((MIN_EXPONENT..=MAX_EXPONENT).contains(&exponent));
                for (level, code) in [low, high].into_iter().zip(codes) {
                    assert!((8..=MAX_CODE).contains(&code), "{low} {high} {code}");
                    let exact = f64::from(code) * 2f64.powi(exponent);
                    assert_eq!(f64::from(value(level)), exact, "{low} {high}");
                }
            }
        }
    }

    /// Against every pair of levels around the magnitudes.
    #[test]
    fn no_other_levels_are_much_better() {
        let mut noise = 7u32;
        for round in 0..200 {
            let n = 1 + round % 9;
            let mut sorted: Vec<u32> = (0..n)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (1.0 + 7.0 * (noise >> 8) as f32 / 2f32.powi(24)).to_bits()
                })
                .collect();
            sorted.sort_unstable();
            let error = |levels: Levels| -> f64 {
                let near = |bits: &u32| {
                    let x = f32::from_bits(*bits);
                    let high = x > levels.threshold();
                    f64::from(x - value(if high { levels.high } else { levels.low })).powi(2)
                };
                sorted.iter().map(near).sum()
            };
            let levels = Levels::fit(&sorted);
            let range = nearest(1.0)..=nearest(8.0);
            let pairs = range.clone().flat_map(|low| range.clone().map(move |high| (low, high)));
            let pairs = pairs.filter(|(low, high)| low <= high);
            let best =
                pairs.map(|(low, high)| error(Levels { low, high })).fold(f64::MAX, f64::min);
            // The levels are the rounded best real ones, so a pair of others can be a little better.
            let half_a_step = 0.5f64 * 0.5;
            let most = best + n as f64 * half_a_step * half_a_step;
            assert!(error(levels) <= most, "{sorted:?}: {} {best}", error(levels));
        }
    }

    #[test]
    fn extremes_keep_to_the_bounds() {
        let largest = f32::MAX.to_bits();
        assert_eq!(Levels::fit(&[largest; 3]), Levels { low: MAX_LEVEL, high: MAX_LEVEL });
        assert_eq!(Levels::fit(&[LEAST]), Levels { low: MIN_LEVEL, high: MIN_LEVEL });
        let wide = Levels::fit(&[largest - (16 << 23), largest]);
        let (exponent, [low, high]) = wide.integers();
        assert!(exponent <= MAX_EXPONENT && low < high && high <= MAX_CODE, "{wide:?}");
        assert!(wide.threshold().is_finite());
    }
}

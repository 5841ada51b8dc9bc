//! Which two magnitudes stand for those of a chunk.
//!
//! A level is an f32 with three bits after the leading one, kept as its number: its bits without
//! the 20 last. Two levels with the least squared error are the means of the magnitudes below and
//! above a threshold (Lloyd 1982, Max 1960); every threshold is tried.

/// The levels of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Levels {
    pub(super) low: u16,
    /// Above `low`, or the same where one level stands for all.
    pub(super) high: u16,
}

/// Bits of an f32 that a level does not have.
const DROPPED: u32 = 20;

/// The smallest level, `2^-123`: eight times the smallest power of two of a chunk.
pub(super) const MIN_LEVEL: u16 = 4 << 3;

/// The largest level, `15 * 2^123`.
pub(super) const MAX_LEVEL: u16 = (253 << 3) + 7;

/// What a level decodes to.
pub(super) fn magnitude(level: u16) -> f32 {
    f32::from_bits(u32::from(level) << DROPPED)
}

/// The levels of least squared error for `magnitudes`, which ascend and are not empty.
pub(super) fn fit(magnitudes: &[f32]) -> Levels {
    let total: f64 = magnitudes.iter().map(|&x| f64::from(x)).sum();
    let n = magnitudes.len();
    // The squared error is the sum of squares less this.
    let gain = |sum: f64, count: usize| sum * sum / count as f64;
    let (mut best, mut below, mut split) = (gain(total, n), 0.0, (n, total));
    for (i, x) in magnitudes[..n - 1].iter().enumerate() {
        below += f64::from(*x);
        let gain = gain(below, i + 1) + gain(total - below, n - 1 - i);
        if gain > best {
            (best, split) = (gain, (i + 1, below));
        }
    }
    let low = nearest(split.1 / split.0 as f64);
    if split.0 == n {
        return Levels { low, high: low };
    }
    let high = nearest((total - split.1) / (n - split.0) as f64);
    let threshold = threshold(Levels { low, high });
    // Rounding may have left a level without magnitudes.
    match (magnitudes[0] > threshold, magnitudes[n - 1] > threshold) {
        (false, true) => Levels { low, high },
        (false, false) => Levels { low, high: low },
        (true, _) => Levels { low: high, high },
    }
}

/// Above it a magnitude is nearer to the high level.
pub(super) fn threshold(levels: Levels) -> f32 {
    (magnitude(levels.low) + magnitude(levels.high)) * 0.5
}

/// The level nearest to `mean`.
fn nearest(mean: f64) -> u16 {
    let level = ((mean as f32).to_bits() + (1 << (DROPPED - 1))) >> DROPPED;
    (level as u16).clamp(MIN_LEVEL, MAX_LEVEL)
}

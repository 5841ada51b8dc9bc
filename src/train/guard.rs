//! The outlier guard: leaves out steps whose loss or gradient norm is far above the usual.
//!
//! Mean and variance are exponential averages in f64, started plainly (West 1979), so the decision
//! is the same on every machine and survives a resume. A step left out changes neither weights
//! nor moments nor the averages.

/// Averages of one quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Average {
    mean: f64,
    variance: f64,
}

/// The guard and what it remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    deviations: f64,
    trusted_after: u64,
    seen: u64,
    skipped: u64,
    loss: Average,
    grad_norm: Average,
}

/// Whether a step's update is applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// It is.
    Apply,
    /// It is left out: the named quantity is so many deviations above its mean.
    Skip {
        /// `loss` or `grad_norm`.
        what: &'static str,
        /// How far.
        deviations: f64,
    },
}

impl Guard {
    /// A guard that lets pass what is within `deviations` of the mean (0: everything), and
    /// everything for the first `trusted_after` steps.
    pub fn new(deviations: f64, trusted_after: u64) -> Self {
        let (loss, grad_norm) = Default::default();
        Self { deviations, trusted_after, seen: 0, skipped: 0, loss, grad_norm }
    }

    /// Judges a step, and remembers it if it passes.
    pub fn judge(&mut self, loss: f64, grad_norm: f64) -> Decision {
        let observed = [("loss", &self.loss, loss), ("grad_norm", &self.grad_norm, grad_norm)];
        for (what, average, value) in observed {
            let deviations = average.deviations(value);
            let judged = self.deviations > 0.0 && self.seen >= self.trusted_after;
            if judged && deviations > self.deviations {
                self.skipped += 1;
                return Decision::Skip { what, deviations };
            }
        }
        self.seen += 1;
        let weight = (1.0 / self.seen as f64).max(NEWEST);
        self.loss.add(loss, weight);
        self.grad_norm.add(grad_norm, weight);
        Decision::Apply
    }

    /// Steps left out so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Counts `steps` steps as left out: they were never computed.
    pub fn leave_out(&mut self, steps: u64) {
        self.skipped += steps;
    }

    /// What it remembers, for a checkpoint.
    pub fn words(&self) -> Vec<u64> {
        let averages = [self.loss, self.grad_norm];
        let bits = averages.iter().flat_map(|a| [a.mean.to_bits(), a.variance.to_bits()]);
        [self.seen, self.skipped].into_iter().chain(bits).collect()
    }

    /// Takes over what [`Self::words`] gave; false if these are not such words.
    #[must_use]
    pub fn restore(&mut self, words: &[u64]) -> bool {
        let &[seen, skipped, a, b, c, d] = words else { return false };
        let average = |mean, variance| Average {
            mean: f64::from_bits(mean),
            variance: f64::from_bits(variance),
        };
        (self.seen, self.skipped) = (seen, skipped);
        (self.loss, self.grad_norm) = (average(a, b), average(c, d));
        true
    }
}

impl Average {
    fn add(&mut self, value: f64, weight: f64) {
        let off = value - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }

    fn deviations(&self, value: f64) -> f64 {
        let deviation = self.variance.sqrt().max(self.mean.abs() * FLOOR);
        if deviation > 0.0 { (value - self.mean) / deviation } else { 0.0 }
    }
}

/// Least weight of the newest value: an average over some 100 steps.
const NEWEST: f64 = 0.01;

/// A deviation below this part of the mean is taken as this: a flat curve has no outliers.
const FLOOR: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(i: u32) -> f64 {
        5.0 + f64::from(i % 7) * 0.01
    }

    #[test]
    fn a_spike_is_left_out_and_forgotten() {
        let mut guard = Guard::new(6.0, 20);
        for i in 0..50 {
            assert_eq!(guard.judge(wave(i), 1.0), Decision::Apply);
        }
        let before = guard.clone();
        let spike = guard.judge(9.0, 1.0);
        assert!(matches!(spike, Decision::Skip { what: "loss", deviations } if deviations > 6.0));
        assert!(matches!(guard.judge(5.0, 3.0), Decision::Skip { what: "grad_norm", .. }));
        assert_eq!((guard.skipped(), guard.loss), (2, before.loss));
        assert_eq!(guard.judge(5.0, 1.0), Decision::Apply);
    }

    #[test]
    fn off_and_untrusted_guards_let_everything_pass() {
        let mut off = Guard::new(0.0, 0);
        let mut young = Guard::new(3.0, 100);
        for i in 0..50 {
            let value = if i == 40 { 1e9 } else { 1.0 };
            assert_eq!(off.judge(value, value), Decision::Apply);
            assert_eq!(young.judge(value, value), Decision::Apply);
        }
    }

    #[test]
    fn what_it_remembers_survives() {
        let mut guard = Guard::new(6.0, 20);
        for i in 0..30 {
            guard.judge(wave(i), wave(i * 3));
        }
        let mut copy = Guard::new(6.0, 20);
        assert!(copy.restore(&guard.words()));
        assert_eq!(copy, guard);
        assert!(!copy.restore(&[1, 2, 3]));
    }
}

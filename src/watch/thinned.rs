//! A long line in little memory.

/// Points of which each is the mean of as many as needed, so that there are never many.
#[derive(Clone, Debug)]
pub(super) struct Thinned {
    points: Vec<(f64, f64)>,
    /// How many values a point is the mean of.
    each: usize,
    /// The point under way: sums, and how many values.
    sum: (f64, f64),
    count: usize,
}

impl Default for Thinned {
    fn default() -> Self {
        Self { points: Vec::new(), each: 1, sum: (0.0, 0.0), count: 0 }
    }
}

impl Thinned {
    /// Adds a value at `x`; what is infinite or no number is left out.
    pub fn push(&mut self, x: f64, y: f64) {
        if !x.is_finite() || !y.is_finite() {
            return;
        }
        self.sum = (self.sum.0 + x, self.sum.1 + y);
        self.count += 1;
        if self.count < self.each {
            return;
        }
        self.points.extend(self.under_way());
        (self.sum, self.count) = ((0.0, 0.0), 0);
        if self.points.len() >= MOST {
            self.each *= 2;
            let pairs = self.points.chunks_exact(2);
            let mean = |p: &[(f64, f64)]| (0.5 * (p[0].0 + p[1].0), 0.5 * (p[0].1 + p[1].1));
            self.points = pairs.map(mean).collect();
        }
    }

    /// The points, in order; the last may be of fewer values.
    pub fn points(&self) -> Vec<(f64, f64)> {
        self.points.iter().copied().chain(self.under_way()).collect()
    }

    fn under_way(&self) -> Option<(f64, f64)> {
        let count = self.count as f64;
        (self.count > 0).then(|| (self.sum.0 / count, self.sum.1 / count))
    }
}

/// So many points at most: more than a terminal has dots. Even.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_stay_and_many_become_means() {
        let mut line = Thinned::default();
        line.push(1.0, 5.0);
        line.push(2.0, f64::NAN);
        line.push(3.0, 7.0);
        assert_eq!(line.points(), [(1.0, 5.0), (3.0, 7.0)]);
        let mut long = Thinned::default();
        (0..1_000_001).for_each(|i| long.push(f64::from(i), f64::from(i % 2)));
        let points = long.points();
        assert!((MOST / 2 - 1..=MOST).contains(&points.len()), "{}", points.len());
        assert_eq!(points[0].1, 0.5);
        let last = points.last().unwrap();
        assert!(last.0 > 999_000.0 && (last.1 - 0.5).abs() < 0.5, "{last:?}");
        assert!(points.windows(2).all(|w| w[0].0 < w[1].0));
    }
}

//! What comes before a rule: clipping, and mixing or bucketing.

use super::Config;
use super::config::Clip;
use super::config::Mix;
use super::space::Point;
use super::space::Space;
use super::space::lower_median;
use super::space::nearest;
use crate::rng::Address;
use crate::rng::Purpose;

/// What a rule is given: every point is the mean of some clipped updates.
pub(super) struct Points {
    /// Coefficients of every point.
    pub rows: Vec<Point>,
    /// Row-major `(P, P)`: squared distances.
    pub squared: Vec<f64>,
}

/// What every update is multiplied with, `f` of those with the given norms being liars.
///
/// * `median`: norms above the lower median are clipped to it (Templar; arXiv:2603.08163).
/// * `adaptive`: the `floor(2 f (n - f) / n)` largest are clipped to the largest of the others
///   (ARC; Allouah et al. 2024, arXiv:2405.14432).
/// * `equal`: all become the lower median. Those shorter than [`SHORTEST`] of it become zero.
pub(super) fn clip_factors(clip: Clip, norms: &[f64], f: usize) -> Vec<f64> {
    let bound = match clip {
        Clip::None => return vec![1.0; norms.len()],
        Clip::Median | Clip::Equal => lower_median(norms),
        Clip::Adaptive => {
            let mut sorted = norms.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            sorted[2 * f * (norms.len() - f) / norms.len()]
        }
    };
    let factor = |&norm: &f64| match clip {
        Clip::Equal if norm < SHORTEST * bound || norm == 0.0 => 0.0,
        Clip::Equal => bound / norm,
        _ if norm <= bound => 1.0,
        _ => bound / norm,
    };
    norms.iter().map(factor).collect()
}

/// Beside the median norm, an update this short has no direction: one that is lengthened more is
/// mostly rounding, of its sender's and of distances.
const SHORTEST: f64 = 1.0 / 1024.0;

/// The updates that make up each point, before any mixing by distance: one each, or a bucket
/// (Karimireddy et al. 2022, arXiv:2006.09365, algorithm 1) of a permutation drawn for the round.
pub(super) fn groups(config: &Config, n: usize, round: u64) -> Vec<Vec<usize>> {
    if config.mix != Mix::Buckets {
        return (0..n).map(|i| vec![i]).collect();
    }
    let mut order: Vec<usize> = (0..n).collect();
    let draw = Address { seed: config.seed, purpose: Purpose::Bucketing, step: round, index: 0 };
    for i in (1..n).rev() {
        order.swap(i, draw.at(i as u64).below(i as u64 + 1) as usize);
    }
    let sorted = |bucket: &[usize]| {
        let mut bucket = bucket.to_vec();
        bucket.sort_unstable();
        bucket
    };
    order.chunks(config.bucket_size).map(sorted).collect()
}

impl Points {
    /// The clipped updates, or the means of groups of them.
    pub fn new(space: &Space, factors: &[f64], groups: &[Vec<usize>]) -> Self {
        let clipped: Vec<Point> =
            factors.iter().enumerate().map(|(i, &c)| space.scaled(&space.vector(i), c)).collect();
        if groups.iter().all(|group| group.len() == 1) {
            let of = |i: usize| (groups[i][0], factors[groups[i][0]]);
            let own = |i: usize| space.squared_of_scaled(of(i), (of(i).0, 0.0));
            // What has become zero is farther from all than they can be from each other: it is no
            // neighbour, though nothing is nearer to all than the origin.
            let far = 16.0 * (0..groups.len()).map(own).fold(0.0, f64::max);
            let squared = pairs(groups.len(), |i, j| match of(i).1 * of(j).1 {
                0.0 => far,
                _ => space.squared_of_scaled(of(i), of(j)),
            });
            let rows = groups.iter().map(|group| clipped[group[0]].clone()).collect();
            return Self { rows, squared };
        }
        Self::of_rows(space, groups.iter().map(|g| super::space::mean_of(&clipped, g)).collect())
    }

    /// Nearest-neighbour mixing (Allouah et al. 2023, arXiv:2302.01772, algorithm 2): every point
    /// becomes the mean of the `n - f` nearest, itself included. Also returns who they are.
    pub fn mixed(&self, space: &Space, f: usize) -> (Self, Vec<Vec<usize>>) {
        let n = self.rows.len();
        let mut groups: Vec<_> = (0..n).map(|i| nearest(&self.squared, n, i, n - f)).collect();
        groups.iter_mut().for_each(|group| group.sort_unstable());
        let rows = groups.iter().map(|group| super::space::mean_of(&self.rows, group)).collect();
        (Self::of_rows(space, rows), groups)
    }

    fn of_rows(space: &Space, rows: Vec<Point>) -> Self {
        let squared = pairs(rows.len(), |i, j| {
            let distance = space.distance(&rows[i], &rows[j]);
            distance * distance
        });
        Self { rows, squared }
    }
}

/// A symmetric matrix with zeros on its diagonal.
fn pairs(n: usize, value: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut all = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..i {
            let value = value(i, j);
            (all[i * n + j], all[j * n + i]) = (value, value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_is_to_the_norm_it_names() {
        let norms = [1.0, 8.0, 2.0, 4.0, 0.0];
        assert_eq!(clip_factors(Clip::None, &norms, 1), [1.0; 5]);
        assert_eq!(clip_factors(Clip::Median, &norms, 1), [1.0, 0.25, 1.0, 0.5, 1.0]);
        // floor(2 * 1 * 4 / 5) = 1 norm is clipped; with f = 2, floor(12 / 5) = 2 are.
        assert_eq!(clip_factors(Clip::Adaptive, &norms, 1), [1.0, 0.5, 1.0, 1.0, 1.0]);
        assert_eq!(clip_factors(Clip::Adaptive, &norms, 2), [1.0, 0.25, 1.0, 0.5, 1.0]);
        assert_eq!(clip_factors(Clip::Adaptive, &norms, 0), [1.0; 5]);
        assert_eq!(clip_factors(Clip::Median, &[0.0, 0.0, 5.0], 1), [1.0, 1.0, 0.0]);
        assert_eq!(clip_factors(Clip::Median, &[2.0, 4.0], 0), [1.0, 0.5], "the lower median");
        assert_eq!(clip_factors(Clip::Equal, &norms, 1), [2.0, 0.25, 1.0, 0.5, 0.0]);
        let short = [4.0, 4.0 / 1024.0, 4.0 / 1025.0, 8.0, 8.0];
        assert_eq!(clip_factors(Clip::Equal, &short, 1), [1.0, 1024.0, 0.0, 0.5, 0.5]);
        assert_eq!(clip_factors(Clip::Equal, &[0.0, 0.0, 5.0], 1), [0.0; 3]);
    }

    #[test]
    fn buckets_are_a_division_drawn_for_the_round() {
        let config = Config { mix: Mix::Buckets, bucket_size: 3, ..Config::default() };
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..20 {
            let buckets = groups(&config, 8, round);
            assert_eq!(buckets.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2]);
            let mut all = buckets.concat();
            all.sort_unstable();
            assert_eq!(all, (0..8).collect::<Vec<_>>());
            assert_eq!(buckets, groups(&config, 8, round));
            seen.insert(buckets);
        }
        assert!(seen.len() > 15, "{seen:?}");
        let other = Config { seed: config.seed + 1, ..config.clone() };
        assert!((0..20).any(|round| groups(&other, 8, round) != groups(&config, 8, round)));
    }
}

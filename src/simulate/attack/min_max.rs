//! Min-max and min-sum (Shejwalkar and Houmansadr 2021, NDSS, "Manipulating the Byzantine",
//! equations 3 and 4): as far from the mean as distances allow.
//!
//! ```text
//! x = mean(known) - gamma * p
//! min-max: max_i |x - u_i|     <= max_ij |u_i - u_j|
//! min-sum: sum_i |x - u_i|^2   <= max_i sum_j |u_i - u_j|^2
//! ```
//!
//! p is the deviation of each element, the unit vector along the mean, or its sign. Formula: the
//! largest such gamma. Both conditions are quadratic in gamma, so it is a root, where the paper bisects.

use super::View;
use super::along::Family;
use super::along::Line;
use super::config::Deviation;
use super::moments;

/// Which distances must not show the attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// To the farthest honest update.
    Farthest,
    /// To all honest updates, squared and summed.
    Sum,
}

#[derive(Debug)]
pub(super) struct MinMax {
    pub bound: Bound,
    pub deviation: Deviation,
}

impl Family for MinMax {
    fn line(&self, _view: &View<'_>, known: &[&[f32]], _colluder: usize) -> Line {
        let base = moments::mean(known);
        let mut direction = perturbation(self.deviation, known, &base);
        direction.iter_mut().for_each(|d| *d = -*d);
        let formula = farthest(self.bound, known, &base, &direction);
        Line { base, direction, formula }
    }
}

/// p of the header.
fn perturbation(deviation: Deviation, known: &[&[f32]], mean: &[f64]) -> Vec<f64> {
    match deviation {
        Deviation::Std => moments::deviation(known, mean),
        Deviation::Unit => {
            let norm = moments::sum(mean.len(), |i| mean[i] * mean[i]).sqrt();
            let unit = |m: &f64| if norm > 0.0 { m / norm } else { 0.0 };
            mean.iter().map(unit).collect()
        }
        Deviation::Sign => {
            let sign = |m: &f64| if *m == 0.0 { 0.0 } else { m.signum() };
            mean.iter().map(sign).collect()
        }
    }
}

/// The largest gamma with `mean + gamma * direction` within the bound; 0 without a direction.
fn farthest(bound: Bound, known: &[&[f32]], mean: &[f64], direction: &[f64]) -> f64 {
    let elements = mean.len();
    let square = moments::sum(elements, |i| direction[i] * direction[i]);
    if square == 0.0 {
        return 0.0;
    }
    // |mean + gamma p - u|^2 = gamma^2 |p|^2 + 2 gamma <p, mean - u> + |mean - u|^2.
    let away = |u: &[f32], i: usize| mean[i] - f64::from(u[i]);
    let along: Vec<f64> =
        known.iter().map(|u| moments::sum(elements, |i| direction[i] * away(u, i))).collect();
    let from_mean: Vec<f64> =
        known.iter().map(|u| moments::sum(elements, |i| away(u, i) * away(u, i))).collect();
    let distances = distances(known);
    match bound {
        Bound::Farthest => {
            let limit = distances.iter().flatten().fold(0.0, |a: f64, &b| a.max(b));
            let roots = along.iter().zip(&from_mean).map(|(b, c)| root(square, *b, c - limit));
            roots.fold(f64::INFINITY, f64::min)
        }
        Bound::Sum => {
            let sums = distances.iter().map(|row| row.iter().fold(0.0, |a, b| a + b));
            let limit = sums.fold(0.0, f64::max);
            let n = known.len() as f64;
            let (b, c) = (along.iter().sum::<f64>(), from_mean.iter().sum::<f64>());
            root(n * square, b, c - limit)
        }
    }
}

/// Squared distances between all.
fn distances(known: &[&[f32]]) -> Vec<Vec<f64>> {
    let mut all = vec![vec![0.0; known.len()]; known.len()];
    for (i, a) in known.iter().enumerate() {
        for (j, b) in known.iter().enumerate().take(i) {
            let difference = |k: usize| f64::from(a[k]) - f64::from(b[k]);
            let square = moments::sum(a.len(), |k| difference(k) * difference(k));
            (all[i][j], all[j][i]) = (square, square);
        }
    }
    all
}

/// The larger root of `a x^2 + 2 b x + c`, or 0 where rounding leaves none.
fn root(a: f64, b: f64, c: f64) -> f64 {
    let under = (b * b - a * c).max(0.0).sqrt();
    ((under - b) / a).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::testing::Room;
    use super::*;

    /// The paper's own search: halve the step while the bound is kept or broken.
    fn by_bisection(bound: Bound, known: &[Vec<f32>], base: &[f64], direction: &[f64]) -> f64 {
        let distance = |a: &[f64], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| (x - f64::from(*y)).powi(2)).sum()
        };
        let wide: Vec<Vec<f64>> =
            known.iter().map(|u| u.iter().map(|x| f64::from(*x)).collect()).collect();
        let sums = |x: &[f64]| known.iter().map(|u| distance(x, u)).sum::<f64>();
        let most = |x: &[f64]| known.iter().map(|u| distance(x, u)).fold(0.0, f64::max);
        let measure = |x: &[f64]| if bound == Bound::Sum { sums(x) } else { most(x) };
        let limit = wide.iter().map(|u| measure(u)).fold(0.0, f64::max);
        let (mut low, mut high) = (0.0, 1e4);
        for _ in 0..100 {
            let gamma = 0.5 * (low + high);
            let x: Vec<f64> = base.iter().zip(direction).map(|(m, d)| m + gamma * d).collect();
            if measure(&x) <= limit { low = gamma } else { high = gamma }
        }
        low
    }

    #[test]
    fn gamma_is_what_bisection_finds() {
        for (honest, elements) in [(2, 1), (3, 7), (6, 500), (11, 4097)] {
            let room = Room::of(honest, 2, elements);
            let known: Vec<&[f32]> = room.honest.iter().map(Vec::as_slice).collect();
            let base = moments::mean(&known);
            for deviation in [Deviation::Std, Deviation::Unit, Deviation::Sign] {
                let mut direction = perturbation(deviation, &known, &base);
                direction.iter_mut().for_each(|d| *d = -*d);
                for bound in [Bound::Farthest, Bound::Sum] {
                    let found = farthest(bound, &known, &base, &direction);
                    let expected = by_bisection(bound, &room.honest, &base, &direction);
                    assert!(
                        found > 0.0 && (found / expected - 1.0).abs() < 1e-6,
                        "{found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_sum_is_the_tighter_bound_and_one_update_leaves_no_room() {
        let room = Room::of(7, 1, 300);
        let known: Vec<&[f32]> = room.honest.iter().map(Vec::as_slice).collect();
        let base = moments::mean(&known);
        let direction = moments::deviation(&known, &base);
        let of = |bound| farthest(bound, &known, &base, &direction);
        assert!(of(Bound::Sum) < of(Bound::Farthest));
        let alone = Room::of(1, 1, 10);
        let sent = alone.dense(&Config::of(Kind::MinMax));
        assert_eq!(sent[0], alone.honest[0]);
    }
}

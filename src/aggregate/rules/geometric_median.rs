//! The geometric median, by Weiszfeld's iteration with smoothed weights (Pillutla et al. 2022,
//! arXiv:1912.13445, algorithm 2).

use super::super::points::Points;
use super::super::space::Point;
use super::super::space::Space;
use super::super::space::lower_median;
use super::super::space::mean_of;
use super::super::space::medoid;
use super::super::space::nearest;

/// The geometric median of points of which `f` may be anything.
///
/// Start: the mean of the `n - f` points nearest to the medoid, itself included; from a start that
/// liars had pulled away, every iteration would come back by a factor only. Weights are smoothed
/// at `smoothing` times the lower median of the distances from the start. Where that median is
/// zero the start is the answer: most points lie there.
pub fn robust(
    space: &Space,
    points: &Points,
    f: usize,
    smoothing: f64,
    iterations: usize,
) -> Point {
    let (rows, n) = (&points.rows, points.rows.len());
    let start = mean_of(rows, &nearest(&points.squared, n, medoid(&points.squared, n), n - f));
    let distances: Vec<f64> = rows.iter().map(|row| space.distance(&start, row)).collect();
    let scale = lower_median(&distances);
    match scale > 0.0 {
        true => weiszfeld(space, rows, start, smoothing * scale, iterations),
        false => start,
    }
}

/// `y <- sum w_i x_i / sum w_i` with `w_i = 1 / max(nu, |y - x_i|)`, as often as told.
pub fn weiszfeld(space: &Space, rows: &[Point], start: Point, nu: f64, iterations: usize) -> Point {
    let mut y = start;
    for _ in 0..iterations {
        let weight = |row: &Point| 1.0 / space.distance(&y, row).max(nu);
        let weights: Vec<f64> = rows.iter().map(weight).collect();
        let total = weights.iter().fold(0.0, |sum, w| sum + w);
        let mut next = vec![0.0; y.len()];
        for (row, w) in rows.iter().zip(&weights) {
            next.iter_mut().zip(row).for_each(|(n, c)| *n += w * c);
        }
        next.iter_mut().for_each(|n| *n /= total);
        y = next;
    }
    y
}

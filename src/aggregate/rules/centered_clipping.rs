//! Centered clipping (Karimireddy et al. 2021, arXiv:2012.10333, section 4).

use super::super::space::Point;
use super::super::space::Space;
use super::super::space::lower_median;

/// `v <- v + (1/n) sum (x_i - v) min(1, tau / |x_i - v|)`, as often as told. Without a `tau`, it is
/// the lower median of the distances `|x_i - v|`, anew for every iteration: at least half of the
/// updates are then within it, and with f < n/2 it is at most the distance of an honest one.
pub fn iterate(
    space: &Space,
    rows: &[Point],
    start: Point,
    tau: Option<f64>,
    iterations: usize,
) -> Point {
    let mut v = start;
    for _ in 0..iterations {
        let distances: Vec<f64> = rows.iter().map(|row| space.distance(&v, row)).collect();
        let tau = tau.unwrap_or_else(|| lower_median(&distances));
        let mut step = vec![0.0; v.len()];
        for (row, distance) in rows.iter().zip(distances) {
            let factor = if distance <= tau { 1.0 } else { tau / distance };
            let moves = step.iter_mut().zip(row.iter().zip(&v));
            moves.for_each(|(s, (x, v))| *s += factor * (x - v));
        }
        v.iter_mut().zip(step).for_each(|(v, s)| *v += s / rows.len() as f64);
    }
    v
}

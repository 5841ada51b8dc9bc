//! Trust weights: who agreed with past aggregates counts more (RoDiLoCo).
//!
//! `s_i <- decay s_i + (1 - decay) cos(x_i, previous aggregate)`, weights `softmax(s / temperature)`,
//! and the sum is rescaled to the median norm. Ours begins a peer's score with its first cosine,
//! and where there is no previous aggregate the geometric median of the round takes its place.

use super::super::space::Point;
use super::super::space::Space;
use super::super::space::lower_median;

/// Moves `scores` (`None`: a newcomer) by the cosines of `rows` with `reference`.
pub fn update(
    space: &Space,
    rows: &[Point],
    reference: &Point,
    decay: f64,
    scores: &[Option<f64>],
) -> Vec<f64> {
    let length = space.norm(reference);
    let moved = |(row, score): (&Point, &Option<f64>)| {
        let lengths = space.norm(row) * length;
        let cosine = if lengths > 0.0 { space.product(row, reference) / lengths } else { 0.0 };
        let cosine = cosine.clamp(-1.0, 1.0);
        score.map_or(cosine, |s| decay * s + (1.0 - decay) * cosine)
    };
    rows.iter().zip(scores).map(moved).collect()
}

/// The sum of `rows` by the softmax of `scores`, as long as the lower median of their lengths.
pub fn combine(space: &Space, rows: &[Point], scores: &[f64], temperature: f64) -> Point {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raise = |s: &f64| libm::exp((s - largest) / temperature);
    let weights: Vec<f64> = scores.iter().map(raise).collect();
    let total = weights.iter().fold(0.0, |sum, w| sum + w);
    let mut sum = vec![0.0; rows[0].len()];
    for (row, w) in rows.iter().zip(&weights) {
        sum.iter_mut().zip(row).for_each(|(s, c)| *s += w / total * c);
    }
    let lengths: Vec<f64> = rows.iter().map(|row| space.norm(row)).collect();
    let length = space.norm(&sum);
    let factor = if length > 0.0 { lower_median(&lengths) / length } else { 0.0 };
    space.scaled(&sum, factor)
}

//! Krum and Multi-Krum (Blanchard et al. 2017, arXiv:1703.02757, section 4).
//!
//! The score of a point is the sum of the squared distances to its nearest neighbours, itself not
//! counted. Ours has `n - f - 2` of them and plain squared distances, as the paper has; byzfl and
//! the authors' own code count `n - f - 1`.

/// The `chosen` points with the smallest scores over `neighbours` neighbours, by number.
pub fn select(squared: &[f64], n: usize, neighbours: usize, chosen: usize) -> Vec<usize> {
    let scores: Vec<f64> = (0..n).map(|i| score(&squared[i * n..][..n], i, neighbours)).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order.truncate(chosen);
    order.sort_unstable();
    order
}

fn score(row: &[f64], own: usize, neighbours: usize) -> f64 {
    let others = row.iter().enumerate().filter(|(j, _)| *j != own);
    let mut distances: Vec<f64> = others.map(|(_, d)| *d).collect();
    distances.sort_by(f64::total_cmp);
    distances.iter().take(neighbours).fold(0.0, |sum, d| sum + d)
}

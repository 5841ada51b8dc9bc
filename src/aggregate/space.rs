//! Distances among combinations of updates, from their Gram matrix alone.
//!
//! A point is a combination of the vectors and the origin whose coefficients sum to one. Its
//! distances are quadratic forms of the Gram matrix *relative to one of the inputs*, the medoid: the
//! exact integers are combined first and rounded once. So neither what all vectors have in common
//! nor a vector 10^30 times as long as the others costs the distances among the others a digit.
//! All sums are chains in the order of vectors, f64 without FMA.

use super::ExactSum;
use super::Gram;

/// Coefficients of a point: one per vector, then the origin's.
pub(super) type Point = Vec<f64>;

/// The vectors of a Gram matrix, and the origin.
pub(super) struct Space {
    vectors: usize,
    /// Row-major `(vectors + 1)` squared: inner products relative to the medoid.
    kernel: Vec<f64>,
    /// Row-major `vectors` squared: squared distances, each rounded once.
    squared: Vec<f64>,
    /// The same of inner products.
    products: Vec<f64>,
    squares: Vec<f64>,
}

impl Space {
    /// Of all vectors of `gram`, relative to the medoid of the first `inputs`.
    pub fn new(gram: &Gram, inputs: usize) -> Self {
        let vectors = gram.vectors();
        let grid = |i| (0..vectors).map(move |j| gram.squared_distance(i, j));
        let squared: Vec<f64> = (0..vectors).flat_map(grid).collect();
        let within: Vec<f64> =
            (0..inputs).flat_map(|i| &squared[i * vectors..][..inputs]).copied().collect();
        let pivot = medoid(&within, inputs);
        let base = vectors + 1;
        let relative = |k: usize, l: usize| {
            let mut sum = ExactSum::ZERO;
            let mut add = |i: usize, j: usize, sign: i64| {
                if i < vectors && j < vectors {
                    sum.add_multiple(gram.product(i, j), sign);
                }
            };
            add(k, l, 1);
            add(k, pivot, -1);
            add(l, pivot, -1);
            add(pivot, pivot, 1);
            sum.to_f64()
        };
        let kernel = (0..base).flat_map(|k| (0..base).map(move |l| (k, l)));
        let kernel = kernel.map(|(k, l)| relative(k, l)).collect();
        let grid = |i| (0..vectors).map(move |j| gram.product(i, j).to_f64());
        let products = (0..vectors).flat_map(grid).collect();
        let squares = (0..vectors).map(|i| gram.product(i, i).to_f64()).collect();
        Self { vectors, kernel, squared, products, squares }
    }

    /// The origin.
    pub fn origin(&self) -> Point {
        self.vector(self.vectors)
    }

    /// Vector `i`.
    pub fn vector(&self, i: usize) -> Point {
        let mut point = vec![0.0; self.vectors + 1];
        point[i] = 1.0;
        point
    }

    /// `factor` times a point.
    pub fn scaled(&self, point: &Point, factor: f64) -> Point {
        let mut scaled: Point = point.iter().map(|c| factor * c).collect();
        scaled[self.vectors] = 0.0;
        scaled[self.vectors] = 1.0 - scaled.iter().sum::<f64>();
        scaled
    }

    /// The distance of two points.
    pub fn distance(&self, a: &Point, b: &Point) -> f64 {
        let difference = minus(a, b);
        self.form(&difference, &difference).max(0.0).sqrt()
    }

    /// The inner product of two points, seen from the origin.
    pub fn product(&self, a: &Point, b: &Point) -> f64 {
        let origin = self.origin();
        self.form(&minus(a, &origin), &minus(b, &origin))
    }

    /// The length of a point.
    pub fn norm(&self, a: &Point) -> f64 {
        self.distance(a, &self.origin())
    }

    /// The squared distance of `a x_i` and `b x_j`, with factors from 0 up. Factors that are alike
    /// start from the exact distance of the vectors, so that it is right however small beside their
    /// lengths; factors that are not, from their lengths: what a factor of 10^-30 makes of a
    /// distance of 10^30 must not be a difference of such.
    pub fn squared_of_scaled(&self, (i, a): (usize, f64), (j, b): (usize, f64)) -> f64 {
        let apart = self.squared[i * self.vectors + j];
        let squared = match a.max(b) <= 2.0 * a.min(b) {
            true => a * b * apart + (a - b) * (a * self.squares[i] - b * self.squares[j]),
            false => {
                let both = self.products[i * self.vectors + j];
                a * a * self.squares[i] + b * b * self.squares[j] - 2.0 * a * b * both
            }
        };
        squared.max(0.0)
    }

    /// `a^T K b`: chains over columns, then rows.
    fn form(&self, a: &[f64], b: &[f64]) -> f64 {
        let rows = self.kernel.chunks(self.vectors + 1).zip(a);
        rows.filter(|(_, a)| **a != 0.0).fold(0.0, |sum, (row, a)| {
            sum + a * row.iter().zip(b).fold(0.0, |sum, (k, b)| sum + k * b)
        })
    }
}

/// The mean of some points.
pub(super) fn mean_of(points: &[Point], chosen: &[usize]) -> Point {
    let mut mean = vec![0.0; points[chosen[0]].len()];
    for &i in chosen {
        mean.iter_mut().zip(&points[i]).for_each(|(m, c)| *m += c);
    }
    mean.iter_mut().for_each(|m| *m /= chosen.len() as f64);
    mean
}

/// Of `n` points with these squared distances, the one with the smallest sum of distances to the
/// others; the first of several.
pub(super) fn medoid(squared: &[f64], n: usize) -> usize {
    let sum = |i: &usize| squared[i * n..][..n].iter().fold(0.0, |sum, d| sum + d.sqrt());
    (0..n).min_by(|i, j| sum(i).total_cmp(&sum(j))).unwrap_or(0)
}

/// The `count` points nearest to point `i`, itself first; of equally near ones the first.
pub(super) fn nearest(squared: &[f64], n: usize, i: usize, count: usize) -> Vec<usize> {
    let row = &squared[i * n..][..n];
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| row[a].total_cmp(&row[b]).then((a != i).cmp(&(b != i))));
    order.truncate(count);
    order
}

/// The lower median.
pub(super) fn lower_median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

fn minus(a: &[f64], b: &[f64]) -> Point {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

//! Rules against published values, variants named.

use super::super::Contribution;
use super::super::Gram;
use super::super::points::Points;
use super::super::products::Pairs;
use super::super::space::Space;
use super::super::space::mean_of;
use super::*;
use crate::codec;
use crate::codec::Codes;
use crate::codec::Layout;

struct Dense(Vec<i32>);

impl Contribution for Dense {
    fn block(&self, _: usize, codes: &mut Codes) -> Result<(), codec::Error> {
        codes.clear();
        codes.push_dense(0, self.0.iter().copied());
        Ok(())
    }
}

fn space(vectors: &[&[i32]]) -> (Space, Points) {
    let layout = Layout::new([("w", vectors[0].len())]);
    let vectors: Vec<_> = vectors.iter().map(|v| Dense(v.to_vec())).collect();
    let parts: Vec<_> = vectors.iter().map(|v| v as &dyn Contribution).collect();
    let gram = Gram::of_blocks(&layout, &parts, 0..1, Pairs::All).expect("dense");
    let space = Space::new(&gram, parts.len());
    let groups: Vec<_> = (0..parts.len()).map(|i| vec![i]).collect();
    let points = Points::new(&space, &vec![1.0; parts.len()], &groups);
    (space, points)
}

/// Inputs of byzfl's own tests (LPD-EPFL/byzfl at 69bd1ac).
const BYZFL: [&[i32]; 3] = [&[1, 2, 3], &[4, 5, 6], &[7, 8, 9]];

fn value(point: &[f64], vectors: &[&[i32]]) -> Vec<f64> {
    let at = |k: usize| vectors.iter().zip(point).map(|(v, c)| c * f64::from(v[k])).sum();
    (0..vectors[0].len()).map(at).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance, "{found:?} {expected:?}");
    }
}

/// byzfl's variant: start at the origin, three iterations, nu = 0.1 absolute.
#[test]
fn the_geometric_median_of_byzfl() {
    let (space, points) = space(&BYZFL);
    let y = geometric_median::weiszfeld(&space, &points.rows, space.origin(), 0.1, 3);
    assert_near(&value(&y, &BYZFL), &[3.78788764, 4.78788764, 5.78788764], 5e-9);
}

/// byzfl's variant: n - f - 1 neighbours, and no condition but n > 2f. (Ours would want n >= 5.)
#[test]
fn krum_and_multi_krum_of_byzfl() {
    let (_, points) = space(&BYZFL);
    let (n, f) = (3, 1);
    let one = krum::select(&points.squared, n, n - f - 1, 1);
    assert_eq!(value(&mean_of(&points.rows, &one), &BYZFL), [1.0, 2.0, 3.0]);
    let two = krum::select(&points.squared, n, n - f - 1, n - f);
    assert_eq!(value(&mean_of(&points.rows, &two), &BYZFL), [2.5, 3.5, 4.5]);
}

/// byzfl's `Clipping(2.0)` of one vector: one step of that radius from the origin.
#[test]
fn clipping_of_byzfl() {
    let (space, points) = space(&BYZFL[..1]);
    let v = centered_clipping::iterate(&space, &points.rows, space.origin(), Some(2.0), 1);
    let expected = [0.53452248, 1.06904497, 1.60356745];
    assert_near(&value(&v, &BYZFL[..1]), &expected, 5e-9);
}

/// By hand: scores over one neighbour are 1, 1, 4, 64; over two 5, 10, 13, 164.
#[test]
fn krum_counts_its_neighbours() {
    let vectors: [&[i32]; 4] = [&[0], &[1], &[3], &[11]];
    let (_, points) = space(&vectors);
    let ordered = |neighbours, chosen| krum::select(&points.squared, 4, neighbours, chosen);
    assert_eq!(ordered(1, 1), [0], "of equal scores the first");
    assert_eq!(ordered(2, 1), [1]);
    assert_eq!(ordered(2, 3), [0, 1, 2]);
}

/// The median of a triangle is its Fermat point; of points on a line the middle one.
#[test]
fn the_geometric_median_is_where_it_must_be() {
    let triangle: [&[i32]; 3] = [&[0, 0], &[1000, 0], &[500, 866]];
    let (space_, points) = space(&triangle);
    let y = geometric_median::robust(&space_, &points, 1, 1e-6, 200);
    assert_near(&value(&y, &triangle), &[500.0, 288.675], 0.02);
    let line: [&[i32]; 5] = [&[-9000], &[1], &[2], &[3], &[1_000_000]];
    let (space, points) = space(&line);
    let y = geometric_median::robust(&space, &points, 2, 1e-6, 500);
    assert_near(&value(&y, &line), &[2.0], 1e-3);
}

/// Most points in one place are the median, whatever the others are.
#[test]
fn the_geometric_median_of_a_majority_is_the_majority() {
    let vectors: [&[i32]; 5] = [&[7, 7], &[7, 7], &[1 << 23, 0], &[7, 7], &[-5, 3]];
    let (space, points) = space(&vectors);
    let y = geometric_median::robust(&space, &points, 2, 1e-6, 64);
    assert_near(&value(&y, &vectors), &[7.0, 7.0], 1e-12);
}

/// One iteration by hand: from 0 with radius 2, moves are 1, 2 and -2.
#[test]
fn centered_clipping_moves_by_the_mean_of_clipped_differences() {
    let vectors: [&[i32]; 3] = [&[1], &[9], &[-1000]];
    let (space, points) = space(&vectors);
    let step = |tau, iterations| {
        let v = centered_clipping::iterate(&space, &points.rows, space.origin(), tau, iterations);
        value(&v, &vectors)[0]
    };
    assert_near(&[step(Some(2.0), 1)], &[1.0 / 3.0], 1e-12);
    // The median distance from 0 is 9: moves 1, 9, -9. Then from 1/3 it is 26/3: 2/3, 26/3, -26/3.
    assert_near(&[step(None, 1), step(None, 2)], &[1.0 / 3.0, 5.0 / 9.0], 1e-12);
}

/// `softmax(cos / 0.1)` by hand, and the length of the sum.
#[test]
fn trust_goes_to_those_who_agree() {
    let vectors: [&[i32]; 3] = [&[3, 4], &[6, 8], &[-3, -4]];
    let (space, points) = space(&vectors);
    let reference = space.vector(0);
    let scores = trust::update(&space, &points.rows, &reference, 0.9, &[None, Some(0.0), None]);
    assert_near(&scores, &[1.0, 0.1, -1.0], 1e-12);
    let sum = trust::combine(&space, &points.rows, &scores, 0.1);
    let value = value(&sum, &vectors);
    // Median length 5; all lie on one line, and the first outweighs.
    assert_near(&value, &[3.0, 4.0], 1e-12);
    let (a, b) = (sum[0], sum[1]);
    assert_near(&[b / a], &[(-9.0f64).exp()], 1e-12);
}

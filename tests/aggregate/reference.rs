//! Against plain f64 over whole vectors.

use neuroshard::aggregate::{Aggregator, Clip, Config, Mix, Outcome, Rule};
use neuroshard::codec::Layout;

use super::updates::{Vector, aggregate, dense, distance, honest, inputs, mean, wide};

type Vectors = Vec<Vec<f64>>;

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn lower_median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

fn clip(vectors: &Vectors) -> Vectors {
    scaled(vectors, 1.0)
}

/// To the lower median norm, by a factor of `most` at most.
fn scaled(vectors: &Vectors, most: f64) -> Vectors {
    let norms: Vec<f64> = vectors.iter().map(|v| norm(v)).collect();
    let bound = lower_median(&norms);
    let scaled = |(v, n): (&Vec<f64>, &f64)| v.iter().map(|x| x * (bound / n).min(most)).collect();
    vectors.iter().zip(&norms).map(scaled).collect()
}

fn nearest<'a>(vectors: &'a Vectors, to: &[f64], count: usize) -> Vec<&'a Vec<f64>> {
    let mut order: Vec<&Vec<f64>> = vectors.iter().collect();
    order.sort_by(|a, b| distance(a, to).total_cmp(&distance(b, to)));
    order.truncate(count);
    order
}

fn mixed(vectors: &Vectors, f: usize) -> Vectors {
    vectors.iter().map(|v| mean(&nearest(vectors, v, vectors.len() - f))).collect()
}

fn krum(vectors: &Vectors, f: usize, chosen: usize) -> Vec<f64> {
    let score = |v: &Vec<f64>| {
        let near = nearest(vectors, v, vectors.len() - f - 1);
        near.iter().map(|o| distance(o, v).powi(2)).sum::<f64>()
    };
    let mut order: Vec<&Vec<f64>> = vectors.iter().collect();
    order.sort_by(|a, b| score(a).total_cmp(&score(b)));
    mean(&order[..chosen])
}

/// Converged, from the mean.
fn geometric_median(vectors: &Vectors) -> Vec<f64> {
    let mut y = mean(&vectors.iter().collect::<Vec<_>>());
    for _ in 0..5000 {
        let w: Vec<f64> = vectors.iter().map(|v| 1.0 / distance(v, &y).max(1e-9)).collect();
        let total: f64 = w.iter().sum();
        let at = |k: usize| vectors.iter().zip(&w).map(|(v, w)| v[k] * w).sum::<f64>() / total;
        y = (0..y.len()).map(at).collect();
    }
    y
}

fn centered_clipping(
    vectors: &Vectors,
    mut v: Vec<f64>,
    tau: Option<f64>,
    steps: usize,
) -> Vec<f64> {
    for _ in 0..steps {
        let far: Vec<f64> = vectors.iter().map(|x| distance(x, &v)).collect();
        let tau = tau.unwrap_or(lower_median(&far));
        let at = |k: usize| {
            let pull = |(x, d): (&Vec<f64>, &f64)| (x[k] - v[k]) * (tau / d).min(1.0);
            v[k] + vectors.iter().zip(&far).map(pull).sum::<f64>() / vectors.len() as f64
        };
        v = (0..v.len()).map(at).collect();
    }
    v
}

fn by_coordinate(vectors: &Vectors, rule: impl Fn(&mut Vec<f64>) -> f64) -> Vec<f64> {
    let at = |k: usize| {
        let mut column: Vec<f64> = vectors.iter().map(|v| v[k]).collect();
        column.sort_by(f64::total_cmp);
        rule(&mut column)
    };
    (0..vectors[0].len()).map(at).collect()
}

/// The updates of most tests: eleven honest ones and two that are longer and elsewhere.
fn updates(layout: &Layout) -> Vectors {
    let mut values = honest(layout, 13, 70);
    values[4].iter_mut().for_each(|x| *x *= -3.0);
    values[9].iter_mut().for_each(|x| *x = 5.0 * *x + 2.0);
    values
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f64], tolerance: f64) {
    let error = distance(&wide(found), expected) / norm(expected);
    assert!(error < tolerance, "relative error {error}");
}

#[test]
fn every_rule_is_the_rule_it_is_named_after() {
    let layout = Layout::new([("a", 700), ("b", 31)]);
    let vectors = dense(&layout, &updates(&layout));
    let values: Vectors = vectors.iter().map(|v| v.values(&layout)).collect();
    let f = 3;
    for (c, m) in [
        (Clip::None, Mix::None),
        (Clip::Median, Mix::None),
        (Clip::None, Mix::Nearest),
        (Clip::Median, Mix::Nearest),
        (Clip::Equal, Mix::None),
        (Clip::Equal, Mix::Nearest),
    ] {
        let values = match c {
            Clip::Median => clip(&values),
            Clip::Equal => scaled(&values, f64::INFINITY),
            _ => values.clone(),
        };
        let values = if m == Mix::Nearest { mixed(&values, f) } else { values };
        let n = values.len();
        let median = |c: &mut Vec<f64>| (c[(n - 1) / 2] + c[n / 2]) / 2.0;
        let trimmed = |c: &mut Vec<f64>| c[f..n - f].iter().sum::<f64>() / (n - 2 * f) as f64;
        let zero = vec![0.0; layout.elements()];
        let all: Vec<&Vec<f64>> = values.iter().collect();
        for (rule, expected, tolerance) in [
            (Rule::Mean, mean(&all), 1e-7),
            (Rule::Median, by_coordinate(&values, median), 1e-7),
            (Rule::TrimmedMean, by_coordinate(&values, trimmed), 1e-7),
            (Rule::Krum, krum(&values, f, 1), 1e-7),
            (Rule::MultiKrum, krum(&values, f, n - f), 1e-7),
            (Rule::GeometricMedian, geometric_median(&values), 1e-5),
            (Rule::CenteredClipping, centered_clipping(&values, zero, None, 64), 1e-7),
        ] {
            let config = Config { rule, clip: c, mix: m, faulty: Some(f), ..Config::default() };
            let (out, outcome) = aggregate(&config, &layout, &vectors);
            let error = distance(&wide(&out), &expected) / norm(&expected);
            assert!(error < tolerance, "{rule:?} {c:?} {m:?}: relative error {error}");
            check_outcome(&outcome, &vectors, &layout, &out);
            assert!(c == Clip::Equal || outcome.peers.iter().all(|share| share.clip <= 1.0));
        }
    }
}

/// Norms, weights and distances are those of the updates and of the aggregate.
fn check_outcome(outcome: &Outcome, vectors: &[Vector], layout: &Layout, out: &[f32]) {
    assert!(outcome.peers.is_sorted_by(|a, b| a.peer < b.peer));
    let mut sum = vec![0.0; out.len()];
    for (share, vector) in outcome.peers.iter().zip(vectors) {
        let values = vector.values(layout);
        assert!((share.norm / norm(&values) - 1.0).abs() < 1e-12);
        assert!(share.clip > 0.0 && share.clip.is_finite());
        let expected = distance(&values, &wide(out));
        let error = (share.distance - expected).abs();
        assert!(error < 1e-5 * norm(&values), "{} {expected}", share.distance);
        let weight = share.weight.unwrap_or(0.0);
        sum.iter_mut().zip(&values).for_each(|(s, x)| *s += weight * x);
    }
    match outcome.votes {
        None => assert_near(out, &sum, 1e-6),
        Some(votes) => assert_eq!((votes.spoken, votes.counted), (731, 731)),
    }
}

#[test]
fn centered_clipping_starts_from_the_previous_aggregate() {
    let layout = Layout::new([("a", 300)]);
    let config = Config {
        rule: Rule::CenteredClipping,
        clip: Clip::None,
        mix: Mix::None,
        faulty: Some(1),
        iterations: 2,
        tau: Some(3.0),
        ..Config::default()
    };
    let mut aggregator = Aggregator::new(&config).expect("a rule");
    let (mut out, mut expected) = (vec![0.0; 300], vec![0.0; 300]);
    for round in 0..4 {
        let vectors = dense(&layout, &honest(&layout, 5, 10 * round));
        aggregator.aggregate(round, &layout, &inputs(&vectors), &mut out).expect("an aggregate");
        let values: Vectors = vectors.iter().map(|v| v.values(&layout)).collect();
        expected = centered_clipping(&values, expected, Some(3.0), 2);
        assert_near(&out, &expected, 1e-6);
    }
}

#[test]
fn trust_is_an_average_of_cosines_and_its_sum_as_long_as_the_median() {
    let layout = Layout::new([("a", 300)]);
    let config = Config {
        rule: Rule::TrustWeighted,
        clip: Clip::None,
        mix: Mix::None,
        faulty: Some(1),
        ..Config::default()
    };
    let mut aggregator = Aggregator::new(&config).expect("a rule");
    let mut out = vec![0.0; 300];
    let mut state: Option<(Vec<f64>, Vec<f64>)> = None;
    for round in 0..4 {
        let vectors = dense(&layout, &honest(&layout, 6, 50 + 10 * round));
        aggregator.aggregate(round, &layout, &inputs(&vectors), &mut out).expect("an aggregate");
        let values: Vectors = vectors.iter().map(|v| v.values(&layout)).collect();
        let reference = state
            .as_ref()
            .map_or_else(|| geometric_median(&values), |(_, previous)| previous.clone());
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = |v: &Vec<f64>| dot(v, &reference) / norm(v) / norm(&reference);
        let scores: Vec<f64> = values
            .iter()
            .enumerate()
            .map(|(i, v)| match &state {
                None => cosine(v),
                Some((scores, _)) => 0.9 * scores[i] + 0.1 * cosine(v),
            })
            .collect();
        let w: Vec<f64> = scores.iter().map(|s| (s / 0.1).exp()).collect();
        let total: f64 = w.iter().sum();
        let mut sum: Vec<f64> =
            (0..300).map(|k| values.iter().zip(&w).map(|(v, w)| v[k] * w / total).sum()).collect();
        let lengths: Vec<f64> = values.iter().map(|v| norm(v)).collect();
        let factor = lower_median(&lengths) / norm(&sum);
        sum.iter_mut().for_each(|x| *x *= factor);
        assert_near(&out, &sum, 1e-5);
        state = Some((scores, wide(&out)));
    }
}

/// With nobody lying, all that averages is the mean of the (clipped) updates.
#[test]
fn without_liars_the_default_is_the_mean() {
    let layout = Layout::new([("a", 400)]);
    let vectors = dense(&layout, &honest(&layout, 8, 5));
    let values: Vectors = vectors.iter().map(|v| v.values(&layout)).collect();
    let plain = mean(&values.iter().collect::<Vec<_>>());
    let clipped = mean(&clip(&values).iter().collect::<Vec<_>>());
    let equal = mean(&scaled(&values, f64::INFINITY).iter().collect::<Vec<_>>());
    for rule in [Rule::Mean, Rule::MultiKrum, Rule::GeometricMedian, Rule::TrimmedMean] {
        for (clip, expected) in [
            (Clip::None, &plain),
            (Clip::Adaptive, &plain),
            (Clip::Median, &clipped),
            (Clip::Equal, &equal),
        ] {
            let config = Config { rule, clip, faulty: Some(0), ..Config::default() };
            assert_near(&aggregate(&config, &layout, &vectors).0, expected, 1e-7);
        }
    }
    // What clipping to the median costs where updates are of about the same length.
    assert!(distance(&plain, &clipped) / norm(&plain) < 0.03);
}

/// Distances of one unit between vectors of 2^30 units: no f64 Gram matrix can tell them apart.
#[test]
fn krum_sees_what_an_inexact_gram_matrix_cannot() {
    let elements = 4096;
    let layout = Layout::new([("a", elements)]);
    let base: Vec<f64> = super::updates::noise(3, elements)
        .iter()
        .map(|x| (x * 8_388_000.0).round() + if *x > 0.0 { 1.0 } else { -1.0 })
        .collect();
    // Apart from the base by these many elements of one unit; the third is nearest to the others.
    let moved = |count: usize, first: usize| {
        let mut v = base.clone();
        (first..first + count).for_each(|k| v[k] += 1.0);
        v
    };
    let values: Vectors =
        vec![moved(9, 0), moved(7, 100), moved(1, 200), moved(8, 300), moved(12, 400)];
    let config = Config {
        rule: Rule::Krum,
        clip: Clip::None,
        mix: Mix::None,
        faulty: Some(1),
        ..Config::default()
    };
    let (out, outcome) = aggregate(&config, &layout, &dense(&layout, &values));
    assert_eq!(wide(&out), values[2]);
    // The squared distances from the third are the numbers of elements that differ.
    let found: Vec<f64> =
        outcome.peers.iter().map(|share| share.distance.powi(2).round()).collect();
    assert_eq!(found, [10.0, 8.0, 0.0, 9.0, 13.0]);
    // What subtracting f64 inner products makes of them.
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let naive = |v: &Vec<f64>| {
        let other = &values[2];
        dot(v, v) + dot(other, other) - 2.0 * dot(v, other)
    };
    let worst = [0, 1, 3, 4].map(|i| (naive(&values[i]) - found[i]).abs() / found[i]);
    assert!(worst.iter().any(|e| *e > 1.0), "{worst:?}");
}

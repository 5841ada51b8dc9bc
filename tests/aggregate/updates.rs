//! Updates made for tests, and what they say in f64.

use neuroshard::aggregate::{Aggregator, Clip, Config, Contribution, Input, Mix, Outcome, Rule};
use neuroshard::codec;
use neuroshard::codec::{CHUNK, Codes, Layout, MAX_CODE, MIN_EXPONENT};
use neuroshard::crypto::PeerId;
use neuroshard::rng::{Address, Purpose};

/// A decoded update in memory.
#[derive(Clone, Debug)]
pub struct Vector {
    blocks: Vec<Codes>,
    /// The block that cannot be decoded.
    pub broken: Option<usize>,
}

impl Contribution for Vector {
    fn block(&self, index: usize, codes: &mut Codes) -> Result<(), codec::Error> {
        if self.broken == Some(index) {
            return Err(codec::Error::Truncated { bytes: index, place: "a test" });
        }
        codes.clone_from(&self.blocks[index]);
        Ok(())
    }
}

impl Vector {
    pub fn of_blocks(blocks: Vec<Codes>) -> Self {
        Self { blocks, broken: None }
    }

    /// All of `values`, each chunk with 24 bits below its largest, times `2^shift`.
    pub fn dense(layout: &Layout, values: &[f64], shift: i32) -> Self {
        Self::quantized(layout, values, shift, CHUNK)
    }

    /// The `k` largest of every chunk.
    pub fn top_k(layout: &Layout, values: &[f64], k: usize) -> Self {
        Self::quantized(layout, values, 0, k)
    }

    fn quantized(layout: &Layout, values: &[f64], shift: i32, k: usize) -> Self {
        let block = |range: &std::ops::Range<usize>| {
            let mut codes = Codes::default();
            for chunk in values[range.clone()].chunks(CHUNK) {
                let largest = chunk.iter().fold(0.0f64, |m, x| m.max(x.abs()));
                let mut exponent = MIN_EXPONENT;
                while largest / 2f64.powi(exponent) > f64::from(MAX_CODE) {
                    exponent += 1;
                }
                let code = |x: &f64| (x / 2f64.powi(exponent)).round() as i32;
                if k >= chunk.len() {
                    codes.push_dense(exponent + shift, chunk.iter().map(code));
                    continue;
                }
                let mut places: Vec<usize> = (0..chunk.len()).collect();
                places.sort_by(|&a, &b| chunk[b].abs().total_cmp(&chunk[a].abs()));
                places.truncate(k);
                places.sort_unstable();
                let entries = places.iter().map(|&p| (p as u16, code(&chunk[p])));
                codes.push_sparse(chunk.len(), exponent + shift, entries);
            }
            codes
        };
        Self::of_blocks(layout.blocks().iter().map(block).collect())
    }

    /// What it says.
    pub fn values(&self, layout: &Layout) -> Vec<f64> {
        let mut all = vec![0.0f32; layout.elements()];
        for (codes, range) in self.blocks.iter().zip(layout.blocks()) {
            codes.write_to(&mut all[range.clone()]);
        }
        all.into_iter().map(f64::from).collect()
    }
}

/// Numbers in [-1, 1), reproducible.
pub fn noise(seed: u64, elements: usize) -> Vec<f64> {
    let at = |index| Address { seed, purpose: Purpose::Test, step: 0, index };
    (0..elements).map(|i| 2.0 * at(i as u64).uniform_f64() - 1.0).collect()
}

/// `count` updates around a common direction.
pub fn honest(layout: &Layout, count: usize, seed: u64) -> Vec<Vec<f64>> {
    let common = noise(seed, layout.elements());
    let one = |i: usize| {
        let own = noise(seed + 1 + i as u64, layout.elements());
        common.iter().zip(own).map(|(c, o)| c + 0.5 * o).collect()
    };
    (0..count).map(one).collect()
}

pub fn dense(layout: &Layout, values: &[Vec<f64>]) -> Vec<Vector> {
    values.iter().map(|v| Vector::dense(layout, v, 0)).collect()
}

pub fn inputs(vectors: &[Vector]) -> Vec<Input<'_>> {
    let input = |(i, update)| Input { peer: PeerId::numbered(i as u64), update };
    vectors.iter().map(|v| v as &dyn Contribution).enumerate().map(input).collect()
}

/// The first round's aggregate.
#[track_caller]
pub fn aggregate(config: &Config, layout: &Layout, vectors: &[Vector]) -> (Vec<f32>, Outcome) {
    let mut out = vec![f32::NAN; layout.elements()];
    let mut aggregator = Aggregator::new(config).expect("a valid rule");
    let outcome = aggregator.aggregate(0, layout, &inputs(vectors), &mut out);
    let outcome = outcome.unwrap_or_else(|e| panic!("{config:?}: {e}"));
    assert!(out.iter().all(|x| x.is_finite()), "{config:?}");
    (out, outcome)
}

pub const RULES: [Rule; 8] = [
    Rule::Mean,
    Rule::Median,
    Rule::TrimmedMean,
    Rule::Krum,
    Rule::MultiKrum,
    Rule::GeometricMedian,
    Rule::CenteredClipping,
    Rule::TrustWeighted,
];

/// Every rule with everything that may come before it, for `n` peers of which `f` lie.
pub fn all_configs(n: usize, f: usize) -> Vec<Config> {
    let mut all = Vec::new();
    for rule in RULES {
        for mix in [Mix::None, Mix::Nearest, Mix::Buckets] {
            for clip in [Clip::None, Clip::Median, Clip::Adaptive, Clip::Equal] {
                let config = Config { rule, mix, clip, faulty: Some(f), ..Config::default() };
                if config.complaints().is_empty() && config.check(n).is_ok() {
                    all.push(config);
                }
            }
        }
    }
    all
}

pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

pub fn mean(vectors: &[&Vec<f64>]) -> Vec<f64> {
    let at = |k: usize| vectors.iter().map(|v| v[k]).sum::<f64>() / vectors.len() as f64;
    (0..vectors[0].len()).map(at).collect()
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

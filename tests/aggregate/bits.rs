//! What must not show in a bit: order, threads, shards, an interruption. And what must scale.

use neuroshard::aggregate::{Aggregator, Clip, Config, Gram, Input, Memory, Rule};
use neuroshard::codec::{BLOCK, CHUNK, Layout};

use super::updates::{Vector, aggregate, all_configs, dense, honest, inputs, noise};

fn layout() -> Layout {
    Layout::new([("a", 3), ("b", BLOCK + 5), ("c", 0), ("d", 2 * CHUNK)])
}

/// Nine updates: dense, sparse apart, sparse together, one-sided.
fn mixed(layout: &Layout) -> Vec<Vector> {
    let values = honest(layout, 9, 40);
    let make = |(i, v): (usize, &Vec<f64>)| match i % 3 {
        0 => Vector::dense(layout, v, 0),
        1 => Vector::top_k(layout, v, 64),
        _ => Vector::top_k(layout, v, 900),
    };
    values.iter().enumerate().map(make).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Rounds one after the other, with the same updates.
fn rounds(
    aggregator: &mut Aggregator,
    rounds: std::ops::Range<u64>,
    layout: &Layout,
    inputs: &[Input<'_>],
) -> Vec<u32> {
    let mut out = vec![f32::NAN; layout.elements()];
    for round in rounds {
        out.fill(f32::NAN);
        aggregator.aggregate(round, layout, inputs, &mut out).expect("an aggregate");
    }
    bits(&out)
}

fn few_configs() -> Vec<Config> {
    let mut configs = all_configs(9, 2);
    // Mixing before coordinates takes dense updates only.
    configs.retain(|c| !c.rule.is_coordinate_wise() || format!("{:?}", c.mix) != "Nearest");
    configs.retain(|c| c.clip != Clip::Adaptive);
    configs
}

#[test]
fn neither_order_nor_threads_show() {
    let layout = layout();
    let vectors = mixed(&layout);
    let inputs = inputs(&vectors);
    let reversed: Vec<_> = inputs.iter().rev().copied().collect();
    let pools =
        [1, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads"));
    for config in few_configs() {
        let run = |inputs: &[Input<'_>]| {
            let mut aggregator = Aggregator::new(&config).expect("a rule");
            rounds(&mut aggregator, 3..5, &layout, inputs)
        };
        let one = pools[0].install(|| run(&inputs));
        let three = pools[1].install(|| run(&reversed));
        assert!(one == three, "{config:?}");
    }
}

#[test]
fn shards_do_not_show() {
    let layout = layout();
    let vectors = mixed(&layout);
    let inputs = inputs(&vectors);
    let blocks = layout.blocks().len();
    for config in few_configs() {
        let mut whole = Aggregator::new(&config).expect("a rule");
        let first = rounds(&mut whole, 0..1, &layout, &inputs);
        let shards = whole.clone();
        let expected = rounds(&mut whole, 1..2, &layout, &inputs);
        if config.rule != Rule::CenteredClipping && config.rule != Rule::TrustWeighted {
            let again = config.mix != neuroshard::aggregate::Mix::Buckets;
            assert!(!again || first == expected, "{config:?}: nothing to remember");
        }
        let parts = [1..2, 0..1, 2..blocks];
        let grams: Vec<Gram> = parts
            .iter()
            .map(|part| shards.gram(&layout, &inputs, part.clone()).expect("decodes"))
            .collect();
        let mut sum = Gram::from_bytes(grams[2].vectors(), &grams[2].to_bytes()).expect("bytes");
        grams[..2].iter().for_each(|gram| sum.merge(gram));
        let solution = shards.solve(1, &layout, &inputs, &sum).expect("a solution");
        let mut out = vec![f32::NAN; layout.elements()];
        for part in parts {
            let range = layout.blocks()[part.start].start..layout.blocks()[part.end - 1].end;
            let out = &mut out[range];
            shards.combine(&layout, &inputs, &solution, part, out).expect("decodes");
        }
        assert!(bits(&out) == expected, "{config:?}");
    }
}

#[test]
fn a_resumed_rule_goes_on_to_the_bit() {
    let layout = Layout::new([("a", CHUNK + 7)]);
    let vectors = dense(&layout, &honest(&layout, 7, 3));
    let inputs = inputs(&vectors);
    for rule in [Rule::CenteredClipping, Rule::TrustWeighted] {
        // So few iterations that the start of centered clipping shows.
        let config = Config { rule, iterations: 2, ..Config::default() };
        let mut whole = Aggregator::new(&config).expect("a rule");
        let one = rounds(&mut whole, 0..1, &layout, &inputs);
        let bytes = whole.memory().to_bytes();
        let expected = rounds(&mut whole, 1..4, &layout, &inputs);
        assert!(one != expected, "memory counts");
        let mut resumed = Aggregator::new(&config).expect("a rule");
        resumed.set_memory(Memory::from_bytes(layout.elements(), &bytes).expect("a memory"));
        assert!(rounds(&mut resumed, 1..4, &layout, &inputs) == expected);
        assert!(resumed.memory() == whole.memory());
        // After an error nothing is remembered.
        let before = resumed.memory().clone();
        let mut out = vec![0.0; layout.elements()];
        resumed.aggregate(4, &layout, &inputs[..0], &mut out).expect_err("nobody");
        assert!(resumed.memory() == &before);
    }
}

/// Exact powers of two go through every rule without touching a bit of the mantissa.
#[test]
fn scale_goes_through() {
    let layout = Layout::new([("a", 600)]);
    let values = honest(&layout, 9, 8);
    for config in all_configs(9, 2) {
        let [plain, larger] = [0, 37].map(|shift| {
            let vectors: Vec<_> = values.iter().map(|v| Vector::dense(&layout, v, shift)).collect();
            aggregate(&config, &layout, &vectors).0
        });
        for (a, b) in plain.iter().zip(&larger) {
            assert_eq!(a * 2f32.powi(37), *b, "{config:?}");
        }
    }
}

/// Without clipping, what all updates share is shared by the aggregate.
#[test]
fn translation_goes_through() {
    let layout = Layout::new([("a", 50)]);
    let values = honest(&layout, 9, 18);
    let offset = noise(99, 50);
    for config in all_configs(9, 2) {
        // Their centre is the origin: cosines, and the first centre of clipping.
        let centred = [Rule::TrustWeighted, Rule::CenteredClipping].contains(&config.rule);
        if config.clip != Clip::None || centred {
            continue;
        }
        let plain = aggregate(&config, &layout, &dense(&layout, &values)).0;
        let moved: Vec<Vec<f64>> = values
            .iter()
            .map(|v| v.iter().zip(&offset).map(|(x, o)| x + 64.0 * o).collect())
            .collect();
        let moved = aggregate(&config, &layout, &dense(&layout, &moved)).0;
        for ((a, b), o) in plain.iter().zip(&moved).zip(&offset) {
            let error = f64::from(*b) - f64::from(*a) - 64.0 * o;
            assert!(error.abs() < 2e-5, "{config:?}: {a} {b} {o}");
        }
    }
}

/// Who sends which update does not matter, but for rounding (and whom a bucket joins).
#[test]
fn names_do_not_matter() {
    let layout = Layout::new([("a", 50)]);
    let values = honest(&layout, 9, 28);
    let mut rotated = values.clone();
    rotated.rotate_left(4);
    for config in all_configs(9, 2) {
        if config.mix == neuroshard::aggregate::Mix::Buckets {
            continue;
        }
        let a = aggregate(&config, &layout, &dense(&layout, &values)).0;
        let b = aggregate(&config, &layout, &dense(&layout, &rotated)).0;
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-6, "{config:?}: {a} {b}");
        }
    }
}

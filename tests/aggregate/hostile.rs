//! Contributions made to break: an error that names them, or a count; never a NaN.

use neuroshard::aggregate::{Aggregator, Clip, Config, Error, Input, Mix, Rule};
use neuroshard::codec;
use neuroshard::codec::{BLOCK, CHUNK, Codes, Layout, MAX_CODE, MAX_EXPONENT, MIN_EXPONENT};
use neuroshard::crypto::PeerId;
use proptest::prelude::*;

use super::updates::{Vector, aggregate, all_configs, dense, honest, inputs};

fn one_chunk(push: impl FnOnce(&mut Codes)) -> Vector {
    let mut codes = Codes::default();
    push(&mut codes);
    Vector::of_blocks(vec![codes])
}

/// Everybody sends the same odd thing: no rule divides by zero.
#[test]
fn crowds_of_one_kind_are_aggregated() {
    let elements = 70;
    let layout = Layout::new([("a", elements)]);
    let kinds: [(&str, Vector); 6] = [
        (
            "zeros",
            one_chunk(|c| {
                c.push_dense(MAX_EXPONENT, vec![0; elements]);
            }),
        ),
        ("silence", one_chunk(|c| c.push_sparse(elements, 5, []))),
        (
            "duplicates",
            one_chunk(|c| {
                c.push_dense(3, 0..elements as i32);
            }),
        ),
        ("one element", one_chunk(|c| c.push_sparse(elements, 0, [(69, -1)]))),
        (
            "the largest",
            one_chunk(|c| {
                c.push_dense(MAX_EXPONENT, vec![MAX_CODE; elements]);
            }),
        ),
        (
            "the smallest",
            one_chunk(|c| {
                c.push_dense(MIN_EXPONENT, vec![-1; elements]);
            }),
        ),
    ];
    for (name, vector) in kinds {
        let crowd = vec![vector.clone(); 9];
        let values = vector.values(&layout);
        for config in all_configs(9, 2) {
            let mut aggregator = Aggregator::new(&config).expect("a rule");
            let mut out = vec![f32::NAN; elements];
            for round in 0..3 {
                let result = aggregator.aggregate(round, &layout, &inputs(&crowd), &mut out);
                match result {
                    Ok(_) => {}
                    Err(Error::Sparse { .. }) => break,
                    // A sum of the largest, rescaled, may be larger by an ulp.
                    Err(Error::Overflow { .. }) if config.rule == Rule::TrustWeighted => break,
                    Err(other) => panic!("{name} {config:?}: {other}"),
                }
                for (x, v) in out.iter().zip(&values) {
                    let error = (f64::from(*x) - v).abs();
                    assert!(error <= 1e-6 * v.abs(), "{name} {config:?}: {x} {v}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_decoded_is_named_and_the_first_of_several() {
    let layout = Layout::new([("a", 3 * BLOCK)]);
    let sparse = Vector::of_blocks(
        (0..3)
            .map(|_| {
                let mut codes = Codes::default();
                (0..BLOCK / CHUNK).for_each(|_| codes.push_sparse(CHUNK, 0, [(7, 1)]));
                codes
            })
            .collect(),
    );
    let mut vectors = vec![sparse; 7];
    vectors[5].broken = Some(0);
    vectors[3].broken = Some(2);
    let mut shuffled = inputs(&vectors);
    shuffled.reverse();
    let mut out = vec![0.0; layout.elements()];
    for rule in [Rule::GeometricMedian, Rule::Median] {
        let config = Config { rule, mix: Mix::None, ..Config::default() };
        let mut aggregator = Aggregator::new(&config).expect("a rule");
        let error = aggregator.aggregate(0, &layout, &shuffled, &mut out).expect_err("broken");
        let source = codec::Error::Truncated { bytes: 2, place: "a test" };
        assert_eq!(error, Error::Update { peer: PeerId::numbered(3), source });
    }
}

#[test]
fn updates_of_another_shape_are_named() {
    let layout = Layout::new([("a", CHUNK + 10)]);
    let mut vectors = dense(&layout, &honest(&layout, 5, 9));
    for (lengths, what) in [
        (&[CHUNK, 9][..], "short"),
        (&[CHUNK, 11], "long"),
        (&[CHUNK], "a chunk less"),
        (&[CHUNK, 10, 1], "a chunk more"),
        (&[10, CHUNK], "in another order"),
    ] {
        vectors[2] = one_chunk(|c| lengths.iter().for_each(|&n| c.push_sparse(n, 0, [])));
        let mut out = vec![0.0; layout.elements()];
        let mut aggregator = Aggregator::new(&Config::default()).expect("a rule");
        let error = aggregator.aggregate(0, &layout, &inputs(&vectors), &mut out);
        let expected = Error::Shape { peer: PeerId::numbered(2), block: 0 };
        assert_eq!(error, Err(expected), "{what}");
    }
}

#[test]
fn a_peer_counts_once_and_too_few_are_too_few() {
    let layout = Layout::new([("a", 10)]);
    let vectors = dense(&layout, &honest(&layout, 5, 9));
    let mut inputs = inputs(&vectors);
    let mut out = vec![0.0; 10];
    let mut aggregator = Aggregator::new(&Config::default()).expect("a rule");
    inputs[4].peer = inputs[1].peer;
    let error = aggregator.aggregate(0, &layout, &inputs, &mut out);
    assert_eq!(error, Err(Error::Duplicate { peer: PeerId::numbered(1) }));
    assert_eq!(aggregator.aggregate(0, &layout, &[], &mut out), Err(Error::NoUpdates));
    let config = Config { rule: Rule::Krum, faulty: Some(1), ..Config::default() };
    let mut krum = Aggregator::new(&config).expect("a rule");
    let error = krum.aggregate(0, &layout, &inputs[..4], &mut out).expect_err("four of five");
    assert!(error.to_string().contains("2f + 3 = 5"), "{error}");
    let wrong = Config { tau: Some(f64::NAN), smoothing: 0.0, ..Config::default() };
    let error = Aggregator::new(&wrong).expect_err("two complaints").to_string();
    assert!(error.contains("aggregate.tau") && error.contains("aggregate.smoothing"), "{error}");
}

/// Mixing by distance and then going by single elements would let silence be outvoted.
#[test]
fn mixing_before_coordinates_takes_dense_updates_only() {
    let layout = Layout::new([("a", 100)]);
    let values = honest(&layout, 7, 9);
    let mut vectors = dense(&layout, &values);
    let config = Config { rule: Rule::Median, ..Config::default() };
    aggregate(&config, &layout, &vectors);
    vectors[4] = Vector::top_k(&layout, &values[4], 10);
    let mut out = vec![0.0; 100];
    let mut aggregator = Aggregator::new(&config).expect("a rule");
    let error = aggregator.aggregate(0, &layout, &inputs(&vectors), &mut out);
    assert_eq!(error, Err(Error::Sparse { peer: PeerId::numbered(4), rule: "median" }));
}

fn update() -> impl Strategy<Value = Vector> {
    let code = prop_oneof![Just(0), Just(MAX_CODE), Just(-MAX_CODE), -3..=3i32];
    let exponent = prop_oneof![Just(MIN_EXPONENT), Just(MAX_EXPONENT), MIN_EXPONENT..=MAX_EXPONENT];
    let dense =
        (exponent.clone(), prop::collection::vec(code.clone(), 12)).prop_map(|(e, codes)| {
            one_chunk(|c| {
                c.push_dense(e, codes);
            })
        });
    let sparse = (exponent, prop::collection::btree_map(0u16..12, code, 0..5))
        .prop_map(|(e, map)| one_chunk(|c| c.push_sparse(12, e, map)));
    prop_oneof![dense, sparse]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Whatever all peers say: a finite aggregate (asserted in `aggregate`) or an error.
    #[test]
    fn nothing_makes_a_nan(vectors in prop::collection::vec(update(), 1..10)) {
        let layout = Layout::new([("a", 12)]);
        let n = vectors.len();
        let inputs: Vec<Input<'_>> = inputs(&vectors);
        for f in 0..3 {
            for config in all_configs(n, f) {
                let mut aggregator = Aggregator::new(&config).expect("a rule");
                let mut out = vec![f32::NAN; 12];
                for round in 0..2 {
                    match aggregator.aggregate(round, &layout, &inputs, &mut out) {
                        Ok(outcome) => {
                            prop_assert!(out.iter().all(|x| x.is_finite()), "{:?}", config);
                            for share in &outcome.peers {
                                prop_assert!(share.weight.unwrap_or(0.0).is_finite());
                                prop_assert!(share.norm.is_finite() && share.distance.is_finite());
                            }
                        }
                        Err(Error::Sparse { .. } | Error::Overflow { .. }) => break,
                        Err(other) => prop_assert!(false, "{config:?}: {other}"),
                    }
                }
                let bare = config.clip == Clip::None && config.mix == Mix::None;
                prop_assert!(!(bare && config.rule == Rule::Mean) || out.iter().all(|x| !x.is_nan()));
            }
        }
    }
}

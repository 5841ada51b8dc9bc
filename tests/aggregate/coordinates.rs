//! Rules by single elements, on updates that speak of some elements only.

use neuroshard::aggregate::{Clip, Config, Mix, Rule, Votes};
use neuroshard::codec::{CHUNK, Codes, Layout};

use super::updates::{Vector, aggregate, honest, wide};

fn config(rule: Rule, mix: Mix, f: usize) -> Config {
    Config { rule, mix, clip: Clip::None, faulty: Some(f), ..Config::default() }
}

fn sparse(elements: usize, exponent: i32, entries: &[(u16, i32)]) -> Vector {
    let mut codes = Codes::default();
    codes.push_sparse(elements, exponent, entries.iter().copied());
    Vector::of_blocks(vec![codes])
}

/// n = 7, f = 2: element 0 has two voters, element 1 four, element 2 five, element 3 all.
#[test]
fn an_element_needs_more_voters_than_liars_can_sway() {
    let layout = Layout::new([("a", 5)]);
    let vectors: Vec<Vector> = (0..7)
        .map(|i| {
            let mut entries = Vec::new();
            for (place, voters) in [(0, 2), (1, 4), (2, 5), (3, 7)] {
                if i < voters {
                    // Of those who speak of it, the first two lie.
                    entries.push((place, if i < 2 { 1 << 23 } else { 8 + i }));
                }
            }
            sparse(5, 0, &entries)
        })
        .collect();
    // Voters of element 2: two lies, 10, 11, 12. Of element 3: two lies, 10 to 14.
    for (rule, two, three) in [(Rule::Median, 12.0, 13.0), (Rule::TrimmedMean, 12.0, 13.0)] {
        let (out, outcome) = aggregate(&config(rule, Mix::None, 2), &layout, &vectors);
        let expected = [0.0, 0.0, (two * (5.0 / 7.0)) as f32, three as f32, 0.0];
        assert_eq!(out, expected, "{rule:?}");
        assert_eq!(outcome.votes, Some(Votes { spoken: 4, counted: 2 }));
        assert!(outcome.peers.iter().all(|share| share.weight.is_none()));
    }
}

/// Liars alone choose an element; silence, zeros, extremes: it stays zero.
#[test]
fn liars_alone_never_set_an_element() {
    let layout = Layout::new([("a", CHUNK)]);
    for (n, f) in [(3, 1), (5, 2), (16, 5), (16, 7)] {
        for rule in [Rule::Median, Rule::TrimmedMean] {
            let vectors: Vec<Vector> = (0..n)
                .map(|i| match i < f {
                    true => sparse(CHUNK, 60, &[(4000, 1 << 23)]),
                    false => sparse(CHUNK, 0, &[(7, 5), (100 + i as u16, 1)]),
                })
                .collect();
            let (out, outcome) = aggregate(&config(rule, Mix::None, f), &layout, &vectors);
            let honest = n - f;
            let seven = if honest > 2 * f { 5.0 * honest as f64 / n as f64 } else { 0.0 };
            for (place, x) in out.iter().enumerate() {
                let expected = if place == 7 { seven as f32 } else { 0.0 };
                assert_eq!(*x, expected, "{rule:?} {n} {f} {place}");
            }
            let votes = outcome.votes.expect("votes");
            assert_eq!(votes.spoken, 2 + honest as u64);
        }
    }
}

/// Without liars the trimmed mean of sparse updates is their mean.
#[test]
fn without_liars_sparse_updates_have_their_mean() {
    let layout = Layout::new([("a", CHUNK + 50)]);
    let vectors: Vec<Vector> =
        honest(&layout, 6, 77).iter().map(|v| Vector::top_k(&layout, v, 300)).collect();
    let (trimmed, outcome) = aggregate(&config(Rule::TrimmedMean, Mix::None, 0), &layout, &vectors);
    let (mean, _) = aggregate(&Config::plain_mean(), &layout, &vectors);
    for (a, b) in wide(&trimmed).iter().zip(wide(&mean)) {
        assert!((a - b).abs() < 1e-7, "{a} {b}");
    }
    let votes = outcome.votes.expect("votes");
    let spoken = mean.iter().filter(|x| **x != 0.0).count() as u64;
    assert_eq!((votes.spoken, votes.counted), (spoken, spoken));
}

/// The network over dense rows and the sort of single elements are one rule: an update that
/// leaves out nothing may say so either way.
#[test]
fn dense_and_sparse_forms_agree() {
    let layout = Layout::new([("a", 333)]);
    for n in [1, 2, 3, 7, 16, 33] {
        let values = honest(&layout, n, 500);
        let dense: Vec<Vector> = values.iter().map(|v| Vector::dense(&layout, v, 0)).collect();
        // The first as a sparse update of all elements.
        let mut mixed = dense.clone();
        let mut codes = Codes::default();
        neuroshard::aggregate::Contribution::block(&dense[0], 0, &mut codes).expect("codes");
        let chunk = codes.chunks().next().expect("a chunk");
        let entries: Vec<_> =
            chunk.values.iter().enumerate().map(|(p, &v)| (p as u16, v)).collect();
        mixed[0] = sparse(333, chunk.exponent, &entries);
        for rule in [Rule::Median, Rule::TrimmedMean] {
            for mix in [Mix::None, Mix::Buckets] {
                let f = if mix == Mix::Buckets { 0 } else { (n - 1) / 3 };
                let config = config(rule, mix, f);
                let (a, _) = aggregate(&config, &layout, &dense);
                let (b, _) = aggregate(&config, &layout, &mixed);
                assert_eq!(a, b, "{rule:?} {mix:?} {n}");
            }
        }
    }
}

/// A bucket votes where one of its members does, with the mean of those who do.
#[test]
fn buckets_vote_once() {
    let layout = Layout::new([("a", 4)]);
    // All six speak of element 1; two of element 3, in one bucket or in two.
    let vectors: Vec<Vector> = (0..6)
        .map(|i| match i < 2 {
            true => sparse(4, 0, &[(1, 12), (3, 6)]),
            false => sparse(4, 0, &[(1, 12)]),
        })
        .collect();
    for seed in 0..10 {
        let config = Config { seed, ..config(Rule::Median, Mix::Buckets, 0) };
        let (out, _) = aggregate(&config, &layout, &vectors);
        assert_eq!(out[1], 12.0);
        assert!(out[3] == 2.0 || out[3] == 4.0, "{}", out[3]);
        assert_eq!([out[0], out[2]], [0.0, 0.0]);
    }
}

//! Rounds between clusters.

use std::sync::Arc;

use neuroshard::aggregate;
use neuroshard::aggregate::Aggregator;
use neuroshard::codec;
use neuroshard::codec::About;
use neuroshard::crypto::PeerId;
use neuroshard::diloco;
use neuroshard::diloco::{
    Cluster, Error, Exchange, InMemory, Optimizer, Received, Rejection, Turn, Uncounted, settle,
};

use crate::federation::{Federation, Job, averaging, ends};
use crate::reference;

/// Outer weights of all fragments, in the model's order.
fn outer_weights(cluster: &mut Cluster) -> Vec<f32> {
    let whole = neuroshard::train::weights_layout(&cluster.trainer().plan().dims);
    let mut weights = vec![f32::NAN; whole.elements()];
    let read: Result<(), Error> =
        cluster.with_outer_weights(|trainer| Ok(trainer.read_weights(&mut weights)?));
    read.unwrap();
    weights
}

fn local_weights(cluster: &Cluster) -> Vec<f32> {
    let whole = neuroshard::train::weights_layout(&cluster.trainer().plan().dims);
    let mut weights = vec![f32::NAN; whole.elements()];
    cluster.trainer().read_weights(&mut weights).unwrap();
    weights
}

fn same_bits(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let off = got.iter().zip(want).position(|(g, w)| g.to_bits() != w.to_bits());
    assert_eq!(off, None, "{what}");
}

#[test]
fn plain_and_streaming_are_the_reference_to_the_bit() {
    let momentum = diloco::Config {
        inner_steps: 5,
        lr: Some(0.7),
        momentum: Some(0.9),
        ..diloco::Config::default()
    };
    let heavy = diloco::Config { optimizer: Some(Optimizer::HeavyBall), ..momentum.clone() };
    let streaming =
        diloco::Config { fragments: 3, overlap_steps: 2, blend: 0.5, ..momentum.clone() };
    let late = diloco::Config { fragments: 2, overlap_steps: 4, blend: 0.25, ..averaging(5) };
    for (name, sets, outer, peers) in [
        ("plain", &["numerics.profile=f32"][..], &momentum, 2),
        ("heavy ball, bf16", &["numerics.profile=bf16"], &heavy, 2),
        ("averaging, tied", &["numerics.profile=f32", "model.tied=true"], &averaging(4), 3),
        ("streaming", &["numerics.profile=f32"], &streaming, 2),
        ("streaming, bf16, tied", &["numerics.profile=bf16", "model.tied=true"], &late, 2),
    ] {
        let job = Job::new(sets);
        let mut federation = Federation::new(&job, outer, peers);
        federation.run(17, 17);
        let settings = job.settings(outer, peers);
        let (outer, local) = reference::train(&job, &settings, peers as usize, 17);
        let first = &mut federation.clusters[0];
        same_bits(&outer_weights(first), &outer, &format!("{name}: outer weights"));
        same_bits(&local_weights(first), &local, &format!("{name}: local weights"));
    }
}

#[test]
fn clusters_agree_after_every_round_and_learn() {
    for (profile, peers, outer) in [
        ("f32", 2, averaging(10)),
        ("bf16", 4, averaging(10)),
        (
            "bf16",
            2,
            diloco::Config {
                inner_steps: 8,
                lr: Some(0.4),
                momentum: Some(0.5),
                fragments: 2,
                overlap_steps: 3,
                blend: 0.5,
                ..diloco::Config::default()
            },
        ),
    ] {
        let job = Job::new(&[&format!("numerics.profile={profile}")]);
        let mut federation = Federation::new(&job, &outer, peers);
        federation.run(80, 80);
        // The federation compares the hashes round by round.
        let rounds = 80 / outer.inner_steps * outer.fragments as u64;
        assert_eq!(federation.hashes.len() as u64, rounds);
        assert!(federation.records.iter().all(|r| r.len() as u64 == rounds));
        let hash = federation.clusters[0].outer_hash();
        assert!(federation.clusters.iter().all(|c| c.outer_hash() == hash));
        let states = federation.state_hashes();
        assert_ne!(states[0], states[1], "clusters have read other data");
        for losses in &federation.losses {
            let (first, last) = ends(losses);
            assert!(last < first - 0.5, "{profile} {peers}: {first} {last}");
        }
        for record in federation.records.iter().flatten() {
            let sent = record.contributed.expect("everybody contributed");
            assert!(sent.pseudo_gradient_norm > 0.0 && record.moved.aggregate_norm > 0.0);
            assert_eq!(sent.pseudo_gradient_lag1.is_some(), record.round > 0);
            assert_eq!(record.moved.aggregate_lag1.is_some(), record.round > 0);
            let lags = [sent.pseudo_gradient_lag1, record.moved.aggregate_lag1];
            assert!(lags.into_iter().flatten().all(|c| c.abs() <= 1.0), "{record:?}");
            assert!(sent.bits_per_weight > 32.0 && sent.bits_per_weight < 33.0);
        }
    }
}

#[test]
fn sparse_updates_of_less_than_a_bit_learn_too() {
    let mut job = Job::new(&["numerics.profile=bf16"]);
    let sparse = codec::Config { kind: codec::Kind::TopK, ..Default::default() };
    job.codec = sparse.codec().unwrap().into();
    let outer = diloco::Config { inner_steps: 10, ..diloco::Config::default() };
    let settings = job.settings(&outer, 3);
    assert_eq!((settings.optimizer, settings.lr), (Optimizer::Sgd, 1.0), "as published");
    let mut federation = Federation::new(&job, &outer, 3);
    federation.run(80, 80);
    assert_eq!(federation.hashes.len(), 8);
    for losses in &federation.losses {
        let (first, last) = ends(losses);
        assert!(last < first - 0.2, "{first} {last}");
    }
    for sent in federation.records.iter().flatten().map(|r| r.contributed.unwrap()) {
        assert!(sent.bits_per_weight < 1.0 && sent.residual_norm > 0.0, "{sent:?}");
    }
}

#[test]
fn neither_the_order_of_clusters_nor_of_messages_shows() {
    let job = Job::new(&[]);
    let mut one = Federation::new(&job, &averaging(4), 3);
    one.run(8, 8);
    let mut other = Federation::new(&job, &averaging(4), 3);
    other.run_in_order(&[2, 0, 1], 8, 8);
    assert_eq!(one.state_hashes(), other.state_hashes());
    let mut clusters = Federation::new(&job, &averaging(4), 3).clusters;
    let mut received: Vec<Received> = Vec::new();
    let mut about = None;
    for cluster in &mut clusters {
        cluster.train(&job.loader, 4, &mut |_| ()).unwrap();
        let (which, bytes) = cluster.contribute(0).unwrap();
        received.push((cluster.peer(), bytes));
        about = Some(which);
    }
    let (about, layout) = (about.unwrap(), &clusters[0].fragment(0).layout);
    let settled = |order: [usize; 4]| {
        // One of them comes twice.
        let received: Vec<_> = order.iter().map(|&i| received[i].clone()).collect();
        let with = (job.codec.as_ref(), layout);
        settle(&mut job.aggregator(), &about, with, &received).unwrap()
    };
    let want = settled([0, 1, 2, 2]);
    for order in [[2, 1, 0, 2], [1, 2, 0, 0], [1, 0, 1, 2]] {
        let got = settled(order);
        same_bits(&got.aggregate, &want.aggregate, "aggregate");
    }
}

#[test]
fn alone_with_averaging_it_is_plain_training_to_rounding() {
    // `outer - (outer - local)` is not `local`: the difference is rounded, and the codec rounds it to
    // 24 bits below the largest of its chunk. What that leaves is a residual, and enters the next
    // round. Seeds and data are the same, so all else is.
    let job = Job::new(&["numerics.profile=f32"]);
    let mut alone = Federation::new(&job, &averaging(5), 1);
    let mut plain = job.trainer();
    for round in 1..=4 {
        alone.run(20, 5 * round);
        for step in 5 * round - 5..5 * round {
            plain.step(&job.loader.batch(step).unwrap(), 0).unwrap();
        }
        // The round is exchanged in the turns after its last step.
        while alone.records[0].len() < round as usize {
            alone.turn(0, 20);
        }
        let got = local_weights(&alone.clusters[0]);
        let mut want = vec![f32::NAN; got.len()];
        plain.read_weights(&mut want).unwrap();
        let far = got.iter().zip(&want).map(|(g, w)| f64::from((g - w).abs())).fold(0.0, f64::max);
        println!("round {round}: at most {far:e} apart");
        let bound = [0.0, 1.2e-7, 2e-6, 2e-5, 2e-5][round as usize];
        assert!(far <= bound, "round {round}: {far:e}");
    }
}

/// An exchange in which the update of one cluster arrives as `bytes`.
struct Tampered {
    inner: InMemory,
    whose: PeerId,
    bytes: Option<Arc<[u8]>>,
}

impl Exchange for Tampered {
    fn publish(&mut self, about: &About, bytes: &Arc<[u8]>) -> Result<(), Error> {
        self.inner.publish(about, bytes)
    }

    fn collect(&mut self, about: &About) -> Result<Option<Vec<Received>>, Error> {
        let received = self.inner.collect(about)?;
        Ok(received.map(|mut all| {
            all.retain(|(peer, _)| *peer != self.whose);
            all.extend(self.bytes.clone().map(|bytes| (self.whose, bytes)));
            all
        }))
    }
}

#[test]
fn an_update_that_does_not_count_is_named_and_not_lost() {
    let job = Job::new(&[]);
    let (about, whole) = {
        let cluster = &mut Federation::new(&job, &averaging(4), 3).clusters[1];
        cluster.train(&job.loader, 4, &mut |_| ()).unwrap();
        cluster.contribute(0).unwrap()
    };
    assert_eq!((about.round, about.fragment), (0, 0));
    let mut flipped = whole.to_vec();
    // The last value becomes a NaN.
    let end = flipped.len();
    flipped[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    for (what, bytes) in [
        ("absent", None),
        ("empty", Some(vec![])),
        ("truncated", Some(whole[..end - 1].to_vec())),
        ("longer", Some([&whole[..], &[0]].concat())),
        ("no number", Some(flipped)),
    ] {
        let mut federation = Federation::new(&job, &averaging(4), 3);
        let whose = PeerId::numbered(1);
        let mut told = 0;
        federation.run(8, 4);
        while federation.clusters.iter().any(|c| c.outer(0).round() == 0) {
            for i in 0..3 {
                let bytes = bytes.clone().map(Arc::from);
                let mut exchange =
                    Tampered { inner: federation.exchanges[i].clone(), whose, bytes };
                let (cluster, rules) = (&mut federation.clusters[i], &mut federation.rules[i]);
                if cluster.outer(0).round() == 1 {
                    continue;
                }
                let loader = &job.loader;
                let turn =
                    diloco::turn(cluster, 8, loader, &mut exchange, rules, &mut |_| ()).unwrap();
                if let Turn::Applied { rejected, record } = turn {
                    let named: Vec<_> = rejected.iter().map(|(peer, _)| *peer).collect();
                    assert_eq!(named.len(), usize::from(bytes_came(what)), "{what}");
                    assert!(named.iter().all(|peer| *peer == whose));
                    told += named.len();
                    assert_eq!(record.contributed.is_some(), i != 1, "{what}");
                }
            }
        }
        assert_eq!(told, 3 * usize::from(bytes_came(what)), "{what}");
        let hash = federation.clusters[0].outer_hash();
        assert!(federation.clusters.iter().all(|c| c.outer_hash() == hash), "{what}");
        // All that the cluster computed is in its residual, and none of it in the others'.
        let norm = |i: usize| {
            let values = federation.clusters[i].residual(0).values();
            values.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt()
        };
        assert!(norm(1) > 0.1 && norm(0) < 1e-4 && norm(2) < 1e-4, "{what}: {}", norm(1));
    }
}

#[test]
fn a_round_of_too_few_updates_passes_and_loses_nothing() {
    let job = Job::new(&[]);
    let mut federation = Federation::new(&job, &averaging(4), 3);
    let krum = aggregate::Config { faulty: Some(2), ..Default::default() };
    for rules in &mut federation.rules {
        rules[0] = Aggregator::new(&krum).unwrap();
    }
    let before = federation.clusters[0].outer(0).weights().to_vec();
    let mut passed = 0;
    while federation.clusters.iter().any(|c| c.outer(0).round() == 0) {
        for i in 0..3 {
            let (cluster, rules) = (&mut federation.clusters[i], &mut federation.rules[i]);
            let exchange = &mut federation.exchanges[i];
            if cluster.outer(0).round() == 1 {
                continue;
            }
            let turn = diloco::turn(cluster, 8, &job.loader, exchange, rules, &mut |_| ());
            if let Turn::Passed { record, why } = turn.unwrap() {
                assert_eq!((record.round, record.contributed), (0, None));
                assert_eq!(record.moved, diloco::Moved::NONE);
                assert!(why.contains("5 updates, and there are 3"), "{why}");
                passed += 1;
            }
        }
    }
    assert_eq!(passed, 3);
    for (i, cluster) in federation.clusters.iter().enumerate() {
        assert_eq!(cluster.outer(0).weights(), before);
        let norm = cluster.residual(0).values().iter().map(|x| f64::from(x * x)).sum::<f64>();
        assert!(norm.sqrt() > 0.1, "cluster {i} lost its steps");
        assert_eq!(cluster.outer_hash(), federation.clusters[0].outer_hash());
    }
    // With the rule that the number bears, the work of both rounds counts.
    for rules in &mut federation.rules {
        rules[0] = job.aggregator();
    }
    federation.run(8, 8);
    assert!(federation.clusters.iter().all(|c| c.outer(0).round() == 2));
    assert_ne!(federation.clusters[0].outer(0).weights(), before);
}

fn bytes_came(what: &str) -> bool {
    what != "absent"
}

#[test]
fn two_updates_of_one_cluster_do_not_count() {
    let job = Job::new(&[]);
    let mut clusters = Federation::new(&job, &averaging(4), 2).clusters;
    let mut sent = Vec::new();
    for cluster in &mut clusters {
        cluster.train(&job.loader, 4, &mut |_| ()).unwrap();
        sent.push(cluster.contribute(0).unwrap());
    }
    let (a, b) = (clusters[0].peer(), clusters[1].peer());
    let received =
        [(a, sent[0].1.clone()), (b, sent[1].1.clone()), (b, sent[0].1.clone())].to_vec();
    let with = (job.codec.as_ref(), &clusters[0].fragment(0).layout);
    let settled = settle(&mut job.aggregator(), &sent[0].0, with, &received).unwrap();
    assert_eq!(settled.rejected, [(b, Rejection::Several)]);
    assert_eq!(settled.outcome.peers.len(), 1);
    let none = settle(&mut job.aggregator(), &sent[0].0, with, &received[..0]).unwrap_err();
    assert!(none.to_string().contains("round 0"), "{none}");
}

#[test]
fn a_cluster_that_was_away_goes_on_with_the_others() {
    let job = Job::new(&[]);
    let mut federation = Federation::new(&job, &averaging(4), 2);
    // The second one is away for a round, and the first is the federation.
    let (mut first, mut second) = {
        let mut all = federation.clusters.drain(..);
        (all.next().unwrap(), all.next().unwrap())
    };
    for _ in 0..2 {
        first.train(&job.loader, 4, &mut |_| ()).unwrap();
        let delta = first.pseudo_gradient(0).unwrap();
        first.contribute(0).unwrap();
        first.apply(0, &delta).unwrap();
    }
    second.train(&job.loader, 3, &mut |_| ()).unwrap();
    second.leave(0, Uncounted::Kept).unwrap();
    let kept: f64 = second.residual(0).values().iter().map(|x| f64::from(x.abs())).sum();
    assert!(kept > 0.0);
    let moved = diloco::Moved {
        aggregate_norm: 1.0,
        aggregate_lag1: None,
        step_norm: 1.0,
        step_scale: 1.0,
    };
    let record = second.adopt(0, first.outer(0).clone(), moved).unwrap();
    assert_eq!((record.round, record.contributed), (1, None));
    second.skip(5);
    assert_eq!(second.done(), 8);
    same_bits(&local_weights(&second), &local_weights(&first), "local weights");
    assert_eq!(second.next(12), Some(diloco::Next::Train { steps: 4 }));
    // A round that is over is refused, and so are calls out of turn.
    assert!(second.adopt(0, first.outer(0).clone(), moved).is_err());
    assert!(second.take_back(0).is_err());
    second.train(&job.loader, 4, &mut |_| ()).unwrap();
    second.contribute(0).unwrap();
    assert!(second.contribute(0).is_err() && second.leave(0, Uncounted::Dropped).is_err());
    second.take_back(0).unwrap();
}

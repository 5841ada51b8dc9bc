//! A thousand toys: what must hold whatever happens.

use std::collections::BTreeMap;

use neuroshard::simulate::{Ending, Fate, Record, Scenario};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use crate::bytes;
use crate::draw;
use crate::toy;

#[test]
fn a_thousand_scenarios_keep_what_must_hold() {
    let begun = std::time::Instant::now();
    let seen: Vec<_> = (0..1000u64).into_par_iter().map(one).collect();
    let mut all = BTreeMap::new();
    for fates in seen {
        fates.into_iter().for_each(|(what, n)| *all.entry(what).or_insert(0) += n);
    }
    // Nothing would be tested by scenarios in which nothing happens.
    for what in ["Counted", "Rejected", "Late", "Silent", "Crashed", "Down", "skipped", "moved"] {
        assert!(all.get(what).is_some_and(|n| *n >= 50), "{what}: {all:?}");
    }
    println!("{all:?} in {:?}", begun.elapsed());
}

/// Runs scenario `seed` and checks it; what happened how often.
fn one(seed: u64) -> BTreeMap<String, u64> {
    let scenario = draw::scenario(seed);
    assert_eq!(scenario.complaints(), Vec::<String>::new(), "seed {seed}");
    let (outcome, records) = toy(&scenario);
    let text = bytes(&records);
    assert!(!text.contains("NaN") && !text.contains("inf"), "seed {seed}");
    let parts = scenario.outer.fragments as u64;
    let exchanges = scenario.train.steps / scenario.outer.inner_steps * parts;
    match &outcome.ending {
        Ending::Finished => assert_eq!(records.len() as u64, exchanges, "seed {seed}"),
        Ending::Diverged { exchange, .. } => assert_eq!(records.len() as u64, exchange + 1),
    }
    let mut before = None;
    let mut fates = BTreeMap::new();
    for record in &records {
        check(seed, &scenario, record, before);
        before = Some(record);
        for peer in &record.peers {
            *fates.entry(format!("{:?}", peer.fate)).or_insert(0) += 1;
        }
        let what = if record.skipped.is_some() { "skipped" } else { "moved" };
        *fates.entry(what.to_owned()).or_insert(0) += 1;
    }
    if seed.is_multiple_of(5) {
        again(seed, &scenario, &text, outcome.outer_hash);
    }
    fates
}

/// Other threads, and aggregation by one or by all: the same bytes.
fn again(seed: u64, scenario: &Scenario, text: &str, hash: neuroshard::crypto::Hash) {
    let mut other = scenario.clone();
    other.scenario.replicas = !scenario.scenario.replicas;
    let pool = ThreadPoolBuilder::new().num_threads(1 + (seed % 3) as usize).build().unwrap();
    let (outcome, records) = pool.install(|| toy(&other));
    assert_eq!(bytes(&records), text, "seed {seed}");
    assert_eq!(outcome.outer_hash, hash, "seed {seed}");
}

fn check(seed: u64, scenario: &Scenario, record: &Record, before: Option<&Record>) {
    let count = |fate| record.peers.iter().filter(|peer| peer.fate == fate).count();
    let place = format!("seed {seed}, exchange {}", record.exchange);
    assert_eq!(record.exchange, before.map_or(0, |b| b.exchange + 1), "{place}");
    assert_eq!(record.rejected, count(Fate::Rejected), "{place}");
    let away = count(Fate::Crashed) + count(Fate::Down);
    assert_eq!(record.members, record.peers.len() - away, "{place}");
    match &record.skipped {
        Some(why) => {
            assert!(!why.is_empty() && record.counted == 0, "{place}");
            assert_eq!(record.aggregate_norm, None, "{place}");
        }
        None => {
            assert_eq!(record.counted, count(Fate::Counted), "{place}");
            assert!(record.counted > 0, "{place}");
            assert!(record.aggregate_norm.is_some_and(f64::is_finite), "{place}");
        }
    }
    for peer in &record.peers {
        let says_why = matches!(peer.fate, Fate::Rejected | Fate::Diverged);
        assert!(!says_why || peer.why.is_some(), "{place}: {peer:?}");
        let sent = matches!(peer.fate, Fate::Rejected | Fate::Late | Fate::Counted);
        assert_eq!(sent, peer.bytes.is_some(), "{place}: {peer:?}");
        assert!(peer.cluster < scenario.members().count(), "{place}");
        if let Some(weight) = peer.weight {
            // Trust gives back the median norm, and short updates are lengthened up to 1,024 times
            // where all get one norm: a weight may be more than 1.
            assert!((0.0..100.0 * 1024.0).contains(&weight), "{place}: {peer:?}");
        }
    }
    let part = record.utilization;
    assert!((0.0..=1.0).contains(&part), "{place}: {part}\n{}", scenario.to_toml());
    let passed = before.is_none_or(|b| b.time_s <= record.time_s && b.tokens <= record.tokens);
    assert!(passed, "{place}");
    let honest_and_well = scenario.clusters.iter().all(|group| {
        group.attack.is_none() && group.faults == Default::default() && group.leave_round.is_none()
    });
    if honest_and_well && scenario.round.deadline_s == 0.0 && record.skipped.is_none() {
        assert_eq!(record.counted, record.peers.len(), "{place}");
    }
}

//! One thing at a time.

use neuroshard::simulate::{Fate, Record};

use crate::read;
use crate::toy;

/// Four clusters, 100 ms a step of 1,000 tokens, 10 steps a round, plain averaging of all.
const BASE: &str = r#"
[scenario]
objective = "toy"
replicas = true
[train]
steps = 100
batch_sequences = 10
seq_len = 100
[outer]
inner_steps = 10
lr = 1.0
momentum = 0.0
[codec]
kind = "f32"
[aggregate]
rule = "mean"
clip = "none"
mix = "none"
[network]
delay_ms = 0.0
[[clusters]]
count = 3
tokens_per_s = 10000.0
[[clusters]]
count = 1
tokens_per_s = 10000.0
"#;

fn records(sets: &[&str]) -> Vec<Record> {
    toy(&read(BASE, sets)).1
}

fn fates(records: &[Record], cluster: usize) -> Vec<Fate> {
    let of = |record: &Record| record.peers.iter().find(|p| p.cluster == cluster).map(|p| p.fate);
    records.iter().filter_map(of).collect()
}

#[test]
fn time_is_computing_and_sending() {
    let all = records(&[]);
    // 256 f32, a header and a length; 3 copies at 1000 Mbit/s: some microseconds.
    assert!(all.iter().all(|r| r.utilization > 0.9999 && r.counted == 4));
    assert!((all[9].time_s - 10.0).abs() < 1e-3);
    // As if every update had 10 MB: 3 x 80 Mbit at 240 Mbit/s take a second, as the steps do.
    let bytes = all[0].peers[0].bytes.unwrap() as f64;
    let scale = format!("network.scale={}", 1e7 / bytes);
    let all = records(&[&scale, "network.up_mbit=240"]);
    assert!((all[9].time_s - 20.0).abs() < 1e-3, "{}", all[9].time_s);
    assert!(all.iter().all(|r| (r.utilization - 0.5).abs() < 1e-3));
    assert_eq!(all[0].bytes_up, 4 * 3 * 10_000_000);
}

#[test]
fn with_overlap_sending_costs_no_time() {
    let bytes = records(&[])[0].peers[0].bytes.unwrap() as f64;
    let scale = format!("network.scale={}", 1e7 / bytes);
    // An exchange takes a second, and 5 steps half of one.
    let slow = records(&[&scale, "network.up_mbit=240", "outer.overlap_steps=5"]);
    assert!((slow[8].time_s - slow[7].time_s - 2.0 + 0.5).abs() < 1e-3, "{:?}", slow[8].time_s);
    let fast = records(&[&scale, "network.up_mbit=1000", "outer.overlap_steps=5"]);
    assert!((fast[8].time_s - fast[7].time_s - 1.0).abs() < 1e-3);
    assert!(fast[5].utilization > 0.9999);
}

#[test]
fn who_is_late_is_left_out_and_counts_later() {
    // The last one takes 2.5 s for what the others do in 1 s.
    let sets = ["clusters.1.tokens_per_s=4000", "round.deadline_s=1.2", "round.quorum=0.7"];
    let all = records(&sets);
    use Fate::{Counted, Late};
    let expected = [Late, Late, Counted, Late, Late, Counted, Late, Late, Counted, Late];
    assert_eq!(fates(&all, 3), expected);
    assert_eq!(fates(&all, 0), [Counted; 10]);
    // Two rounds close at the deadline, the third when the last one is done: 0.1 s after it begins.
    assert!((all[0].time_s - 1.2).abs() < 1e-3 && (all[1].time_s - 2.4).abs() < 1e-3);
    assert!((all[2].time_s - 3.4).abs() < 2e-3, "{}", all[2].time_s);
    // What it sends late is what it computed, decayed once for every round it waited.
    let norms: Vec<f64> = all.iter().filter_map(|r| r.peers[3].norm).collect();
    assert_eq!(norms.len(), 3);
    assert!(norms[0] > 0.5 * all[0].peers[0].norm.unwrap(), "{norms:?}");
    // Without a deadline everybody waits for it.
    let all = records(&["clusters.1.tokens_per_s=4000"]);
    assert!(all.iter().all(|r| r.counted == 4) && (all[9].time_s - 25.0).abs() < 1e-2);
}

#[test]
fn who_crashes_is_missed_and_comes_back() {
    let sets = ["clusters.1.faults={crashes_per_hour=1200.0,recover_s=1.5,loses=\"all\"}"];
    let all = records(&sets);
    let last = fates(&all, 3);
    assert!(last.contains(&Fate::Crashed) && last.contains(&Fate::Counted), "{last:?}");
    for pair in last.windows(2) {
        // 1.5 s after a crash within a round of 1 s: away in the next.
        assert_eq!(pair[0] == Fate::Crashed, pair[1] == Fate::Down, "{last:?}");
    }
    assert!(all.iter().all(|r| r.counted == r.members && r.skipped.is_none()));
    assert!((all[9].time_s - 10.0).abs() < 1e-2, "nobody waits for it");
}

#[test]
fn who_joins_takes_over_and_who_leaves_is_gone() {
    let all = records(&["clusters.1.join_round=3", "clusters.1.leave_round=6"]);
    let there: Vec<usize> = all.iter().map(|r| r.members).collect();
    assert_eq!(there, [3, 3, 3, 4, 4, 4, 3, 3, 3, 3]);
    assert!(all.iter().all(|r| r.counted == r.members));
    assert_eq!(all[9].tokens, (3 * 10 + 3) * 10_000);
}

#[test]
fn damaged_updates_are_refused_and_kept() {
    let all = records(&["clusters.1.faults={damage_rate=0.6}"]);
    let refused: Vec<_> = all.iter().filter(|r| r.rejected > 0).collect();
    assert!(refused.len() >= 2);
    for record in refused {
        assert_eq!((record.counted, record.skipped.as_ref()), (3, None));
        assert!(record.peers[3].why.as_ref().is_some_and(|why| !why.is_empty()));
        assert!(record.peers[3].weight.is_none());
    }
}

#[test]
fn too_few_for_the_rule_is_a_round_without_a_step() {
    // Krum with f = 0 needs three; one group of three is away for some rounds.
    let sets = ["aggregate.rule=krum", "aggregate.faulty=0", "clusters.0.join_round=2"];
    let all = records(&sets);
    for record in &all[..2] {
        let why = record.skipped.as_ref().unwrap();
        assert!(why.contains("krum") && why.contains("there are 1"), "{why}");
        assert_eq!((record.aggregate_norm, record.counted), (None, 0));
    }
    assert!(all[2..].iter().all(|r| r.skipped.is_none() && r.counted == 4));
    // Work without a step is kept: the loss has not moved, the first update after is longer.
    assert_eq!(all[0].eval_loss, all[1].eval_loss);
    let norms: Vec<f64> = all[2].peers.iter().filter_map(|p| p.norm).collect();
    assert!(norms[3] > 1.5 * norms[0], "{norms:?}");
}

#[test]
fn a_mean_follows_liars_and_the_default_does_not() {
    let liar = "clusters.1.attack={kind=\"sign_flip\",strength=10.0}";
    let last = |sets: &[&str]| records(sets).last().unwrap().eval_loss.unwrap();
    let (honest, mean) = (last(&[]), last(&[liar]));
    let robust =
        ["aggregate.rule=geometric_median", "aggregate.mix=nearest", "aggregate.clip=median"];
    let robust = last(&[&robust[..], &[liar]].concat());
    assert!(mean > 10.0 * honest, "{honest} {mean}");
    assert!(robust < 1.5 * honest, "{honest} {robust}");
}

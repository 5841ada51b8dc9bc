//! Real training of a very small model.

use std::sync::Arc;

use neuroshard::backend;
use neuroshard::data::Dataset;
use neuroshard::ops::Kernels;
use neuroshard::simulate::{Record, Scenario, Summary, simulate};
use neuroshard::train::Stop;

use crate::bytes;
use crate::read;

const MICRO: &str = r#"
[model]
width = 48
layers = 3
heads = 3
kv_heads = 1
ffn = 72
vocab = 64
[train]
steps = 40
seq_len = 18
batch_sequences = 6
micro_batch_sequences = 3
eval_sequences = 8
[optim]
lr = 3e-3
warmup_steps = 4
[outer]
inner_steps = 10
[codec]
kind = "f32"
[aggregate]
rule = "mean"
clip = "none"
mix = "none"
[[clusters]]
count = 2
[[clusters]]
count = 1
"#;

fn kernels(threads: usize) -> Arc<dyn Kernels> {
    backend::select(&backend::Config { threads, ..Default::default() }).unwrap()
}

fn trained(scenario: &Scenario, threads: usize) -> (Summary, Vec<Record>) {
    let vocab = scenario.model.dims().unwrap().vocab;
    let dataset = Arc::new(Dataset::open(&scenario.data, vocab).unwrap());
    let mut records = Vec::new();
    let each = &mut |record: &Record| {
        records.push(record.clone());
        Ok(())
    };
    let stop = Stop::never();
    let summary = simulate(scenario, Some(dataset), &kernels(threads), &stop, each);
    (summary.unwrap_or_else(|e| panic!("{e}")), records)
}

#[test]
fn clusters_learn_and_threads_do_not_show() {
    let scenario = read(MICRO, &[]);
    let (summary, records) = trained(&scenario, 1);
    assert_eq!(records.len(), 4);
    assert!(summary.is_sound());
    assert!(summary.eval_loss.unwrap() < summary.first_loss.unwrap() - 0.1, "{summary:?}");
    assert_eq!(summary.tally.tokens, 3 * 40 * 6 * 18);
    assert!(summary.machine.inner_s > 0.0 && summary.machine.wall_s > summary.machine.inner_s);
    let (other, again) = trained(&scenario, 3);
    assert_eq!(bytes(&again), bytes(&records));
    assert_eq!(other.outer_hash, summary.outer_hash);
    // Every cluster for itself: the same bits.
    let (other, again) = trained(&read(MICRO, &["scenario.replicas=true"]), 2);
    assert_eq!(bytes(&again), bytes(&records));
    assert_eq!(other.outer_hash, summary.outer_hash);
    // Another seed: others.
    let (other, _) = trained(&read(MICRO, &["scenario.seed=2"]), 2);
    assert_ne!(other.outer_hash, summary.outer_hash);
}

#[test]
fn the_control_is_plain_training_on_the_same_tokens() {
    let control = read(MICRO, &["scenario.control=true"]);
    let (summary, records) = trained(&control, 2);
    let (federated, _) = trained(&read(MICRO, &[]), 2);
    assert_eq!((summary.tally.tokens, records.len()), (federated.tally.tokens, 4));
    assert_eq!(summary.first_loss, federated.first_loss);
    assert!(summary.eval_loss.unwrap() < summary.first_loss.unwrap() - 0.1);
    // One cluster that averages with nobody is that training too.
    let alone = ["clusters.0.count=1", "clusters.1.count=0", "outer.lr=1", "outer.momentum=0"];
    let (alone_summary, _) = trained(&read(MICRO, &alone), 2);
    let control = read(MICRO, &[&alone[..], &["scenario.control=true"]].concat());
    let (control_summary, _) = trained(&control, 2);
    let (a, b) = (alone_summary.eval_loss.unwrap(), control_summary.eval_loss.unwrap());
    // But for the codec's grid, and the rounding of a difference that is added again.
    assert!((a - b).abs() < 1e-3, "{a} {b}");
}

#[test]
fn streaming_faults_and_liars_run_on_real_training() {
    let sets = [
        "outer.fragments=3",
        "outer.overlap_steps=2",
        "outer.blend=0.5",
        "outer.inner_steps=10",
        "codec.kind=top_k",
        "aggregate.rule=geometric_median",
        "clusters.0.count=4",
        "clusters.1.attack={kind=\"label_flip\"}",
        "clusters.0.faults={damage_rate=0.2,crashes_per_hour=30000.0,loses=\"all\"}",
        "scenario.replicas=true",
    ];
    let scenario = read(MICRO, &sets);
    let (summary, records) = trained(&scenario, 2);
    assert_eq!(records.len(), 12);
    assert!(records.iter().all(|r| r.fragment == (r.exchange % 3) as usize));
    assert!(summary.tally.crashes > 0 && summary.tally.rejected > 0, "{:?}", summary.tally);
    let (other, again) = trained(&scenario, 1);
    assert_eq!(bytes(&again), bytes(&records));
    assert_eq!(other.outer_hash, summary.outer_hash);
}

#[test]
fn a_label_flipper_learns_the_wrong_thing() {
    let alone = ["clusters.0.count=1", "clusters.1.count=0"];
    let (honest, _) = trained(&read(MICRO, &alone), 2);
    let flipped = ["clusters.0.attack={kind=\"label_flip\"}", "clusters.0.count=3"];
    let (liars, _) = trained(&read(MICRO, &[&flipped[..], &["clusters.1.count=1"]].concat()), 2);
    assert!(liars.eval_loss.unwrap() > honest.eval_loss.unwrap() + 0.05, "{liars:?}");
}

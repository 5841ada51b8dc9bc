//! Whole optimizer steps: forward, backward, clipping, AdamW; tokens per second as throughput.
//!
//! `cargo bench --bench train_step`. As a test (`cargo test --benches`) one step of `nano` runs.

use std::sync::Arc;

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::collective;
use neuroshard::crypto::Hash;
use neuroshard::data::Batch;
use neuroshard::model;
use neuroshard::optim;
use neuroshard::shard;
use neuroshard::shard::Mesh;
use neuroshard::train;
use neuroshard::train::Numerics;
use neuroshard::train::Parts;
use neuroshard::train::Plan;
use neuroshard::train::Profile;
use neuroshard::train::Trainer;

/// Preset, sequences, tokens in a sequence: the shapes of docs/RESULTS.md. Their batches are of
/// one micro-batch.
const SHAPES: [(&str, usize, usize); 3] = [("nano", 4, 256), ("tiny", 4, 256), ("125m", 2, 512)];

/// A batch as runs have them by default, to compare numbers of shards.
const DEFAULT: (usize, usize) = (16, 256);

struct Training {
    trainer: Trainer,
    batch: Batch,
}

impl Training {
    fn new(
        preset: &str,
        (sequences, seq_len): (usize, usize),
        profile: Profile,
        (shards, micro): (usize, usize),
    ) -> Self {
        let plan = Plan::new(
            &Parts {
                run: &train::Run::default(),
                model: &model::Config { preset: Some(preset.into()), ..Default::default() },
                numerics: &Numerics { profile, ..Default::default() },
                parallel: &shard::Config { shards, ..Default::default() },
                train: &train::Config {
                    steps: 1_000_000,
                    seq_len,
                    batch_sequences: sequences,
                    micro_batch_sequences: micro,
                    ..Default::default()
                },
                optim: &optim::Config::default(),
            },
            Hash([0; 32]),
        );
        let plan = plan.unwrap();
        let cpu = Arc::new(Cpu::new(Level::best(), 0).unwrap());
        let mesh = Mesh::new(collective::single(), 1, shards).unwrap();
        let trainer = Trainer::new(cpu, &plan, &mesh, 0..plan.dims.layers).unwrap();
        let token = |i: usize| (i * 7919 % plan.dims.vocab) as u32;
        let tokens: Vec<u32> = (0..sequences * seq_len).map(token).collect();
        Self { trainer, batch: Batch { inputs: tokens.clone(), targets: tokens } }
    }

    fn step(&mut self) {
        self.trainer.step(&self.batch, 0).unwrap();
    }
}

/// Cargo gives `--bench` to benches only; criterion runs everything once without it.
fn as_test() -> bool {
    !std::env::args().any(|arg| arg == "--bench")
}

fn train_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("train_step");
    group.sample_size(10);
    for (preset, sequences, seq_len) in SHAPES.into_iter().take(if as_test() { 1 } else { 3 }) {
        for (name, profile) in [("f32", Profile::F32), ("bf16", Profile::Bf16)] {
            group.throughput(Throughput::Elements((sequences * seq_len) as u64));
            group.bench_function(BenchmarkId::new(preset, name), |bencher| {
                let extent = (sequences, seq_len);
                let mut training = Training::new(preset, extent, profile, (1, sequences));
                bencher.iter(|| training.step());
            });
        }
    }
    group.finish();
}

/// What the tree over shards costs on one rank: the same batch and micro-batches, as one shard and
/// as eight.
fn shards(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shards");
    group.sample_size(10);
    let (sequences, seq_len) = DEFAULT;
    for preset in ["nano", "tiny"].into_iter().take(if as_test() { 1 } else { 2 }) {
        for shards in [1, 8] {
            group.throughput(Throughput::Elements((sequences * seq_len) as u64));
            group.bench_function(BenchmarkId::new(preset, shards), |bencher| {
                let micro = sequences / 8;
                let mut training = Training::new(preset, DEFAULT, Profile::Bf16, (shards, micro));
                bencher.iter(|| training.step());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, train_step, shards);
criterion_main!(benches);

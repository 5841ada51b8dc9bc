//! Whole trainings: the same state as on the CPU after every step.

use std::sync::Arc;

use neuroshard::backend;
use neuroshard::config::RunConfig;
use neuroshard::crypto::Hash;
use neuroshard::data::{Dataset, Loader};
use neuroshard::ops::Kernels;
use neuroshard::ops::TensorCore;
use neuroshard::shard::Mesh;
use neuroshard::train::{Plan, Trainer};

use crate::core_of;
use crate::each_door;

/// As small as heads of 32 elements allow, with a tail in every extent.
const MICRO: &str = r#"
[model]
width = 72
layers = 2
heads = 3
kv_heads = 1
head_dim = 32
ffn = 88
vocab = 130
[device]
level = "portable"
threads = 1
[train]
steps = 20
seq_len = 18
batch_sequences = 2
[parallel]
shards = 1
[optim]
lr = 3e-3
warmup_steps = 2
"#;

/// Losses, as bits, and the hash of the state, after each of the first `steps` steps.
fn train(kernels: Option<Arc<dyn Kernels>>, sets: &[String], steps: u64) -> Vec<(u64, Hash)> {
    let config = RunConfig::from_text("micro", MICRO, sets).unwrap_or_else(|e| panic!("{e}"));
    let vocab = config.model.dims().unwrap().vocab;
    let dataset = Arc::new(Dataset::open(&config.data, vocab).unwrap());
    let plan = Plan::new(&config.parts(), dataset.hash()).unwrap();
    let (seq_len, batch) = (plan.train.seq_len, plan.train.batch_sequences);
    let loader = Loader::new(dataset, plan.seed, seq_len, batch).unwrap();
    let kernels = kernels.unwrap_or_else(|| backend::select(&config.device).unwrap());
    let mesh = Mesh::single(plan.parallel.shards);
    let mut trainer = Trainer::new(kernels, &plan, &mesh, 0..plan.dims.layers).unwrap();
    let step = |_| {
        let mine = trainer.sequences();
        let batch = loader.sequences(trainer.done(), mine.start, mine.len()).unwrap();
        let outcome = trainer.step(&batch, 0).unwrap();
        (outcome.loss.to_bits(), trainer.state_hash().unwrap())
    };
    (0..steps).map(step).collect()
}

fn trains_as_the_cpu(profile: &str) {
    each_door(|cuda, door| {
        let core = match core_of(cuda) {
            TensorCore::Hopper => "hopper",
            TensorCore::Ampere => "ampere",
        };
        let sets = [
            format!("numerics.profile={profile}"),
            format!("numerics.tensor_core={core}"),
            format!("model.tied={}", core == "ampere"),
        ];
        let steps = if core == "hopper" { 20 } else { 5 };
        let got = train(Some(Arc::new(cuda.clone())), &sets, steps);
        let want = train(None, &sets, steps);
        for (step, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got, want, "{door}: {profile}: step {}", step + 1);
        }
        let losses: Vec<_> = want.iter().map(|(loss, _)| f64::from_bits(*loss)).collect();
        let lowest = losses.iter().fold(f64::INFINITY, |a, &b| a.min(b));
        assert!(steps < 20 || lowest < losses[0] - 0.3, "{profile}: {losses:?}");
    });
}

#[test]
fn twenty_steps_in_f32_are_the_cpus() {
    trains_as_the_cpu("f32");
}

#[test]
fn twenty_steps_in_bf16_are_the_cpus() {
    trains_as_the_cpu("bf16");
}

#[test]
fn twenty_steps_in_tc_are_the_cpus() {
    trains_as_the_cpu("tc");
}

/// A device's tensor cores have one arithmetic; a job that asks for the other is refused.
#[test]
fn the_tensor_cores_of_another_kind_are_refused() {
    each_door(|cuda, door| {
        let other = match core_of(cuda) {
            TensorCore::Hopper => "ampere",
            TensorCore::Ampere => "hopper",
        };
        let sets = ["numerics.profile=tc".to_owned(), format!("numerics.tensor_core={other}")];
        let config = RunConfig::from_text("micro", MICRO, &sets).unwrap();
        let dataset = Arc::new(Dataset::open(&config.data, 130).unwrap());
        let plan = Plan::new(&config.parts(), dataset.hash()).unwrap();
        let loader = Loader::new(dataset, plan.seed, 18, 2).unwrap();
        let kernels = Arc::new(cuda.clone());
        let mut trainer = Trainer::new(kernels, &plan, &Mesh::single(1), 0..2).unwrap();
        let refused = trainer.step(&loader.sequences(0, 0, 2).unwrap(), 0).unwrap_err();
        let mut told = refused.to_string();
        let mut source = std::error::Error::source(&refused);
        while let Some(cause) = source {
            told = format!("{told}: {cause}");
            source = cause.source();
        }
        assert!(told.contains("numerics.tensor_core"), "{door}: {told}");
    });
}

//! Whole optimizer steps: forward, backward, clipping, AdamW; tokens per second as throughput.
//!
//! `cargo bench --bench train_step`. As a test (`cargo test --benches`) one step of `nano` runs.

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::model::Activations;
use neuroshard::model::Batch;
use neuroshard::model::Config;
use neuroshard::model::Gradients;
use neuroshard::model::NeuroLlm;
use neuroshard::model::Params;
use neuroshard::model::Passes;
use neuroshard::ops;
use neuroshard::ops::Kernels;
use neuroshard::ops::Precision;
use neuroshard::optim;

/// Preset, sequences, tokens in a sequence: the shapes of docs/RESULTS.md.
const SHAPES: [(&str, usize, usize); 3] = [("nano", 4, 256), ("tiny", 4, 256), ("125m", 2, 512)];

struct Training {
    cpu: Cpu,
    model: NeuroLlm,
    acts: Activations,
    grads: Gradients,
    adamw: optim::AdamW,
    config: optim::Config,
    tokens: Vec<u32>,
    step: u64,
}

impl Training {
    fn new(preset: &str, sequences: usize, seq_len: usize, precision: Precision) -> Self {
        let cpu = Cpu::new(Level::best(), 0).unwrap();
        let config = Config { preset: Some(preset.into()), ..Config::default() };
        let dims = config.dims().unwrap();
        let params = Params::random(&cpu, &dims, 1).unwrap();
        let model = NeuroLlm::new(&cpu, dims, precision, params, seq_len).unwrap();
        let acts = Activations::new(&cpu, &dims, sequences, seq_len, Passes::Stored).unwrap();
        let grads = model.gradients(&cpu).unwrap();
        let m = Params::zeros(&cpu, &dims).unwrap();
        let v = Params::zeros(&cpu, &dims).unwrap();
        let token = |i: usize| (i * 7919 % dims.vocab) as u32;
        let tokens = (0..sequences * seq_len).map(token).collect();
        let (adamw, config) = (optim::AdamW { m, v }, optim::Config::default());
        Self { cpu, model, acts, grads, adamw, config, tokens, step: 0 }
    }

    fn step(&mut self) {
        let kernels: &dyn Kernels = &self.cpu;
        let batch = Batch { tokens: &self.tokens, targets: &self.tokens };
        let scale = 1.0 / self.tokens.len() as f32;
        self.grads.clear(kernels).unwrap();
        let (acts, grads) = (&mut self.acts, &mut self.grads);
        self.model.forward_backward(kernels, batch, scale, acts, grads).unwrap();
        self.grads.finish(kernels).unwrap();
        let norm = optim::global_norm(kernels, &self.grads.params).unwrap();
        let clip = optim::clip_scale(norm, self.config.clip);
        let (params, grads) = (&mut self.model.params, &self.grads.params);
        self.adamw.step(kernels, &self.config, (self.step, 1e-4), clip, params, grads).unwrap();
        self.step += 1;
    }
}

fn train_step(criterion: &mut Criterion) {
    // Cargo gives `--bench` to benches only; criterion runs everything once without it.
    let as_test = !std::env::args().any(|arg| arg == "--bench");
    let mut group = criterion.benchmark_group("train_step");
    group.sample_size(10);
    for (preset, sequences, seq_len) in SHAPES.into_iter().take(if as_test { 1 } else { 3 }) {
        for (profile, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
            group.throughput(Throughput::Elements((sequences * seq_len) as u64));
            let id = BenchmarkId::new(preset, profile);
            group.bench_function(id, |bencher| {
                let mut training = Training::new(preset, sequences, seq_len, precision);
                let cpu = training.cpu.clone();
                bencher.iter(|| ops::together(&cpu, || training.step()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);

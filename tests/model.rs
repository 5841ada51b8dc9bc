//! The model: gradients against differences of the loss, and the bits that must not change.

use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::model::Activations;
use neuroshard::model::Batch;
use neuroshard::model::Dims;
use neuroshard::model::Gradients;
use neuroshard::model::NeuroLlm;
use neuroshard::model::Params;
use neuroshard::model::Passes;
use neuroshard::model::Session;
use neuroshard::ops::Kernels;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::rng;
use neuroshard::tensor::Tensor;

/// Extents that share no factor, three query heads per key/value head.
fn dims(tied: bool) -> Dims {
    Dims {
        width: 30,
        layers: 3,
        heads: 6,
        kv_heads: 2,
        head_dim: 4,
        ffn: 44,
        vocab: 61,
        tied,
        norm_eps: 1e-5,
        rope_base: 10_000.0,
    }
}

fn model(kernels: &dyn Kernels, tied: bool, precision: Precision) -> NeuroLlm {
    let mut params = Params::random(kernels, &dims(tied), 7).unwrap();
    // Larger weights than a fresh model's, so that every path carries a gradient; norms that vary.
    params.as_mut().map(|name, tensor| {
        for (i, x) in tensor.host_mut::<f32>().iter_mut().enumerate() {
            *x = if name.ends_with("_norm") { 1.0 + (i % 7) as f32 * 0.1 } else { *x * 8.0 };
        }
    });
    NeuroLlm::new(kernels, dims(tied), precision, params, 64).unwrap()
}

const TC: Precision = Precision::Tc(TensorCore::Hopper);

const SEQUENCES: usize = 4;
const SEQ_LEN: usize = 34;

fn tokens(shift: u64) -> Vec<u32> {
    let address = rng::Address { seed: 3, purpose: rng::Purpose::Test, step: 0, index: 0 };
    let token = |i| address.at(i + shift).below(61) as u32;
    (0..(SEQUENCES * SEQ_LEN) as u64).map(token).collect()
}

/// Losses and gradients of one step whose batch is cut into `micro` sequences at a time.
fn step(
    kernels: &dyn Kernels,
    model: &NeuroLlm,
    micro: usize,
    passes: Passes,
) -> (Vec<f32>, Gradients) {
    let (inputs, targets) = (tokens(0), tokens(1));
    let mut acts =
        Activations::new(kernels, model.dims(), model.precision(), (micro, SEQ_LEN), passes)
            .unwrap();
    let mut grads = model.gradients(kernels).unwrap();
    let mut losses = Vec::new();
    let scale = 1.0 / inputs.len() as f32;
    for (tokens, targets) in inputs.chunks(micro * SEQ_LEN).zip(targets.chunks(micro * SEQ_LEN)) {
        let batch = Batch { tokens, targets };
        model.forward_backward(kernels, batch, scale, &mut acts, &mut grads).unwrap();
        losses.extend_from_slice(acts.losses().host::<f32>());
    }
    grads.finish(kernels).unwrap();
    (losses, grads)
}

fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len() as f64
}

fn assert_same(what: &str, a: &(Vec<f32>, Gradients), b: &(Vec<f32>, Gradients)) {
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&a.0), bits(&b.0), "losses, {what}");
    a.1.params.as_ref().zip(b.1.params.as_ref()).map(|name, (a, b): (&Tensor, &Tensor)| {
        assert_eq!(bits(a.host()), bits(b.host()), "gradient of {name}, {what}");
    });
}

#[test]
fn gradients_match_differences_of_the_loss() {
    let cpu = Cpu::new(Level::best(), 2).unwrap();
    for tied in [false, true] {
        let mut model = model(&cpu, tied, Precision::F32);
        let (_, grads) = step(&cpu, &model, SEQUENCES, Passes::Stored);
        for (name, grad) in grads.params.as_ref().into_named() {
            // Along the gradient itself the difference is largest against rounding.
            let square: f64 = grad.host::<f32>().iter().map(|&g| f64::from(g).powi(2)).sum();
            let h = 2e-3 / square.sqrt();
            let mut shifted = |h: f64| {
                model.params.as_mut().map(|at, tensor| {
                    if at == name {
                        for (x, g) in tensor.host_mut::<f32>().iter_mut().zip(grad.host::<f32>()) {
                            *x += (h * f64::from(*g)) as f32;
                        }
                    }
                });
                mean(&step(&cpu, &model, SEQUENCES, Passes::Stored).0)
            };
            let up = shifted(h);
            let down = shifted(-2.0 * h);
            shifted(h);
            let (got, want) = (square, (up - down) / (2.0 * h));
            assert!((got / want - 1.0).abs() < 2e-2, "{name}, tied {tied}: {got} is not {want}");
        }
    }
}

#[test]
fn micro_batches_recompute_levels_and_threads_leave_no_trace() {
    for precision in [Precision::F32, Precision::Bf16, TC] {
        for tied in [false, true] {
            let cpu = Cpu::new(Level::PORTABLE, 1).unwrap();
            let whole = model(&cpu, tied, precision);
            // In tc a micro-batch is part of the job.
            let at_once = if precision == TC { 2 } else { SEQUENCES };
            let want = step(&cpu, &whole, at_once, Passes::Stored);
            for level in Level::available() {
                for threads in [1, 2, 3, 8] {
                    let cpu = Cpu::new(level, threads).unwrap();
                    let micro = if precision == TC { at_once } else { [1, 2, 4][threads % 3] };
                    let passes = [Passes::Stored, Passes::Recomputed][threads % 2];
                    let model = model(&cpu, tied, precision);
                    let what = format!("{level}, {threads} threads, {micro} at once, {passes:?}");
                    assert_same(&what, &step(&cpu, &model, micro, passes), &want);
                }
            }
        }
    }
}

#[test]
fn evaluation_gives_the_losses_of_training() {
    for precision in [Precision::Bf16, TC] {
        evaluates_as_it_trains(precision);
    }
}

fn evaluates_as_it_trains(precision: Precision) {
    let cpu = Cpu::new(Level::best(), 2).unwrap();
    let model = model(&cpu, false, precision);
    let (want, _) = step(&cpu, &model, SEQUENCES, Passes::Stored);
    let mut acts = Activations::new(
        &cpu,
        model.dims(),
        model.precision(),
        (SEQUENCES, SEQ_LEN),
        Passes::Forward,
    )
    .unwrap();
    let (tokens, targets) = (tokens(0), tokens(1));
    model.losses(&cpu, Batch { tokens: &tokens, targets: &targets }, &mut acts).unwrap();
    assert_eq!(acts.losses().host::<f32>(), want);
}

#[test]
fn cached_logits_are_those_of_the_whole_sequence() {
    for precision in [Precision::F32, Precision::Bf16, TC, Precision::Tc(TensorCore::Ampere)] {
        let cpu = Cpu::new(Level::best(), 2).unwrap();
        let model = model(&cpu, false, precision);
        let tokens = &tokens(0)[..40];
        let whole = model.logits(&cpu, tokens).unwrap();
        for pieces in [vec![1; 40], vec![40], vec![7, 1, 1, 20, 11]] {
            let mut session = Session::new(&cpu, &model, 64).unwrap();
            let mut at = 0;
            for piece in pieces {
                let logits = session.feed(&tokens[at..at + piece]).unwrap();
                at += piece;
                let want = &whole[(at - 1) * 61..at * 61];
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&logits), bits(want), "after {at} tokens, {precision:?}");
            }
        }
    }
}

#[test]
fn parameters_are_counted_exactly() {
    for tied in [false, true] {
        let shapes = Params::shapes(&dims(tied)).into_named();
        let count: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(count as u64, dims(tied).parameters());
    }
}

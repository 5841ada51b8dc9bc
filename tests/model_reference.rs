//! The model against its f64 reference: logits, losses, and every weight's gradient.

mod reference;

use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::model::Activations;
use neuroshard::model::Batch;
use neuroshard::model::Dims;
use neuroshard::model::NeuroLlm;
use neuroshard::model::Params;
use neuroshard::model::Passes;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::rng;
use neuroshard::tensor::Tensor;

use reference::compare::assert_close;
use reference::compare::tolerance;
use reference::neurollm;
use reference::neurollm::Matrix;

/// A model's extents, its batch, and why it is here.
struct Case {
    name: &'static str,
    /// Width, layers, heads, kv_heads, head_dim, ffn, vocab.
    extents: [usize; 7],
    sequences: usize,
    seq_len: usize,
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "one token", extents: [30, 2, 2, 2, 4, 22, 19], sequences: 3, seq_len: 1 },
    Case { name: "groups of one", extents: [40, 2, 2, 2, 32, 36, 37], sequences: 1, seq_len: 37 },
    Case { name: "groups of two", extents: [48, 2, 4, 2, 32, 52, 41], sequences: 3, seq_len: 11 },
    Case { name: "groups of three", extents: [96, 1, 3, 1, 64, 70, 61], sequences: 2, seq_len: 33 },
    Case { name: "nano's shape", extents: [42, 3, 6, 2, 32, 44, 67], sequences: 2, seq_len: 16 },
    Case { name: "two tiles of keys", extents: [30, 1, 3, 1, 32, 22, 23], sequences: 1, seq_len: 149 },
];

impl Case {
    fn dims(&self, tied: bool) -> Dims {
        let [width, layers, heads, kv_heads, head_dim, ffn, vocab] = self.extents;
        let (norm_eps, rope_base) = (1e-5, 10_000.0);
        Dims { width, layers, heads, kv_heads, head_dim, ffn, vocab, tied, norm_eps, rope_base }
    }

    fn rows(&self) -> usize {
        self.sequences * self.seq_len
    }

    fn tokens(&self, seed: u64) -> Vec<u32> {
        let address = rng::Address { seed, purpose: rng::Purpose::Test, step: 0, index: 0 };
        let vocab = self.extents[6] as u64;
        (0..self.rows() as u64).map(|i| address.at(i).below(vocab) as u32).collect()
    }
}

/// Larger weights than a fresh model's, so that every path carries a gradient; norms that vary.
fn weights(kernels: &Cpu, dims: &Dims) -> Params<Tensor> {
    let mut params = Params::random(kernels, dims, 11).unwrap();
    params.as_mut().map(|name, tensor| {
        for (i, x) in tensor.host_mut::<f32>().iter_mut().enumerate() {
            *x = if name.ends_with("_norm") { 0.7 + (i % 7) as f32 * 0.1 } else { *x * 8.0 };
        }
    });
    params
}

fn in_f64(params: &Params<Tensor>) -> Params<Matrix> {
    params.as_ref().map(|_, tensor: &Tensor| Matrix::of(tensor.host(), &tensor.shape()))
}

fn check(case: &Case, tied: bool, precision: Precision, level: Level, passes: Passes) {
    let cpu = Cpu::new(level, 2).unwrap();
    let dims = case.dims(tied);
    let (tokens, targets) = (case.tokens(1), case.tokens(2));
    let params = weights(&cpu, &dims);
    let exact = in_f64(&params);
    let trace = neurollm::forward(&dims, &exact, &tokens, case.seq_len);
    let want = neurollm::backward(&dims, &exact, (&tokens, &targets), case.seq_len, &trace);

    let model = NeuroLlm::new(&cpu, dims, precision, params, case.seq_len).unwrap();
    let mut acts =
        Activations::new(&cpu, &dims, precision, (case.sequences, case.seq_len), passes).unwrap();
    let mut grads = model.gradients(&cpu).unwrap();
    let batch = Batch { tokens: &tokens, targets: &targets };
    let scale = 1.0 / case.rows() as f32;
    model.forward_backward(&cpu, batch, scale, &mut acts, &mut grads).unwrap();
    grads.finish(&cpu).unwrap();

    let tolerance = tolerance(precision, &dims, case.rows());
    let what = |name: &str| {
        format!("{}, tied {tied}, {precision:?}, {level}, {passes:?}: {name}", case.name)
    };
    let logits: Vec<f32> =
        tokens.chunks(case.seq_len).flat_map(|t| model.logits(&cpu, t).unwrap()).collect();
    assert_close(&what("logits"), &logits, &trace.logits.data, tolerance);
    let losses = neurollm::losses(&trace.logits, &targets);
    assert_close(&what("losses"), acts.losses().host(), &losses, tolerance);
    grads.params.as_ref().zip(want).map(|name, (got, want): (&Tensor, Matrix)| {
        assert_close(&what(name), got.host(), &want.data, tolerance);
    });
}

#[test]
fn f32_matches_the_reference() {
    for case in CASES {
        for (tied, level) in [(false, Level::PORTABLE), (true, Level::best())] {
            for passes in [Passes::Stored, Passes::Recomputed] {
                check(case, tied, Precision::F32, level, passes);
            }
        }
    }
}

#[test]
fn bf16_matches_the_reference() {
    for case in CASES {
        for (tied, level) in [(false, Level::best()), (true, Level::PORTABLE)] {
            for passes in [Passes::Stored, Passes::Recomputed] {
                check(case, tied, Precision::Bf16, level, passes);
            }
        }
    }
}

#[test]
fn tc_matches_the_reference() {
    for case in CASES {
        for (tied, core) in [(false, TensorCore::Hopper), (true, TensorCore::Ampere)] {
            for passes in [Passes::Stored, Passes::Recomputed] {
                check(case, tied, Precision::Tc(core), Level::best(), passes);
            }
        }
    }
}

/// The reference's own backward: central differences of its loss, some weights of every tensor.
#[test]
fn the_reference_matches_differences_of_its_loss() {
    let cpu = Cpu::new(Level::PORTABLE, 1).unwrap();
    for (i, case) in CASES.iter().enumerate() {
        let tied = i % 2 == 1;
        let dims = case.dims(tied);
        let (tokens, targets) = (case.tokens(1), case.tokens(2));
        let mut exact = in_f64(&weights(&cpu, &dims));
        let trace = neurollm::forward(&dims, &exact, &tokens, case.seq_len);
        let grads = neurollm::backward(&dims, &exact, (&tokens, &targets), case.seq_len, &trace);
        for (name, grad) in grads.into_named() {
            let size = grad.data.iter().fold(0.0f64, |max, g| max.max(g.abs()));
            for nth in [1, 3, 7] {
                let index = grad.data.len() * nth / 9;
                let mut shift = |h: f64| {
                    exact.as_mut().map(|at, weight: &mut Matrix| {
                        if at == name {
                            weight.data[index] += h;
                        }
                    });
                    let trace = neurollm::forward(&dims, &exact, &tokens, case.seq_len);
                    neurollm::losses(&trace.logits, &targets).iter().sum::<f64>()
                };
                let (up, down) = (shift(H), shift(-2.0 * H));
                shift(H);
                let (got, want) = (grad.data[index], (up - down) / (2.0 * H));
                let want = want / case.rows() as f64;
                assert!(
                    (got - want).abs() <= 1e-6 * size + 1e-10,
                    "{}, tied {tied}, {name}[{index}]: {got:e} is not {want:e}",
                    case.name
                );
            }
        }
    }
}

/// Truncation takes a third derivative times `H²/6`, cancellation some `1e-15 / H`: both far below
/// a millionth of a gradient.
const H: f64 = 1e-5;

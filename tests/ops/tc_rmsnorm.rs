//! RMSNorm of bf16 activations, and its gradients (docs/ARITHMETIC.md, section 16.5).

use half::bf16;
use neuroshard::ops::OpError;
use neuroshard::ops::rmsnorm::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::rmsnorm::EPS;
use crate::rmsnorm::Inputs;
use crate::rmsnorm::naive_f64;
use crate::rmsnorm::run_forward;
use crate::rmsnorm::run_residual;
use crate::*;

/// [`SHAPES`], and some around a turn of 256 partials and a group of 64 rows.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    let more = [(63, 255), (64, 256), (65, 40), (128, 513), (191, 33), (9, 4099)];
    SHAPES.iter().copied().chain(more)
}

fn row_sum(count: usize, step: impl Fn(usize, f32) -> f32) -> f32 {
    row_sum_of(256, count, step)
}

/// `out` and `rstd` of numbers that are bf16.
fn naive(inp: &[f32], weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let c = weight.len();
    let (mut out, mut rstd) = (Vec::new(), Vec::new());
    for x in inp.chunks_exact(c) {
        let r = 1.0 / (row_sum(c, |i, p| x[i].mul_add(x[i], p)) / c as f32 + EPS).sqrt();
        rstd.push(r);
        out.extend(x.iter().zip(weight).map(|(x, w)| (x * r) * w));
    }
    (rounded(out), rstd)
}

#[test]
fn forward_keeps_the_contract() {
    for (n, c) in shapes() {
        for largest in [1.0, 1e12] {
            let (inp, weight) = (narrow(&paint_wild(n * c, 251, largest)), paint(c, 241));
            let (want, want_rstd) = naive(&widened(&inp), &weight);
            each_cpu(|cpu, name| {
                let (out, rstd) = run_forward(cpu, &inp, &weight);
                assert_bits(&format!("out, {n} x {c}, {name}"), &out, &want);
                assert_bits(&format!("rstd, {n} x {c}, {name}"), &rstd, &want_rstd);
            });
            assert_close("formula", &want, &naive_f64(&inp, &weight), 1.0 / 250.0, 1e-30);
        }
    }
}

#[test]
fn forward_residual_rounds_the_sum_before_all_else() {
    for (n, c) in shapes() {
        let (inp, residual) = (paint_wild(n * c, 251, 1e9), paint_wild(n * c, 257, 1e9));
        let (inp, residual, weight) = (narrow(&inp), narrow(&residual), paint(c, 241));
        let sums = inp.iter().zip(&residual).map(|(x, r)| r.to_f32() + x.to_f32());
        let want_sum = rounded(sums.collect());
        let (want, want_rstd) = naive(&want_sum, &weight);
        each_cpu(|cpu, name| {
            let [sum, out, rstd] = run_residual(cpu, (&inp, &residual), &weight);
            assert_bits(&format!("sum, {n} x {c}, {name}"), &sum, &want_sum);
            assert_bits(&format!("out, {n} x {c}, {name}"), &out, &want);
            assert_bits(&format!("rstd, {n} x {c}, {name}"), &rstd, &want_rstd);
        });
    }
}

/// `rstd` of bf16 activations.
fn rstd_of(inp: &[f32], weight: &[f32]) -> Vec<f32> {
    naive(inp, weight).1
}

impl Inputs<bf16> {
    /// `dinp` and `dweight`.
    fn naive(&self, c: usize) -> (Vec<f32>, Vec<f32>) {
        let (dout, x, mut dinp) = (widened(&self.dout), widened(&self.inp), widened(&self.dinp));
        let rows = self.rstd.len();
        for (n, &rstd) in self.rstd.iter().enumerate() {
            let (dout, x) = (&dout[n * c..][..c], &x[n * c..][..c]);
            let g: Vec<f32> = dout.iter().zip(&self.weight).map(|(d, w)| d * w).collect();
            let dot = row_sum(c, |i, p| g[i].mul_add(x[i], p));
            let scale = ((rstd * rstd) * rstd) * (dot / c as f32);
            for i in 0..c {
                dinp[n * c + i] += g[i].mul_add(rstd, -(x[i] * scale));
            }
        }
        let mut dweight = self.dweight.clone();
        for (i, dweight) in dweight.iter_mut().enumerate().filter(|_| rows > 0) {
            let mut sum = 0.0f32;
            for first in (0..rows).step_by(64) {
                let mut p = [0.0f32; 8];
                for n in first..rows.min(first + 64) {
                    let at = n * c + i;
                    let r = n - first;
                    p[r % 8] = dout[at].mul_add(x[at] * self.rstd[n], p[r % 8]);
                }
                sum += ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
            }
            *dweight += sum;
        }
        (rounded(dinp), dweight)
    }
}

#[test]
fn backward_keeps_the_contract() {
    for (n, c) in shapes() {
        let inputs = Inputs::new(n, c, rstd_of);
        let (want, want_weight) = inputs.naive(c);
        each_cpu(|cpu, name| {
            let (dinp, dweight) = inputs.run(cpu, n, c);
            assert_bits(&format!("dinp, {n} x {c}, {name}"), &dinp, &want);
            assert_bits(&format!("dweight, {n} x {c}, {name}"), &dweight, &want_weight);
        });
        let (exact, exact_weight) = inputs.naive_f64(c);
        assert_close("dinp", &want, &exact, 1.0 / 250.0, 1.0);
        assert_close("dweight", &want_weight, &exact_weight, 1e-5, 10.0);
    }
}

/// They spoil their own row, as the formulas say, and no other.
#[test]
fn special_values_keep_the_contract() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.38e38, 1e-40, 0.0];
    let (n, c) = (2 * specials.len(), 261);
    let mut inputs = Inputs::new(n, c, rstd_of);
    for (i, x) in specials.into_iter().enumerate() {
        inputs.inp[2 * i * c + 11 * i + 60] = bf16::from_f32(x);
    }
    inputs.inp[10 * c..11 * c].fill(bf16::ZERO);
    let (want, want_rstd) = naive(&widened(&inputs.inp), &inputs.weight);
    assert!(want[..c].iter().all(|x| x.is_nan()), "NaN shows");
    each_cpu(|cpu, name| {
        let (out, rstd) = run_forward(cpu, &inputs.inp, &inputs.weight);
        assert_bits(&format!("out, {name}"), &out, &want);
        assert_bits(&format!("rstd, {name}"), &rstd, &want_rstd);
    });
    inputs.rstd = want_rstd;
    let (want, want_weight) = inputs.naive(c);
    each_cpu(|cpu, name| {
        let (dinp, dweight) = inputs.run(cpu, n, c);
        assert_bits(&format!("dinp, {name}"), &dinp, &want);
        assert_bits(&format!("dweight, {name}"), &dweight, &want_weight);
    });
}

#[test]
fn types_are_checked() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (wide, x) = (paint(12, 7), narrow(&paint(12, 7)));
    let place = |what, want, got| Err(OpError::Place { what, want, got });
    let run = |inp: View<'_>, weight: View<'_>| {
        let (out, rstd) = (&mut bf16_nans(12), &mut nans(3));
        let (out, rstd) = (ViewMut::of(out, &[3, 4]), ViewMut::of(rstd, &[3]));
        forward(&cpu, Forward { out, rstd, inp, weight, eps: EPS })
    };
    let (inp, weight) = (View::of(&x, &[3, 4]), View::of(&wide[..4], &[4]));
    assert_eq!(run(inp, weight), Ok(()));
    let wrong = place("rmsnorm::forward weight", DType::F32, DType::Bf16);
    assert_eq!(run(inp, View::of(&x[..4], &[4])), wrong);
    let wrong = place("rmsnorm::forward out", DType::F32, DType::Bf16);
    assert_eq!(run(View::of(&wide, &[3, 4]), weight), wrong);
    let (mut dinp, mut dweight) = (x.clone(), bf16_nans(4));
    let args = Backward {
        dinp: ViewMut::of(&mut dinp, &[3, 4]),
        dweight: ViewMut::of(&mut dweight, &[4]),
        dout: inp,
        inp,
        weight,
        rstd: View::of(&wide[..3], &[3]),
    };
    let wrong = place("rmsnorm::backward dweight", DType::F32, DType::Bf16);
    assert_eq!(backward(&cpu, args), wrong);
}

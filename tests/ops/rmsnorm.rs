//! RMSNorm and its gradients.

use neuroshard::ops::rmsnorm::*;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::*;

pub const EPS: f32 = 1e-5;

/// `out` and `rstd`.
fn naive(inp: &[f32], weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let c = weight.len();
    let (mut out, mut rstd) = (Vec::new(), Vec::new());
    for x in inp.chunks_exact(c) {
        let r = 1.0 / (row_sum(c, |i, p| x[i].mul_add(x[i], p)) / c as f32 + EPS).sqrt();
        rstd.push(r);
        out.extend(x.iter().zip(weight).map(|(x, w)| (x * r) * w));
    }
    (out, rstd)
}

/// `out` in f64.
pub fn naive_f64<E: Number>(inp: &[E], weight: &[f32]) -> Vec<f64> {
    let c = weight.len();
    let mut out = Vec::new();
    for x in inp.chunks_exact(c).map(as_f64) {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / c as f64;
        let r = 1.0 / (mean + f64::from(EPS)).sqrt();
        out.extend(x.iter().zip(weight).map(|(x, &w)| x * r * f64::from(w)));
    }
    out
}

/// `out`, as f32, and `rstd`.
pub fn run_forward<E: Number>(cpu: &Cpu, inp: &[E], weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let c = weight.len();
    let n = inp.len() / c;
    let (mut out, mut rstd) = (vec![E::NAN; n * c], nans(n));
    let args = Forward {
        out: ViewMut::of(&mut out, &[n, c]),
        rstd: ViewMut::of(&mut rstd, &[n]),
        inp: View::of(inp, &[n, c]),
        weight: View::of(weight, &[c]),
        eps: EPS,
    };
    forward(cpu, args).unwrap();
    (as_f32(&out), rstd)
}

/// `sum` and `out`, as f32, and `rstd`.
pub fn run_residual<E: Number>(
    cpu: &Cpu,
    (inp, residual): (&[E], &[E]),
    weight: &[f32],
) -> [Vec<f32>; 3] {
    let c = weight.len();
    let n = inp.len() / c;
    let (mut out, mut sum, mut rstd) = (vec![E::NAN; n * c], vec![E::NAN; n * c], nans(n));
    let args = ForwardResidual {
        out: ViewMut::of(&mut out, &[n, c]),
        rstd: ViewMut::of(&mut rstd, &[n]),
        sum: ViewMut::of(&mut sum, &[n, c]),
        residual: View::of(residual, &[n, c]),
        inp: View::of(inp, &[n, c]),
        weight: View::of(weight, &[c]),
        eps: EPS,
    };
    forward_residual(cpu, args).unwrap();
    [as_f32(&sum), as_f32(&out), rstd]
}

#[test]
fn forward_keeps_the_contract() {
    for &(n, c) in SHAPES {
        for largest in [1.0, 1e12] {
            let (inp, weight) = (paint_wild(n * c, 251, largest), paint(c, 241));
            let (want, want_rstd) = naive(&inp, &weight);
            each_cpu(|cpu, name| {
                let (out, rstd) = run_forward(cpu, &inp, &weight);
                assert_bits(&format!("out, {n} x {c}, {name}"), &out, &want);
                assert_bits(&format!("rstd, {n} x {c}, {name}"), &rstd, &want_rstd);
            });
            assert_close("formula", &want, &naive_f64(&inp, &weight), 1e-6, 1e-30);
        }
    }
}

#[test]
fn forward_residual_is_an_addition_and_forward() {
    for &(n, c) in SHAPES {
        let (inp, residual) = (paint_wild(n * c, 251, 1e9), paint_wild(n * c, 257, 1e9));
        let weight = paint(c, 241);
        let want_sum: Vec<f32> = inp.iter().zip(&residual).map(|(x, r)| r + x).collect();
        let (want, want_rstd) = naive(&want_sum, &weight);
        each_cpu(|cpu, name| {
            let [sum, out, rstd] = run_residual(cpu, (&inp, &residual), &weight);
            assert_bits(&format!("sum, {n} x {c}, {name}"), &sum, &want_sum);
            assert_bits(&format!("out, {n} x {c}, {name}"), &out, &want);
            assert_bits(&format!("rstd, {n} x {c}, {name}"), &rstd, &want_rstd);
        });
    }
}

/// What the backward pass reads, and the gradients that it adds to.
pub struct Inputs<E> {
    pub dout: Vec<E>,
    pub inp: Vec<E>,
    pub weight: Vec<f32>,
    pub rstd: Vec<f32>,
    pub dinp: Vec<E>,
    pub dweight: Vec<f32>,
}

impl<E: Number> Inputs<E> {
    /// `rstd_of` computes `rstd` from the input and the weight.
    pub fn new(n: usize, c: usize, rstd_of: impl Fn(&[f32], &[f32]) -> Vec<f32>) -> Self {
        let (inp, weight) = (near(paint_wild(n * c, 251, 1e6)), paint(c, 241));
        let rstd = rstd_of(&as_f32(&inp), &weight);
        let (dout, dinp) = (near(paint(n * c, 239)), near(paint(n * c, 233)));
        Self { dout, inp, weight, rstd, dinp, dweight: paint(c, 229) }
    }

    /// `dinp` and `dweight` in f64.
    pub fn naive_f64(&self, c: usize) -> (Vec<f64>, Vec<f64>) {
        let (mut dinp, mut dweight) = (as_f64(&self.dinp), as_f64(&self.dweight));
        for n in 0..self.rstd.len() {
            let (dout, x) = (as_f64(&self.dout[n * c..][..c]), as_f64(&self.inp[n * c..][..c]));
            let mean = x.iter().map(|x| x * x).sum::<f64>() / c as f64;
            let rstd = 1.0 / (mean + f64::from(EPS)).sqrt();
            let g: Vec<f64> = dout.iter().zip(as_f64(&self.weight)).map(|(d, w)| d * w).collect();
            let dot: f64 = g.iter().zip(&x).map(|(g, x)| g * x).sum();
            for i in 0..c {
                dinp[n * c + i] += g[i] * rstd - x[i] * rstd.powi(3) * dot / c as f64;
                dweight[i] += dout[i] * x[i] * rstd;
            }
        }
        (dinp, dweight)
    }

    /// `dinp`, as f32, and `dweight`.
    pub fn run(&self, cpu: &Cpu, n: usize, c: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut dinp, mut dweight) = (self.dinp.clone(), self.dweight.clone());
        let args = Backward {
            dinp: ViewMut::of(&mut dinp, &[n, c]),
            dweight: ViewMut::of(&mut dweight, &[c]),
            dout: View::of(&self.dout, &[n, c]),
            inp: View::of(&self.inp, &[n, c]),
            weight: View::of(&self.weight, &[c]),
            rstd: View::of(&self.rstd, &[n]),
        };
        backward(cpu, args).unwrap();
        (as_f32(&dinp), dweight)
    }
}

/// `rstd` of f32 activations.
fn rstd_of(inp: &[f32], weight: &[f32]) -> Vec<f32> {
    naive(inp, weight).1
}

impl Inputs<f32> {
    /// `dinp` and `dweight`.
    fn naive(&self, c: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut dinp, mut dweight) = (self.dinp.clone(), self.dweight.clone());
        for (n, &rstd) in self.rstd.iter().enumerate() {
            let (dout, x) = (&self.dout[n * c..][..c], &self.inp[n * c..][..c]);
            let g: Vec<f32> = dout.iter().zip(&self.weight).map(|(d, w)| d * w).collect();
            let dot = row_sum(c, |i, p| g[i].mul_add(x[i], p));
            let scale = ((rstd * rstd) * rstd) * (dot / c as f32);
            for i in 0..c {
                dinp[n * c + i] += g[i].mul_add(rstd, -(x[i] * scale));
                dweight[i] = dout[i].mul_add(x[i] * rstd, dweight[i]);
            }
        }
        (dinp, dweight)
    }
}

#[test]
fn backward_keeps_the_contract() {
    for &(n, c) in SHAPES {
        let inputs = Inputs::new(n, c, rstd_of);
        let (want, want_weight) = inputs.naive(c);
        each_cpu(|cpu, name| {
            let (dinp, dweight) = inputs.run(cpu, n, c);
            assert_bits(&format!("dinp, {n} x {c}, {name}"), &dinp, &want);
            assert_bits(&format!("dweight, {n} x {c}, {name}"), &dweight, &want_weight);
        });
        let (exact, exact_weight) = inputs.naive_f64(c);
        assert_close("dinp", &want, &exact, 1e-5, 1.0);
        assert_close("dweight", &want_weight, &exact_weight, 1e-5, 10.0);
    }
}

#[test]
fn backward_in_two_halves_is_backward() {
    let (n, c) = (60, 515);
    let inputs = Inputs::new(n, c, rstd_of);
    let (whole, whole_weight) = inputs.run(&Cpu::new(Level::best(), 2).unwrap(), n, c);
    each_cpu(|cpu, name| {
        let (mut dinp, mut dweight) = (inputs.dinp.clone(), inputs.dweight.clone());
        for rows in [0..23, 23..60] {
            let part = |x| View::of(x, &[n, c]).rows(rows.clone());
            backward(
                cpu,
                Backward {
                    dinp: ViewMut::of(&mut dinp, &[n, c]).rows(rows.clone()),
                    dweight: ViewMut::of(&mut dweight, &[c]),
                    dout: part(&inputs.dout),
                    inp: part(&inputs.inp),
                    weight: View::of(&inputs.weight, &[c]),
                    rstd: View::of(&inputs.rstd, &[n]).rows(rows),
                },
            )
            .unwrap();
        }
        assert_bits(&format!("dinp, {name}"), &dinp, &whole);
        assert_bits(&format!("dweight, {name}"), &dweight, &whole_weight);
    });
}

#[test]
fn wrong_shapes_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (mut out, mut rstd, inp) = (nans(12), nans(3), paint(12, 7));
    let mut run = |rstd_len: usize, weight: &[f32]| {
        forward(
            &cpu,
            Forward {
                out: ViewMut::of(&mut out, &[3, 4]),
                rstd: ViewMut::of(&mut rstd[..rstd_len], &[rstd_len]),
                inp: View::of(&inp, &[3, 4]),
                weight: View::of(weight, &[weight.len()]),
                eps: EPS,
            },
        )
    };
    assert_eq!(run(2, &inp[..4]), refused("rmsnorm::forward rstd", &[3], &[2]));
    assert_eq!(run(3, &inp[..3]), refused("rmsnorm::forward weight", &[4], &[3]));
    assert_eq!(run(3, &inp[..4]), Ok(()));
    let mut dinp = paint(12, 5);
    let mut dweight = paint(4, 5);
    let args = Backward {
        dinp: ViewMut::of(&mut dinp, &[3, 4]),
        dweight: ViewMut::of(&mut dweight, &[4]),
        dout: View::of(&inp, &[4, 3]),
        inp: View::of(&inp, &[3, 4]),
        weight: View::of(&inp[..4], &[4]),
        rstd: View::of(&inp[..3], &[3]),
    };
    assert_eq!(backward(&cpu, args), refused("rmsnorm::backward dout", &[3, 4], &[4, 3]));
    let mut sum = nans(8);
    let args = ForwardResidual {
        out: ViewMut::of(&mut out, &[3, 4]),
        rstd: ViewMut::of(&mut rstd, &[3]),
        sum: ViewMut::of(&mut sum, &[2, 4]),
        residual: View::of(&inp, &[3, 4]),
        inp: View::of(&inp, &[3, 4]),
        weight: View::of(&inp[..4], &[4]),
        eps: EPS,
    };
    let wrong = refused("rmsnorm::forward_residual sum", &[3, 4], &[2, 4]);
    assert_eq!(forward_residual(&cpu, args), wrong);
}

/// They spoil their own row, as the formulas say, and no other.
#[test]
fn special_values_keep_the_contract() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45, 0.0];
    let (n, c) = (2 * specials.len(), 133);
    let (mut inp, weight) = (paint(n * c, 251), paint(c, 241));
    for (i, x) in specials.into_iter().enumerate() {
        inp[2 * i * c + 11 * i + 60] = x;
    }
    inp[10 * c..11 * c].fill(0.0);
    let (want, want_rstd) = naive(&inp, &weight);
    assert!(want[..c].iter().all(|x| x.is_nan()), "NaN shows");
    each_cpu(|cpu, name| {
        let (out, rstd) = run_forward(cpu, &inp, &weight);
        assert_bits(&format!("out, {name}"), &out, &want);
        assert_bits(&format!("rstd, {name}"), &rstd, &want_rstd);
        assert!(out.chunks(c).skip(1).step_by(2).flatten().all(|x| x.is_finite()), "{name}");
    });
    let mut inputs = Inputs::new(n, c, rstd_of);
    (inputs.inp, inputs.rstd) = (inp, want_rstd);
    let (want, want_weight) = inputs.naive(c);
    each_cpu(|cpu, name| {
        let (dinp, dweight) = inputs.run(cpu, n, c);
        assert_bits(&format!("dinp, {name}"), &dinp, &want);
        assert_bits(&format!("dweight, {name}"), &dweight, &want_weight);
    });
}

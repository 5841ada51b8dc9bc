//! SwiGLU and its gradients.

use neuroshard::ops::OpError;
use neuroshard::ops::swiglu::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::*;

/// Gates from -120 to 120: past both ends of the exponential.
fn inputs(n: usize, f: usize) -> (Vec<f32>, Vec<f32>) {
    let mut inp = paint_wild(n * 2 * f, 251, 120.0);
    for row in inp.chunks_mut((2 * f).max(1)) {
        row[..f].iter_mut().skip(1).step_by(3).for_each(|gate| *gate *= 6.0);
    }
    (inp, paint(n * f, 239))
}

fn naive_forward(inp: &[f32], f: usize) -> Vec<f32> {
    let row = |row: &[f32]| -> Vec<f32> {
        let value =
            |(&gate, &up): (&f32, &f32)| (gate * (1.0 / (1.0 + math::exp_scalar(-gate)))) * up;
        row[..f].iter().zip(&row[f..]).map(value).collect()
    };
    inp.chunks_exact(2 * f).flat_map(row).collect()
}

fn naive_backward(dout: &[f32], inp: &[f32], f: usize) -> Vec<f32> {
    let mut dinp = Vec::new();
    for (dout, row) in dout.chunks_exact(f).zip(inp.chunks_exact(2 * f)) {
        let s: Vec<f32> =
            row[..f].iter().map(|gate| 1.0 / (1.0 + math::exp_scalar(-gate))).collect();
        dinp.extend((0..f).map(|i| {
            let (gate, up) = (row[i], row[f + i]);
            (dout[i] * up) * (s[i] * gate.mul_add(1.0 - s[i], 1.0))
        }));
        dinp.extend((0..f).map(|i| dout[i] * (row[i] * s[i])));
    }
    dinp
}

#[test]
fn forward_keeps_the_contract() {
    for &(n, f) in SHAPES {
        let (inp, _) = inputs(n, f);
        let want = naive_forward(&inp, f);
        each_cpu(|cpu, name| {
            let mut out = nans(n * f);
            let (out_view, inp) = (ViewMut::of(&mut out, &[n, f]), View::of(&inp, &[n, 2 * f]));
            forward(cpu, Forward { out: out_view, inp }).unwrap();
            assert_bits(&format!("{n} x {f}, {name}"), &out, &want);
        });
        let exact: Vec<f64> = (0..n * f)
            .map(|i| {
                let at = i / f * 2 * f + i % f;
                let (gate, up) = (f64::from(inp[at]), f64::from(inp[at + f]));
                gate / (1.0 + (-gate).exp()) * up
            })
            .collect();
        assert_close("formula", &want, &exact, 1e-6, 1e-30);
    }
}

#[test]
fn backward_keeps_the_contract() {
    for &(n, f) in SHAPES {
        let (inp, dout) = inputs(n, f);
        let want = naive_backward(&dout, &inp, f);
        each_cpu(|cpu, name| {
            let mut dinp = nans(n * 2 * f);
            backward(
                cpu,
                Backward {
                    dinp: ViewMut::of(&mut dinp, &[n, 2 * f]),
                    dout: View::of(&dout, &[n, f]),
                    inp: View::of(&inp, &[n, 2 * f]),
                },
            )
            .unwrap();
            assert_bits(&format!("{n} x {f}, {name}"), &dinp, &want);
        });
        let mut exact = vec![0.0; n * 2 * f];
        for i in 0..n * f {
            let at = i / f * 2 * f + i % f;
            let [gate, up, dout] = [inp[at], inp[at + f], dout[i]].map(f64::from);
            let s = 1.0 / (1.0 + (-gate).exp());
            exact[at] = dout * up * s * (1.0 + gate * (1.0 - s));
            exact[at + f] = dout * gate * s;
        }
        assert_close("formula", &want, &exact, 2e-6, 1e-3);
    }
}

#[test]
fn bf16_is_widened_and_rounded() {
    for &(n, f) in SHAPES {
        let (inp, dout) = inputs(n, f);
        let (inp, dout) = (narrow(&inp), narrow(&dout));
        let (wide_inp, wide_dout) = (widened(&inp), widened(&dout));
        let exact = naive_forward(&wide_inp, f);
        let want = rounded(exact.clone());
        let want_gradient = rounded(naive_backward(&wide_dout, &wide_inp, f));
        each_cpu(|cpu, name| {
            let (mut out, mut dinp) = (bf16_nans(n * f), bf16_nans(n * 2 * f));
            let inp = View::of(&inp, &[n, 2 * f]);
            forward(cpu, Forward { out: ViewMut::of(&mut out, &[n, f]), inp }).unwrap();
            assert_bits(&format!("forward, {n} x {f}, {name}"), &widened(&out), &want);
            let (dinp_view, dout) = (ViewMut::of(&mut dinp, &[n, 2 * f]), View::of(&dout, &[n, f]));
            backward(cpu, Backward { dinp: dinp_view, dout, inp }).unwrap();
            assert_bits(&format!("backward, {n} x {f}, {name}"), &widened(&dinp), &want_gradient);
        });
        assert_close("rounding", &want, &wide(&exact), 1.0 / 256.0, 2e-38);
    }
}

#[test]
fn types_that_differ_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (mut out, inp) = (nans(6), narrow(&paint(12, 7)));
    let inp = View::of(&inp, &[3, 4]);
    let (want, got) = (DType::Bf16, DType::F32);
    let result = forward(&cpu, Forward { out: ViewMut::of(&mut out, &[3, 2]), inp });
    assert_eq!(result, Err(OpError::Place { what: "swiglu::forward out", want, got }));
    let (dinp, dout) = (&mut nans(12), nans(6));
    let (dinp, dout) = (ViewMut::of(dinp, &[3, 4]), View::of(&dout, &[3, 2]));
    let result = backward(&cpu, Backward { dinp, dout, inp });
    assert_eq!(result, Err(OpError::Place { what: "swiglu::backward dout", want, got }));
    let inp = View::of(&[7u32; 12], &[3, 4]);
    let result = forward(&cpu, Forward { out: ViewMut::of(&mut out, &[3, 2]), inp });
    let (want, got) = (DType::F32, DType::U32);
    assert_eq!(result, Err(OpError::Place { what: "swiglu::forward inp", want, got }));
}

#[test]
fn special_values_keep_the_contract() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45, -1e-39, 0.0, -0.0];
    let (n, f) = (1, specials.len().pow(2));
    let gates = (0..f).map(|i| specials[i / specials.len()]);
    let inp: Vec<f32> = gates.chain((0..f).map(|i| specials[i % specials.len()])).collect();
    let dout = paint(f, 251);
    let (want, want_gradient) = (naive_forward(&inp, f), naive_backward(&dout, &inp, f));
    assert!(want[..specials.len()].iter().all(|x| x.is_nan()), "NaN shows");
    each_cpu(|cpu, name| {
        let (mut out, mut dinp) = (nans(f), nans(2 * f));
        let inp = View::of(&inp, &[n, 2 * f]);
        forward(cpu, Forward { out: ViewMut::of(&mut out, &[n, f]), inp }).unwrap();
        assert_bits(&format!("forward, {name}"), &out, &want);
        let (dinp_view, dout) = (ViewMut::of(&mut dinp, &[n, 2 * f]), View::of(&dout, &[n, f]));
        backward(cpu, Backward { dinp: dinp_view, dout, inp }).unwrap();
        assert_bits(&format!("backward, {name}"), &dinp, &want_gradient);
    });
}

#[test]
fn wrong_shapes_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (mut out, inp) = (nans(6), paint(12, 7));
    let args = Forward { out: ViewMut::of(&mut out, &[3, 2]), inp: View::of(&inp, &[4, 3]) };
    assert_eq!(forward(&cpu, args), refused("swiglu::forward inp", &[3, 4], &[4, 3]));
    let (mut dinp, dout) = (nans(12), View::of(&inp[..6], &[3, 2]));
    let dinp = ViewMut::of(&mut dinp, &[6, 2]);
    let result = backward(&cpu, Backward { dinp, dout, inp: View::of(&inp, &[3, 4]) });
    assert_eq!(result, refused("swiglu::backward dinp", &[3, 4], &[6, 2]));
}

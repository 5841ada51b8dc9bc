//! Losses and gradients of the logits.

use half::bf16;
use neuroshard::ops::OpError;
use neuroshard::ops::cross_entropy::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::Element;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::*;

const SCALE: f32 = 1.0 / 37.0;

/// Logits that span more than the exponential does, and targets.
fn inputs(n: usize, v: usize) -> (Vec<f32>, Vec<u32>) {
    let mut logits = paint_wild(n * v, 251, 130.0);
    logits.iter_mut().skip(2).step_by(5).for_each(|x| *x *= 9.0);
    (logits, (0..n).map(|i| (i * 7919 % v) as u32).collect())
}

/// Losses and gradients.
fn naive(logits: &[f32], targets: &[u32], v: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut losses, mut dlogits) = (Vec::new(), Vec::new());
    for (x, &target) in logits.chunks_exact(v).zip(targets) {
        let m = x.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
        let e: Vec<f32> = x.iter().map(|x| math::exp_scalar(x - m)).collect();
        let sum = row_sum(v, |i, p| p + e[i]);
        losses.push((m + math::log(sum)) - x[target as usize]);
        let start = dlogits.len();
        dlogits.extend(e.iter().map(|e| e * (SCALE / sum)));
        dlogits[start + target as usize] -= SCALE;
    }
    (losses, dlogits)
}

fn naive_f64(logits: &[f32], targets: &[u32], v: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut losses, mut dlogits) = (Vec::new(), Vec::new());
    for (x, &target) in logits.chunks_exact(v).zip(targets) {
        let m = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x.into()));
        let sum: f64 = x.iter().map(|&x| (f64::from(x) - m).exp()).sum();
        losses.push(m + sum.ln() - f64::from(x[target as usize]));
        let start = dlogits.len();
        dlogits.extend(x.iter().map(|&x| (f64::from(x) - m).exp() / sum * f64::from(SCALE)));
        dlogits[start + target as usize] -= f64::from(SCALE);
    }
    (losses, dlogits)
}

fn run_backward<E: Element>(
    cpu: &Cpu,
    losses: &mut [f32],
    logits: &mut [E],
    targets: &[u32],
) -> Result<(), OpError> {
    let n = losses.len();
    let v = logits.len() / n.max(1);
    forward_backward(
        cpu,
        ForwardBackward {
            losses: ViewMut::of(losses, &[n]),
            logits: ViewMut::of(logits, &[n, v]),
            targets: View::of(targets, &[targets.len()]),
            scale: SCALE,
        },
    )
}

#[test]
fn both_forms_keep_the_contract() {
    for &(n, v) in SHAPES.iter().chain(&[(5, 4999), (3, 32_000)]) {
        let (logits, targets) = inputs(n, v);
        let (want, want_gradient) = naive(&logits, &targets, v);
        each_cpu(|cpu, name| {
            let mut losses = nans(n);
            forward(
                cpu,
                Forward {
                    losses: ViewMut::of(&mut losses, &[n]),
                    logits: View::of(&logits, &[n, v]),
                    targets: View::of(&targets, &[n]),
                },
            )
            .unwrap();
            assert_bits(&format!("forward, {n} x {v}, {name}"), &losses, &want);
            let (mut losses, mut gradient) = (nans(n), logits.clone());
            run_backward(cpu, &mut losses, &mut gradient, &targets).unwrap();
            assert_bits(&format!("losses, {n} x {v}, {name}"), &losses, &want);
            assert_bits(&format!("gradient, {n} x {v}, {name}"), &gradient, &want_gradient);
        });
        let (exact, exact_gradient) = naive_f64(&logits, &targets, v);
        assert_close("loss", &want, &exact, 1e-6, 100.0);
        assert_close("gradient", &want_gradient, &exact_gradient, 1e-6, 1e-2);
    }
}

/// Losses and gradients of bf16 logits.
fn naive_bf16(logits: &[bf16], targets: &[u32], v: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut losses, mut dlogits) = (Vec::new(), Vec::new());
    for (x, &target) in widened(logits).chunks_exact(v).zip(targets) {
        let m = x.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
        let e: Vec<f32> = x.iter().map(|x| math::exp_scalar(x - m)).collect();
        let sum = row_sum_of(2048, v, |i, p| p + e[i]);
        losses.push((m + math::log(sum)) - x[target as usize]);
        dlogits.extend(e.iter().enumerate().map(|(i, e)| {
            let d = e * (SCALE / sum);
            bf16::from_f32(if i == target as usize { d - SCALE } else { d }).to_f32()
        }));
    }
    (losses, dlogits)
}

#[test]
fn bf16_keeps_its_contract() {
    let turns = [(3, 2047), (2, 2048), (3, 2049), (2, 4096 + 40), (3, 32_000)];
    for &(n, v) in SHAPES.iter().chain(&turns) {
        let (logits, targets) = inputs(n, v);
        let logits = narrow(&logits);
        let (want, want_gradient) = naive_bf16(&logits, &targets, v);
        each_cpu(|cpu, name| {
            let mut losses = nans(n);
            let args = Forward {
                losses: ViewMut::of(&mut losses, &[n]),
                logits: View::of(&logits, &[n, v]),
                targets: View::of(&targets, &[n]),
            };
            forward(cpu, args).unwrap();
            assert_bits(&format!("forward, {n} x {v}, {name}"), &losses, &want);
            let (mut losses, mut gradient) = (nans(n), logits.clone());
            run_backward(cpu, &mut losses, &mut gradient, &targets).unwrap();
            assert_bits(&format!("losses, {n} x {v}, {name}"), &losses, &want);
            let what = format!("gradient, {n} x {v}, {name}");
            assert_bits(&what, &widened(&gradient), &want_gradient);
        });
        let (exact, exact_gradient) = naive_f64(&widened(&logits), &targets, v);
        assert_close("loss", &want, &exact, 1e-6, 100.0);
        assert_close("gradient", &want_gradient, &exact_gradient, 1.0 / 256.0, 1e-6);
    }
}

#[test]
fn types_are_checked() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (logits, targets) = inputs(3, 4);
    let mut losses = bf16_nans(3);
    let args = Forward {
        losses: ViewMut::of(&mut losses, &[3]),
        logits: View::of(&logits, &[3, 4]),
        targets: View::of(&targets, &[3]),
    };
    let (what, want, got) = ("cross_entropy::forward losses", DType::F32, DType::Bf16);
    assert_eq!(forward(&cpu, args), Err(OpError::Place { what, want, got }));
    let result = run_backward(&cpu, &mut nans(3), &mut [7u32; 12], &targets);
    let (what, got) = ("cross_entropy::forward_backward logits", DType::U32);
    assert_eq!(result, Err(OpError::Place { what, want, got }));
}

#[test]
fn numbers_that_are_none_show_in_the_loss() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    for (bad, at) in [(f32::NAN, 0), (f32::NAN, 299), (f32::INFINITY, 130)] {
        let (mut logits, targets) = inputs(1, 300);
        logits[at] = bad;
        let mut losses = [0.0];
        run_backward(&cpu, &mut losses, &mut logits, &targets).unwrap();
        assert!(losses[0].is_nan(), "{bad} at {at} gave a loss of {}", losses[0]);
    }
    for (bad, at) in [(f32::NAN, 0), (f32::NAN, 2999), (f32::INFINITY, 130)] {
        let (mut logits, targets) = inputs(1, 3000);
        logits[at] = bad;
        let (mut losses, mut logits) = ([0.0], narrow(&logits));
        run_backward(&cpu, &mut losses, &mut logits, &targets).unwrap();
        assert!(losses[0].is_nan(), "{bad} at {at} of bf16 gave a loss of {}", losses[0]);
    }
}

#[test]
fn a_target_outside_the_vocabulary_changes_nothing() {
    each_cpu(|cpu, name| {
        let (n, v) = (64, 300);
        let (logits, mut targets) = inputs(n, v);
        targets[41] = 300;
        let (mut losses, mut gradient) = (nans(n), logits.clone());
        let refused = |what| Err(OpError::Token { what, index: 41, token: 300, vocab: v });
        let result = run_backward(cpu, &mut losses, &mut gradient, &targets);
        assert_eq!(result, refused("cross_entropy::forward_backward targets"), "{name}");
        assert_bits("logits", &gradient, &logits);
        assert_bits("losses", &losses, &nans(n));
        let args = Forward {
            losses: ViewMut::of(&mut losses, &[n]),
            logits: View::of(&logits, &[n, v]),
            targets: View::of(&targets, &[n]),
        };
        assert_eq!(forward(cpu, args), refused("cross_entropy::forward targets"), "{name}");
        assert_bits("losses", &losses, &nans(n));
    });
}

#[test]
fn wrong_shapes_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (logits, targets) = inputs(3, 4);
    let mut losses = nans(2);
    let args = Forward {
        losses: ViewMut::of(&mut losses, &[2]),
        logits: View::of(&logits, &[3, 4]),
        targets: View::of(&targets, &[3]),
    };
    assert_eq!(forward(&cpu, args), refused("cross_entropy::forward losses", &[3], &[2]));
    let (mut losses, mut logits) = (nans(3), logits);
    let result = run_backward(&cpu, &mut losses, &mut logits, &targets[..2]);
    assert_eq!(result, refused("cross_entropy::forward_backward targets", &[3], &[2]));
}

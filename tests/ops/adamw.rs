//! AdamW.

use neuroshard::ops::OpError;
use neuroshard::ops::adamw::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::*;

const SCALARS: Scalars = Scalars {
    grad_scale: 0.7,
    beta1: 0.9,
    one_minus_beta1: 0.1,
    beta2: 0.95,
    one_minus_beta2: 0.05,
    step_size: 1.3e-3,
    inv_sqrt_bias2: 1.7,
    eps: 1e-8,
    decay: 0.9999,
};

/// Weights, first moments, second moments.
type State = [Vec<f32>; 3];

fn start(n: usize) -> (State, Vec<f32>) {
    let v = paint(n, 241).into_iter().map(|x| x * x).collect();
    ([paint(n, 251), paint(n, 239), v], paint_wild(n, 233, 1e6))
}

fn naive([param, m, v]: &mut State, grad: &[f32], s: &Scalars) {
    for i in 0..grad.len() {
        let g = grad[i] * s.grad_scale;
        m[i] = s.beta1.mul_add(m[i], s.one_minus_beta1 * g);
        v[i] = s.beta2.mul_add(v[i], (s.one_minus_beta2 * g) * g);
        let denom = v[i].sqrt() * s.inv_sqrt_bias2 + s.eps;
        param[i] = (-s.step_size).mul_add(m[i] / denom, param[i] * s.decay);
    }
}

fn run(cpu: &Cpu, [param, m, v]: &mut State, grad: &[f32]) -> Result<(), OpError> {
    let shape = [grad.len()];
    step(
        cpu,
        Step {
            param: ViewMut::of(param, &shape),
            m: ViewMut::of(m, &shape),
            v: ViewMut::of(v, &shape),
            grad: View::of(grad, &shape),
            scalars: SCALARS,
        },
    )
}

#[test]
fn steps_keep_the_contract() {
    for n in SHAPES.iter().map(|(rows, columns)| rows * columns) {
        let (before, grad) = start(n);
        let mut want = before.clone();
        naive(&mut want, &grad, &SCALARS);
        naive(&mut want, &grad, &SCALARS);
        each_cpu(|cpu, name| {
            let mut state = before.clone();
            run(cpu, &mut state, &grad).unwrap();
            run(cpu, &mut state, &grad).unwrap();
            for (what, (got, want)) in ["param", "m", "v"].iter().zip(state.iter().zip(&want)) {
                assert_bits(&format!("{what}, {n}, {name}"), got, want);
            }
        });
    }
}

#[test]
fn a_step_is_that_of_the_paper() {
    let n = 1031;
    let ([param, m, v], grad) = start(n);
    let mut state = [param.clone(), m.clone(), v.clone()];
    naive(&mut state, &grad, &SCALARS);
    let wide = |x: f32| f64::from(x);
    let (mut exact_m, mut exact_v) = (Vec::new(), Vec::new());
    let exact: Vec<f64> = (0..n)
        .map(|i| {
            let g = wide(grad[i]) * wide(SCALARS.grad_scale);
            let m = wide(SCALARS.beta1) * wide(m[i]) + wide(SCALARS.one_minus_beta1) * g;
            let v = wide(SCALARS.beta2) * wide(v[i]) + wide(SCALARS.one_minus_beta2) * g * g;
            exact_m.push(m);
            exact_v.push(v);
            let denom = v.sqrt() * wide(SCALARS.inv_sqrt_bias2) + wide(SCALARS.eps);
            wide(param[i]) * wide(SCALARS.decay) - wide(SCALARS.step_size) * m / denom
        })
        .collect();
    assert_close("param", &state[0], &exact, 1e-6, 1e-3);
    assert_close("m", &state[1], &exact_m, 1e-6, 1.0);
    assert_close("v", &state[2], &exact_v, 1e-6, 1e-30);
}

/// NaN, infinities and subnormal numbers in each argument stay in their element.
#[test]
fn special_values_keep_the_contract() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45, -1e-39, 0.0];
    let n = 4 * specials.len() + 40;
    let (mut before, mut grad) = start(n);
    for (i, x) in specials.into_iter().enumerate() {
        let [param, m, v] = &mut before;
        for (which, numbers) in [param, m, v, &mut grad].into_iter().enumerate() {
            numbers[4 * i + which] = x;
        }
    }
    let mut want = before.clone();
    naive(&mut want, &grad, &SCALARS);
    assert!((0..4).all(|at| want[0][at].is_nan()), "NaN shows in the weights");
    assert!(want[0][4 * specials.len()..].iter().all(|x| x.is_finite()));
    each_cpu(|cpu, name| {
        let mut state = before.clone();
        run(cpu, &mut state, &grad).unwrap();
        for (what, (got, want)) in ["param", "m", "v"].iter().zip(state.iter().zip(&want)) {
            assert_bits(&format!("{what}, {name}"), got, want);
        }
    });
}

#[test]
fn wrong_shapes_and_types_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let x = paint(8, 7);
    let run = |lens: [usize; 3], grad: View<'_>| {
        let [mut param, mut m, mut v] = lens.map(|n| x[..n].to_vec());
        let args = Step {
            param: ViewMut::of(&mut param, &lens[..1]),
            m: ViewMut::of(&mut m, &lens[1..2]),
            v: ViewMut::of(&mut v, &lens[2..]),
            grad,
            scalars: SCALARS,
        };
        step(&cpu, args)
    };
    let grad = View::of(&x[..6], &[6]);
    assert_eq!(run([6, 6, 6], grad), Ok(()));
    assert_eq!(run([6, 7, 6], grad), refused("adamw::step m", &[6], &[7]));
    assert_eq!(run([6, 6, 5], grad), refused("adamw::step v", &[6], &[5]));
    assert_eq!(run([8, 8, 8], grad), refused("adamw::step grad", &[8], &[6]));
    let (what, want, got) = ("adamw::step grad", DType::F32, DType::U32);
    let result = run([6, 6, 6], View::of(&[0u32; 6], &[6]));
    assert_eq!(result, Err(OpError::Place { what, want, got }));
}

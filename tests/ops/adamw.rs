//! AdamW.

use half::bf16;
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
};

const DECAY: f32 = 0.9999;

/// Weights, first moments, second moments.
type State = [Vec<f32>; 3];

fn start(n: usize) -> (State, Vec<f32>) {
    let v = paint(n, 241).into_iter().map(|x| x * x).collect();
    ([paint(n, 251), paint(n, 239), v], paint_wild(n, 233, 1e6))
}

fn naive([param, m, v]: &mut State, grad: &[f32], s: &Scalars) {
    naive_decaying([param, m, v], grad, s, DECAY);
}

fn naive_decaying([param, m, v]: [&mut Vec<f32>; 3], grad: &[f32], s: &Scalars, decay: f32) {
    for i in 0..grad.len() {
        let g = grad[i] * s.grad_scale;
        m[i] = s.beta1.mul_add(m[i], s.one_minus_beta1 * g);
        v[i] = s.beta2.mul_add(v[i], (s.one_minus_beta2 * g) * g);
        let denom = v[i].sqrt() * s.inv_sqrt_bias2 + s.eps;
        param[i] = (-s.step_size).mul_add(m[i] / denom, param[i] * decay);
    }
}

fn tensors<'a>([param, m, v]: &'a mut State, grad: &'a [f32]) -> Tensors<'a> {
    let shape = [grad.len()];
    Tensors {
        param: ViewMut::of(param, &shape),
        m: ViewMut::of(m, &shape),
        v: ViewMut::of(v, &shape),
        grad: View::of(grad, &shape),
        copy: None,
        decay: DECAY,
    }
}

fn run(cpu: &Cpu, state: &mut State, grad: &[f32]) -> Result<(), OpError> {
    update(cpu, &mut [tensors(state, grad)], SCALARS)
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
            wide(param[i]) * wide(DECAY) - wide(SCALARS.step_size) * m / denom
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

/// Tensors of every length in one call, every other one with a copy, every third one not decaying.
#[test]
fn many_tensors_move_as_each_alone() {
    let lens: Vec<usize> = SHAPES.iter().map(|(rows, columns)| rows * columns).collect();
    let starts: Vec<_> = lens.iter().map(|&n| start(n)).collect();
    let decay = |i: usize| if i.is_multiple_of(3) { 1.0 } else { DECAY };
    let want = starts.iter().enumerate().map(|(i, (state, grad))| {
        let [mut param, mut m, mut v] = state.clone();
        naive_decaying([&mut param, &mut m, &mut v], grad, &SCALARS, decay(i));
        [param, m, v]
    });
    let want: Vec<State> = want.collect();
    each_cpu(|cpu, name| {
        let mut got: Vec<State> = starts.iter().map(|(state, _)| state.clone()).collect();
        let mut copies: Vec<_> = lens.iter().map(|&n| vec![bf16::NAN; n]).collect();
        let all = got.iter_mut().zip(&starts).zip(&mut copies).enumerate();
        let mut all: Vec<_> = all
            .map(|(i, ((state, (_, grad)), copy))| Tensors {
                copy: i.is_multiple_of(2).then(|| ViewMut::of(copy, &[grad.len()])),
                decay: decay(i),
                ..tensors(state, grad)
            })
            .collect();
        update(cpu, &mut all, SCALARS).unwrap();
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            for (what, (got, want)) in ["param", "m", "v"].iter().zip(got.iter().zip(want)) {
                assert_bits(&format!("{what} of tensor {i}, {name}"), got, want);
            }
            let rounded: Vec<bf16> = match i % 2 {
                0 => want[0].iter().map(|&x| bf16::from_f32(x)).collect(),
                _ => vec![bf16::NAN; lens[i]],
            };
            assert!(bits_of(&copies[i]) == bits_of(&rounded), "copy of tensor {i}, {name}");
        }
    });
}

#[test]
fn wrong_shapes_and_types_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let x = paint(8, 7);
    let run = |lens: [usize; 3], grad: View<'_>, copy: Option<ViewMut<'_>>| {
        let [mut param, mut m, mut v] = lens.map(|n| x[..n].to_vec());
        let args = Tensors {
            param: ViewMut::of(&mut param, &lens[..1]),
            m: ViewMut::of(&mut m, &lens[1..2]),
            v: ViewMut::of(&mut v, &lens[2..]),
            grad,
            copy,
            decay: 1.0,
        };
        update(&cpu, &mut [args], SCALARS)
    };
    let grad = View::of(&x[..6], &[6]);
    let mut copy = [bf16::ZERO; 6];
    assert_eq!(run([6, 6, 6], grad, Some(ViewMut::of(&mut copy, &[6]))), Ok(()));
    assert_eq!(run([6, 7, 6], grad, None), refused("adamw::update m", &[6], &[7]));
    assert_eq!(run([6, 6, 5], grad, None), refused("adamw::update v", &[6], &[5]));
    assert_eq!(run([8, 8, 8], grad, None), refused("adamw::update grad", &[8], &[6]));
    let short = Some(ViewMut::of(&mut copy[..5], &[5]));
    assert_eq!(run([6, 6, 6], grad, short), refused("adamw::update copy", &[6], &[5]));
    let (what, want, got) = ("adamw::update grad", DType::F32, DType::U32);
    let result = run([6, 6, 6], View::of(&[0u32; 6], &[6]), None);
    assert_eq!(result, Err(OpError::Place { what, want, got }));
    let (what, want, got) = ("adamw::update copy", DType::Bf16, DType::F32);
    let result = run([6, 6, 6], grad, Some(ViewMut::of(&mut [0.0f32; 6], &[6])));
    assert_eq!(result, Err(OpError::Place { what, want, got }));
}

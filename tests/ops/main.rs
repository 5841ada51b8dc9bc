//! Every operation: each level and thread count against plain scalar code that follows
//! docs/ARITHMETIC.md, to the bit, and against f64 formulas.

mod adamw;
mod attention;
mod bf16_dot;
mod chain;
mod cross_entropy;
mod digest;
mod elementwise;
mod embedding;
mod matmul;
mod norm;
mod rmsnorm;
mod rope;
mod swiglu;
mod tc_attention;
mod tc_matmul;
mod tc_rmsnorm;

use std::sync::OnceLock;

use half::bf16;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::backend::cpu::math;
use neuroshard::ops::OpError;
use neuroshard::tensor::Element;

/// Rows by columns, each for a reason.
const SHAPES: &[(usize, usize)] = &[
    (0, 5),     // nothing
    (1, 1),     // one
    (3, 7),     // below a vector
    (5, 8),     // one vector of eight
    (2, 16),    // one vector of sixteen
    (7, 17),    // above a vector
    (4, 29),    // a tail greater than one
    (3, 127),   // below a turn of the row sum's partials
    (5, 128),   // at it
    (6, 129),   // above it
    (2, 257),   // two turns and one
    (129, 768), // a model's
    (67, 1031), // large, and sharing no factor with anything
    (1021, 64), // many short rows
];

/// Calls `test` with kernels of every level on 1, 2, 3 and 8 threads.
fn each_cpu(test: impl Fn(&Cpu, &str)) {
    static CPUS: OnceLock<Vec<(Cpu, String)>> = OnceLock::new();
    let start = || {
        let pairs = Level::available().into_iter().flat_map(|l| [1, 2, 3, 8].map(|t| (l, t)));
        let name = |level, threads| format!("{level}, {threads} threads");
        pairs.map(|(l, t)| (Cpu::new(l, t).unwrap(), name(l, t))).collect()
    };
    CPUS.get_or_init(start).iter().for_each(|(cpu, name)| test(cpu, name));
}

/// `n` numbers of a prime period, of size up to 1, with some subnormal ones and zeros of both signs.
fn paint(n: usize, period: usize) -> Vec<f32> {
    let number = |i: usize| {
        let x = ((i * 7919 % period) as f32 + 0.5) / period as f32 * 2.0 - 1.0;
        match i * 31 % period {
            3 => x * 1e-39,
            5 => -0.0,
            7 => 0.0,
            11 => x * 1e-20,
            _ => x,
        }
    };
    (0..n).map(number).collect()
}

/// As [`paint`], with some numbers of up to `largest`.
fn paint_wild(n: usize, period: usize, largest: f32) -> Vec<f32> {
    let mut x = paint(n, period);
    for (i, x) in x.iter_mut().enumerate() {
        *x *= match i * 17 % period {
            2 | 13 => largest,
            19 | 20 => largest.sqrt(),
            _ => 1.0,
        };
    }
    x
}

/// What activations are made of.
trait Number: Element {
    /// Nothing that may be read.
    const NAN: Self;
    /// The nearest to `x`.
    fn near(x: f32) -> Self;
    /// The same as f32.
    fn wide(self) -> f32;
}

impl Number for f32 {
    const NAN: Self = f32::NAN;
    fn near(x: f32) -> Self {
        x
    }
    fn wide(self) -> f32 {
        self
    }
}

impl Number for bf16 {
    const NAN: Self = bf16::NAN;
    fn near(x: f32) -> Self {
        bf16::from_f32(x)
    }
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// The nearest numbers to `x`.
fn near<E: Number>(x: Vec<f32>) -> Vec<E> {
    x.into_iter().map(E::near).collect()
}

/// The same as f32.
fn as_f32<E: Number>(x: &[E]) -> Vec<f32> {
    x.iter().map(|x| x.wide()).collect()
}

/// The same in f64.
fn as_f64<E: Number>(x: &[E]) -> Vec<f64> {
    x.iter().map(|x| f64::from(x.wide())).collect()
}

/// `n` numbers that must not be read.
fn nans(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

/// Equal bits; any NaN equals any other.
fn assert_bits(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
        assert!(same, "{what}: [{i}] is {got:e}, not {want:e}");
    }
}

/// The bits of bf16 numbers.
fn bits_of(x: &[bf16]) -> Vec<u16> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Within `tolerance` of `want`, relative to the larger of it and `floor`.
fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64, floor: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let bound = tolerance * want.abs().max(floor);
        let off = (f64::from(got) - want).abs();
        assert!(off <= bound, "{what}: [{i}] is {got:e}, not {want:e}: off by {off:e}");
    }
}

/// What an operation answers to a wrong shape.
fn refused(what: &'static str, want: &[usize], got: &[usize]) -> Result<(), OpError> {
    Err(OpError::Shape { what, want: want.to_vec(), got: got.to_vec() })
}

/// The same numbers in f64.
fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Rounded to bf16: nearest even, subnormals kept.
fn narrow(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&x| bf16::from_f32(x)).collect()
}

/// bf16 numbers as f32.
fn widened(x: &[bf16]) -> Vec<f32> {
    x.iter().map(|x| x.to_f32()).collect()
}

/// The numbers of bf16 that are nearest to `x`, as f32.
fn rounded(x: Vec<f32>) -> Vec<f32> {
    widened(&narrow(&x))
}

/// `n` bf16 numbers that must not be read.
fn bf16_nans(n: usize) -> Vec<bf16> {
    vec![bf16::NAN; n]
}

/// The contract's row sum of `count` steps: `step(i, partial)` is the partial after element `i`.
fn row_sum(count: usize, step: impl Fn(usize, f32) -> f32) -> f32 {
    row_sum_of(128, count, step)
}

/// As [`row_sum`], with another number of partials.
fn row_sum_of(partials: usize, count: usize, step: impl Fn(usize, f32) -> f32) -> f32 {
    let mut sums = vec![0.0f32; partials];
    for i in 0..count {
        sums[i % partials] = step(i, sums[i % partials]);
    }
    let mut width = partials / 2;
    while width > 0 {
        for p in 0..width {
            sums[p] += sums[p + width];
        }
        width /= 2;
    }
    sums[0]
}

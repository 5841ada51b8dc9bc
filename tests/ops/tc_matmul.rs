//! Matrix products of the `tc` profile: chains of a tensor core's sums.

use half::bf16;
use neuroshard::backend::cpu::tc::sum;
use neuroshard::ops::OpError;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::ops::matmul::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::matmul::Inputs;
use crate::matmul::NAMES;
use crate::matmul::Products;
use crate::matmul::assert_products;
use crate::*;

pub const CORES: [TensorCore; 2] = [TensorCore::Hopper, TensorCore::Ampere];

/// N, I, O.
const EXTENTS: &[[usize; 3]] = &[
    [0, 3, 4],      // no row
    [3, 0, 4],      // no column of the input
    [3, 4, 0],      // no column of the output
    [1, 1, 1],      // one
    [1, 37, 65],    // one row: generation
    [5, 7, 3],      // odd, below a group
    [4, 16, 16],    // whole groups and vectors
    [6, 24, 32],    // half a group, two vectors
    [13, 33, 34],   // above two vectors
    [2, 129, 31],   // past a block of k
    [40, 256, 50],  // two blocks
    [35, 100, 103], // sharing no factor
];

/// Larger than what is packed at a time; outputs are sampled.
const LARGE: &[[usize; 3]] = &[[1100, 130, 70], [70, 1031, 300], [33, 520, 1201]];

impl Inputs<bf16> {
    fn naive(&self, core: TensorCore, start: Start, product: usize, at: usize) -> f32 {
        let (a, b) = self.factors(product, at);
        let chain = sum::chain(core, 0.0, &a, &b);
        match (product, start) {
            (0 | 1, _) => bf16::from_f32(chain).to_f32(),
            (_, Start::Zero) => chain,
            (_, Start::Existing) => self.dweight[at] + chain,
        }
    }

    fn all_naive(&self, core: TensorCore, start: Start) -> Products {
        let all = |p| (0..self.len(p)).map(|at| self.naive(core, start, p, at)).collect();
        [all(0), all(1), all(2)]
    }

    /// Output `at` against the sum in f64.
    ///
    /// A group cuts each of its terms and the sum's end, all toward zero: less than `G + 1` units
    /// of 2^-F and one of 2^-23, each of the largest exponent there, which no sum of the
    /// magnitudes so far lies below; a bf16 result is off by 2^-8 of itself once more.
    fn assert_near(&self, core: TensorCore, product: usize, at: usize, got: f32) {
        let (a, b) = self.factors(product, at);
        let terms = || a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        let start = if product == 2 { f64::from(self.dweight[at]) } else { 0.0 };
        let exact = start + terms().sum::<f64>();
        let sum_abs = start.abs() + terms().map(f64::abs).sum::<f64>();
        let groups = terms().count().div_ceil(core.group()) as f64;
        let cuts = (core.group() + 1) as f64 * 0.5f64.powi(core.fraction_bits()) + 0.5f64.powi(23);
        let rounding = if product == 2 { 0.5f64.powi(24) } else { 0.5f64.powi(8) };
        let bound = (1.01 * groups * cuts + rounding) * sum_abs + groups * 1e-36;
        let off = (f64::from(got) - exact).abs();
        let place = format!("{}, {core:?}, {:?} [{at}]", NAMES[product], self.extents);
        assert!(off <= bound, "{place}: {got:e}, not {exact:e}: off by {off:e} of {bound:e}");
    }
}

#[test]
fn products_keep_the_contract() {
    for (i, &extents) in EXTENTS.iter().enumerate() {
        let inputs = Inputs::<bf16>::new(extents, 1e3);
        let start = if i % 2 == 0 { Start::Existing } else { Start::Zero };
        for core in CORES {
            let want = inputs.all_naive(core, start);
            each_cpu(|cpu, name| {
                let got = inputs.run(cpu, Precision::Tc(core), start);
                assert_products(&format!("{extents:?}, {core:?}, {name}"), &got, &want);
            });
            let existing = inputs.all_naive(core, Start::Existing);
            for (product, got) in existing.iter().enumerate() {
                for (at, &got) in got.iter().enumerate() {
                    inputs.assert_near(core, product, at, got);
                }
            }
        }
    }
}

/// Exponents so wide that the vectors leave some outputs to the integers: products below 2^-101,
/// above 2^90, subnormal and infinite sums.
#[test]
fn wide_exponents_keep_it() {
    let extents = [18, 70, 37];
    for (low, high) in [(1e-22f32, 1e-14f32), (1e-36, 1e36), (1e16, 1e19), (1e-38, 1e-5)] {
        let mut inputs = Inputs::<bf16>::new(extents, 1.0);
        let steps = (high / low).ln() / 250.0;
        for x in [&mut inputs.inp, &mut inputs.weight, &mut inputs.dout] {
            for (i, x) in x.iter_mut().enumerate() {
                let size = low * (steps * (i * 37 % 251) as f32).exp();
                *x = bf16::from_f32(x.to_f32() * size);
            }
        }
        for core in CORES {
            let want = inputs.all_naive(core, Start::Zero);
            each_cpu(|cpu, name| {
                let got = inputs.run(cpu, Precision::Tc(core), Start::Zero);
                assert_products(&format!("{low:e}..{high:e}, {core:?}, {name}"), &got, &want);
            });
        }
    }
}

#[test]
fn products_larger_than_any_block_keep_it() {
    for (&extents, core) in LARGE.iter().flat_map(|e| CORES.map(|core| (e, core))) {
        let inputs = Inputs::<bf16>::new(extents, 10.0);
        let mut first: Option<Products> = None;
        for level in Level::available() {
            for threads in [1, 3] {
                let cpu = Cpu::new(level, threads).unwrap();
                let got = inputs.run(&cpu, Precision::Tc(core), Start::Existing);
                let name = format!("{extents:?}, {core:?}, {level}, {threads} threads");
                match &first {
                    Some(first) => assert_products(&name, &got, first),
                    None => first = Some(got),
                }
            }
        }
        for (product, got) in first.iter().flatten().enumerate() {
            for at in (0..got.len()).step_by(got.len() / 199).chain([got.len() - 1]) {
                let want = inputs.naive(core, Start::Existing, product, at);
                let place = format!("{}, {extents:?}, {core:?} [{at}]", NAMES[product]);
                assert_bits(&place, &got[at..=at], &[want]);
            }
        }
    }
}

/// NaN and infinities, beside zeros, too; numbers that overflow.
#[test]
fn special_values_keep_it() {
    for special in [0x7f81, 0x7f80, 0xff80, 0x7f7f, 0x0001].map(bf16::from_bits) {
        let mut inputs = Inputs::<bf16>::new([9, 35, 21], 1.0);
        let arrays = [&mut inputs.inp, &mut inputs.weight, &mut inputs.dout];
        arrays.into_iter().enumerate().for_each(|(i, x)| x[20 + 31 * i] = special);
        for core in CORES {
            let want = inputs.all_naive(core, Start::Existing);
            each_cpu(|cpu, name| {
                let got = inputs.run(cpu, Precision::Tc(core), Start::Existing);
                assert_products(&format!("{special}, {core:?}, {name}"), &got, &want);
            });
            let shows = want.iter().all(|product| product.iter().any(|x| x.is_nan()));
            assert!(shows || !special.is_nan(), "{special} was lost, {core:?}");
        }
    }
}

/// The two cores differ, and both from a chain of FMAs: else these tests could not tell them.
#[test]
fn cores_differ() {
    let inputs = Inputs::<bf16>::new([128, 16, 8], 1.0);
    let [hopper, ampere] = CORES.map(|core| inputs.all_naive(core, Start::Zero)[2].clone());
    assert!(hopper != ampere);
    let fma = |at| {
        let (a, b) = inputs.factors(2, at);
        a.iter().zip(&b).fold(0.0f32, |sum, (a, b)| a.to_f32().mul_add(b.to_f32(), sum))
    };
    let fma: Vec<f32> = (0..hopper.len()).map(fma).collect();
    assert!(hopper != fma && ampere != fma);
}

#[test]
fn other_types_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (x, mut out) = (paint(12, 7), nans(6));
    let precision = Precision::Tc(TensorCore::Hopper);
    let (inp, weight) = (View::of(&x, &[3, 4]), View::of(&x[..8], &[2, 4]));
    let args = Forward { out: ViewMut::of(&mut out, &[3, 2]), inp, weight, precision };
    let (what, want, got) = ("matmul::forward inp", DType::Bf16, DType::F32);
    assert_eq!(forward(&cpu, args), Err(OpError::Place { what, want, got }));
}

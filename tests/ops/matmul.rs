//! Matrix products in three layouts and two precisions.

use neuroshard::ops::OpError;
use neuroshard::ops::Precision;
use neuroshard::ops::matmul::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::chain::Chain;
use crate::chain::bound;
use crate::*;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// N, I, O.
const EXTENTS: &[[usize; 3]] = &[
    [0, 3, 4],      // no row
    [3, 0, 4],      // no column of the input
    [3, 4, 0],      // no column of the output
    [1, 1, 1],      // one
    [1, 37, 65],    // one row: generation
    [5, 7, 3],      // odd, below a vector
    [4, 8, 16],     // whole vectors
    [6, 16, 32],    // two vectors
    [13, 33, 34],   // above two vectors
    [2, 129, 31],   // a tail greater than one
    [30, 256, 100], // a block of k
    [17, 515, 65],  // past it
    [130, 64, 33],  // many rows
    [97, 101, 103], // sharing no factor
];

/// Larger than any block of the kernels; outputs are sampled.
const LARGE: &[[usize; 3]] = &[[259, 1031, 771], [640, 384, 512], [37, 2051, 4099]];

/// The three products' inputs, and the gradient that the third adds to.
pub struct Inputs<E> {
    pub extents: [usize; 3],
    pub inp: Vec<E>,
    pub weight: Vec<E>,
    pub dout: Vec<E>,
    pub dweight: Vec<f32>,
}

/// `out`, `dinp`, `dweight`, as f32.
pub type Products = [Vec<f32>; 3];
pub const NAMES: [&str; 3] = ["forward", "backward_input", "backward_weight"];

impl<E: Number> Inputs<E> {
    pub fn new(extents: [usize; 3], largest: f32) -> Self {
        let [n, i, o] = extents;
        let inp = near(paint_wild(n * i, 251, largest));
        let weight = near(paint_wild(o * i, 241, largest));
        Self { extents, inp, weight, dout: near(paint(n * o, 239)), dweight: paint(o * i, 233) }
    }

    /// All three products; weight gradients begin as `start` says.
    pub fn run(&self, cpu: &Cpu, precision: Precision, start: Start) -> Products {
        let [n, i, o] = self.extents;
        let (mut out, mut dinp) = (vec![E::NAN; n * o], vec![E::NAN; n * i]);
        let mut dweight = self.dweight.clone();
        let (inp, weight) = (View::of(&self.inp, &[n, i]), View::of(&self.weight, &[o, i]));
        let dout = View::of(&self.dout, &[n, o]);
        let args = Forward { out: ViewMut::of(&mut out, &[n, o]), inp, weight, precision };
        forward(cpu, args).unwrap();
        let dinp_view = ViewMut::of(&mut dinp, &[n, i]);
        backward_input(cpu, BackwardInput { dinp: dinp_view, dout, weight, precision }).unwrap();
        let dweight_view = ViewMut::of(&mut dweight, &[o, i]);
        let args = BackwardWeight { dweight: dweight_view, dout, inp, precision, start };
        backward_weight(cpu, args).unwrap();
        [as_f32(&out), as_f32(&dinp), dweight]
    }

    /// Number of outputs of a product.
    pub fn len(&self, product: usize) -> usize {
        let [n, i, o] = self.extents;
        [n * o, n * i, o * i][product]
    }

    /// Factors, in order, of output `at` of a product.
    pub fn factors(&self, product: usize, at: usize) -> (Vec<E>, Vec<E>) {
        let [n, i, o] = self.extents;
        let (inp, weight, dout) = (&self.inp, &self.weight, &self.dout);
        let width = if product == 0 { o } else { i };
        let (row, column) = (at / width, at % width);
        match product {
            0 => (0..i).map(|k| (inp[row * i + k], weight[column * i + k])).unzip(),
            1 => (0..o).map(|k| (dout[row * o + k], weight[k * i + column])).unzip(),
            _ => (0..n).map(|k| (dout[k * o + row], inp[k * i + column])).unzip(),
        }
    }
}

impl Inputs<f32> {
    /// Start and factors, in order, of output `at` of a product.
    fn terms(&self, product: usize, at: usize) -> (f32, Vec<(f32, f32)>) {
        let start = if product == 2 { self.dweight[at] } else { 0.0 };
        let (a, b) = self.factors(product, at);
        (start, a.into_iter().zip(b).collect())
    }

    fn naive(&self, precision: Precision, product: usize, at: usize) -> f32 {
        let (start, terms) = self.terms(product, at);
        let mut chain = Chain::new(precision, start);
        terms.into_iter().for_each(|(a, b)| chain.add(a, b));
        chain.end()
    }

    fn all_naive(&self, precision: Precision) -> Products {
        let all = |p| (0..self.len(p)).map(|at| self.naive(precision, p, at)).collect();
        [all(0), all(1), all(2)]
    }

    /// Output `at` against the sum in f64.
    fn assert_near(&self, precision: Precision, product: usize, at: usize, got: f32) {
        let (start, terms) = self.terms(product, at);
        let terms = || terms.iter().map(|&(a, b)| f64::from(a) * f64::from(b));
        let exact = f64::from(start) + terms().sum::<f64>();
        let sum_abs = f64::from(start).abs() + terms().map(f64::abs).sum::<f64>();
        let (bound, off) = (bound(precision, terms().count(), sum_abs), f64::from(got) - exact);
        let (name, extents) = (NAMES[product], self.extents);
        let place = format!("{name}, {precision:?}, {extents:?} [{at}]");
        assert!(off.abs() <= bound, "{place}: {got:e}, not {exact:e}: off by {off:e} of {bound:e}");
    }
}

pub fn assert_products(what: &str, got: &Products, want: &Products) {
    for (name, (got, want)) in NAMES.iter().zip(got.iter().zip(want)) {
        assert_bits(&format!("{name}, {what}"), got, want);
    }
}

#[test]
fn products_keep_the_contract() {
    for &extents in EXTENTS {
        let inputs = Inputs::<f32>::new(extents, 1e3);
        for precision in PRECISIONS {
            let want = inputs.all_naive(precision);
            each_cpu(|cpu, name| {
                let got = inputs.run(cpu, precision, Start::Existing);
                assert_products(&format!("{extents:?}, {precision:?}, {name}"), &got, &want);
            });
            for (product, want) in want.iter().enumerate() {
                for (at, &want) in want.iter().enumerate() {
                    inputs.assert_near(precision, product, at, want);
                }
            }
        }
    }
}

#[test]
fn products_larger_than_any_block_keep_it() {
    for (&extents, precision) in LARGE.iter().flat_map(|e| PRECISIONS.map(|p| (e, p))) {
        let inputs = Inputs::<f32>::new(extents, 10.0);
        let mut first: Option<Products> = None;
        // The portable level would take seconds.
        for level in Level::available().into_iter().skip(1) {
            for threads in [1, 3] {
                let got =
                    inputs.run(&Cpu::new(level, threads).unwrap(), precision, Start::Existing);
                let name = format!("{extents:?}, {precision:?}, {level}, {threads} threads");
                match &first {
                    Some(first) => assert_products(&name, &got, first),
                    None => first = Some(got),
                }
            }
        }
        for (product, got) in first.iter().flatten().enumerate() {
            for at in (0..got.len()).step_by(got.len() / 199).chain([got.len() - 1]) {
                let want = inputs.naive(precision, product, at);
                let place = format!("{}, {extents:?}, {precision:?} [{at}]", NAMES[product]);
                assert_bits(&place, &got[at..=at], &[want]);
                inputs.assert_near(precision, product, at, want);
            }
        }
    }
}

/// NaN with every payload, infinities, zeros times infinity, numbers that round to infinity in
/// bf16, and subnormal ones.
#[test]
fn special_values_keep_it() {
    let specials =
        [0x7f80_0001, 0xffff_ffff, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff, 1, 0x807f_ffff]
            .map(f32::from_bits);
    let extents = [9, 35, 21];
    for special in specials {
        let mut inputs = Inputs::<f32>::new(extents, 1.0);
        for (i, x) in
            [&mut inputs.inp, &mut inputs.weight, &mut inputs.dout].into_iter().enumerate()
        {
            x[20 + 31 * i] = special;
        }
        inputs.dweight[77] = special;
        for precision in PRECISIONS {
            let want = inputs.all_naive(precision);
            each_cpu(|cpu, name| {
                let got = inputs.run(cpu, precision, Start::Existing);
                assert_products(&format!("{special:e}, {precision:?}, {name}"), &got, &want);
            });
            let shows = want.iter().all(|product| product.iter().any(|x| x.is_nan()));
            assert!(shows || !special.is_nan(), "{special:e} was lost, {precision:?}");
        }
    }
}

#[test]
fn a_weight_gradient_in_two_halves_is_that_of_the_whole() {
    let [n, i, o] = [46, 67, 35];
    let inputs = Inputs::<f32>::new([n, i, o], 1e3);
    for precision in PRECISIONS {
        let whole = inputs.run(&Cpu::new(Level::best(), 2).unwrap(), precision, Start::Existing);
        each_cpu(|cpu, name| {
            let mut dweight = inputs.dweight.clone();
            // From zero on the values there, even these, do not count.
            let mut from_zero = nans(o * i);
            let mut zeros = vec![0.0; o * i];
            for (start, out) in [(Start::Zero, &mut from_zero), (Start::Existing, &mut zeros)] {
                let args = BackwardWeight {
                    dweight: ViewMut::of(out, &[o, i]),
                    dout: View::of(&inputs.dout, &[n, o]),
                    inp: View::of(&inputs.inp, &[n, i]),
                    precision,
                    start,
                };
                backward_weight(cpu, args).unwrap();
            }
            assert_bits(&format!("from zero, {precision:?}, {name}"), &from_zero, &zeros);
            for rows in [0..18, 18..n] {
                let args = BackwardWeight {
                    dweight: ViewMut::of(&mut dweight, &[o, i]),
                    dout: View::of(&inputs.dout, &[n, o]).rows(rows.clone()),
                    inp: View::of(&inputs.inp, &[n, i]).rows(rows),
                    precision,
                    start: Start::Existing,
                };
                backward_weight(cpu, args).unwrap();
            }
            assert_bits(&format!("{precision:?}, {name}"), &dweight, &whole[2]);
        });
    }
}

#[test]
fn wrong_shapes_and_types_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (mut out, x, precision) = (nans(12), paint(12, 7), Precision::F32);
    let view = |shape: &[usize]| View::of(&x[..shape.iter().product()], shape);
    let mut forward = |out_shape: &[usize], inp, weight| {
        let out = ViewMut::of(&mut out[..out_shape.iter().product()], out_shape);
        forward(&cpu, Forward { out, inp, weight, precision })
    };
    let (a, b) = (view(&[3, 4]), view(&[2, 4]));
    assert_eq!(forward(&[3, 2], a, b), Ok(()));
    assert_eq!(forward(&[2, 3], a, b), refused("matmul::forward out", &[3, 2], &[2, 3]));
    let wrong = refused("matmul::forward weight", &[2, 4], &[2, 3]);
    assert_eq!(forward(&[3, 2], a, view(&[2, 3])), wrong);
    assert!(matches!(forward(&[3, 2], view(&[12]), b), Err(OpError::Shape { .. })));
    let words = [0u32; 12];
    let (what, want, got) = ("matmul::forward inp", DType::F32, DType::U32);
    let result = forward(&[3, 2], View::of(&words, &[3, 4]), b);
    assert_eq!(result, Err(OpError::Place { what, want, got }));

    let mut dinp = nans(12);
    let dinp = ViewMut::of(&mut dinp, &[4, 3]);
    let args = BackwardInput { dinp, dout: view(&[3, 2]), weight: b, precision };
    assert_eq!(
        backward_input(&cpu, args),
        refused("matmul::backward_input dinp", &[3, 4], &[4, 3])
    );
    let mut dweight = nans(8);
    let dweight = ViewMut::of(&mut dweight, &[2, 4]);
    let (dout, inp, start) = (view(&[3, 2]), view(&[2, 4]), Start::Zero);
    let args = BackwardWeight { dweight, dout, inp, precision, start };
    assert_eq!(
        backward_weight(&cpu, args),
        refused("matmul::backward_weight inp", &[3, 4], &[2, 4])
    );
}

//! The sum of squares.

use neuroshard::ops::norm::BLOCK;
use neuroshard::ops::norm::block_sums_of;
use neuroshard::ops::norm::sum_squares;
use neuroshard::tensor::DType;
use neuroshard::tensor::View;

use crate::*;

fn naive(before: f64, x: &[f32]) -> f64 {
    let sum = |x: &[f32]| f64::from(row_sum(x.len(), |i, p| x[i].mul_add(x[i], p)));
    x.chunks(BLOCK).fold(before, |total, block| total + sum(block))
}

#[test]
fn sums_keep_the_contract() {
    let lens = SHAPES.iter().map(|(rows, columns)| rows * columns);
    for n in lens.chain([BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK, 41 * BLOCK + 17]) {
        let x = paint_wild(n, 251, 1e5);
        let want = naive(0.1, &x);
        each_cpu(|cpu, name| {
            let got = sum_squares(cpu, 0.1, View::of(&x, &[n])).unwrap();
            assert_eq!(got.to_bits(), want.to_bits(), "{n}, {name}: {got} not {want}");
        });
        let exact = 0.1 + x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        assert!((want - exact).abs() <= 1e-6 * exact, "{want} is not near {exact}");
    }
}

#[test]
fn a_sum_continues_that_of_the_blocks_before() {
    let x = paint(5 * BLOCK + 100, 257);
    let view = View::of(&x, &[x.len()]);
    each_cpu(|cpu, name| {
        let first = sum_squares(cpu, 0.0, view.rows(0..2 * BLOCK)).unwrap();
        let both = sum_squares(cpu, first, view.rows(2 * BLOCK..x.len())).unwrap();
        assert_eq!(both.to_bits(), naive(0.0, &x).to_bits(), "{name}");
    });
}

#[test]
fn sums_of_many_tensors_are_those_of_each() {
    let lens = [5, 0, 2 * BLOCK + 1, 40 * BLOCK, 768, 1, 3 * BLOCK - 1];
    let tensors: Vec<_> = lens.iter().map(|&n| paint(n, 251)).collect();
    let views: Vec<_> = tensors.iter().map(|x| View::of(x, &[x.len()])).collect();
    let blocks = tensors.iter().flat_map(|x| x.chunks(BLOCK));
    let want: Vec<f32> = blocks.map(|x| row_sum(x.len(), |i, p| x[i].mul_add(x[i], p))).collect();
    each_cpu(|cpu, name| {
        let mut sums = nans(want.len());
        block_sums_of(cpu, &mut sums, &views).unwrap();
        assert_bits(name, &sums, &want);
        let (got, want) = (want.len() + 1, want.len());
        let result = block_sums_of(cpu, &mut nans(got), &views);
        assert_eq!(result, refused("norm::block_sums_of sums", &[want], &[got]));
    });
}

#[test]
fn infinities_show() {
    each_cpu(|cpu, name| {
        let mut x = paint(100_000, 257);
        let sum = |x: &[f32]| sum_squares(cpu, 0.0, View::of(x, &[x.len()])).unwrap();
        for infinite in [f32::NEG_INFINITY, f32::MAX] {
            x[77_777] = infinite;
            assert_eq!(sum(&x), f64::INFINITY, "{name}");
        }
        x[77_777] = f32::NAN;
        assert!(sum(&x).is_nan(), "{name}");
        assert_eq!(sum(&[1e-30; 5000]), 0.0, "squares below the smallest number, {name}");
    });
}

#[test]
fn only_numbers_of_the_right_type_are_summed() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (what, want, got) = ("norm::block_sums_of tensors", DType::F32, DType::U32);
    let result = sum_squares(&cpu, 0.0, View::of(&[1u32; 6], &[6]));
    assert_eq!(result, Err(OpError::Place { what, want, got }));
}

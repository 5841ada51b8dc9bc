//! Operations on whole tensors, one or many: AdamW, sums of squares, fill, add, rounding, search.

use neuroshard::ops::adamw;
use neuroshard::ops::digest;
use neuroshard::ops::elementwise;
use neuroshard::ops::norm;
use neuroshard::tensor::DType;
use neuroshard::tensor::Tensor;

use crate::case::{paint, same};

/// One, below a block, at it, above it, nothing, several blocks.
const LENGTHS: [usize; 6] = [1, 4095, 4096, 4097, 0, 9001];

#[test]
fn adamw_of_many_tensors_is_the_same() {
    let scalars = adamw::Scalars {
        grad_scale: 0.7,
        beta1: 0.9,
        one_minus_beta1: 0.1,
        beta2: 0.95,
        one_minus_beta2: 0.05,
        step_size: 3e-3,
        inv_sqrt_bias2: 1.7,
        eps: 1e-8,
    };
    same("adamw", |device| {
        let each = |period, square: bool| -> Vec<Tensor> {
            let numbers = |n| -> Vec<f32> {
                paint(n, period).into_iter().map(|x| if square { x * x } else { x }).collect()
            };
            LENGTHS.iter().map(|&n| device.put(DType::F32, &[n], &numbers(n))).collect()
        };
        let (mut param, mut m, mut v) = (each(1009, false), each(997, false), each(613, true));
        let grad = each(101, false);
        let mut copies: Vec<_> = LENGTHS.iter().map(|&n| device.nans(DType::Bf16, &[n])).collect();
        let state = param.iter_mut().zip(&mut m).zip(&mut v).zip(&grad).zip(&mut copies);
        let mut tensors: Vec<_> = state
            .enumerate()
            .map(|(i, ((((param, m), v), grad), copy))| adamw::Tensors {
                param: param.view_mut(),
                m: m.view_mut(),
                v: v.view_mut(),
                grad: grad.view(),
                copy: (i % 2 == 1).then(|| copy.view_mut()),
                decay: if i % 3 == 0 { 1.0 } else { 0.99 },
            })
            .collect();
        adamw::update(device.0, &mut tensors, scalars).unwrap();
        drop(tensors);
        let all = [("param", &param), ("m", &m), ("v", &v), ("copy", &copies)];
        all.into_iter()
            .flat_map(|(name, tensors)| tensors.iter().map(move |x| (name, device.bits(x))))
            .collect()
    });
}

#[test]
fn block_sums_of_many_tensors_are_the_same() {
    same("block sums", |device| {
        let tensors: Vec<_> =
            LENGTHS.iter().map(|&n| device.put(DType::F32, &[n], &paint(n, 1009))).collect();
        let views: Vec<_> = tensors.iter().map(Tensor::view).collect();
        let mut sums = vec![f32::NAN; LENGTHS.iter().map(|&n| norm::blocks(n)).sum()];
        norm::block_sums_of(device.0, &mut sums, &views).unwrap();
        vec![("sums", sums.into_iter().map(f32::to_bits).collect())]
    });
}

#[test]
fn elementwise_operations_are_the_same() {
    for n in [0, 1, 7, 8, 9, 300, 4097] {
        same(&format!("elementwise of {n}"), |device| {
            let mut outputs = Vec::new();
            for dtype in [DType::F32, DType::Bf16] {
                let mut sum = device.put(dtype, &[n], &paint(n, 1009));
                let inp = device.put(dtype, &[n], &paint(n, 613));
                elementwise::add(device.0, sum.view_mut(), inp.view()).unwrap();
                outputs.push(("sum", device.bits(&sum)));
                for value in [0.0, -0.0, 1.7] {
                    let mut filled = device.nans(dtype, &[n]);
                    elementwise::fill(device.0, filled.view_mut(), value).unwrap();
                    outputs.push(("filled", device.bits(&filled)));
                }
            }
            let inp = device.put(DType::F32, &[n], &paint(n, 1009));
            let mut rounded = device.nans(DType::Bf16, &[n]);
            elementwise::round(device.0, rounded.view_mut(), inp.view()).unwrap();
            let mut widened = device.nans(DType::F32, &[n]);
            elementwise::widen(device.0, widened.view_mut(), rounded.view()).unwrap();
            outputs
                .extend([("rounded", device.bits(&rounded)), ("widened", device.bits(&widened))]);
            outputs
        });
    }
}

#[test]
fn what_is_no_number_is_found_where_it_is_first() {
    // The first one first: race detectors look at a kernel's first launches only.
    for bad in [Some(0), None, Some(4098), Some(4999)] {
        same(&format!("a NaN at {bad:?}"), |device| {
            let mut numbers = paint(5000, 1009);
            for (i, x) in numbers.iter_mut().enumerate() {
                if bad.is_some_and(|bad| i == bad) {
                    *x = f32::NEG_INFINITY;
                } else if bad.is_some_and(|bad| i > bad) {
                    *x = f32::NAN;
                }
            }
            let found = [DType::F32, DType::Bf16].map(|dtype| {
                let x = device.put(dtype, &[5000], &numbers);
                let at = elementwise::first_non_finite(device.0, x.view()).unwrap();
                at.map_or(u32::MAX, |at| at as u32)
            });
            vec![("place", found.to_vec())]
        });
    }
}

#[test]
fn subtrees_of_a_hash_are_the_same() {
    let bytes = 2 * digest::SUBTREE_BYTES;
    same("digest", |device| {
        let inp = device.put(DType::F32, &[bytes / 4], &paint(bytes / 4, 1009));
        let mut values = [[0; 32]; 2];
        let key = std::array::from_fn(|i| i as u8 * 7);
        let offset = 5 * digest::SUBTREE_BYTES as u64;
        let args = digest::Subtrees { values: &mut values, inp: inp.view(), key: &key, offset };
        digest::subtrees(device.0, args).unwrap();
        vec![("values", values.as_flattened().iter().map(|&byte| byte.into()).collect())]
    });
}

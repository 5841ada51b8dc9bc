//! Attention, causal, grouped queries. FLOPs: half of `4·B·H·T²·D` in forward (scores and values),
//! 2.5 times that in backward (scores, dp, dv, dk, dq).

use super::Case;
use super::Selection;
use super::case::{read, written};
use crate::model::Dims;
use crate::ops::Precision;
use crate::ops::attention::*;
use crate::tensor::DType;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let [b, t] = selection.sequences();
    let of_model = |dims: &Dims| vec![("", [b, t, dims.heads, dims.kv_heads, dims.head_dim])];
    let mut cases = Vec::new();
    for (place, shape) in selection.extents(of_model) {
        for &precision in &selection.precisions {
            cases.push(forward_case(shape, precision).at(&place));
            cases.push(backward_case(shape, precision).at(&place));
        }
    }
    cases
}

fn extents([sequences, seq_len, heads, kv_heads, head_dim]: [usize; 5]) -> Extents {
    Extents { sequences, seq_len, heads, kv_heads, head_dim }
}

fn forward_flops([b, t, h, _, d]: [usize; 5]) -> usize {
    2 * b * h * t * t * d
}

fn forward_case(shape: [usize; 5], precision: Precision) -> Case {
    let (e, x) = (extents(shape), precision.activations());
    let tensors = [
        written(x, &[e.rows(), e.heads * e.head_dim]),
        written(DType::F32, &[e.sequences, e.heads, e.seq_len]),
        read(x, &[e.rows(), e.qkv_width()]),
    ];
    let case = Case::new(("attention", "forward"), precision, &shape, tensors, move |k, t| {
        let [out, lse, qkv] = t;
        let (out, lse, qkv) = (out.view_mut(), lse.view_mut(), qkv.view());
        forward(k, Forward { out, lse, qkv, extents: e, precision })
    });
    case.flops(forward_flops(shape)).products()
}

fn backward_case(shape: [usize; 5], precision: Precision) -> Case {
    let (e, x) = (extents(shape), precision.activations());
    let (qkv, out) = ([e.rows(), e.qkv_width()], [e.rows(), e.heads * e.head_dim]);
    let lse = [e.sequences, e.heads, e.seq_len];
    let tensors = [written(x, &qkv), read(x, &out), read(x, &out), read(DType::F32, &lse)];
    let [dqkv, dout, out, lse] = tensors;
    let tensors = [dqkv, dout, out, lse, read(x, &qkv)];
    let case = Case::new(("attention", "backward"), precision, &shape, tensors, move |k, t| {
        let [dqkv, dout, out, lse, qkv] = t;
        let (dqkv, dout, out) = (dqkv.view_mut(), dout.view(), out.view());
        let (lse, qkv) = (lse.view(), qkv.view());
        backward(k, Backward { dqkv, dout, out, lse, qkv, extents: e, precision })
    });
    let case = case.after(move |k, [_, _, out, lse, qkv]| {
        let (out, lse, qkv) = (out.view_mut(), lse.view_mut(), qkv.view());
        forward(k, Forward { out, lse, qkv, extents: e, precision })
    });
    case.flops(forward_flops(shape) * 5 / 2).products()
}

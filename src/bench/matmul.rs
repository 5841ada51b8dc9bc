//! Matrix products in their three layouts, at the shapes of a model's layers.

use super::Case;
use super::Selection;
use super::case::{read, written};
use crate::model::Dims;
use crate::ops::Precision;
use crate::ops::matmul::*;
use crate::tensor::DType;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let n = selection.tokens;
    let layers = |dims: &Dims| {
        vec![
            ("qkv", [n, dims.width, dims.qkv_width()]),
            ("attn_out", [n, dims.heads_width(), dims.width]),
            ("ffn_in", [n, dims.width, 2 * dims.ffn]),
            ("ffn_out", [n, dims.ffn, dims.width]),
            ("lm_head", [n, dims.width, dims.vocab]),
        ]
    };
    let mut cases = Vec::new();
    for (place, shape) in selection.extents(layers) {
        for &precision in &selection.precisions {
            let layouts = [forward_case, backward_input_case, backward_weight_case];
            cases.extend(layouts.map(|case| case(shape, precision).at(&place)));
        }
    }
    cases
}

fn flops([n, i, o]: [usize; 3]) -> usize {
    2 * n * i * o
}

fn forward_case(shape: [usize; 3], precision: Precision) -> Case {
    let ([n, i, o], x) = (shape, precision.activations());
    let tensors = [written(x, &[n, o]), read(x, &[n, i]), read(x, &[o, i])];
    let case = Case::new(("matmul", "forward"), precision, &shape, tensors, move |k, t| {
        let [out, inp, weight] = t;
        let (out, inp, weight) = (out.view_mut(), inp.view(), weight.view());
        forward(k, Forward { out, inp, weight, precision })
    });
    case.flops(flops(shape)).products()
}

fn backward_input_case(shape: [usize; 3], precision: Precision) -> Case {
    let ([n, i, o], x) = (shape, precision.activations());
    let tensors = [written(x, &[n, i]), read(x, &[n, o]), read(x, &[o, i])];
    let case = Case::new(("matmul", "backward_input"), precision, &shape, tensors, move |k, t| {
        let [dinp, dout, weight] = t;
        let (dinp, dout, weight) = (dinp.view_mut(), dout.view(), weight.view());
        backward_input(k, BackwardInput { dinp, dout, weight, precision })
    });
    case.flops(flops(shape)).products()
}

fn backward_weight_case(shape: [usize; 3], precision: Precision) -> Case {
    let ([n, i, o], x) = (shape, precision.activations());
    let tensors = [written(DType::F32, &[o, i]), read(x, &[n, o]), read(x, &[n, i])];
    let case = Case::new(("matmul", "backward_weight"), precision, &shape, tensors, move |k, t| {
        let [dweight, dout, inp] = t;
        let (dweight, dout, inp) = (dweight.view_mut(), dout.view(), inp.view());
        backward_weight(k, BackwardWeight { dweight, dout, inp, precision, start: Start::Zero })
    });
    case.flops(flops(shape)).products()
}

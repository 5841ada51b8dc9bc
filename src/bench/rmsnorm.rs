//! RMSNorm: plain, fused with the residual, and backward.

use super::Case;
use super::Fill;
use super::Selection;
use super::case::{both, read, written};
use crate::ops::Precision;
use crate::ops::rmsnorm::*;
use crate::tensor::DType;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let mut cases = Vec::new();
    for (place, shape) in selection.extents(|dims| vec![("", [selection.tokens, dims.width])]) {
        for precision in selection.of_rows() {
            let passes = [forward_case, forward_residual_case, backward_case];
            cases.extend(passes.map(|case| case(shape, precision).at(&place)));
        }
    }
    cases
}

fn forward_case(shape: [usize; 2], precision: Precision) -> Case {
    let ([n, c], x) = (shape, precision.activations());
    let tensors =
        [written(x, &shape), written(DType::F32, &[n]), read(x, &shape), read(DType::F32, &[c])];
    let case = Case::new(("rmsnorm", "forward"), precision, &shape, tensors, |k, t| {
        let [out, rstd, inp, weight] = t;
        let (out, rstd) = (out.view_mut(), rstd.view_mut());
        forward(k, Forward { out, rstd, inp: inp.view(), weight: weight.view(), eps: EPS })
    });
    case.flops(4 * n * c)
}

fn forward_residual_case(shape: [usize; 2], precision: Precision) -> Case {
    let ([n, c], x) = (shape, precision.activations());
    let [out, sum, residual, inp] =
        [written(x, &shape), written(x, &shape), read(x, &shape), read(x, &shape)];
    let tensors = [out, written(DType::F32, &[n]), sum, residual, inp, read(DType::F32, &[c])];
    let case = Case::new(("rmsnorm", "forward_residual"), precision, &shape, tensors, |k, t| {
        let [out, rstd, sum, residual, inp, weight] = t;
        let args = ForwardResidual {
            out: out.view_mut(),
            rstd: rstd.view_mut(),
            sum: sum.view_mut(),
            residual: residual.view(),
            inp: inp.view(),
            weight: weight.view(),
            eps: EPS,
        };
        forward_residual(k, args)
    });
    case.flops(5 * n * c)
}

fn backward_case(shape: [usize; 2], precision: Precision) -> Case {
    let ([n, c], x) = (shape, precision.activations());
    let [dinp, dout, inp] = [both(x, &shape), read(x, &shape), read(x, &shape)];
    let (dweight, weight) = (both(DType::F32, &[c]), read(DType::F32, &[c]));
    let rstd = read(DType::F32, &[n]).filled(Fill::Positive);
    let tensors = [dinp, dweight, dout, inp, weight, rstd];
    let case = Case::new(("rmsnorm", "backward"), precision, &shape, tensors, |k, t| {
        let [dinp, dweight, dout, inp, weight, rstd] = t;
        let args = Backward {
            dinp: dinp.view_mut(),
            dweight: dweight.view_mut(),
            dout: dout.view(),
            inp: inp.view(),
            weight: weight.view(),
            rstd: rstd.view(),
        };
        backward(k, args)
    });
    case.flops(10 * n * c)
}

const EPS: f32 = 1e-5;

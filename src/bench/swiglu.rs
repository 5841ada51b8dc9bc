//! SwiGLU.

use super::Case;
use super::Selection;
use super::case::{read, written};
use crate::ops::Precision;
use crate::ops::swiglu::*;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let mut cases = Vec::new();
    for (place, shape) in selection.extents(|dims| vec![("", [selection.tokens, dims.ffn])]) {
        for precision in selection.of_rows() {
            cases.push(forward_case(shape, precision).at(&place));
            cases.push(backward_case(shape, precision).at(&place));
        }
    }
    cases
}

fn forward_case(shape: [usize; 2], precision: Precision) -> Case {
    let ([n, f], x) = (shape, precision.activations());
    let tensors = [written(x, &shape), read(x, &[n, 2 * f])];
    let case = Case::new(("swiglu", "forward"), precision, &shape, tensors, |k, [out, inp]| {
        forward(k, Forward { out: out.view_mut(), inp: inp.view() })
    });
    case.flops(5 * n * f)
}

fn backward_case(shape: [usize; 2], precision: Precision) -> Case {
    let ([n, f], x) = (shape, precision.activations());
    let tensors = [written(x, &[n, 2 * f]), read(x, &shape), read(x, &[n, 2 * f])];
    let case = Case::new(("swiglu", "backward"), precision, &shape, tensors, |k, t| {
        let [dinp, dout, inp] = t;
        backward(k, Backward { dinp: dinp.view_mut(), dout: dout.view(), inp: inp.view() })
    });
    case.flops(11 * n * f)
}

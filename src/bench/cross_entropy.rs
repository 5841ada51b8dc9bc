//! Losses, and gradients in place of the logits.

use super::Case;
use super::Fill;
use super::Selection;
use super::case::{both, read, written};
use crate::ops::Precision;
use crate::ops::cross_entropy::*;
use crate::tensor::DType;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = selection.extents(|dims| vec![("", [selection.tokens, dims.vocab])]);
    for (place, shape) in shapes {
        for precision in selection.of_rows() {
            cases.push(forward_case(shape, precision).at(&place));
            cases.push(forward_backward_case(shape, precision).at(&place));
        }
    }
    cases
}

fn forward_case(shape: [usize; 2], precision: Precision) -> Case {
    let [n, v] = shape;
    let targets = read(DType::U32, &[n]).filled(Fill::Tokens(v));
    let tensors = [written(DType::F32, &[n]), read(precision.activations(), &shape), targets];
    let what = ("cross_entropy", "forward");
    let case = Case::new(what, precision, &shape, tensors, |k, [losses, logits, targets]| {
        let (losses, logits, targets) = (losses.view_mut(), logits.view(), targets.view());
        forward(k, Forward { losses, logits, targets })
    });
    case.flops(4 * n * v)
}

fn forward_backward_case(shape: [usize; 2], precision: Precision) -> Case {
    let [n, v] = shape;
    let targets = read(DType::U32, &[n]).filled(Fill::Tokens(v));
    let tensors = [written(DType::F32, &[n]), both(precision.activations(), &shape), targets];
    let what = ("cross_entropy", "forward_backward");
    let case = Case::new(what, precision, &shape, tensors, |k, [losses, logits, targets]| {
        let (losses, logits, targets) = (losses.view_mut(), logits.view_mut(), targets.view());
        forward_backward(k, ForwardBackward { losses, logits, targets, scale: 1e-3 })
    });
    case.flops(5 * n * v)
}

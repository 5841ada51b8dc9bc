//! Fill, copy, add, the two conversions, and the search for a value that is no number.

use super::Case;
use super::Selection;
use super::case::{both, read, written};
use crate::ops::Precision;
use crate::ops::elementwise::*;
use crate::tensor::DType;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let of_model = |width| vec![("", [selection.tokens * width])];
    let mut cases = Vec::new();
    for (place, [n]) in selection.extents(|dims| of_model(dims.width)) {
        for precision in selection.of_rows() {
            cases.extend(of_type(n, precision).map(|case| case.at(&place)));
            if precision != Precision::F32 {
                cases.extend(conversions(n, precision).map(|case| case.at(&place)));
            }
        }
    }
    cases
}

fn of_type(n: usize, precision: Precision) -> [Case; 4] {
    let (x, shape) = (precision.activations(), [n]);
    let case = |pass| (("elementwise", pass), precision, &shape);
    let (what, at, shape) = case("fill");
    let filled =
        Case::new(what, at, shape, [written(x, shape)], |k, [out]| fill(k, out.view_mut(), 0.5));
    let (what, at, shape) = case("copy");
    let tensors = [written(x, shape), read(x, shape)];
    let copied =
        Case::new(what, at, shape, tensors, |k, [out, inp]| copy(k, out.view_mut(), inp.view()));
    let (what, at, shape) = case("add");
    let tensors = [both(x, shape), read(x, shape)];
    let added =
        Case::new(what, at, shape, tensors, |k, [out, inp]| add(k, out.view_mut(), inp.view()));
    let (what, at, shape) = case("first_non_finite");
    let searched = Case::new(what, at, shape, [read(x, shape)], |k, [inp]| {
        first_non_finite(k, inp.view()).map(|_| ())
    });
    [filled, copied, added.flops(n), searched]
}

fn conversions(n: usize, precision: Precision) -> [Case; 2] {
    let tensors = [written(DType::Bf16, &[n]), read(DType::F32, &[n])];
    let what = ("elementwise", "round");
    let rounded = Case::new(what, precision, &[n], tensors, |k, [out, inp]| {
        round(k, out.view_mut(), inp.view())
    });
    let tensors = [written(DType::F32, &[n]), read(DType::Bf16, &[n])];
    let what = ("elementwise", "widen");
    let widened = Case::new(what, precision, &[n], tensors, |k, [out, inp]| {
        widen(k, out.view_mut(), inp.view())
    });
    [rounded, widened]
}

//! AdamW over all tensors of a model: four arrays read, three of them written, and the copy that
//! products read.

use super::Case;
use super::Fill;
use super::Selection;
use super::case::{both, read, written};
use crate::model::Params;
use crate::ops::Precision;
use crate::ops::adamw::Scalars;
use crate::ops::adamw::Tensors;
use crate::ops::adamw::update;
use crate::tensor::DType;

const SCALARS: Scalars = Scalars {
    grad_scale: 0.7,
    beta1: 0.9,
    one_minus_beta1: 0.1,
    beta2: 0.95,
    one_minus_beta2: 0.05,
    step_size: 1e-3,
    inv_sqrt_bias2: 1.1,
    eps: 1e-8,
};

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let mut cases = Vec::new();
    for precision in selection.of_rows() {
        for (place, counts) in tensors(selection) {
            cases.push(case(precision, &counts).at(place));
        }
    }
    cases
}

/// The sizes of all tensors of each model, or of the one asked for; shared with `norm`.
pub(super) fn tensors(selection: &Selection) -> Vec<(String, Vec<usize>)> {
    if !selection.shapes.is_empty() {
        let asked = selection.extents::<1>(|_| Vec::new());
        return asked.into_iter().map(|(place, [n])| (place, vec![n])).collect();
    }
    let of_model = |(name, dims)| {
        let shapes = Params::shapes(dims).into_named().into_iter();
        (String::clone(name), shapes.map(|(_, shape)| shape.iter().product()).collect())
    };
    selection.models.iter().map(|(name, dims)| of_model((name, dims))).collect()
}

fn case(precision: Precision, counts: &[usize]) -> Case {
    let copies = matches!(precision, Precision::Tc(_));
    let each = if copies { 5 } else { 4 };
    let mut tensors = Vec::new();
    for &n in counts {
        tensors.extend([both(DType::F32, &[n]), both(DType::F32, &[n])]);
        tensors.extend([both(DType::F32, &[n]).filled(Fill::Positive), read(DType::F32, &[n])]);
        tensors.extend(copies.then(|| written(DType::Bf16, &[n])));
    }
    let all = counts.iter().sum();
    let case = Case::of_many(("adamw", "update"), precision, &[all], tensors, move |k, tensors| {
        let mut all = Vec::with_capacity(tensors.len() / each);
        for tensors in tensors.chunks_exact_mut(each) {
            let [param, m, v, grad, copy @ ..] = tensors else { continue };
            let (param, m, v) = (param.view_mut(), m.view_mut(), v.view_mut());
            let copy = copy.first_mut().map(|copy| copy.view_mut());
            all.push(Tensors { param, m, v, grad: grad.view(), copy, decay: 0.9999 });
        }
        update(k, &mut all, SCALARS)
    });
    case.flops(15 * all)
}

//! The sum of squares of all tensors of a model: reads only.

use super::Case;
use super::Selection;
use super::adamw;
use super::case::read;
use crate::ops::Precision;
use crate::ops::norm::block_sums_of;
use crate::ops::norm::blocks;
use crate::tensor::DType;
use crate::tensor::Tensor;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    // Gradients are f32 in every profile.
    let mut cases = Vec::new();
    for (place, counts) in adamw::tensors(selection) {
        let all: usize = counts.iter().sum();
        let sums: usize = counts.iter().map(|&n| blocks(n)).sum();
        let tensors = counts.iter().map(|&n| read(DType::F32, &[n])).collect();
        let what = ("norm", "block_sums");
        let case = Case::of_many(what, Precision::F32, &[all], tensors, move |k, tensors| {
            let views: Vec<_> = tensors.iter().map(Tensor::view).collect();
            block_sums_of(k, &mut vec![0.0; sums], &views)
        });
        cases.push(case.flops(2 * all).at(place));
    }
    cases
}

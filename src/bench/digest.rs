//! BLAKE3 subtrees: reads only.

use super::Case;
use super::Selection;
use super::case::read;
use crate::ops::Precision;
use crate::ops::digest::*;
use crate::tensor::DType;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    // Hashed are master weights and moments, f32 in every profile.
    let of_model = |width| vec![("", [selection.tokens * width])];
    let shapes = selection.extents(|dims| of_model(dims.width)).into_iter();
    shapes.map(|(place, [n])| case(n).at(place)).collect()
}

/// Of `n` elements, filled up to whole subtrees.
fn case(n: usize) -> Case {
    let count = (n * size_of::<f32>()).div_ceil(SUBTREE_BYTES);
    let shape = [count * SUBTREE_BYTES / size_of::<f32>()];
    let (what, tensors) = (("digest", "subtrees"), [read(DType::F32, &shape)]);
    Case::new(what, Precision::F32, &shape, tensors, move |k, [inp]| {
        let (mut values, key) = (vec![[0; 32]; count], [7; 32]);
        subtrees(k, Subtrees { values: &mut values, inp: inp.view(), key: &key, offset: 0 })
    })
}

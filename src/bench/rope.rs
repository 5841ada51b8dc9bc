//! Rotary positions, of the query and key heads of packed rows.

use super::Case;
use super::Fill;
use super::Selection;
use super::case::{both, read};
use crate::model::Dims;
use crate::ops::Precision;
use crate::ops::rope::*;
use crate::tensor::DType;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let [b, t] = selection.sequences();
    let of_model = |dims: &Dims| vec![("", [b, t, dims.heads, dims.kv_heads, dims.head_dim])];
    let mut cases = Vec::new();
    for (place, shape) in selection.extents(of_model) {
        for precision in selection.of_rows() {
            cases.push(case(shape, precision, Direction::Forward).at(&place));
            cases.push(case(shape, precision, Direction::Inverse).at(&place));
        }
    }
    cases
}

fn case(shape: [usize; 5], precision: Precision, direction: Direction) -> Case {
    let ([b, seq_len, h, kv, d], x) = (shape, precision.activations());
    let (rows, rotated) = (b * seq_len, h + kv);
    let rows_of_all = both(x, &[rows, (h + 2 * kv) * d]);
    let rows_of_all = rows_of_all.moving(2 * rows * rotated * d * x.size_bytes());
    // True rotations, so that repeating them does not grow.
    let table = [seq_len, d / 2];
    let cos = read(DType::F32, &table).filled(Fill::Cosines);
    let sin = read(DType::F32, &table).filled(Fill::Sines);
    let pass = if direction == Direction::Forward { "forward" } else { "inverse" };
    let tensors = [rows_of_all, cos, sin];
    let case = Case::new(("rope", pass), precision, &shape, tensors, move |k, [x, cos, sin]| {
        let (x, cos, sin) = (x.view_mut(), cos.view(), sin.view());
        let (heads, first_position) = (rotated, 0);
        rotate(k, Rotate { x, cos, sin, heads, seq_len, first_position, direction })
    });
    case.flops(3 * rows * rotated * d)
}

//! Embedding rows, and their gradients. A row of the table moves once, however many tokens name it.

use super::Case;
use super::Fill;
use super::Selection;
use super::case::{read, written};
use crate::ops::Precision;
use crate::ops::embedding::*;
use crate::tensor::DType;

pub(super) fn cases(selection: &Selection) -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = selection.extents(|dims| vec![("", [selection.tokens, dims.width, dims.vocab])]);
    for (place, shape) in shapes {
        for precision in selection.of_rows() {
            cases.push(forward_case(shape, precision).at(&place));
            cases.push(backward_case(shape, precision).at(&place));
        }
    }
    cases
}

/// Rows of the table that the tokens of [`Fill::Tokens`] name.
fn distinct(n: usize, v: usize) -> usize {
    let mut tokens: Vec<_> = (0..n).map(|i| (i * i + 13 * i) * 7919 % v.max(1)).collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens.len()
}

fn forward_case(shape: [usize; 3], precision: Precision) -> Case {
    let ([n, c, v], x) = (shape, precision.activations());
    let table = read(x, &[v, c]).moving(distinct(n, v) * c * x.size_bytes());
    let tensors = [written(x, &[n, c]), read(DType::U32, &[n]).filled(Fill::Tokens(v)), table];
    let what = ("embedding", "forward");
    Case::new(what, precision, &shape, tensors, |k, [out, tokens, table]| {
        let (out, tokens, table) = (out.view_mut(), tokens.view(), table.view());
        forward(k, Forward { out, tokens, table })
    })
}

fn backward_case(shape: [usize; 3], precision: Precision) -> Case {
    let [n, c, v] = shape;
    let dtable = read(DType::F32, &[v, c]).moving(2 * distinct(n, v) * c * size_of::<f32>());
    let tokens = read(DType::U32, &[n]).filled(Fill::Tokens(v));
    let tensors = [dtable, tokens, read(precision.activations(), &[n, c])];
    let what = ("embedding", "backward");
    let case = Case::new(what, precision, &shape, tensors, |k, [dtable, tokens, dout]| {
        let (dtable, tokens, dout) = (dtable.view_mut(), tokens.view(), dout.view());
        backward(k, Backward { dtable, tokens, dout })
    });
    case.flops(n * c)
}

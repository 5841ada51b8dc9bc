//! Packing: `W` rows of an operand into a panel `(k, W)`, zero-padded.
//!
//! For the bf16 profile elements are rounded to bf16 (and kept as f32), subnormal ones become
//! zero, and the two of each pair change places, so that an ascending chain takes the odd first.

use super::product::Operand;
use crate::backend::cpu::flush;
use crate::ops::Precision;

/// `x` as it enters a product.
#[inline(always)]
fn rounded<const BF16: bool>(x: f32) -> f32 {
    if BF16 { flush::bf16(x) } else { x }
}

/// Elements of k in a panel: `k`, or the next even number for bf16.
pub(super) fn padded(k: usize, precision: Precision) -> usize {
    match precision {
        Precision::F32 => k,
        Precision::Bf16 => k.next_multiple_of(2),
    }
}

/// Packs rows `row..row + rows` (at most `W`), packed elements `from..to` of k, to `panel`.
///
/// `k` is the operand's full extent; what lies past it is zero.
#[inline(always)]
pub(super) fn panel<const W: usize, const BF16: bool>(
    operand: &Operand<'_>,
    k: usize,
    (row, rows): (usize, usize),
    (from, to): (usize, usize),
    panel: &mut [f32],
) {
    let panel = &mut panel[..(to - from) * W];
    let source = |p: usize| if BF16 { p ^ 1 } else { p };
    if operand.k_stride == 1 {
        // Rows are contiguous in k: read each in turn, write with stride W.
        if rows < W {
            panel.fill(0.0);
        }
        for r in 0..rows {
            let line = &operand.data[(row + r) * operand.row_stride..][..k];
            for (slot, p) in panel[r..].iter_mut().step_by(W).zip(from..to) {
                *slot = line.get(source(p)).map_or(0.0, |&x| rounded::<BF16>(x));
            }
        }
        return;
    }
    for (line, p) in panel.chunks_exact_mut(W).zip(from..to) {
        let k_index = source(p);
        if k_index >= k {
            line.fill(0.0);
            continue;
        }
        let data = &operand.data[k_index * operand.k_stride + row..][..rows];
        for (slot, &x) in line.iter_mut().zip(data) {
            *slot = rounded::<BF16>(x);
        }
        line[rows..].fill(0.0);
    }
}

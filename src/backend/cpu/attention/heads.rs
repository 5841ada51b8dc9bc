//! Heads copied between packed rows and dense scratch.

use super::LANES;
use crate::backend::cpu::flush;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::ops::Precision;

/// Rounds every element as it enters a product.
pub(super) fn round(level: Level, precision: Precision, data: &mut [f32]) {
    if precision == Precision::Bf16 {
        at_level!(level, round_all(data: &mut [f32]));
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters, reason = "names the level to compile for")]
unsafe fn round_all<V: Lanes>(data: &mut [f32]) {
    for x in data {
        *x = flush::bf16(*x);
    }
}

/// Copies `rows` rows of width `d`, `stride` apart in `source`, to rows of width `to_stride`;
/// what lies past them in `to` becomes zero.
pub(super) fn copy_rows(
    source: &[f32],
    stride: usize,
    (rows, d): (usize, usize),
    to: &mut [f32],
    to_stride: usize,
) {
    for (r, line) in to.chunks_exact_mut(to_stride).enumerate() {
        let mut width = 0;
        if r < rows {
            line[..d].copy_from_slice(&source[r * stride..][..d]);
            width = d;
        }
        line[width..].fill(0.0);
    }
}

/// Transposes up to 32 dense rows of width `d`, `stride` apart, to `d` rows of 32 lanes.
pub(super) fn to_lanes(source: &[f32], stride: usize, rows: usize, d: usize, to: &mut [f32]) {
    let to = &mut to[..d * LANES];
    if rows < LANES {
        to.fill(0.0);
    }
    for r in 0..rows.min(LANES) {
        let line = &source[r * stride..][..d];
        for (slot, &x) in to[r..].iter_mut().step_by(LANES).zip(line) {
            *slot = x;
        }
    }
}

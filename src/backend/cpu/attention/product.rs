//! `out[row][lane] (+)= sum_k a[row][k] * b[k][lane]` for 32 lanes, one chain over k each.

use super::LANES;
use crate::backend::cpu::flush;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::ops::Precision;

/// One product of a tile.
pub(super) struct Product<'a> {
    /// Rows of the output.
    pub rows: usize,
    /// Extent of the sums; even.
    pub k: usize,
    /// Left factor: element `(row, k)` at `row * a_row + k * a_k`.
    pub a: &'a [f32],
    /// See `a`.
    pub a_row: usize,
    /// See `a`.
    pub a_k: usize,
    /// Right factor: 32 lanes at `k * b_stride`.
    pub b: &'a [f32],
    /// See `b`.
    pub b_stride: usize,
    /// Distance between the output's rows.
    pub out_stride: usize,
    /// Whether the chains start at the values there, else at 0.
    pub load: bool,
}

impl Product<'_> {
    /// Computes it; in bf16 the factors are rounded already.
    pub fn run(&self, level: Level, precision: Precision, out: &mut [f32]) {
        if self.rows == 0 || self.k == 0 {
            return;
        }
        let last = self.rows - 1;
        assert!(self.a.len() > last * self.a_row + (self.k - 1) * self.a_k, "left factor");
        assert!(self.b.len() >= (self.k - 1) * self.b_stride + LANES, "right factor");
        assert!(out.len() >= last * self.out_stride + LANES, "output");
        assert!(self.k.is_multiple_of(2), "pairs");
        let product = self;
        match precision {
            Precision::F32 => at_level!(level, chains(product: &Product<'_>, out: &mut [f32])),
            Precision::Tc(_) => unreachable!("tensor-core products have their own kernels"),
            Precision::Bf16 => flush::with(level, || {
                at_level!(level, chains_flushed(product: &Product<'_>, out: &mut [f32]));
            }),
        }
    }
}

/// # Safety
/// `V`'s instruction set is available; extents as `Product::run` checks.
#[inline(always)]
unsafe fn chains<V: Lanes>(product: &Product<'_>, out: &mut [f32]) {
    // SAFETY: by this function's contract.
    unsafe { all_rows::<V, false>(product, out) }
}

/// # Safety
/// As [`chains`], within `flush::with`.
#[inline(always)]
unsafe fn chains_flushed<V: Lanes>(product: &Product<'_>, out: &mut [f32]) {
    // SAFETY: by this function's contract.
    unsafe { all_rows::<V, true>(product, out) }
}

/// # Safety
/// As [`chains`]; with `FLUSH`, within `flush::with`.
#[inline(always)]
unsafe fn all_rows<V: Lanes, const FLUSH: bool>(p: &Product<'_>, out: &mut [f32]) {
    let height = if V::LEN == 16 { 8 } else { 4 };
    for lane in (0..LANES).step_by(2 * V::LEN) {
        let mut row = 0;
        while row + height <= p.rows {
            // SAFETY: rows and lanes are within the extents that the caller checked.
            unsafe {
                if V::LEN == 16 {
                    tile::<V, 8, FLUSH>(p, row, lane, out);
                } else {
                    tile::<V, 4, FLUSH>(p, row, lane, out);
                }
            }
            row += height;
        }
        while row < p.rows {
            // SAFETY: as above.
            unsafe { tile::<V, 1, FLUSH>(p, row, lane, out) };
            row += 1;
        }
    }
}

/// # Safety
/// As [`all_rows`]; `row + MR <= p.rows`.
#[inline(always)]
unsafe fn tile<V: Lanes, const MR: usize, const FLUSH: bool>(
    p: &Product<'_>,
    row: usize,
    lane: usize,
    out: &mut [f32],
) {
    // SAFETY: all offsets are within the extents that `Product::run` checked.
    unsafe {
        let out = out.as_mut_ptr().add(row * p.out_stride + lane);
        let a = p.a.as_ptr().add(row * p.a_row);
        let b = p.b.as_ptr().add(lane);
        let mut acc = [[V::splat(0.0); 2]; MR];
        if p.load {
            for (i, acc) in acc.iter_mut().enumerate() {
                let out = out.add(i * p.out_stride);
                *acc = [V::load(out), V::load(out.add(V::LEN))];
            }
        }
        for step in 0..p.k {
            // In bf16 the odd element of a pair comes first.
            let k = if FLUSH { step ^ 1 } else { step };
            let b = b.add(k * p.b_stride);
            let (b0, b1) = (V::load(b), V::load(b.add(V::LEN)));
            let a = a.add(k * p.a_k);
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = V::splat(*a.add(i * p.a_row));
                if FLUSH {
                    *acc = [x.fma_flushed(b0, acc[0]), x.fma_flushed(b1, acc[1])];
                } else {
                    *acc = [x.fma(b0, acc[0]), x.fma(b1, acc[1])];
                }
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            let out = out.add(i * p.out_stride);
            acc[0].store(out);
            acc[1].store(out.add(V::LEN));
        }
    }
}

//! Blocks, threads and the order of packing; results depend on none of it.

use rayon::prelude::*;

use super::kernel::tile;
use super::pack;
use crate::backend::cpu::flush;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::backend::cpu::scratch::Scratch;
use crate::ops::Precision;

/// One operand as rows (of outputs) by k.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    /// All elements.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between successive k.
    pub k_stride: usize,
}

impl<'a> Operand<'a> {
    /// `(rows, k)` in memory.
    pub fn rows_by_k(data: &'a [f32], k: usize) -> Self {
        Self { data, row_stride: k, k_stride: 1 }
    }

    /// `(k, rows)` in memory.
    pub fn k_by_rows(data: &'a [f32], rows: usize) -> Self {
        Self { data, row_stride: 1, k_stride: rows }
    }
}

/// Where the chains start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At +0: the output is overwritten.
    Zero,
    /// At the values there: the output is added to.
    Existing,
}

/// `out(M, N) = start + a(M, k) · b(N, k)ᵀ`.
pub(super) struct Product<'a> {
    pub a: Operand<'a>,
    pub b: Operand<'a>,
    pub k: usize,
    pub precision: Precision,
    pub start: Start,
}

impl Product<'_> {
    /// Computes all of `out`, whose rows are `n` wide, on the current rayon pool.
    pub fn run(&self, level: Level, out: &mut [f32], n: usize) {
        if out.is_empty() {
            return;
        }
        let k = pack::padded(self.k, self.precision);
        if k == 0 {
            if self.start == Start::Zero {
                out.fill(0.0);
            }
            return;
        }
        let width = panel_width(level);
        let rows = rows_per_task(out.len() / n, rayon::current_num_threads());
        // As many columns at a time as keep the packed operand within a share of the last cache.
        let columns = (PACKED_ELEMENTS / k / width).max(1) * width;
        let mut packed = Scratch::take(columns.min(n.next_multiple_of(width)) * k);
        for first in (0..n).step_by(columns) {
            let columns = columns.min(n - first);
            let b = &mut packed.elements()[..columns.next_multiple_of(width) * k];
            b.par_chunks_mut(k * width).enumerate().for_each(|(i, panel)| {
                let row = first + i * width;
                self.pack_b(level, (row, width.min(first + columns - row)), panel);
            });
            let b = &*b;
            out.par_chunks_mut(rows * n).enumerate().for_each(|(task, out)| {
                let block = Block { product: self, row: task * rows, b, k, n, first, columns };
                let mut a = Scratch::take((out.len() / n + MAX_ROWS) * DEPTH.min(k));
                block.run(level, a.elements(), out);
            });
        }
    }

    fn pack_b(&self, level: Level, rows: (usize, usize), panel: &mut [f32]) {
        let product = self;
        at_level!(level, pack_b(product: &Product<'_>, rows: (usize, usize), panel: &mut [f32]));
    }
}

/// A range of rows of the output against a packed range of its columns.
struct Block<'a> {
    product: &'a Product<'a>,
    /// First row of the output.
    row: usize,
    /// Packed columns: panels `(k, width)`.
    b: &'a [f32],
    /// Packed extent of k.
    k: usize,
    /// Width of the output's rows.
    n: usize,
    /// First column.
    first: usize,
    /// Columns.
    columns: usize,
}

impl Block<'_> {
    fn run(&self, level: Level, a: &mut [f32], out: &mut [f32]) {
        let block = self;
        for from in (0..self.k).step_by(DEPTH) {
            let range = (from, self.k.min(from + DEPTH));
            at_level!(level, pack_a(block: &Block<'_>, range: (usize, usize), a: &mut [f32], out: &mut [f32]));
            let a = &*a;
            if self.product.precision == Precision::Bf16 {
                flush::with(level, || {
                    at_level!(level, tiles_flushed(block: &Block<'_>, range: (usize, usize), a: &[f32], out: &mut [f32]));
                });
            } else {
                at_level!(level, tiles(block: &Block<'_>, range: (usize, usize), a: &[f32], out: &mut [f32]));
            }
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn pack_b<V: Lanes>(product: &Product<'_>, rows: (usize, usize), panel: &mut [f32]) {
    let range = (0, pack::padded(product.k, product.precision));
    let (b, k) = (&product.b, product.k);
    match (V::LEN, product.precision) {
        (16, Precision::F32) => pack::panel::<32, false>(b, k, rows, range, panel),
        (16, Precision::Bf16) => pack::panel::<32, true>(b, k, rows, range, panel),
        (_, Precision::F32) => pack::panel::<16, false>(b, k, rows, range, panel),
        (_, Precision::Bf16) => pack::panel::<16, true>(b, k, rows, range, panel),
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn pack_a<V: Lanes>(
    block: &Block<'_>,
    range: (usize, usize),
    a: &mut [f32],
    out: &mut [f32],
) {
    let (operand, k) = (&block.product.a, block.product.k);
    let m = out.len() / block.n;
    let height = tile_rows::<V>();
    let depth = range.1 - range.0;
    for (i, panel) in a.chunks_mut(depth * height).enumerate().take(m.div_ceil(height)) {
        let rows = (block.row + i * height, height.min(m - i * height));
        match (V::LEN, block.product.precision) {
            (16, Precision::F32) => pack::panel::<12, false>(operand, k, rows, range, panel),
            (16, Precision::Bf16) => pack::panel::<12, true>(operand, k, rows, range, panel),
            (_, Precision::F32) => pack::panel::<6, false>(operand, k, rows, range, panel),
            (_, Precision::Bf16) => pack::panel::<6, true>(operand, k, rows, range, panel),
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn tiles<V: Lanes>(block: &Block<'_>, range: (usize, usize), a: &[f32], out: &mut [f32]) {
    // SAFETY: by this function's contract.
    unsafe { all_tiles::<V, false>(block, range, a, out) }
}

/// # Safety
/// `V`'s instruction set is available, within `flush::with`.
#[inline(always)]
unsafe fn tiles_flushed<V: Lanes>(
    block: &Block<'_>,
    range: (usize, usize),
    a: &[f32],
    out: &mut [f32],
) {
    // SAFETY: by this function's contract.
    unsafe { all_tiles::<V, true>(block, range, a, out) }
}

/// # Safety
/// `V`'s instruction set is available; with `FLUSH`, within `flush::with`.
#[inline(always)]
unsafe fn all_tiles<V: Lanes, const FLUSH: bool>(
    block: &Block<'_>,
    range: (usize, usize),
    a: &[f32],
    out: &mut [f32],
) {
    let (height, width) = (tile_rows::<V>(), 2 * V::LEN);
    let depth = range.1 - range.0;
    let m = out.len() / block.n;
    let load = range.0 > 0 || block.product.start == Start::Existing;
    for column in (0..block.columns).step_by(width) {
        let b = &block.b[column * block.k + range.0 * width..][..depth * width];
        let columns = width.min(block.columns - column);
        for row in (0..m).step_by(height) {
            let a = &a[row * depth..][..height * depth];
            let rows = height.min(m - row);
            let out = &mut out[row * block.n + block.first + column..];
            assert!(out.len() >= (rows - 1) * block.n + columns);
            let (a, b, out) = (a.as_ptr(), b.as_ptr(), out.as_mut_ptr());
            // SAFETY: the slices above have the extents that `tile` reads and writes.
            unsafe {
                if V::LEN == 16 {
                    tile::<V, 12, FLUSH>(depth, a, b, out, block.n, rows, columns, load);
                } else {
                    tile::<V, 6, FLUSH>(depth, a, b, out, block.n, rows, columns, load);
                }
            }
        }
    }
}

/// Rows of a register tile.
const fn tile_rows<V: Lanes>() -> usize {
    if V::LEN == 16 { 12 } else { 6 }
}

/// Columns of a register tile.
fn panel_width(level: Level) -> usize {
    /// # Safety
    /// None: asks for a constant.
    unsafe fn width<V: Lanes>() -> usize {
        2 * V::LEN
    }
    at_level!(level, width() -> usize)
}

/// Rows of the output in a task: whole tiles, several tasks a thread, so that threads end together.
fn rows_per_task(m: usize, threads: usize) -> usize {
    let tasks = if threads == 1 { 1 } else { 4 * threads };
    m.div_ceil(tasks).next_multiple_of(12).clamp(12, MAX_TASK_ROWS)
}

/// k at a time: a panel of b and one of a stay in the first cache.
const DEPTH: usize = 256;
/// Rows of a in one task at most: its packed block stays in the second cache.
const MAX_TASK_ROWS: usize = 240;
/// Largest height of a tile.
const MAX_ROWS: usize = 12;
/// Elements of b packed at a time (32 MiB).
const PACKED_ELEMENTS: usize = 8 << 20;

//! Matrix products: blocks, threads and the order of packing; results depend on none of it.

use half::bf16;
use rayon::prelude::*;

use super::kernel::Chains;
use super::kernel::Left;
use super::kernel::Right;
use super::lanes::Sums;
use super::pack;
use crate::backend::cpu::columns::Columns;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::backend::cpu::scratch::Scratch;
use crate::ops::TC_STEP;
use crate::ops::TensorCore;

/// One operand as rows (of outputs) by k.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    data: &'a [bf16],
    row_stride: usize,
    k_stride: usize,
}

impl<'a> Operand<'a> {
    /// `(rows, k)` in memory.
    pub fn rows_by_k(data: &'a [bf16], k: usize) -> Self {
        Self { data, row_stride: k, k_stride: 1 }
    }

    /// `(k, rows)` in memory.
    pub fn k_by_rows(data: &'a [bf16], rows: usize) -> Self {
        Self { data, row_stride: 1, k_stride: rows }
    }
}

/// Where chains end.
pub(super) enum Output<'a> {
    /// Rounded.
    Bf16(Columns<'a, bf16>),
    /// As they are, added to what is there if the flag says so.
    F32(Columns<'a>, bool),
}

impl<'a> Output<'a> {
    /// Rows of `width` bf16 values, overwritten.
    pub fn bf16(data: &'a mut [bf16], width: usize) -> Self {
        Self::Bf16(Columns::new(data, width))
    }

    /// Rows of `width` f32 values, overwritten or added to.
    pub fn f32(data: &'a mut [f32], width: usize, add: bool) -> Self {
        Self::F32(Columns::new(data, width), add)
    }

    fn extents(&self) -> (usize, usize) {
        match self {
            Self::Bf16(out) => (out.rows(), out.width()),
            Self::F32(out, _) => (out.rows(), out.width()),
        }
    }
}

/// `out(M, N) = a(M, k) · b(N, k)ᵀ`, each output one chain.
pub(super) struct Product<'a> {
    pub core: TensorCore,
    pub a: Operand<'a>,
    pub b: Operand<'a>,
    pub k: usize,
}

/// Some rows of the left factor, packed.
struct Rows<'a> {
    product: &'a Product<'a>,
    first: usize,
    count: usize,
    /// `(blocks, count, DEPTH)`.
    data: &'a [f32],
    /// The same places.
    fields: &'a [u32],
    /// `(blocks, count)`.
    largest: &'a [u32],
}

/// A thread's memory for one panel.
struct Panel<'a> {
    /// `(DEPTH, 2·LEN)`.
    data: &'a mut [f32],
    /// `(DEPTH, LEN)`.
    fields: &'a mut [u32],
    /// `(rows, 2·LEN)`: chains between blocks of k.
    sums: &'a mut [f32],
}

impl Product<'_> {
    /// Computes all of `out` on the current rayon pool.
    pub fn run(&self, level: Level, out: &Output<'_>) {
        let (m, n) = out.extents();
        if m == 0 || n == 0 {
            return;
        }
        // An empty sum is one group of zeros, +0.
        let blocks = self.k.div_ceil(DEPTH).max(1);
        let at_once = (PACKED_ELEMENTS / (blocks * DEPTH)).clamp(MIN_ROWS, MAX_ROWS).min(m);
        let width = 2 * lanes(level);
        let mut scratch = Scratch::take(blocks * at_once * (2 * DEPTH + 1));
        for first in (0..m).step_by(at_once) {
            let count = at_once.min(m - first);
            let (data, rest) = scratch.elements().split_at_mut(blocks * count * DEPTH);
            let (fields, rest) = words(rest).split_at_mut(blocks * count * DEPTH);
            let largest = &mut rest[..blocks * count];
            self.pack_rows(level, (first, count), (data, fields, largest));
            let rows = Rows { product: self, first, count, data, fields, largest };
            let panels = n.div_ceil(width);
            let tasks = panels.min(TASKS_PER_THREAD * rayon::current_num_threads());
            // Rows are cut only where columns are few: every cut packs the panels again.
            let cuts = match rayon::current_num_threads() {
                1 => 1,
                threads => (2 * threads).div_ceil(tasks).min(count.div_ceil(MIN_ROWS)),
            };
            (0..tasks * cuts).into_par_iter().with_max_len(1).for_each(|task| {
                let part = |i: usize, of: usize, all: usize| i * all / of..(i + 1) * all / of;
                let panels = part(task / cuts, tasks, panels);
                let range = part(task % cuts, cuts, count);
                rows.multiply(level, panels, range, out);
            });
        }
    }

    fn pack_rows(
        &self,
        level: Level,
        (first, count): (usize, usize),
        (data, fields, largest): (&mut [f32], &mut [u32], &mut [u32]),
    ) {
        let some = count.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(MIN_ROWS);
        let blocks = data.par_chunks_mut(count * DEPTH).zip(fields.par_chunks_mut(count * DEPTH));
        let blocks = blocks.zip(largest.par_chunks_mut(count)).enumerate();
        blocks.for_each(|(block, ((data, fields), largest))| {
            let parts = data.par_chunks_mut(some * DEPTH).zip(fields.par_chunks_mut(some * DEPTH));
            let parts = parts.zip(largest.par_chunks_mut(some)).enumerate();
            parts.for_each(|(i, ((data, fields), largest))| {
                let (product, row, k) = (self, first + i * some, block * DEPTH);
                at_level!(level, pack_left(
                    product: &Product<'_>,
                    row: usize,
                    k: usize,
                    data: &mut [f32],
                    fields: &mut [u32],
                    largest: &mut [u32],
                ));
            });
        });
    }

    /// Elements of a block of k that are there, and with those that complete the last group.
    fn block(&self, k: usize) -> (usize, usize) {
        let count = self.k.saturating_sub(k).min(DEPTH);
        (count, count.next_multiple_of(TC_STEP).max(TC_STEP))
    }
}

impl Rows<'_> {
    fn multiply(
        &self,
        level: Level,
        panels: std::ops::Range<usize>,
        rows: std::ops::Range<usize>,
        out: &Output<'_>,
    ) {
        let width = 2 * lanes(level);
        let mut scratch = Scratch::take(width * (2 * DEPTH + rows.len()));
        let (data, rest) = scratch.elements().split_at_mut(width * DEPTH);
        let (fields, sums) = rest.split_at_mut(width * DEPTH);
        let panel = &mut Panel { data, fields: words(fields), sums };
        let this = self;
        for i in panels {
            let rows = rows.clone();
            at_level!(level, multiply_panel(
                level: Level,
                this: &Rows<'_>,
                i: usize,
                rows: std::ops::Range<usize>,
                panel: &mut Panel<'_>,
                out: &Output<'_>,
            ));
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn multiply_panel<V: Sums>(
    level: Level,
    rows: &Rows<'_>,
    index: usize,
    range: std::ops::Range<usize>,
    panel: &mut Panel<'_>,
    out: &Output<'_>,
) {
    let Rows { product, count, .. } = rows;
    let width = 2 * V::LEN;
    let columns = width.min(out.extents().1 - index * width);
    for block in 0..product.k.div_ceil(DEPTH).max(1) {
        let (_, k) = product.block(block * DEPTH);
        // SAFETY: as this function.
        let largest = unsafe {
            pack_panel::<V>(product, (index * width, columns), block * DEPTH, panel.data);
            pack::panel_fields::<V>(panel.data.as_ptr(), panel.fields.as_mut_ptr(), k)
        };
        let at = (block * count + range.start) * DEPTH;
        let left = Left {
            data: &rows.data[at..],
            fields: &rows.fields[at..],
            stride: DEPTH,
            largest: &rows.largest[block * count..][range.clone()],
        };
        let right = Right { data: panel.data, fields: panel.fields, largest };
        let chains = Chains { core: product.core, left, right, k, load: block > 0 };
        chains.run(level, panel.sums, width);
    }
    for (row, sums) in range.zip(panel.sums.chunks_exact(width)) {
        let (row, sums) = (rows.first + row, &sums[..columns]);
        // SAFETY: no other task has these rows and columns.
        unsafe {
            match out {
                Output::Bf16(out) => narrow::<V>(sums, out.row(row, index * width, columns)),
                Output::F32(out, add) => {
                    let to = out.row(row, index * width, columns);
                    for (to, sum) in to.iter_mut().zip(sums) {
                        *to = if *add { *to + sum } else { *sum };
                    }
                }
            }
        }
    }
}

/// Packs a block of k of some rows of the left factor from `row` on.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn pack_left<V: Sums>(
    product: &Product<'_>,
    row: usize,
    k: usize,
    data: &mut [f32],
    fields: &mut [u32],
    largest: &mut [u32],
) {
    let (count, padded) = product.block(k);
    let Operand { data: source, row_stride, k_stride } = product.a;
    let rows = largest.len();
    let last = (row + rows - 1) * row_stride + (k + count).saturating_sub(1) * k_stride;
    assert!(count == 0 || last < source.len(), "left factor");
    // SAFETY: rows and elements of k that the assertion covers; rows of `DEPTH` to write.
    unsafe {
        let source = source.as_ptr().wrapping_add(row * row_stride + k * k_stride);
        if k_stride == 1 {
            for (r, line) in data.chunks_exact_mut(DEPTH).enumerate() {
                let source = source.wrapping_add(r * row_stride);
                pack::widen::<V>(source, count, line.as_mut_ptr(), padded);
            }
        } else {
            pack::transpose::<V>(source, k_stride, (count, rows), data.as_mut_ptr(), DEPTH);
            for line in data.chunks_exact_mut(DEPTH) {
                line[count..padded].fill(0.0);
            }
        }
        for (r, largest) in largest.iter_mut().enumerate() {
            let (data, fields) = (data.as_ptr().add(r * DEPTH), fields.as_mut_ptr().add(r * DEPTH));
            *largest = pack::row_fields::<V>(data, fields, padded);
        }
    }
}

/// Packs a block of k of `columns` columns of the right factor.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn pack_panel<V: Lanes>(
    product: &Product<'_>,
    (first, columns): (usize, usize),
    k: usize,
    panel: &mut [f32],
) {
    let (count, padded) = product.block(k);
    let width = 2 * V::LEN;
    let Operand { data: source, row_stride, k_stride } = product.b;
    let last = (first + columns - 1) * row_stride + (k + count).saturating_sub(1) * k_stride;
    assert!(count == 0 || last < source.len(), "right factor");
    assert!(panel.len() >= padded * width, "panel");
    // SAFETY: columns and elements of k that the assertions cover.
    unsafe {
        let source = source.as_ptr().wrapping_add(first * row_stride + k * k_stride);
        if k_stride == 1 {
            if columns <= V::LEN {
                panel.fill(0.0);
            }
            pack::transpose::<V>(source, row_stride, (columns, count), panel.as_mut_ptr(), width);
        } else {
            for (p, line) in panel.chunks_exact_mut(width).take(count).enumerate() {
                let source = source.wrapping_add(p * k_stride);
                pack::widen::<V>(source, columns, line.as_mut_ptr(), width);
            }
        }
        panel[count * width..padded * width].fill(0.0);
    }
}

/// Rounds a line.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub(super) unsafe fn narrow<V: Lanes>(from: &[f32], to: &mut [bf16]) {
    let count = from.len().min(to.len());
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    for i in (0..count).step_by(V::LEN) {
        // SAFETY: elements below `count`.
        unsafe {
            if i + V::LEN <= count {
                V::load(from.add(i)).store_bf16(to.add(i));
            } else {
                V::load_first(from.add(i), count - i).store_bf16_first(to.add(i), count - i);
            }
        }
    }
}

/// Scratch as words.
pub(super) fn words(elements: &mut [f32]) -> &mut [u32] {
    bytemuck::cast_slice_mut(elements)
}

/// Lanes of a level's vectors.
pub(super) fn lanes(level: Level) -> usize {
    /// # Safety
    /// None: asks for a constant.
    unsafe fn of<V: Lanes>() -> usize {
        V::LEN
    }
    at_level!(level, of() -> usize)
}

/// Products of a chain at a time: a panel of so many stays in the first cache.
const DEPTH: usize = 128;
/// Rows of the left factor at a time at most.
const MAX_ROWS: usize = 1024;
/// Rows are not cut finer than this, except where there are no more.
const MIN_ROWS: usize = 16;
/// Elements of the left factor packed at a time (16 MiB with their fields).
const PACKED_ELEMENTS: usize = 2 << 20;
/// Columns are cut into so many tasks per thread, so that threads end together.
const TASKS_PER_THREAD: usize = 8;

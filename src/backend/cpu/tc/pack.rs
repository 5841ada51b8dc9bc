//! Factors as the kernel reads them: widened to f32, with exponent fields beside them.

use half::bf16;

use super::kernel::NOT_FINITE;
use super::lanes::Sums;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::ops::attention::KEY_TILE;

/// Fields of a row of a left factor, each twice in a word; the largest one.
///
/// # Safety
/// `V`'s instruction set is available; both have `count` elements, a multiple of 16.
#[inline(always)]
pub(super) unsafe fn row_fields<V: Sums>(data: *const f32, fields: *mut u32, count: usize) -> u32 {
    // SAFETY: whole vectors below `count`.
    unsafe {
        let mut largest = V::splat_int(0);
        for i in (0..count).step_by(V::LEN) {
            let x = V::load(data.add(i));
            let pairs = V::pairs_of(x, x);
            V::store_int(pairs, fields.add(i));
            largest = V::max_pairs(largest, pairs);
        }
        largest_of::<V>(largest)
    }
}

/// Fields of a panel `(count, 2·LEN)` of a right factor; the largest one.
///
/// # Safety
/// `V`'s instruction set is available; `data` has `count * 2·LEN` elements, `fields` half as many.
#[inline(always)]
pub(super) unsafe fn panel_fields<V: Sums>(
    data: *const f32,
    fields: *mut u32,
    count: usize,
) -> u32 {
    // SAFETY: lines below `count`.
    unsafe {
        let mut largest = V::splat_int(0);
        for k in 0..count {
            let line = data.add(k * 2 * V::LEN);
            let pairs = V::pairs_of(V::load(line), V::load(line.add(V::LEN)));
            V::store_int(pairs, fields.add(k * V::LEN));
            largest = V::max_pairs(largest, pairs);
        }
        largest_of::<V>(largest)
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn largest_of<V: Sums>(pairs: V::Int) -> u32 {
    let mut words = [0; 16];
    // SAFETY: the array holds the widest vector.
    unsafe { V::store_int(pairs, words.as_mut_ptr()) };
    let largest = words.iter().fold(0, |m: u32, w| m.max(w >> 16).max(w & 0xffff));
    if largest == 255 { NOT_FINITE } else { largest }
}

/// Widens `count` numbers; what follows up to `total` becomes zero.
///
/// # Safety
/// `V`'s instruction set is available; `count` elements are there to read, `total` to write.
#[inline(always)]
pub(super) unsafe fn widen<V: Lanes>(src: *const bf16, count: usize, dst: *mut f32, total: usize) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut i = 0;
        while i + V::LEN <= count {
            V::load_bf16(src.add(i)).store(dst.add(i));
            i += V::LEN;
        }
        while i < total {
            let some = count.saturating_sub(i).min(V::LEN);
            V::load_bf16_first(src.add(i.min(count)), some)
                .store_first(dst.add(i), V::LEN.min(total - i));
            i += V::LEN;
        }
    }
}

/// Widens and transposes `rows` rows of `columns` numbers (any extents), `src_stride` apart, to
/// `columns` lines, `dst_stride` apart. Lines are written in whole vectors: what follows `rows` in
/// the last one becomes zero.
///
/// # Safety
/// `V`'s instruction set is available; the rows are there to read; every line has room for `rows`
/// elements rounded up to `V::LEN`.
#[inline(always)]
pub(super) unsafe fn transpose<V: Lanes>(
    src: *const bf16,
    src_stride: usize,
    (rows, columns): (usize, usize),
    dst: *mut f32,
    dst_stride: usize,
) {
    let mut block = [0.0f32; 256];
    for row in (0..rows).step_by(V::LEN) {
        let height = V::LEN.min(rows - row);
        for column in (0..columns).step_by(V::LEN) {
            let width = V::LEN.min(columns - column);
            // SAFETY: rows below `rows` and columns below `columns`; the block holds a square of
            // the widest vector.
            unsafe {
                let src = src.add(row * src_stride + column);
                for r in 0..height {
                    let x = if width == V::LEN {
                        V::load_bf16(src.add(r * src_stride))
                    } else {
                        V::load_bf16_first(src.add(r * src_stride), width)
                    };
                    x.store(block.as_mut_ptr().add(r * V::LEN));
                }
                let dst = dst.add(column * dst_stride + row);
                if height == V::LEN && width == V::LEN {
                    V::transpose::<false>(
                        block.as_ptr(),
                        V::LEN,
                        (V::LEN, V::LEN),
                        dst,
                        dst_stride,
                    );
                } else {
                    V::transpose::<false>(block.as_ptr(), V::LEN, (height, width), dst, dst_stride);
                }
            }
        }
    }
}

/// Numbers of one head in packed rows: row `r` begins at `r * stride`.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub data: &'a [bf16],
    pub stride: usize,
    /// Rows that are there.
    pub rows: usize,
    /// Numbers of a row (D).
    pub width: usize,
}

impl<'a> Head<'a> {
    /// The rows from `first` on, at most `count`.
    pub fn rows(self, first: usize, count: usize) -> Self {
        let rows = self.rows.saturating_sub(first).min(count);
        let data = &self.data[(first * self.stride).min(self.data.len())..];
        Self { data, rows, ..self }
    }

    fn check(&self) {
        let last = self.rows.saturating_sub(1) * self.stride + self.width;
        assert!(self.rows == 0 || self.data.len() >= last, "rows of a head");
    }

    /// As rows of a left factor, `(rows, to_stride)`: what is not there is zero.
    pub fn left(self, level: Level, to: LeftMut<'_>) {
        let head = self;
        at_level!(level, left(head: Head<'_>, to: LeftMut<'_>));
    }

    /// Transposed, as rows of a left factor, `(D, to_stride)`, whose fields are asked for by pieces
    /// of [`KEY_TILE`]: `largest` is `(pieces, D)`.
    pub fn left_transposed(self, level: Level, to: LeftMut<'_>) {
        let head = self;
        at_level!(level, left_transposed(head: Head<'_>, to: LeftMut<'_>));
    }

    /// Transposed, as a panel `(k, 2·LEN)` whose columns are rows of the head; the largest field.
    pub fn panel_transposed(self, level: Level, data: &mut [f32], fields: &mut [u32]) -> u32 {
        let head = self;
        at_level!(level, panel_transposed(head: Head<'_>, data: &mut [f32], fields: &mut [u32]) -> u32)
    }

    /// Columns from `first` on, as a panel `(rows, 2·LEN)`; the largest field.
    pub fn panel(self, level: Level, first: usize, data: &mut [f32], fields: &mut [u32]) -> u32 {
        let head = self;
        at_level!(level, panel(head: Head<'_>, first: usize, data: &mut [f32], fields: &mut [u32]) -> u32)
    }
}

/// Where rows of a left factor go.
pub(super) struct LeftMut<'a> {
    pub data: &'a mut [f32],
    pub fields: &'a mut [u32],
    pub stride: usize,
    pub largest: &'a mut [u32],
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn left<V: Sums>(head: Head<'_>, to: LeftMut<'_>) {
    head.check();
    let lines = to.data.chunks_exact_mut(to.stride).zip(to.fields.chunks_exact_mut(to.stride));
    for (r, ((data, fields), largest)) in lines.zip(to.largest).enumerate() {
        let count = if r < head.rows { head.width } else { 0 };
        // SAFETY: rows that the check covers; whole lines to write.
        unsafe {
            let source = head.data.as_ptr().wrapping_add(r * head.stride);
            widen::<V>(source, count, data.as_mut_ptr(), to.stride);
            *largest = row_fields::<V>(data.as_ptr(), fields.as_mut_ptr(), to.stride);
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn left_transposed<V: Sums>(head: Head<'_>, to: LeftMut<'_>) {
    head.check();
    let (d, stride) = (head.width, to.stride);
    let pieces = stride / KEY_TILE;
    assert!(to.data.len() >= d * stride && to.fields.len() >= d * stride, "rows");
    assert!(head.rows <= stride && to.largest.len() >= pieces * d, "rows");
    to.data.fill(0.0);
    // SAFETY: rows that the check covers; lines of whole tiles to write.
    unsafe {
        let extents = (head.rows, d);
        transpose::<V>(head.data.as_ptr(), head.stride, extents, to.data.as_mut_ptr(), stride);
        for (i, largest) in to.largest[..pieces * d].iter_mut().enumerate() {
            let at = i % d * stride + i / d * KEY_TILE;
            let (data, fields) = (to.data.as_ptr().add(at), to.fields.as_mut_ptr().add(at));
            *largest = row_fields::<V>(data, fields, KEY_TILE);
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn panel_transposed<V: Sums>(head: Head<'_>, data: &mut [f32], fields: &mut [u32]) -> u32 {
    head.check();
    let width = 2 * V::LEN;
    let k = data.len() / width;
    assert!(head.rows <= width && head.width <= k && fields.len() >= k * V::LEN, "panel");
    data.fill(0.0);
    // SAFETY: rows that the check covers; lines of whole panels to write.
    unsafe {
        let extents = (head.rows, head.width);
        transpose::<V>(head.data.as_ptr(), head.stride, extents, data.as_mut_ptr(), width);
        panel_fields::<V>(data.as_ptr(), fields.as_mut_ptr(), k)
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn panel<V: Sums>(
    head: Head<'_>,
    first: usize,
    data: &mut [f32],
    fields: &mut [u32],
) -> u32 {
    head.check();
    let width = 2 * V::LEN;
    let k = data.len() / width;
    let columns = width.min(head.width - first);
    assert!(fields.len() >= k * V::LEN, "panel");
    // SAFETY: rows that the check covers; whole lines to write.
    unsafe {
        for (r, line) in data.chunks_exact_mut(width).enumerate() {
            let count = if r < head.rows { columns } else { 0 };
            let source = head.data.as_ptr().wrapping_add(r * head.stride + first);
            widen::<V>(source, count, line.as_mut_ptr(), width);
        }
        panel_fields::<V>(data.as_ptr(), fields.as_mut_ptr(), k)
    }
}

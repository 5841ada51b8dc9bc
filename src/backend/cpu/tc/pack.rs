//! Factors as the kernel reads them: widened to f32, with exponent fields beside them.

use half::bf16;

use super::kernel::NOT_FINITE;
use super::lanes::Sums;
use crate::backend::cpu::lanes::Lanes;

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

//! Packing: the left factor in tiles of rows, the right one in panels of columns.
//!
//! For the bf16 profile elements are rounded to bf16 (and kept as f32) and subnormal ones become
//! zero. Where k ends on an odd number, a zero completes the last pair.

use super::product::Operand;
use super::product::Product;
use crate::backend::cpu::lanes::Lanes;
use crate::ops::Precision;

/// Packed elements of k at a time: a panel of the right factor and a tile of the left one stay in the first cache.
pub(super) const DEPTH: usize = 256;

/// So many k ahead of what is being packed is asked for, where successive k lie far apart.
const AHEAD: usize = 8;

/// Elements of k that enter chains: `k`, or the next even number for bf16.
pub(super) fn padded(k: usize, precision: Precision) -> usize {
    match precision {
        Precision::F32 => k,
        Precision::Bf16 => k.next_multiple_of(2),
        Precision::Tc(_) => k.next_multiple_of(crate::ops::TC_STEP),
    }
}

/// Rows in a tile of the left factor.
pub(super) const fn tile_rows<V: Lanes>() -> usize {
    if V::LEN == 16 { 12 } else { 6 }
}

/// Elements of a packed tile: `DEPTH` of each row, and room for the last vector's end.
pub(super) const fn tile_elements<V: Lanes>() -> usize {
    tile_rows::<V>() * DEPTH + 16
}

/// Packs tiles of rows from `row` on (below `end`), elements `from..to` of k, one after another.
///
/// Element `(i, p)` of a tile is at `i * DEPTH + p` if the source has k contiguous, else at
/// `p * tile_rows + i`, so that both copy whole pieces of lines.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub(super) unsafe fn tiles<V: Lanes, const BF16: bool>(
    product: &Product<'_>,
    (row, end): (usize, usize),
    (from, to): (usize, usize),
    packed: &mut [f32],
) {
    let height = tile_rows::<V>();
    let stop = to.min(product.k);
    if product.a.k_stride == 1 {
        for (i, tile) in packed.chunks_exact_mut(tile_elements::<V>()).enumerate() {
            for (r, line) in tile.chunks_exact_mut(DEPTH).take(height).enumerate() {
                let source = row + i * height + r;
                let line = &mut line[..to - from];
                let mut length = 0;
                if source < end {
                    length = stop - from;
                    let source = &product.a.data[source * product.a.row_stride + from..][..length];
                    // SAFETY: as this function.
                    unsafe { copy::<V, BF16>(source, &mut line[..length]) };
                }
                line[length..].fill(0.0);
            }
        }
        return;
    }
    for (p, k) in (from..stop).enumerate() {
        let source = &product.a.data[k * product.a.k_stride..][..end];
        for (i, tile) in packed.chunks_exact_mut(tile_elements::<V>()).enumerate() {
            let first = row + i * height;
            // SAFETY: `end - first` elements are there to read; a whole vector fits at every `p`
            // of a tile, and its end is overwritten by the next `p`.
            unsafe {
                let at = source.as_ptr().add(first.min(end));
                V::prefetch(at.wrapping_add(AHEAD * product.a.k_stride));
                let x = if first + V::LEN <= end {
                    V::load(at)
                } else {
                    V::load_first(at, end.saturating_sub(first))
                };
                (if BF16 { x.bf16() } else { x }).store(tile.as_mut_ptr().add(p * height));
            }
        }
    }
    for tile in packed.chunks_exact_mut(tile_elements::<V>()) {
        tile[(stop - from) * height..(to - from) * height].fill(0.0);
    }
}

/// Packs `columns` (at most `2·LEN`) rows of the right factor from `first` on, elements `from..to`
/// of k, as a panel `(to - from, 2·LEN)`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub(super) unsafe fn panel<V: Lanes, const BF16: bool>(
    product: &Product<'_>,
    (first, columns): (usize, usize),
    (from, to): (usize, usize),
    panel: &mut [f32],
) {
    let Operand { data, row_stride, k_stride } = product.b;
    let width = 2 * V::LEN;
    let stop = to.min(product.k);
    let panel = &mut panel[..(to - from) * width];
    panel[(stop - from) * width..].fill(0.0);
    if k_stride == 1 {
        let data = &data[first * row_stride..];
        assert!(data.len() >= (columns - 1) * row_stride + stop, "right factor");
        for (half, dst) in [(0, 0), (V::LEN.min(columns), V::LEN)] {
            let rows = V::LEN.min(columns - half);
            for p in (from..stop).step_by(V::LEN) {
                let count = V::LEN.min(stop - p);
                // SAFETY: rows `half..half + rows` and elements `p..p + count` are there by the
                // assertion; the panel has `count` lines from `p - from` on.
                unsafe {
                    let src = data.as_ptr().wrapping_add(half * row_stride + p);
                    let dst = panel.as_mut_ptr().add((p - from) * width + dst);
                    for r in 0..rows {
                        V::prefetch(src.wrapping_add(r * row_stride + 2 * V::LEN));
                    }
                    if rows == V::LEN && count == V::LEN {
                        V::transpose::<BF16>(src, row_stride, (V::LEN, V::LEN), dst, width);
                    } else {
                        V::transpose::<BF16>(src, row_stride, (rows, count), dst, width);
                    }
                }
            }
        }
        return;
    }
    for (line, p) in panel.chunks_exact_mut(width).zip(from..stop) {
        let source = &data[p * k_stride + first..][..columns];
        if columns < width {
            line.fill(0.0);
        }
        // SAFETY: as this function; prefetching is harmless anywhere.
        unsafe {
            let ahead = source.as_ptr().wrapping_add(AHEAD * k_stride);
            V::prefetch(ahead);
            V::prefetch(ahead.wrapping_add(V::LEN));
            copy::<V, BF16>(source, &mut line[..columns]);
        }
    }
}

/// Copies a piece of a line, rounding if `BF16`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn copy<V: Lanes, const BF16: bool>(from: &[f32], to: &mut [f32]) {
    let count = from.len().min(to.len());
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    let mut i = 0;
    // SAFETY: both have `count` elements.
    unsafe {
        while i + V::LEN <= count {
            let x = V::load(from.add(i));
            (if BF16 { x.bf16() } else { x }).store(to.add(i));
            i += V::LEN;
        }
        if i < count {
            let x = V::load_first(from.add(i), count - i);
            (if BF16 { x.bf16() } else { x }).store_first(to.add(i), count - i);
        }
    }
}

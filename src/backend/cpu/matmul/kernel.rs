//! The register tile: `MR x 2` vectors of outputs, one chain of FMAs each.

use std::marker::PhantomData;

use super::pack;
use super::product::Product;
use crate::backend::cpu::lanes::Lanes;

/// How factors are packed, and how packed elements continue chains.
///
/// # Safety
///
/// The contract of every method: the instruction sets of `V` and of the implementor are available.
#[allow(clippy::missing_safety_doc, reason = "one contract for all, on the trait")]
pub(super) trait Chain {
    /// The vectors.
    type V: Lanes;
    /// Elements of k in a packed element.
    const PER_PACKED: usize;
    /// Continues the chains of `acc` by `count` packed elements, laid out as [`tile`] says.
    unsafe fn run<const MR: usize, const A_ROW: usize, const A_K: usize>(
        count: usize,
        a: *const f32,
        b: *const f32,
        acc: &mut [[Self::V; 2]; MR],
    );
    /// Packs tiles of rows; see [`pack::tiles`].
    unsafe fn pack_tiles(
        product: &Product<'_>,
        rows: (usize, usize),
        range: (usize, usize),
        packed: &mut [f32],
    );
    /// Packs a panel of columns; see [`pack::panel`].
    unsafe fn pack_panel(
        product: &Product<'_>,
        columns: (usize, usize),
        range: (usize, usize),
        panel: &mut [f32],
    );
}

/// FMAs of f32 elements, k ascending.
pub(super) struct Plain<V>(PhantomData<V>);

/// FMAs of elements rounded to bf16 and kept as f32, the odd one of each pair first, subnormal
/// numbers flushed to zero; runs within `flush::with`.
pub(super) struct Flushed<V>(PhantomData<V>);

#[allow(clippy::missing_safety_doc, reason = "see the trait")]
impl<V: Lanes> Chain for Plain<V> {
    type V = V;
    const PER_PACKED: usize = 1;

    #[inline(always)]
    unsafe fn run<const MR: usize, const A_ROW: usize, const A_K: usize>(
        count: usize,
        mut a: *const f32,
        mut b: *const f32,
        acc: &mut [[V; 2]; MR],
    ) {
        for _ in 0..count {
            // SAFETY: by the trait's contract and [`tile`]'s.
            unsafe {
                step::<V, MR, A_ROW, false>(a, b, acc);
                (a, b) = (a.add(A_K), b.add(2 * V::LEN));
            }
        }
    }
    #[inline(always)]
    unsafe fn pack_tiles(
        product: &Product<'_>,
        rows: (usize, usize),
        range: (usize, usize),
        packed: &mut [f32],
    ) {
        // SAFETY: by the trait's contract.
        unsafe { pack::tiles::<V, false>(product, rows, range, packed) }
    }
    #[inline(always)]
    unsafe fn pack_panel(
        product: &Product<'_>,
        columns: (usize, usize),
        range: (usize, usize),
        panel: &mut [f32],
    ) {
        // SAFETY: by the trait's contract.
        unsafe { pack::panel::<V, false>(product, columns, range, panel) }
    }
}

#[allow(clippy::missing_safety_doc, reason = "see the trait")]
impl<V: Lanes> Chain for Flushed<V> {
    type V = V;
    const PER_PACKED: usize = 1;

    #[inline(always)]
    unsafe fn run<const MR: usize, const A_ROW: usize, const A_K: usize>(
        count: usize,
        mut a: *const f32,
        mut b: *const f32,
        acc: &mut [[V; 2]; MR],
    ) {
        for _ in 0..count / 2 {
            // SAFETY: by the trait's contract and [`tile`]'s.
            unsafe {
                step::<V, MR, A_ROW, true>(a.add(A_K), b.add(2 * V::LEN), acc);
                step::<V, MR, A_ROW, true>(a, b, acc);
                (a, b) = (a.add(2 * A_K), b.add(4 * V::LEN));
            }
        }
    }
    #[inline(always)]
    unsafe fn pack_tiles(
        product: &Product<'_>,
        rows: (usize, usize),
        range: (usize, usize),
        packed: &mut [f32],
    ) {
        // SAFETY: by the trait's contract.
        unsafe { pack::tiles::<V, true>(product, rows, range, packed) }
    }
    #[inline(always)]
    unsafe fn pack_panel(
        product: &Product<'_>,
        columns: (usize, usize),
        range: (usize, usize),
        panel: &mut [f32],
    ) {
        // SAFETY: by the trait's contract.
        unsafe { pack::panel::<V, true>(product, columns, range, panel) }
    }
}

/// Rows by columns of outputs, at most `MR` by `2·LEN`.
#[derive(Clone, Copy)]
pub(super) struct Outputs {
    /// First element.
    pub at: *mut f32,
    /// Distance between rows.
    pub stride: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Whether the chains start from the values there, else from 0.
    pub load: bool,
}

/// Continues outputs by a chain over `count` packed elements.
///
/// Element `(i, p)` of the left factor is at `a + i * A_ROW + p * A_K`; `b` is a panel
/// `(count, 2·LEN)`.
///
/// # Safety
/// `C`'s instruction sets are available (and what it asks for besides); the factors hold `MR` rows
/// and `2·LEN` columns of `count` elements; `out` is valid for its rows and columns.
#[inline(always)]
pub(super) unsafe fn tile<C: Chain, const MR: usize, const A_ROW: usize, const A_K: usize>(
    count: usize,
    a: *const f32,
    b: *const f32,
    out: Outputs,
) {
    let width = 2 * C::V::LEN;
    let full = out.columns == width;
    // SAFETY: offsets stay within the extents that this function's contract names; prefetching
    // is harmless anywhere.
    unsafe {
        let mut acc = [[C::V::splat(0.0); 2]; MR];
        for (i, acc) in acc.iter_mut().enumerate() {
            let row = out.at.wrapping_add(i * out.stride);
            if out.load && i < out.rows {
                *acc = if full {
                    [C::V::load(row), C::V::load(row.add(C::V::LEN))]
                } else {
                    part(row, out)
                };
            }
            // The tile below is most often next.
            C::V::prefetch(row.wrapping_add(MR * out.stride));
            C::V::prefetch(row.wrapping_add(MR * out.stride + C::V::LEN));
        }
        C::run::<MR, A_ROW, A_K>(count, a, b, &mut acc);
        for (i, acc) in acc.iter().enumerate() {
            if i < out.rows {
                let row = out.at.add(i * out.stride);
                if full {
                    acc[0].store(row);
                    acc[1].store(row.add(C::V::LEN));
                } else {
                    let low = out.columns.min(C::V::LEN);
                    acc[0].store_first(row, low);
                    if out.columns > low {
                        acc[1].store_first(row.add(C::V::LEN), out.columns - low);
                    }
                }
            }
        }
    }
}

/// One element of k.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn step<V: Lanes, const MR: usize, const A_ROW: usize, const FLUSH: bool>(
    a: *const f32,
    b: *const f32,
    acc: &mut [[V; 2]; MR],
) {
    // SAFETY: by this function's contract.
    unsafe {
        let (b0, b1) = (V::load(b), V::load(b.add(V::LEN)));
        for (i, acc) in acc.iter_mut().enumerate() {
            let x = V::splat(*a.add(i * A_ROW));
            if FLUSH {
                *acc = [x.fma_flushed(b0, acc[0]), x.fma_flushed(b1, acc[1])];
            } else {
                *acc = [x.fma(b0, acc[0]), x.fma(b1, acc[1])];
            }
        }
    }
}

/// The first columns of a row.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn part<V: Lanes>(row: *const f32, out: Outputs) -> [V; 2] {
    // SAFETY: by this function's contract.
    unsafe {
        let low = out.columns.min(V::LEN);
        let high = match out.columns - low {
            0 => V::splat(0.0),
            count => V::load_first(row.add(V::LEN), count),
        };
        [V::load_first(row, low), high]
    }
}

//! The register tile: `MR x 2` vectors of outputs, one chain of FMAs each.

use crate::backend::cpu::lanes::Lanes;

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

/// Continues outputs by a chain over `k` packed elements.
///
/// Element `(i, p)` of the left factor is at `a + i * A_ROW + p * A_K`; `b` is a panel
/// `(k, 2·LEN)`. With `FLUSH` subnormal numbers become zeros, `k` is even, and the odd element of
/// each pair comes first.
///
/// # Safety
/// `V`'s instruction set is available, within `flush::with` if `FLUSH`; the factors hold `MR` rows
/// and `2·LEN` columns of `k` elements; `out` is valid for its rows and columns.
#[inline(always)]
pub(super) unsafe fn tile<
    V: Lanes,
    const MR: usize,
    const A_ROW: usize,
    const A_K: usize,
    const FLUSH: bool,
>(
    k: usize,
    a: *const f32,
    b: *const f32,
    out: Outputs,
) {
    // SAFETY: offsets stay within the extents that this function's contract names.
    unsafe {
        let full = out.columns == 2 * V::LEN;
        let mut acc = [[V::splat(0.0); 2]; MR];
        for (i, acc) in acc.iter_mut().enumerate() {
            let row = out.at.wrapping_add(i * out.stride);
            if out.load && i < out.rows {
                *acc = if full { [V::load(row), V::load(row.add(V::LEN))] } else { part(row, out) };
            }
            // The tile below is most often next.
            V::prefetch(row.wrapping_add(MR * out.stride));
            V::prefetch(row.wrapping_add(MR * out.stride + V::LEN));
        }
        let (mut a, mut b) = (a, b);
        if FLUSH {
            for _ in 0..k / 2 {
                step::<V, MR, A_ROW, FLUSH>(a.add(A_K), b.add(2 * V::LEN), &mut acc);
                step::<V, MR, A_ROW, FLUSH>(a, b, &mut acc);
                (a, b) = (a.add(2 * A_K), b.add(4 * V::LEN));
            }
        } else {
            for _ in 0..k {
                step::<V, MR, A_ROW, FLUSH>(a, b, &mut acc);
                (a, b) = (a.add(A_K), b.add(2 * V::LEN));
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            if i < out.rows {
                let row = out.at.add(i * out.stride);
                if full {
                    acc[0].store(row);
                    acc[1].store(row.add(V::LEN));
                } else {
                    let low = out.columns.min(V::LEN);
                    acc[0].store_first(row, low);
                    if out.columns > low {
                        acc[1].store_first(row.add(V::LEN), out.columns - low);
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

//! The register tile: `MR x 2` vectors of outputs, one chain of FMAs each.

use crate::backend::cpu::lanes::Lanes;

/// Continues the `m x n` outputs at `out` by a chain over `k` packed elements.
///
/// `a` is a panel `(k, MR)`, `b` a panel `(k, 2·LEN)`, zero-padded. With `load` the chains start
/// from the values at `out`, else from 0; with `FLUSH` subnormal numbers become zeros. Rows of `out` are `stride` apart.
///
/// # Safety
/// `V`'s instruction set is available; the panels hold `k * MR` and `k * 2 * LEN` elements; `out`
/// is valid for `m <= MR` rows of `n <= 2 * LEN` elements.
#[inline(always)]
pub(super) unsafe fn tile<V: Lanes, const MR: usize, const FLUSH: bool>(
    k: usize,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    stride: usize,
    m: usize,
    n: usize,
    load: bool,
) {
    // SAFETY: offsets stay within the extents that this function's contract names.
    unsafe {
        let full = n == 2 * V::LEN;
        let low = n.min(V::LEN);
        let high = n - low;
        let mut acc = [[V::splat(0.0); 2]; MR];
        if load {
            for (i, acc) in acc.iter_mut().enumerate() {
                if i < m {
                    let row = out.add(i * stride);
                    if full {
                        *acc = [V::load(row), V::load(row.add(V::LEN))];
                    } else {
                        acc[0] = V::load_first(row, low);
                        if high > 0 {
                            acc[1] = V::load_first(row.add(V::LEN), high);
                        }
                    }
                }
            }
        }
        let (mut pa, mut pb) = (a, b);
        for _ in 0..k {
            let b0 = V::load(pb);
            let b1 = V::load(pb.add(V::LEN));
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = V::splat(*pa.add(i));
                if FLUSH {
                    *acc = [x.fma_flushed(b0, acc[0]), x.fma_flushed(b1, acc[1])];
                } else {
                    *acc = [x.fma(b0, acc[0]), x.fma(b1, acc[1])];
                }
            }
            pa = pa.add(MR);
            pb = pb.add(2 * V::LEN);
        }
        for (i, acc) in acc.iter().enumerate() {
            if i < m {
                let row = out.add(i * stride);
                if full {
                    acc[0].store(row);
                    acc[1].store(row.add(V::LEN));
                } else {
                    acc[0].store_first(row, low);
                    if high > 0 {
                        acc[1].store_first(row.add(V::LEN), high);
                    }
                }
            }
        }
    }
}

//! Rows normalized, plain and fused with the residual. Large outputs go past the caches.

use super::Terms;
use super::row_sum;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::math::row_sum_squares;
use crate::backend::cpu::split::fence;
use crate::backend::cpu::split::put;

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so.
#[inline(always)]
pub(super) unsafe fn normalize_rows<V: Lanes>(
    out: &mut [f32],
    rstd: &mut [f32],
    inp: &[f32],
    weight: &[f32],
    eps: f32,
    stream: bool,
) {
    let c = weight.len();
    for ((out, x), rstd) in out.chunks_exact_mut(c).zip(inp.chunks_exact(c)).zip(rstd) {
        // SAFETY: rows of `c` elements; the rest is this function's contract.
        unsafe {
            *rstd = reciprocal_rms(row_sum_squares::<V>(x.as_ptr(), c), c, eps);
            let row = Plain { x: x.as_ptr(), out: out.as_mut_ptr() };
            if stream {
                scale::<V, Plain, true>(row, weight, *rstd);
            } else {
                scale::<V, Plain, false>(row, weight, *rstd);
            }
        }
    }
    fence(stream);
}

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so of both outputs.
#[inline(always)]
pub(super) unsafe fn normalize_sums<V: Lanes>(
    out: &mut [f32],
    sum: &mut [f32],
    rstd: &mut [f32],
    residual: &[f32],
    inp: &[f32],
    weight: &[f32],
    eps: f32,
    stream: bool,
) {
    let c = weight.len();
    let outputs = out.chunks_exact_mut(c).zip(sum.chunks_exact_mut(c));
    let inputs = residual.chunks_exact(c).zip(inp.chunks_exact(c));
    for (((out, sum), rstd), (residual, inp)) in outputs.zip(rstd).zip(inputs) {
        let terms = SquaredSum { residual: residual.as_ptr(), inp: inp.as_ptr() };
        // SAFETY: rows of `c` elements; the rest is this function's contract.
        unsafe {
            *rstd = reciprocal_rms(row_sum::<V>(terms, c), c, eps);
            let row = Fused { terms, sum: sum.as_mut_ptr(), out: out.as_mut_ptr() };
            if stream {
                scale::<V, Fused, true>(row, weight, *rstd);
            } else {
                scale::<V, Fused, false>(row, weight, *rstd);
            }
        }
    }
    fence(stream);
}

#[inline(always)]
fn reciprocal_rms(sum_squares: f32, c: usize, eps: f32) -> f32 {
    1.0 / (sum_squares / c as f32 + eps).sqrt()
}

/// Writes the row `(x * rstd) * weight`.
///
/// # Safety
/// `V`'s instruction set is available; `row` has as many elements as `weight`; with `STREAM` its
/// outputs are aligned to the widest vector.
#[inline(always)]
unsafe fn scale<V: Lanes, R: Row, const STREAM: bool>(row: R, weight: &[f32], rstd: f32) {
    let (len, weight) = (weight.len(), weight.as_ptr());
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let rstd = V::splat(rstd);
        let mut i = 0;
        while i + V::LEN <= len {
            let x: V = row.input::<V, STREAM>(i);
            put::<V, STREAM>(x.mul(rstd).mul(V::load(weight.add(i))), row.out().add(i));
            i += V::LEN;
        }
        let rest = len - i;
        if rest > 0 {
            let x: V = row.input_first(i, rest);
            let weight = V::load_first(weight.add(i), rest);
            x.mul(rstd).mul(weight).store_first(row.out().add(i), rest);
        }
    }
}

/// Where a row comes from and goes to.
///
/// # Safety
/// The contract of the unsafe methods: `V`'s instruction set is available, and the elements named
/// are within the row.
trait Row: Copy {
    /// Elements `i..i + V::LEN`.
    unsafe fn input<V: Lanes, const STREAM: bool>(self, i: usize) -> V;
    /// Elements `i..i + count`, then zeros.
    unsafe fn input_first<V: Lanes>(self, i: usize, count: usize) -> V;
    /// The output.
    fn out(self) -> *mut f32;
}

#[derive(Clone, Copy)]
struct Plain {
    x: *const f32,
    out: *mut f32,
}

impl Row for Plain {
    #[inline(always)]
    unsafe fn input<V: Lanes, const STREAM: bool>(self, i: usize) -> V {
        // SAFETY: by the trait's contract.
        unsafe { V::load(self.x.add(i)) }
    }
    #[inline(always)]
    unsafe fn input_first<V: Lanes>(self, i: usize, count: usize) -> V {
        // SAFETY: by the trait's contract.
        unsafe { V::load_first(self.x.add(i), count) }
    }
    #[inline(always)]
    fn out(self) -> *mut f32 {
        self.out
    }
}

/// Adds again what `row_sum` has added, rather than write the sum twice: both parts are near.
#[derive(Clone, Copy)]
struct Fused {
    terms: SquaredSum,
    sum: *mut f32,
    out: *mut f32,
}

impl Row for Fused {
    #[inline(always)]
    unsafe fn input<V: Lanes, const STREAM: bool>(self, i: usize) -> V {
        // SAFETY: by the trait's contract.
        unsafe {
            let [x, _]: [V; 2] = self.terms.at(i);
            put::<V, STREAM>(x, self.sum.add(i));
            x
        }
    }
    #[inline(always)]
    unsafe fn input_first<V: Lanes>(self, i: usize, count: usize) -> V {
        // SAFETY: by the trait's contract.
        unsafe {
            let [x, _]: [V; 2] = self.terms.first_at(i, count);
            x.store_first(self.sum.add(i), count);
            x
        }
    }
    #[inline(always)]
    fn out(self) -> *mut f32 {
        self.out
    }
}

/// `(residual + inp)^2`.
#[derive(Clone, Copy)]
struct SquaredSum {
    residual: *const f32,
    inp: *const f32,
}

impl<V: Lanes> Terms<V> for SquaredSum {
    #[inline(always)]
    unsafe fn at(self, i: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe { [V::load(self.residual.add(i)).add(V::load(self.inp.add(i))); 2] }
    }
    #[inline(always)]
    unsafe fn first_at(self, i: usize, count: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            let residual = V::load_first(self.residual.add(i), count);
            [residual.add(V::load_first(self.inp.add(i), count)); 2]
        }
    }
}

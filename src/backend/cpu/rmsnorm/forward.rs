//! Rows normalized, plain and fused with the residual. Large outputs go past the caches.

use super::Normal;
use super::Terms;
use crate::backend::cpu::activation::Activation;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::split::fence;

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so.
#[inline(always)]
pub(super) unsafe fn normalize_rows<V: Lanes, E: Normal>(
    out: &mut [E],
    rstd: &mut [f32],
    inp: &[E],
    weight: &[f32],
    eps: f32,
    stream: bool,
) {
    let c = weight.len();
    for ((out, x), rstd) in out.chunks_exact_mut(c).zip(inp.chunks_exact(c)).zip(rstd) {
        // SAFETY: rows of `c` elements; the rest is this function's contract.
        unsafe {
            let terms = Squared { x: x.as_ptr() };
            *rstd = reciprocal_rms(E::row_sum::<V>(terms, c), c, eps);
            let row = Plain { terms, out: out.as_mut_ptr() };
            if stream {
                scale::<V, Plain<E>, true>(row, weight, *rstd);
            } else {
                scale::<V, Plain<E>, false>(row, weight, *rstd);
            }
        }
    }
    fence(stream);
}

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so of both outputs.
#[inline(always)]
pub(super) unsafe fn normalize_sums<V: Lanes, E: Normal>(
    out: &mut [E],
    sum: &mut [E],
    rstd: &mut [f32],
    residual: &[E],
    inp: &[E],
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
            *rstd = reciprocal_rms(E::row_sum::<V>(terms, c), c, eps);
            let row = Fused { terms, sum: sum.as_mut_ptr(), out: out.as_mut_ptr() };
            if stream {
                scale::<V, Fused<E>, true>(row, weight, *rstd);
            } else {
                scale::<V, Fused<E>, false>(row, weight, *rstd);
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
            let x = x.mul(rstd).mul(V::load(weight.add(i)));
            R::Element::put::<V, STREAM>(x, row.out().add(i));
            i += V::LEN;
        }
        let rest = len - i;
        if rest > 0 {
            let x: V = row.input_first(i, rest);
            let weight = V::load_first(weight.add(i), rest);
            R::Element::store_first(x.mul(rstd).mul(weight), row.out().add(i), rest);
        }
    }
}

/// Where a row comes from and goes to.
///
/// # Safety
/// The contract of the unsafe methods: `V`'s instruction set is available, and the elements named
/// are within the row.
trait Row: Copy {
    /// Type of the row in memory.
    type Element: Activation;
    /// Elements `i..i + V::LEN`.
    unsafe fn input<V: Lanes, const STREAM: bool>(self, i: usize) -> V;
    /// Elements `i..i + count`, then zeros.
    unsafe fn input_first<V: Lanes>(self, i: usize, count: usize) -> V;
    /// The output.
    fn out(self) -> *mut Self::Element;
}

#[derive(Clone, Copy)]
struct Plain<E> {
    terms: Squared<E>,
    out: *mut E,
}

impl<E: Activation> Row for Plain<E> {
    type Element = E;
    #[inline(always)]
    unsafe fn input<V: Lanes, const STREAM: bool>(self, i: usize) -> V {
        // SAFETY: by the trait's contract.
        unsafe { E::load(self.terms.x.add(i)) }
    }
    #[inline(always)]
    unsafe fn input_first<V: Lanes>(self, i: usize, count: usize) -> V {
        // SAFETY: by the trait's contract.
        unsafe { E::load_first(self.terms.x.add(i), count) }
    }
    #[inline(always)]
    fn out(self) -> *mut E {
        self.out
    }
}

/// Adds again what the row sum has added, rather than write the sum twice: both parts are near.
#[derive(Clone, Copy)]
struct Fused<E> {
    terms: SquaredSum<E>,
    sum: *mut E,
    out: *mut E,
}

impl<E: Activation> Row for Fused<E> {
    type Element = E;
    #[inline(always)]
    unsafe fn input<V: Lanes, const STREAM: bool>(self, i: usize) -> V {
        // SAFETY: by the trait's contract.
        unsafe {
            let [x, _]: [V; 2] = self.terms.at(i);
            E::put::<V, STREAM>(x, self.sum.add(i));
            x
        }
    }
    #[inline(always)]
    unsafe fn input_first<V: Lanes>(self, i: usize, count: usize) -> V {
        // SAFETY: by the trait's contract.
        unsafe {
            let [x, _]: [V; 2] = self.terms.first_at(i, count);
            E::store_first(x, self.sum.add(i), count);
            x
        }
    }
    #[inline(always)]
    fn out(self) -> *mut E {
        self.out
    }
}

/// `x^2`.
#[derive(Clone, Copy)]
struct Squared<E> {
    x: *const E,
}

impl<V: Lanes, E: Activation> Terms<V> for Squared<E> {
    #[inline(always)]
    unsafe fn at(self, i: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe { [E::load(self.x.add(i)); 2] }
    }
    #[inline(always)]
    unsafe fn first_at(self, i: usize, count: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe { [E::load_first(self.x.add(i), count); 2] }
    }
}

/// `(residual + inp)^2`, the sum rounded to the type of both.
#[derive(Clone, Copy)]
struct SquaredSum<E> {
    residual: *const E,
    inp: *const E,
}

impl<V: Lanes, E: Activation> Terms<V> for SquaredSum<E> {
    #[inline(always)]
    unsafe fn at(self, i: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            let residual: V = E::load(self.residual.add(i));
            [E::rounded(residual.add(E::load(self.inp.add(i)))); 2]
        }
    }
    #[inline(always)]
    unsafe fn first_at(self, i: usize, count: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            let residual: V = E::load_first(self.residual.add(i), count);
            [E::rounded(residual.add(E::load_first(self.inp.add(i), count))); 2]
        }
    }
}

//! Gradients of RMSNorm's input, row by row; those of its weight are in `chain` and `groups`.

use super::Normal;
use super::Terms;
use crate::backend::cpu::lanes::Lanes;

/// Some rows.
pub(super) struct Rows<'a, E> {
    /// `(n, C)`, added to.
    pub dinp: &'a mut [E],
    /// `(n, C)`.
    pub dout: &'a [E],
    /// `(n, C)`.
    pub inp: &'a [E],
    /// `(n)`.
    pub rstd: &'a [f32],
    /// `(C)`.
    pub weight: &'a [f32],
}

impl<'a, E> Rows<'a, E> {
    /// Blocks of `count` rows, ascending.
    pub fn blocks(self, count: usize) -> impl Iterator<Item = Self> {
        let Self { dinp, dout, inp, rstd, weight } = self;
        let elements = count * weight.len();
        let inputs = dout.chunks(elements).zip(inp.chunks(elements)).zip(rstd.chunks(count));
        dinp.chunks_mut(elements).zip(inputs).map(move |(dinp, ((dout, inp), rstd))| Self {
            dinp,
            dout,
            inp,
            rstd,
            weight,
        })
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub(super) unsafe fn input_gradients<V: Lanes, E: Normal>(rows: &mut Rows<'_, E>) {
    let c = rows.weight.len();
    let weight = rows.weight.as_ptr();
    let inputs = rows.dout.chunks_exact(c).zip(rows.inp.chunks_exact(c)).zip(rows.rstd);
    for (dinp, ((dout, inp), &rstd)) in rows.dinp.chunks_exact_mut(c).zip(inputs) {
        let terms = Products { dout: dout.as_ptr(), weight, inp: inp.as_ptr() };
        // SAFETY: rows of `c` elements; the rest is this function's contract.
        unsafe {
            let dot = E::row_sum::<V>(terms, c);
            let scale = ((rstd * rstd) * rstd) * (dot / c as f32);
            input_gradient::<V, E>(dinp, terms, rstd, scale);
        }
    }
}

/// # Safety
/// `V`'s instruction set is available; `terms` has as many elements as `dinp`.
#[inline(always)]
unsafe fn input_gradient<V: Lanes, E: Normal>(
    dinp: &mut [E],
    terms: Products<E>,
    rstd: f32,
    scale: f32,
) {
    let (len, dinp) = (dinp.len(), dinp.as_mut_ptr());
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        // -(x * scale) and x * -scale are the same number.
        let (rstd, minus_scale) = (V::splat(rstd), V::splat(-scale));
        let mut i = 0;
        while i + V::LEN <= len {
            let [g, x]: [V; 2] = terms.at(i);
            let d = g.fma(rstd, x.mul(minus_scale));
            E::store(E::load::<V>(dinp.add(i)).add(d), dinp.add(i));
            i += V::LEN;
        }
        let rest = len - i;
        if rest > 0 {
            let [g, x]: [V; 2] = terms.first_at(i, rest);
            let d = g.fma(rstd, x.mul(minus_scale));
            let sum = E::load_first::<V>(dinp.add(i), rest).add(d);
            E::store_first(sum, dinp.add(i), rest);
        }
    }
}

/// `(dout * weight) * inp`.
#[derive(Clone, Copy)]
struct Products<E> {
    dout: *const E,
    weight: *const f32,
    inp: *const E,
}

impl<V: Lanes, E: Normal> Terms<V> for Products<E> {
    #[inline(always)]
    unsafe fn at(self, i: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            let g = E::load::<V>(self.dout.add(i)).mul(V::load(self.weight.add(i)));
            [g, E::load(self.inp.add(i))]
        }
    }
    #[inline(always)]
    unsafe fn first_at(self, i: usize, count: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            let weight = V::load_first(self.weight.add(i), count);
            let g = E::load_first::<V>(self.dout.add(i), count).mul(weight);
            [g, E::load_first(self.inp.add(i), count)]
        }
    }
}

//! SwiGLU: one pass over packed rows. Large outputs are written past the caches.

use half::bf16;

use super::Cpu;
use super::activation::Activation;
use super::lanes::Lanes;
use super::level::at_level;
use super::math::exp;
use super::split::fence;
use super::split::streams;
use crate::ops::OpError;
use crate::ops::host;
use crate::ops::host_mut;
use crate::ops::swiglu::Backward;
use crate::ops::swiglu::Forward;
use crate::ops::swiglu::Kernel;
use crate::tensor::DType;

impl Kernel for Cpu {
    fn swiglu_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        match args.inp.dtype() {
            DType::Bf16 => self.swiglu_forward_of::<bf16>(args),
            _ => self.swiglu_forward_of::<f32>(args),
        }
    }

    fn swiglu_backward(&self, args: Backward<'_>) -> Result<(), OpError> {
        match args.inp.dtype() {
            DType::Bf16 => self.swiglu_backward_of::<bf16>(args),
            _ => self.swiglu_backward_of::<f32>(args),
        }
    }
}

impl Cpu {
    fn swiglu_forward_of<E: Activation>(&self, args: Forward<'_>) -> Result<(), OpError> {
        let [n, f] = [args.out.shape()[0], args.out.shape()[1]];
        let out: &mut [E] = host_mut("swiglu::forward out", args.out)?;
        let inp: &[E] = host("swiglu::forward inp", args.inp)?;
        if f == 0 {
            return Ok(());
        }
        let (level, stream) = (self.level(), streams(out, f));
        let task = self.rows_per_task(n, 3 * f);
        let items = out.chunks_mut(task * f).zip(inp.chunks(task * 2 * f));
        self.for_each(3 * n * f, items, |(out, inp)| {
            at_level!(level, forward<E: Activation>(out: &mut [E], inp: &[E], f: usize, stream: bool));
        });
        Ok(())
    }

    fn swiglu_backward_of<E: Activation>(&self, args: Backward<'_>) -> Result<(), OpError> {
        let [n, f] = [args.dout.shape()[0], args.dout.shape()[1]];
        let dinp: &mut [E] = host_mut("swiglu::backward dinp", args.dinp)?;
        let dout: &[E] = host("swiglu::backward dout", args.dout)?;
        let inp: &[E] = host("swiglu::backward inp", args.inp)?;
        if f == 0 {
            return Ok(());
        }
        let (level, stream) = (self.level(), streams(dinp, f));
        let task = self.rows_per_task(n, 5 * f);
        let items = dinp.chunks_mut(task * 2 * f);
        let items = items.zip(dout.chunks(task * f).zip(inp.chunks(task * 2 * f)));
        self.for_each(5 * n * f, items, |(dinp, (dout, inp))| {
            at_level!(level, backward<E: Activation>(dinp: &mut [E], dout: &[E], inp: &[E], f: usize, stream: bool));
        });
        Ok(())
    }
}

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so.
#[inline(always)]
unsafe fn forward<V: Lanes, E: Activation>(out: &mut [E], inp: &[E], f: usize, stream: bool) {
    for (out, inp) in out.chunks_exact_mut(f).zip(inp.chunks_exact(2 * f)) {
        // SAFETY: rows of `f` and `2 * f` elements; the rest is this function's contract.
        unsafe {
            if stream {
                forward_row::<V, E, true>(out.as_mut_ptr(), inp.as_ptr(), f);
            } else {
                forward_row::<V, E, false>(out.as_mut_ptr(), inp.as_ptr(), f);
            }
        }
    }
    fence(stream);
}

/// # Safety
/// `V`'s instruction set is available; `out` has `f` and `inp` `2 * f` elements; with `STREAM`,
/// `out` is aligned to the widest vector.
#[inline(always)]
unsafe fn forward_row<V: Lanes, E: Activation, const STREAM: bool>(
    out: *mut E,
    inp: *const E,
    f: usize,
) {
    // SAFETY: offsets stay below `f`; the rest is this function's contract.
    unsafe {
        let (gate, up) = (inp, inp.add(f));
        let mut i = 0;
        while i + V::LEN <= f {
            let gate: V = E::load(gate.add(i));
            let gated = gate.mul(sigmoid(gate)).mul(E::load(up.add(i)));
            E::put::<V, STREAM>(gated, out.add(i));
            i += V::LEN;
        }
        let rest = f - i;
        if rest > 0 {
            let gate: V = E::load_first(gate.add(i), rest);
            let gated = gate.mul(sigmoid(gate)).mul(E::load_first(up.add(i), rest));
            E::store_first(gated, out.add(i), rest);
        }
    }
}

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so.
#[inline(always)]
unsafe fn backward<V: Lanes, E: Activation>(
    dinp: &mut [E],
    dout: &[E],
    inp: &[E],
    f: usize,
    stream: bool,
) {
    let rows = dinp.chunks_exact_mut(2 * f).zip(dout.chunks_exact(f).zip(inp.chunks_exact(2 * f)));
    for (dinp, (dout, inp)) in rows {
        let (dinp, dout, inp) = (dinp.as_mut_ptr(), dout.as_ptr(), inp.as_ptr());
        // SAFETY: rows of `f` and `2 * f` elements; the rest is this function's contract.
        unsafe {
            if stream {
                backward_row::<V, E, true>(dinp, dout, inp, f);
            } else {
                backward_row::<V, E, false>(dinp, dout, inp, f);
            }
        }
    }
    fence(stream);
}

/// # Safety
/// `V`'s instruction set is available; `dout` has `f`, `dinp` and `inp` have `2 * f` elements;
/// with `STREAM`, `dinp` and `dinp + f` are aligned to the widest vector.
#[inline(always)]
unsafe fn backward_row<V: Lanes, E: Activation, const STREAM: bool>(
    dinp: *mut E,
    dout: *const E,
    inp: *const E,
    f: usize,
) {
    // SAFETY: offsets stay below `f`; the rest is this function's contract.
    unsafe {
        let (gate, up) = (inp, inp.add(f));
        let (dgate, dup) = (dinp, dinp.add(f));
        let mut i = 0;
        while i + V::LEN <= f {
            let dout: V = E::load(dout.add(i));
            let [g, u] = gradients(dout, E::load(gate.add(i)), E::load(up.add(i)));
            E::put::<V, STREAM>(g, dgate.add(i));
            E::put::<V, STREAM>(u, dup.add(i));
            i += V::LEN;
        }
        let rest = f - i;
        if rest > 0 {
            let dout: V = E::load_first(dout.add(i), rest);
            let gate = E::load_first(gate.add(i), rest);
            let [g, u] = gradients(dout, gate, E::load_first(up.add(i), rest));
            E::store_first(g, dgate.add(i), rest);
            E::store_first(u, dup.add(i), rest);
        }
    }
}

/// `dgate` and `dup`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn gradients<V: Lanes>(dout: V, gate: V, up: V) -> [V; 2] {
    // SAFETY: by this function's contract.
    unsafe {
        let (s, one) = (sigmoid(gate), V::splat(1.0));
        let slope = s.mul(gate.fma(one.sub(s), one));
        [dout.mul(up).mul(slope), dout.mul(gate.mul(s))]
    }
}

/// `1 / (1 + exp(-x))`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn sigmoid<V: Lanes>(x: V) -> V {
    // SAFETY: by this function's contract.
    unsafe {
        let one = V::splat(1.0);
        one.div(one.add(exp(x.mul(V::splat(-1.0)))))
    }
}

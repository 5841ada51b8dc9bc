//! Fill, copy, add, conversions, and the search for a value that is no number.

use half::bf16;

use super::Cpu;
use super::activation::Activation;
use super::activation::convert;
use super::lanes::Lanes;
use super::level::at_level;
use super::split::fence;
use super::split::streams;
use crate::ops::OpError;
use crate::ops::elementwise::Kernel;
use crate::ops::host;
use crate::ops::host_mut;
use crate::tensor::DType;
use crate::tensor::Mem;
use crate::tensor::MemMut;
use crate::tensor::View;
use crate::tensor::ViewMut;

impl Kernel for Cpu {
    fn elementwise_fill(&self, out: ViewMut<'_>, value: f32) -> Result<(), OpError> {
        match out.dtype() {
            DType::Bf16 => self.fill_of::<bf16>(out, value),
            _ => self.fill_of::<f32>(out, value),
        }
    }

    fn elementwise_copy(&self, mut out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        let (want, got) = (out.dtype(), inp.dtype());
        if want != got {
            return Err(OpError::Place { what: "elementwise::copy inp", want, got });
        }
        let MemMut::Host(to) = out.mem() else {
            return Err(OpError::Place { what: "elementwise::copy out", want, got });
        };
        let Mem::Host(from) = inp.mem() else {
            return Err(OpError::Place { what: "elementwise::copy inp", want, got });
        };
        let words = to.len().div_ceil(size_of::<f32>());
        let task = self.rows_per_task(words.div_ceil(CHUNK), CHUNK) * CHUNK * size_of::<f32>();
        self.for_each(2 * words, to.chunks_mut(task).zip(from.chunks(task)), |(to, from)| {
            to.copy_from_slice(from);
        });
        Ok(())
    }

    fn elementwise_add(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        match out.dtype() {
            DType::Bf16 => self.add_of::<bf16>(out, inp),
            _ => self.add_of::<f32>(out, inp),
        }
    }

    fn elementwise_round(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        let out = host_mut("elementwise::round out", out)?;
        self.convert::<bf16, f32>(out, host("elementwise::round inp", inp)?);
        Ok(())
    }

    fn elementwise_widen(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        let out = host_mut("elementwise::widen out", out)?;
        self.convert::<f32, bf16>(out, host("elementwise::widen inp", inp)?);
        Ok(())
    }

    fn elementwise_first_non_finite(&self, inp: View<'_>) -> Result<Option<usize>, OpError> {
        match inp.dtype() {
            DType::Bf16 => self.first_non_finite_of::<bf16>(inp),
            _ => self.first_non_finite_of::<f32>(inp),
        }
    }
}

impl Cpu {
    fn fill_of<E: Activation>(&self, out: ViewMut<'_>, value: f32) -> Result<(), OpError> {
        let out: &mut [E] = host_mut("elementwise::fill out", out)?;
        let (level, len, stream) = (self.level(), out.len(), streams(out, CHUNK));
        let task = self.rows_per_task(len.div_ceil(CHUNK), CHUNK) * CHUNK;
        self.for_each(len, out.chunks_mut(task), |out| {
            at_level!(level, fill<E: Activation>(out: &mut [E], value: f32, stream: bool));
        });
        Ok(())
    }

    fn add_of<E: Activation>(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        let out: &mut [E] = host_mut("elementwise::add out", out)?;
        let inp: &[E] = host("elementwise::add inp", inp)?;
        let (level, len) = (self.level(), out.len());
        let task = self.rows_per_task(len.div_ceil(CHUNK), CHUNK) * CHUNK;
        self.for_each(2 * len, out.chunks_mut(task).zip(inp.chunks(task)), |(out, inp)| {
            at_level!(level, add_like<E: Activation>(out: &mut [E], inp: &[E]));
        });
        Ok(())
    }

    fn convert<To: Activation, From: Activation>(&self, out: &mut [To], inp: &[From]) {
        let (level, len) = (self.level(), out.len());
        let task = self.rows_per_task(len.div_ceil(CHUNK), CHUNK) * CHUNK;
        self.for_each(2 * len, out.chunks_mut(task).zip(inp.chunks(task)), |(out, inp)| {
            at_level!(level, convert<To: Activation, From: Activation>(out: &mut [To], inp: &[From]));
        });
    }

    fn first_non_finite_of<E: Activation>(&self, inp: View<'_>) -> Result<Option<usize>, OpError> {
        let inp: &[E] = host("elementwise::first_non_finite inp", inp)?;
        let (level, len) = (self.level(), inp.len());
        let task = self.rows_per_task(len.div_ceil(CHUNK), CHUNK) * CHUNK;
        let mut found = vec![None; len.div_ceil(task)];
        self.for_each(len, found.iter_mut().zip(inp.chunks(task)), |(found, inp)| {
            *found = at_level!(level, first_non_finite<E: Activation>(inp: &[E]) -> Option<usize>);
        });
        let first = found.into_iter().enumerate().find_map(|(i, at)| Some(i * task + at?));
        Ok(first)
    }
}

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so of rows of [`CHUNK`].
#[inline(always)]
unsafe fn fill<V: Lanes, E: Activation>(out: &mut [E], value: f32, stream: bool) {
    if !stream {
        out.fill(E::nearest(value));
        return;
    }
    let (vectors, rest) = out.split_at_mut(out.len() / V::LEN * V::LEN);
    for vector in vectors.chunks_exact_mut(V::LEN) {
        // SAFETY: one vector, aligned like the first; the rest is this function's contract.
        unsafe { E::put::<V, true>(V::splat(value), vector.as_mut_ptr()) };
    }
    rest.fill(E::nearest(value));
    fence(stream);
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn add_like<V: Lanes, E: Activation>(out: &mut [E], inp: &[E]) {
    // SAFETY: by this function's contract.
    unsafe { add::<V, E, E>(out, inp) }
}

/// `out = out + inp`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub(super) unsafe fn add<V: Lanes, To: Activation, From: Activation>(out: &mut [To], inp: &[From]) {
    let len = out.len();
    assert_eq!(len, inp.len(), "one shape");
    let (out, inp) = (out.as_mut_ptr(), inp.as_ptr());
    // SAFETY: both arrays have `len` elements; the rest is this function's contract.
    unsafe {
        let mut i = 0;
        while i + V::LEN <= len {
            let sum = To::load::<V>(out.add(i)).add(From::load(inp.add(i)));
            To::store(sum, out.add(i));
            i += V::LEN;
        }
        let rest = len - i;
        let sum = To::load_first::<V>(out.add(i), rest).add(From::load_first(inp.add(i), rest));
        To::store_first(sum, out.add(i), rest);
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn first_non_finite<V: Lanes, E: Activation>(inp: &[E]) -> Option<usize> {
    for (i, block) in inp.chunks(CHUNK).enumerate() {
        // SAFETY: by this function's contract.
        if unsafe { !all_finite::<V, E>(block) } {
            let at = block.iter().position(|x| !x.value().is_finite());
            return at.map(|at| i * CHUNK + at);
        }
    }
    None
}

/// Whether every element is finite: zero times anything else is NaN, and stays it in a sum.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn all_finite<V: Lanes, E: Activation>(inp: &[E]) -> bool {
    let (len, inp) = (inp.len(), inp.as_ptr());
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let zero = V::splat(0.0);
        let mut sums = [zero; UNROLL];
        let mut i = 0;
        while i + UNROLL * V::LEN <= len {
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum = E::load::<V>(inp.add(i + k * V::LEN)).mul(zero).add(*sum);
            }
            i += UNROLL * V::LEN;
        }
        while i < len {
            let count = V::LEN.min(len - i);
            sums[0] = E::load_first::<V>(inp.add(i), count).mul(zero).add(sums[0]);
            i += count;
        }
        let sum = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
        sum.butterfly() == 0.0
    }
}

/// Elements in the unit of a task: whole cache lines, and whole pages.
const CHUNK: usize = 1024;
const UNROLL: usize = 4;

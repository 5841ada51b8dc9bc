//! Fill, copy, add, and the search for a value that is no number.

use super::Cpu;
use super::lanes::Lanes;
use super::level::at_level;
use super::split::fence;
use super::split::put;
use super::split::streams;
use crate::ops::OpError;
use crate::ops::elementwise::Kernel;
use crate::ops::host;
use crate::ops::host_mut;
use crate::tensor::Mem;
use crate::tensor::MemMut;
use crate::tensor::View;
use crate::tensor::ViewMut;

impl Kernel for Cpu {
    fn elementwise_fill(&self, out: ViewMut<'_>, value: f32) -> Result<(), OpError> {
        let out: &mut [f32] = host_mut("elementwise::fill out", out)?;
        let (level, len, stream) = (self.level(), out.len(), streams(out, CHUNK));
        let task = self.rows_per_task(len.div_ceil(CHUNK), CHUNK) * CHUNK;
        self.for_each(len, out.chunks_mut(task), |out| {
            at_level!(level, fill(out: &mut [f32], value: f32, stream: bool));
        });
        Ok(())
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
        let out: &mut [f32] = host_mut("elementwise::add out", out)?;
        let inp: &[f32] = host("elementwise::add inp", inp)?;
        let (level, len) = (self.level(), out.len());
        let task = self.rows_per_task(len.div_ceil(CHUNK), CHUNK) * CHUNK;
        self.for_each(2 * len, out.chunks_mut(task).zip(inp.chunks(task)), |(out, inp)| {
            at_level!(level, add(out: &mut [f32], inp: &[f32]));
        });
        Ok(())
    }

    fn elementwise_first_non_finite(&self, inp: View<'_>) -> Result<Option<usize>, OpError> {
        let inp: &[f32] = host("elementwise::first_non_finite inp", inp)?;
        let (level, len) = (self.level(), inp.len());
        let task = self.rows_per_task(len.div_ceil(CHUNK), CHUNK) * CHUNK;
        let mut found = vec![None; len.div_ceil(task)];
        self.for_each(len, found.iter_mut().zip(inp.chunks(task)), |(found, inp)| {
            *found = at_level!(level, first_non_finite(inp: &[f32]) -> Option<usize>);
        });
        let first = found.into_iter().enumerate().find_map(|(i, at)| Some(i * task + at?));
        Ok(first)
    }
}

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so of rows of [`CHUNK`].
#[inline(always)]
unsafe fn fill<V: Lanes>(out: &mut [f32], value: f32, stream: bool) {
    if !stream {
        out.fill(value);
        return;
    }
    let (vectors, rest) = out.split_at_mut(out.len() / V::LEN * V::LEN);
    for vector in vectors.chunks_exact_mut(V::LEN) {
        // SAFETY: one vector, aligned like the first; the rest is this function's contract.
        unsafe { put::<V, true>(V::splat(value), vector.as_mut_ptr()) };
    }
    rest.fill(value);
    fence(stream);
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub(super) unsafe fn add<V: Lanes>(out: &mut [f32], inp: &[f32]) {
    let len = out.len();
    assert_eq!(len, inp.len(), "one shape");
    let (out, inp) = (out.as_mut_ptr(), inp.as_ptr());
    // SAFETY: both arrays have `len` elements; the rest is this function's contract.
    unsafe {
        let mut i = 0;
        while i + V::LEN <= len {
            V::load(out.add(i)).add(V::load(inp.add(i))).store(out.add(i));
            i += V::LEN;
        }
        let rest = len - i;
        let sum = V::load_first(out.add(i), rest).add(V::load_first(inp.add(i), rest));
        sum.store_first(out.add(i), rest);
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn first_non_finite<V: Lanes>(inp: &[f32]) -> Option<usize> {
    for (i, block) in inp.chunks(CHUNK).enumerate() {
        // SAFETY: by this function's contract.
        if unsafe { !all_finite::<V>(block) } {
            let at = block.iter().position(|x| !x.is_finite());
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
unsafe fn all_finite<V: Lanes>(inp: &[f32]) -> bool {
    let (len, inp) = (inp.len(), inp.as_ptr());
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let zero = V::splat(0.0);
        let mut sums = [zero; UNROLL];
        let mut i = 0;
        while i + UNROLL * V::LEN <= len {
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(inp.add(i + k * V::LEN)).mul(zero).add(*sum);
            }
            i += UNROLL * V::LEN;
        }
        while i < len {
            let count = V::LEN.min(len - i);
            sums[0] = V::load_first(inp.add(i), count).mul(zero).add(sums[0]);
            i += count;
        }
        let sum = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
        sum.butterfly() == 0.0
    }
}

/// Elements in the unit of a task: whole cache lines, and whole pages.
const CHUNK: usize = 1024;
const UNROLL: usize = 4;

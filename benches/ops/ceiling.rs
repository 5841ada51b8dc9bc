//! What this machine can do at most: FMAs on registers alone, and copies past the last cache.
#![allow(unsafe_code, reason = "vector instructions, to measure them")]

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use neuroshard::backend::cpu::lanes::Lanes;
use neuroshard::backend::cpu::lanes::Portable;
use neuroshard::tensor::Tensor;

use crate::Size;
use crate::level;
use crate::painted;

/// An instruction that multiplies and adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// The best level's f32 FMA.
    Fma,
    /// `vdpbf16ps`.
    Bf16Dot,
}

/// FLOP per second of independent chains in registers on each of `threads` threads.
pub fn flops_per_s(instruction: Instruction, threads: usize, time: Duration) -> f64 {
    let rate = || {
        let (start, mut flops) = (Instant::now(), 0);
        while flops == 0 || start.elapsed() < time {
            flops += burst(instruction);
        }
        flops as f64 / start.elapsed().as_secs_f64()
    };
    if threads == 1 {
        return rate();
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(rate)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

/// Whether this CPU has it.
pub fn has(instruction: Instruction) -> bool {
    #[cfg(target_arch = "x86_64")]
    let dot = std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let dot = false;
    instruction == Instruction::Fma || dot
}

/// Some microseconds of work; its FLOPs.
fn burst(instruction: Instruction) -> usize {
    match (instruction, level().name()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: [`has`] detected it.
        (Instruction::Bf16Dot, _) if has(instruction) => unsafe { x86::dot_chains() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was detected.
        (_, "avx2") => unsafe { x86::fma_chains_avx2() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was detected.
        (_, "avx512" | "avx512bf16") => unsafe { x86::fma_chains_avx512() },
        // SAFETY: plain Rust has no requirement on the CPU.
        _ => unsafe { fma_chains::<Portable>() },
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn fma_chains<V: Lanes>() -> usize {
    // SAFETY: by this function's contract.
    unsafe {
        let (x, y) = (V::splat(black_box(0.5)), V::splat(black_box(1.0)));
        let mut chains = [y; CHAINS];
        for _ in 0..TURNS {
            for chain in &mut chains {
                *chain = chain.fma(x, y);
            }
        }
        chains.into_iter().for_each(|chain| {
            black_box(chain);
        });
    }
    2 * V::LEN * CHAINS * TURNS
}

/// Two arrays to copy between, larger together than any cache.
pub struct Copies {
    from: Tensor,
    to: Tensor,
}

/// How a copy writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// Through the caches.
    Plain,
    /// Past them.
    Streaming,
    /// As the system's `memcpy` chooses.
    Library,
}

impl Copies {
    pub fn new(size: Size) -> Self {
        let shape = [size.rows(COLUMNS, 2), COLUMNS];
        Self { from: painted(&shape), to: painted(&shape) }
    }

    /// Bytes read and bytes written per second by `threads` threads, a part of the arrays each.
    pub fn bytes_per_s(&mut self, stores: Stores, threads: usize) -> f64 {
        let (from, to) = (self.from.host::<f32>(), self.to.host_mut::<f32>());
        let part = from.len().div_ceil(threads).next_multiple_of(COLUMNS);
        let bytes = 2 * size_of_val(from);
        let start = Instant::now();
        if threads == 1 {
            copy(stores, from, to);
        } else {
            std::thread::scope(|scope| {
                for (from, to) in from.chunks(part).zip(to.chunks_mut(part)) {
                    scope.spawn(move || copy(stores, from, to));
                }
            });
        }
        bytes as f64 / start.elapsed().as_secs_f64()
    }
}

fn copy(stores: Stores, from: &[f32], to: &mut [f32]) {
    assert!(from.len() == to.len() && from.len().is_multiple_of(COLUMNS));
    let (n, from, to) = (from.len(), from.as_ptr(), to.as_mut_ptr());
    match (level().name(), stores) {
        // SAFETY: `n` elements each, of two slices one of which is exclusive.
        (_, Stores::Library) => unsafe { std::ptr::copy_nonoverlapping(from, to, n) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was detected; `n` elements each, whole lines, aligned as tensors are.
        ("avx2", Stores::Plain) => unsafe { x86::copy_avx2::<false>(from, to, n) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        ("avx2", Stores::Streaming) => unsafe { x86::copy_avx2::<true>(from, to, n) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        ("avx512" | "avx512bf16", Stores::Plain) => unsafe {
            x86::copy_avx512::<false>(from, to, n);
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        ("avx512" | "avx512bf16", Stores::Streaming) => unsafe {
            x86::copy_avx512::<true>(from, to, n);
        },
        // SAFETY: plain Rust has no requirement on the CPU; the rest as above.
        _ => unsafe { copy_lanes::<Portable, false>(from, to, n) },
    }
}

/// # Safety
/// `V`'s instruction set is available; both point to `n` elements, a multiple of [`COLUMNS`], and
/// `to` is aligned to a cache line if `STREAM`.
#[inline(always)]
unsafe fn copy_lanes<V: Lanes, const STREAM: bool>(from: *const f32, to: *mut f32, n: usize) {
    for i in (0..n).step_by(V::LEN) {
        // SAFETY: by this function's contract; COLUMNS is a multiple of any vector.
        unsafe {
            let x = V::load(from.add(i));
            if STREAM { x.stream(to.add(i)) } else { x.store(to.add(i)) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use neuroshard::backend::cpu::lanes::Avx2;
    use neuroshard::backend::cpu::lanes::Avx512;

    use super::CHAINS;
    use super::TURNS;

    /// # Safety
    /// The CPU has these features.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn fma_chains_avx2() -> usize {
        // SAFETY: enabled in this function.
        unsafe { super::fma_chains::<Avx2>() }
    }

    /// # Safety
    /// The CPU has these features.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn fma_chains_avx512() -> usize {
        // SAFETY: enabled in this function.
        unsafe { super::fma_chains::<Avx512>() }
    }

    /// # Safety
    /// The CPU has these features.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn dot_chains() -> usize {
        let x = black_box(_mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)));
        let mut chains = [_mm512_set1_ps(black_box(0.0)); CHAINS];
        for _ in 0..TURNS {
            for chain in &mut chains {
                *chain = _mm512_dpbf16_ps(*chain, x, x);
            }
        }
        chains.into_iter().for_each(|chain| {
            black_box(chain);
        });
        2 * 32 * CHAINS * TURNS
    }

    /// # Safety
    /// The CPU has these features; the rest as `copy_lanes`.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn copy_avx2<const STREAM: bool>(from: *const f32, to: *mut f32, n: usize) {
        // SAFETY: enabled in this function; the rest is its contract.
        unsafe { super::copy_lanes::<Avx2, STREAM>(from, to, n) };
        _mm_sfence();
    }

    /// # Safety
    /// The CPU has these features; the rest as `copy_lanes`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn copy_avx512<const STREAM: bool>(from: *const f32, to: *mut f32, n: usize) {
        // SAFETY: enabled in this function; the rest is its contract.
        unsafe { super::copy_lanes::<Avx512, STREAM>(from, to, n) };
        _mm_sfence();
    }
}

/// Enough to hide the latency of two FMAs a cycle, and few enough for 16 registers.
const CHAINS: usize = 12;
const TURNS: usize = 20_000;
/// Elements of a row of the arrays: whole pages.
const COLUMNS: usize = 1024;

//! How fast memory can be copied: past the last cache, by the fastest of three ways.

use std::fs;
use std::time::Instant;

use rayon::prelude::*;

use super::Cpu;
use super::lanes::Lanes;
use super::level::at_level;
use super::split::fence;

/// How a copy writes.
#[derive(Clone, Copy)]
enum Stores {
    /// Through the caches.
    Plain,
    /// Past them.
    Streaming,
    /// As the system's `memcpy` chooses.
    Library,
}

/// Bytes read and bytes written per second by all threads, a part of the arrays each, with the
/// stores that do it fastest.
pub(super) fn bytes_per_s(cpu: &Cpu, to: &mut [f32], from: &[f32]) -> f64 {
    let part = from.len().div_ceil(cpu.threads()).next_multiple_of(PAGE_ELEMENTS);
    let mut rate = |stores| {
        let start = Instant::now();
        cpu.run(|| {
            let parts = to.par_chunks_mut(part).zip(from.par_chunks(part));
            parts.with_max_len(1).for_each(|(to, from)| copy(cpu, stores, to, from));
        });
        2.0 * size_of_val(from) as f64 / start.elapsed().as_secs_f64()
    };
    [Stores::Plain, Stores::Streaming, Stores::Library]
        .map(&mut rate)
        .into_iter()
        .fold(0.0, f64::max)
}

fn copy(cpu: &Cpu, stores: Stores, to: &mut [f32], from: &[f32]) {
    let level = cpu.level();
    match stores {
        Stores::Plain => at_level!(level, plain(to: &mut [f32], from: &[f32])),
        Stores::Streaming => {
            at_level!(level, streaming(to: &mut [f32], from: &[f32]));
            fence(true);
        }
        Stores::Library => to.copy_from_slice(from),
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn plain<V: Lanes>(to: &mut [f32], from: &[f32]) {
    let whole = to.len().min(from.len()) / V::LEN * V::LEN;
    for i in (0..whole).step_by(V::LEN) {
        // SAFETY: `i + LEN` is at most the length of both; the rest is this function's contract.
        unsafe { V::load(from.as_ptr().add(i)).store(to.as_mut_ptr().add(i)) };
    }
    to[whole..].copy_from_slice(&from[whole..]);
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn streaming<V: Lanes>(to: &mut [f32], from: &[f32]) {
    if !to.as_ptr().addr().is_multiple_of(V::LEN * size_of::<f32>()) {
        // SAFETY: this function's contract.
        return unsafe { plain::<V>(to, from) };
    }
    let whole = to.len().min(from.len()) / V::LEN * V::LEN;
    for i in (0..whole).step_by(V::LEN) {
        // SAFETY: `i + LEN` is at most the length of both, and `to` is aligned to a whole vector;
        // the rest is this function's contract.
        unsafe { V::load(from.as_ptr().add(i)).stream(to.as_mut_ptr().add(i)) };
    }
    to[whole..].copy_from_slice(&from[whole..]);
}

/// The largest cache of the first core, as Linux tells; else what few CPUs exceed.
pub(super) fn cache_bytes() -> usize {
    let size = |index: usize| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()
    };
    (0..8).filter_map(size).max().map_or(FALLBACK_BYTES, |kib| kib << 10)
}

/// Parts are of whole pages.
const PAGE_ELEMENTS: usize = 1024;
const FALLBACK_BYTES: usize = 64 << 20;

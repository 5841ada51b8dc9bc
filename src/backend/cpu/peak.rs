//! What one thread multiplies and adds at most: independent chains in registers, timed.

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use super::lanes::Lanes;
use super::level::Level;
use super::level::at_level;
#[cfg(target_arch = "x86_64")]
use super::matmul::pairs;
use super::tc;
use crate::ops::Precision;

/// FLOP/s of this thread at `level`, with the instruction that products of `precision` use; for
/// `tc`, which has no such instruction, with its inner loop on packed factors in the first cache.
///
/// The fastest of many bursts of some microseconds: whoever else uses the CPU slows down some
/// of them, seldom all. Takes about a millisecond.
pub(super) fn flops_per_s(level: Level, precision: Precision) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if precision == Precision::Bf16
        && let Some(proof) = pairs::Proof::of(level)
    {
        return best(BURSTS, || pairs::burst(proof));
    }
    if let Precision::Tc(core) = precision {
        let mut burst = tc::Burst::new(level, core);
        return best(BURSTS, || burst.run());
    }
    fma_flops_per_s(level)
}

/// FLOP/s of f32 FMAs of this thread at `level`.
pub(super) fn fma_flops_per_s(level: Level) -> f64 {
    best(BURSTS, || at_level!(level, burst() -> usize))
}

/// FLOP/s of the fastest of `bursts` runs of `work`, which returns its FLOPs.
fn best(bursts: usize, mut work: impl FnMut() -> usize) -> f64 {
    let mut once = || {
        let started = Instant::now();
        let flops = work();
        flops as f64 / started.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
    };
    (0..bursts).map(|_| once()).fold(0.0, f64::max)
}

/// Some FMAs; their FLOPs.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn burst<V: Lanes>() -> usize {
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

/// Enough to hide the latency of two FMAs a cycle, and few enough for 16 registers.
pub(super) const CHAINS: usize = 12;
/// Some microseconds.
pub(super) const TURNS: usize = 2000;
const BURSTS: usize = 200;

//! How fast the device multiplies and adds at most: chains in registers, timed.

use std::time::Duration;

use super::Cuda;
use super::door::Arg;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;

impl Cuda {
    /// FLOP/s of `mma.sync` in `tc`, and of FMAs otherwise. Hopper's `wgmma` is faster than its
    /// `mma.sync`: kernels that use it may exceed this.
    pub(super) fn multiply_adds(&self, precision: Precision) -> Result<f64, OpError> {
        const OP: &str = "product_rate";
        let products = matches!(precision, Precision::Tc(_));
        self.with_scratch(OP, BLOCKS * size_of::<f32>(), |out| {
            let mut turns = 1;
            loop {
                let launch = &mut || {
                    let kernel = if products { "ceiling_mma" } else { "ceiling_fma" };
                    let call = self.kernel(OP, kernel).grid([BLOCKS, 1, 1]).block([THREADS, 1, 1]);
                    let call = call.pointer(out).extent(turns);
                    match products {
                        true => call.arg(Arg::U32(TWO_QUARTERS)).launch(),
                        false => call.f32(0.5).f32(1.0).launch(),
                    }
                };
                let took = self.time(launch)?;
                if took >= ENOUGH || turns >= MOST_TURNS {
                    let each = if products { MMA_FLOPS / 32 } else { 2 };
                    let flops = BLOCKS * THREADS * CHAINS * each * turns;
                    return Ok(flops as f64 / took.as_secs_f64());
                }
                turns *= 4;
            }
        })
    }
}

/// Eight for each multiprocessor of an H200.
const BLOCKS: usize = 1056;
const THREADS: usize = 128;
/// `CHAINS` of kernels/ceiling.cu.
const CHAINS: usize = 8;
/// Of one m16n8k16 product.
const MMA_FLOPS: usize = 2 * 16 * 8 * 16;
/// Two bf16 numbers of 0.25.
const TWO_QUARTERS: u32 = 0x3e80_3e80;
/// Long beside what starting a kernel takes.
const ENOUGH: Duration = Duration::from_millis(2);
const MOST_TURNS: usize = 1 << 20;

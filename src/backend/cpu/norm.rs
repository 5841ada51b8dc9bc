//! Sums of squares: blocks in parallel.

use super::Cpu;
use super::lanes::Lanes;
use super::level::at_level;
use super::math::row_sum_squares;
use crate::ops::OpError;
use crate::ops::host;
use crate::ops::norm::BLOCK;
use crate::ops::norm::Kernel;
use crate::tensor::View;

impl Kernel for Cpu {
    fn norm_block_sums(&self, sums: &mut [f32], inp: View<'_>) -> Result<(), OpError> {
        let inp: &[f32] = host("norm::block_sums inp", inp)?;
        let (level, task) = (self.level(), self.rows_per_task(sums.len(), BLOCK));
        let items = sums.chunks_mut(task).zip(inp.chunks(task * BLOCK));
        self.for_each(inp.len(), items, |(sums, inp)| {
            at_level!(level, blocks(sums: &mut [f32], inp: &[f32]));
        });
        Ok(())
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn blocks<V: Lanes>(sums: &mut [f32], inp: &[f32]) {
    for (sum, block) in sums.iter_mut().zip(inp.chunks(BLOCK)) {
        // SAFETY: the block's own extent; the rest is this function's contract.
        *sum = unsafe { row_sum_squares::<V>(block.as_ptr(), block.len()) };
    }
}

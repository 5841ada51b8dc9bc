//! Sums of squares: blocks of all tensors in parallel.

use super::Cpu;
use super::lanes::Lanes;
use super::level::at_level;
use super::math::row_sum_squares;
use crate::ops::OpError;
use crate::ops::host;
use crate::ops::norm::BLOCK;
use crate::ops::norm::Kernel;
use crate::ops::norm::blocks;
use crate::tensor::View;

impl Kernel for Cpu {
    fn norm_block_sums_of(&self, sums: &mut [f32], tensors: &[View<'_>]) -> Result<(), OpError> {
        let (level, task) = (self.level(), self.rows_per_task(sums.len(), BLOCK));
        let (mut rest, mut elements, mut parts) = (sums, 0, Vec::new());
        for tensor in tensors {
            let inp: &[f32] = host("norm::block_sums_of tensors", *tensor)?;
            let (sums, later) = std::mem::take(&mut rest).split_at_mut(blocks(inp.len()));
            rest = later;
            elements += inp.len();
            parts.extend(sums.chunks_mut(task).zip(inp.chunks(task * BLOCK)));
        }
        self.for_each(elements, parts.into_iter(), |(sums, inp)| {
            at_level!(level, sum_blocks(sums: &mut [f32], inp: &[f32]));
        });
        Ok(())
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn sum_blocks<V: Lanes>(sums: &mut [f32], inp: &[f32]) {
    for (sum, block) in sums.iter_mut().zip(inp.chunks(BLOCK)) {
        // SAFETY: the block's own extent; the rest is this function's contract.
        *sum = unsafe { row_sum_squares::<V>(block.as_ptr(), block.len()) };
    }
}

//! Sum of squares of a tensor in a fixed order that sharding cannot change.
//!
//! Blocks of [`BLOCK`] elements: each is a row sum (128 interleaved `fma(x, x, partial)`, then a
//! butterfly, in f32); the blocks are added in ascending order in f64.

use super::{Kernels, OpError, expect_dtype, expect_shape};
use crate::tensor::DType;
use crate::tensor::View;

/// Elements in a block.
pub const BLOCK: usize = 4096;

/// Blocks of a tensor of `len` elements.
pub const fn blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}

/// The sum of the squares of every block of every tensor, to the host at once; `sums` has one
/// element per block, tensors and their blocks in order. All tensors are f32.
pub fn block_sums_of(
    kernels: &dyn Kernels,
    sums: &mut [f32],
    tensors: &[View<'_>],
) -> Result<(), OpError> {
    let all = tensors.iter().map(|tensor| blocks(tensor.shape().len())).sum();
    expect_shape("norm::block_sums_of sums", &[sums.len()], &[all])?;
    for tensor in tensors {
        expect_dtype("norm::block_sums_of tensors", tensor.dtype(), DType::F32)?;
    }
    kernels.norm_block_sums_of(sums, tensors)
}

/// The sum of the squares of all elements of `inp`, continued from `before`.
pub fn sum_squares(kernels: &dyn Kernels, before: f64, inp: View<'_>) -> Result<f64, OpError> {
    let mut sums = vec![0.0; blocks(inp.shape().len())];
    block_sums_of(kernels, &mut sums, &[inp])?;
    Ok(chain(before, &sums))
}

/// `sums` added to `before` in order.
pub fn chain(before: f64, sums: &[f32]) -> f64 {
    sums.iter().fold(before, |total, &sum| total + f64::from(sum))
}

/// What a backend supplies. Shapes and types have been checked.
pub trait Kernel {
    /// See [`block_sums_of`].
    fn norm_block_sums_of(&self, sums: &mut [f32], tensors: &[View<'_>]) -> Result<(), OpError>;
}

//! Sum of squares of a tensor in a fixed order that sharding cannot change.
//!
//! Blocks of [`BLOCK`] elements: each is a row sum (128 interleaved `fma(x, x, partial)`, then a
//! butterfly, in f32); the blocks are added in ascending order in f64.

use super::{Kernels, OpError, expect_shape};
use crate::tensor::View;

/// Elements in a block.
pub const BLOCK: usize = 4096;

/// The sum of the squares of every block of `inp`; `sums` has one element per block.
pub fn block_sums(kernels: &dyn Kernels, sums: &mut [f32], inp: View<'_>) -> Result<(), OpError> {
    let blocks = inp.shape().len().div_ceil(BLOCK);
    expect_shape("norm::block_sums sums", &[sums.len()], &[blocks])?;
    kernels.norm_block_sums(sums, inp)
}

/// The sum of the squares of all elements of `inp`, continued from `before`.
pub fn sum_squares(kernels: &dyn Kernels, before: f64, inp: View<'_>) -> Result<f64, OpError> {
    let mut sums = vec![0.0; inp.shape().len().div_ceil(BLOCK)];
    block_sums(kernels, &mut sums, inp)?;
    Ok(chain(before, &sums))
}

/// `sums` added to `before` in order.
pub fn chain(before: f64, sums: &[f32]) -> f64 {
    sums.iter().fold(before, |total, &sum| total + f64::from(sum))
}

/// What a backend supplies. Shapes have been checked.
pub trait Kernel {
    /// See [`block_sums`].
    fn norm_block_sums(&self, sums: &mut [f32], inp: View<'_>) -> Result<(), OpError>;
}

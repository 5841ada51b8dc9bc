//! Sum of squares of a tensor in a fixed order that sharding cannot change.
//!
//! Blocks of [`BLOCK`] elements: each is a row sum (128 interleaved `fma(x, x, partial)`, then a
//! butterfly, in f32); the blocks are added in ascending order in f64.

use super::{Kernels, OpError};
use crate::tensor::View;

/// Elements in a block.
pub const BLOCK: usize = 4096;

/// The sum of the squares of all elements of `inp`, continued from `before`.
pub fn sum_squares(kernels: &dyn Kernels, before: f64, inp: View<'_>) -> Result<f64, OpError> {
    kernels.norm_sum_squares(before, inp)
}

/// What a backend supplies.
pub trait Kernel {
    /// See [`sum_squares`].
    fn norm_sum_squares(&self, before: f64, inp: View<'_>) -> Result<f64, OpError>;
}

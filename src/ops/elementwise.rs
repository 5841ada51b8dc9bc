//! Fill, copy, add, and the search for a value that is no number.

use super::{Kernels, OpError, expect_shape};
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Sets every element to `value`.
pub fn fill(kernels: &dyn Kernels, out: ViewMut<'_>, value: f32) -> Result<(), OpError> {
    kernels.elementwise_fill(out, value)
}

/// Copies `inp` to `out`; either may live on the host. Shapes and types are equal.
pub fn copy(kernels: &dyn Kernels, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
    expect_shape("elementwise::copy inp", &inp.shape(), &out.shape())?;
    kernels.elementwise_copy(out, inp)
}

/// `out = out + inp`.
pub fn add(kernels: &dyn Kernels, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
    expect_shape("elementwise::add inp", &inp.shape(), &out.shape())?;
    kernels.elementwise_add(out, inp)
}

/// Index of the first element that is infinite or not a number.
pub fn first_non_finite(kernels: &dyn Kernels, inp: View<'_>) -> Result<Option<usize>, OpError> {
    kernels.elementwise_first_non_finite(inp)
}

/// What a backend supplies. Shapes have been checked.
pub trait Kernel {
    /// See [`fill`].
    fn elementwise_fill(&self, out: ViewMut<'_>, value: f32) -> Result<(), OpError>;
    /// See [`copy`].
    fn elementwise_copy(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError>;
    /// See [`add`].
    fn elementwise_add(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError>;
    /// See [`first_non_finite`].
    fn elementwise_first_non_finite(&self, inp: View<'_>) -> Result<Option<usize>, OpError>;
}

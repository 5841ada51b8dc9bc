//! Fill, copy, add, conversion between f32 and bf16, and the search for a value that is no number.
//!
//! Each element on its own, so bits leave nothing open: a bf16 operand is widened, a bf16 result
//! rounded once to nearest even with subnormals kept.

use super::{Kernels, OpError, activation, expect_dtype, expect_shape};
use crate::tensor::DType;
use crate::tensor::HostBuffer;
use crate::tensor::MemMut;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Sets every element to `value`, in a bf16 tensor to its nearest. `out` is f32 or bf16.
pub fn fill(kernels: &dyn Kernels, out: ViewMut<'_>, value: f32) -> Result<(), OpError> {
    activation("elementwise::fill out", out.dtype())?;
    kernels.elementwise_fill(out, value)
}

/// Copies `inp` to `out`; either may live on the host. Shapes and types are equal.
pub fn copy(kernels: &dyn Kernels, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
    expect_shape("elementwise::copy inp", &inp.shape(), &out.shape())?;
    expect_dtype("elementwise::copy inp", inp.dtype(), out.dtype())?;
    kernels.elementwise_copy(out, inp)
}

/// The bytes of `inp` on the host: as they lie there, or copied into `room`, which grows to hold
/// them. Kernels that compute in host memory need not be asked, so any thread may call it for them.
pub fn on_host<'a>(
    kernels: &dyn Kernels,
    inp: View<'a>,
    room: &'a mut HostBuffer,
) -> Result<&'a [u8], OpError> {
    if let Some(bytes) = inp.host_bytes() {
        return Ok(bytes);
    }
    if room.bytes().len() < inp.size_bytes() {
        *room = HostBuffer::zeroed(inp.size_bytes());
    }
    let bytes = &mut room.bytes_mut()[..inp.size_bytes()];
    copy(kernels, ViewMut::new(MemMut::Host(bytes), inp.dtype(), inp.shape()), inp)?;
    Ok(bytes)
}

/// `out = out + inp`; both f32, or both bf16.
pub fn add(kernels: &dyn Kernels, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
    expect_shape("elementwise::add inp", &inp.shape(), &out.shape())?;
    activation("elementwise::add out", out.dtype())?;
    expect_dtype("elementwise::add inp", inp.dtype(), out.dtype())?;
    kernels.elementwise_add(out, inp)
}

/// `out = bf(inp)`: f32 to bf16, nearest even, subnormals kept. NaN stays NaN.
pub fn round(kernels: &dyn Kernels, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
    expect_shape("elementwise::round inp", &inp.shape(), &out.shape())?;
    expect_dtype("elementwise::round out", out.dtype(), DType::Bf16)?;
    expect_dtype("elementwise::round inp", inp.dtype(), DType::F32)?;
    kernels.elementwise_round(out, inp)
}

/// `out = inp`: bf16 to f32, exactly.
pub fn widen(kernels: &dyn Kernels, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
    expect_shape("elementwise::widen inp", &inp.shape(), &out.shape())?;
    expect_dtype("elementwise::widen out", out.dtype(), DType::F32)?;
    expect_dtype("elementwise::widen inp", inp.dtype(), DType::Bf16)?;
    kernels.elementwise_widen(out, inp)
}

/// Index of the first element that is infinite or not a number. `inp` is f32 or bf16.
pub fn first_non_finite(kernels: &dyn Kernels, inp: View<'_>) -> Result<Option<usize>, OpError> {
    activation("elementwise::first_non_finite inp", inp.dtype())?;
    kernels.elementwise_first_non_finite(inp)
}

/// What a backend supplies. Shapes and types have been checked.
pub trait Kernel {
    /// See [`fill`].
    fn elementwise_fill(&self, out: ViewMut<'_>, value: f32) -> Result<(), OpError>;
    /// See [`copy`].
    fn elementwise_copy(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError>;
    /// See [`add`].
    fn elementwise_add(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError>;
    /// See [`round`].
    fn elementwise_round(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError>;
    /// See [`widen`].
    fn elementwise_widen(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError>;
    /// See [`first_non_finite`].
    fn elementwise_first_non_finite(&self, inp: View<'_>) -> Result<Option<usize>, OpError>;
}

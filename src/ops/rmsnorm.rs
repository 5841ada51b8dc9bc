//! RMSNorm over the last extent (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4).
//!
//! ```text
//! rstd[n]  = 1 / sqrt(rowsum_c(inp[n,c]^2) / C + eps)
//! out[n,c] = (inp[n,c] * rstd[n]) * weight[c]
//! ```
//!
//! `rowsum` is the contract's row sum: 128 interleaved partial sums `fma(x, x, partial)`, then a
//! butterfly. `rstd`, `weight` and `dweight` are f32; all other tensors f32, or all bf16: then row
//! sums have 256 partials, and what is written is rounded. Bits: docs/ARITHMETIC.md, sections 5 and
//! 16.5.

use super::{Kernels, OpError, activation, expect_dtype, expect_shape, matrix};
use crate::tensor::DType;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Rows whose part of a weight's gradient is summed apart, where activations are bf16.
pub const GROUP_ROWS: usize = 64;
/// Partial sums in such a group.
pub const GROUP_PARTIALS: usize = 8;

/// Arguments of [`forward`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// `(N, C)`, overwritten.
    pub out: ViewMut<'a>,
    /// `(N)`, overwritten; backward needs it.
    pub rstd: ViewMut<'a>,
    /// `(N, C)`.
    pub inp: View<'a>,
    /// `(C)`.
    pub weight: View<'a>,
    /// Added to the mean square before the root.
    pub eps: f32,
}

/// Arguments of [`forward_residual`].
#[derive(Debug)]
pub struct ForwardResidual<'a> {
    /// `(N, C)`, overwritten: the normalized sum.
    pub out: ViewMut<'a>,
    /// `(N)`, overwritten; backward needs it.
    pub rstd: ViewMut<'a>,
    /// `(N, C)`, overwritten: `inp + residual`, the new residual stream.
    pub sum: ViewMut<'a>,
    /// `(N, C)`: the residual stream so far.
    pub residual: View<'a>,
    /// `(N, C)`: what the sublayer adds to it.
    pub inp: View<'a>,
    /// `(C)`.
    pub weight: View<'a>,
    /// Added to the mean square before the root.
    pub eps: f32,
}

/// Arguments of [`backward`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// `(N, C)`, added to: the residual stream's gradient.
    pub dinp: ViewMut<'a>,
    /// `(C)`, added to: f32 row by row in ascending order, bf16 by groups of [`GROUP_ROWS`] rows.
    pub dweight: ViewMut<'a>,
    /// `(N, C)`.
    pub dout: View<'a>,
    /// `(N, C)`: forward's input (`sum` of the fused form).
    pub inp: View<'a>,
    /// `(C)`.
    pub weight: View<'a>,
    /// `(N)`, from forward.
    pub rstd: View<'a>,
}

/// Normalizes each row of `inp` by its root mean square and scales it by `weight`.
pub fn forward(kernels: &dyn Kernels, args: Forward<'_>) -> Result<(), OpError> {
    let [n, c] = matrix("rmsnorm::forward inp", &args.inp.shape())?;
    expect_shape("rmsnorm::forward out", &args.out.shape(), &[n, c])?;
    expect_shape("rmsnorm::forward rstd", &args.rstd.shape(), &[n])?;
    expect_shape("rmsnorm::forward weight", &args.weight.shape(), &[c])?;
    let dtype = activation("rmsnorm::forward inp", args.inp.dtype())?;
    expect_dtype("rmsnorm::forward out", args.out.dtype(), dtype)?;
    expect_dtype("rmsnorm::forward rstd", args.rstd.dtype(), DType::F32)?;
    expect_dtype("rmsnorm::forward weight", args.weight.dtype(), DType::F32)?;
    kernels.rmsnorm_forward(args)
}

/// Adds `inp` to the residual stream and normalizes the sum, in one pass.
///
/// The same bits as an addition followed by [`forward`].
pub fn forward_residual(kernels: &dyn Kernels, args: ForwardResidual<'_>) -> Result<(), OpError> {
    let [n, c] = matrix("rmsnorm::forward_residual inp", &args.inp.shape())?;
    expect_shape("rmsnorm::forward_residual residual", &args.residual.shape(), &[n, c])?;
    expect_shape("rmsnorm::forward_residual sum", &args.sum.shape(), &[n, c])?;
    expect_shape("rmsnorm::forward_residual out", &args.out.shape(), &[n, c])?;
    expect_shape("rmsnorm::forward_residual rstd", &args.rstd.shape(), &[n])?;
    expect_shape("rmsnorm::forward_residual weight", &args.weight.shape(), &[c])?;
    let dtype = activation("rmsnorm::forward_residual inp", args.inp.dtype())?;
    expect_dtype("rmsnorm::forward_residual residual", args.residual.dtype(), dtype)?;
    expect_dtype("rmsnorm::forward_residual sum", args.sum.dtype(), dtype)?;
    expect_dtype("rmsnorm::forward_residual out", args.out.dtype(), dtype)?;
    expect_dtype("rmsnorm::forward_residual rstd", args.rstd.dtype(), DType::F32)?;
    expect_dtype("rmsnorm::forward_residual weight", args.weight.dtype(), DType::F32)?;
    kernels.rmsnorm_forward_residual(args)
}

/// Gradients of [`forward`].
///
/// ```text
/// g[c]      = dout[n,c] * weight[c]
/// dot       = rowsum_c(g[c] * inp[n,c])                       (fma into each partial)
/// scale     = ((rstd * rstd) * rstd) * (dot / C)
/// dinp[n,c] = dinp[n,c] + fma(g[c], rstd, -(inp[n,c] * scale))
/// dweight[c] = fma(dout[n,c], inp[n,c] * rstd[n], dweight[c])  (n ascending)
/// ```
///
/// Of bf16, `dweight` gets the sum over groups, in order from 0, of 8 partials each: row r of a group
/// goes to partial `r % 8` by an FMA, then the butterfly 4, 2, 1.
pub fn backward(kernels: &dyn Kernels, args: Backward<'_>) -> Result<(), OpError> {
    let [n, c] = matrix("rmsnorm::backward inp", &args.inp.shape())?;
    expect_shape("rmsnorm::backward dinp", &args.dinp.shape(), &[n, c])?;
    expect_shape("rmsnorm::backward dweight", &args.dweight.shape(), &[c])?;
    expect_shape("rmsnorm::backward dout", &args.dout.shape(), &[n, c])?;
    expect_shape("rmsnorm::backward weight", &args.weight.shape(), &[c])?;
    expect_shape("rmsnorm::backward rstd", &args.rstd.shape(), &[n])?;
    let dtype = activation("rmsnorm::backward inp", args.inp.dtype())?;
    expect_dtype("rmsnorm::backward dinp", args.dinp.dtype(), dtype)?;
    expect_dtype("rmsnorm::backward dout", args.dout.dtype(), dtype)?;
    expect_dtype("rmsnorm::backward dweight", args.dweight.dtype(), DType::F32)?;
    expect_dtype("rmsnorm::backward weight", args.weight.dtype(), DType::F32)?;
    expect_dtype("rmsnorm::backward rstd", args.rstd.dtype(), DType::F32)?;
    kernels.rmsnorm_backward(args)
}

/// What a backend supplies. Shapes and types have been checked.
pub trait Kernel {
    /// See [`forward`].
    fn rmsnorm_forward(&self, args: Forward<'_>) -> Result<(), OpError>;
    /// See [`forward_residual`].
    fn rmsnorm_forward_residual(&self, args: ForwardResidual<'_>) -> Result<(), OpError>;
    /// See [`backward`].
    fn rmsnorm_backward(&self, args: Backward<'_>) -> Result<(), OpError>;
}

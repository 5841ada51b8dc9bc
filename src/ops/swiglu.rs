//! SwiGLU (Shazeer 2020, arXiv:2002.05202, eq. 6) on packed rows `[gate | up]`.
//!
//! ```text
//! s = 1 / (1 + exp(-gate))      out = (gate * s) * up
//! ```
//!
//! `exp` is the contract's polynomial; the division is IEEE. All tensors are f32, or all bf16, which
//! is widened before and rounded after the formulas.

use super::{Kernels, OpError, activation, expect_dtype, expect_shape, matrix};
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Arguments of [`forward`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// `(N, F)`, overwritten.
    pub out: ViewMut<'a>,
    /// `(N, 2F)`: gate, then up.
    pub inp: View<'a>,
}

/// Arguments of [`backward`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// `(N, 2F)`, overwritten.
    pub dinp: ViewMut<'a>,
    /// `(N, F)`.
    pub dout: View<'a>,
    /// `(N, 2F)`, from forward.
    pub inp: View<'a>,
}

/// `out = silu(gate) * up`.
pub fn forward(kernels: &dyn Kernels, args: Forward<'_>) -> Result<(), OpError> {
    let [n, f] = matrix("swiglu::forward out", &args.out.shape())?;
    expect_shape("swiglu::forward inp", &args.inp.shape(), &[n, 2 * f])?;
    let dtype = activation("swiglu::forward inp", args.inp.dtype())?;
    expect_dtype("swiglu::forward out", args.out.dtype(), dtype)?;
    kernels.swiglu_forward(args)
}

/// Gradients of [`forward`]; recomputes the gate.
///
/// ```text
/// silu  = gate * s
/// dup   = dout * silu
/// dgate = (dout * up) * (s * fma(gate, 1 - s, 1))
/// ```
pub fn backward(kernels: &dyn Kernels, args: Backward<'_>) -> Result<(), OpError> {
    let [n, f] = matrix("swiglu::backward dout", &args.dout.shape())?;
    expect_shape("swiglu::backward inp", &args.inp.shape(), &[n, 2 * f])?;
    expect_shape("swiglu::backward dinp", &args.dinp.shape(), &[n, 2 * f])?;
    let dtype = activation("swiglu::backward inp", args.inp.dtype())?;
    expect_dtype("swiglu::backward dout", args.dout.dtype(), dtype)?;
    expect_dtype("swiglu::backward dinp", args.dinp.dtype(), dtype)?;
    kernels.swiglu_backward(args)
}

/// What a backend supplies. Shapes and types have been checked.
pub trait Kernel {
    /// See [`forward`].
    fn swiglu_forward(&self, args: Forward<'_>) -> Result<(), OpError>;
    /// See [`backward`].
    fn swiglu_backward(&self, args: Backward<'_>) -> Result<(), OpError>;
}

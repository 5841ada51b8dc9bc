//! Fused softmax and cross-entropy: losses, and gradients in place of the logits.
//!
//! ```text
//! m = max_v logits[v]      e[v] = exp(logits[v] - m)      sum = rowsum_v(e[v])
//! loss = (m + log(sum)) - logits[target]
//! dlogits[v] = e[v] * (scale / sum)  minus scale where v is the target
//! ```
//!
//! `rowsum` is the contract's (plain additions here), of 128 partials where logits are f32 and of
//! 2,048 where they are bf16; `exp` and `log` its polynomials. Gradients are rounded to the type of
//! the logits.

use super::{Kernels, OpError, activation, expect_dtype, expect_shape, matrix};
use crate::tensor::DType;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Arguments of [`forward`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// `(N)`, f32, overwritten.
    pub losses: ViewMut<'a>,
    /// `(N, V)`, f32 or bf16.
    pub logits: View<'a>,
    /// `(N)` of `u32`, each below `V`.
    pub targets: View<'a>,
}

/// Arguments of [`forward_backward`].
#[derive(Debug)]
pub struct ForwardBackward<'a> {
    /// `(N)`, f32, overwritten.
    pub losses: ViewMut<'a>,
    /// `(N, V)`, f32 or bf16: logits, replaced by their gradients.
    pub logits: ViewMut<'a>,
    /// `(N)` of `u32`, each below `V`.
    pub targets: View<'a>,
    /// Factor of every gradient: 1 / (tokens of the whole step).
    pub scale: f32,
}

/// The loss of every row, in nats.
pub fn forward(kernels: &dyn Kernels, args: Forward<'_>) -> Result<(), OpError> {
    let [n, _] = matrix("cross_entropy::forward logits", &args.logits.shape())?;
    expect_shape("cross_entropy::forward losses", &args.losses.shape(), &[n])?;
    expect_shape("cross_entropy::forward targets", &args.targets.shape(), &[n])?;
    activation("cross_entropy::forward logits", args.logits.dtype())?;
    expect_dtype("cross_entropy::forward losses", args.losses.dtype(), DType::F32)?;
    expect_dtype("cross_entropy::forward targets", args.targets.dtype(), DType::U32)?;
    kernels.cross_entropy_forward(args)
}

/// The loss of every row, in nats, and the gradient of `scale` times their sum.
pub fn forward_backward(kernels: &dyn Kernels, args: ForwardBackward<'_>) -> Result<(), OpError> {
    let [n, _] = matrix("cross_entropy::forward_backward logits", &args.logits.shape())?;
    expect_shape("cross_entropy::forward_backward losses", &args.losses.shape(), &[n])?;
    expect_shape("cross_entropy::forward_backward targets", &args.targets.shape(), &[n])?;
    activation("cross_entropy::forward_backward logits", args.logits.dtype())?;
    expect_dtype("cross_entropy::forward_backward losses", args.losses.dtype(), DType::F32)?;
    expect_dtype("cross_entropy::forward_backward targets", args.targets.dtype(), DType::U32)?;
    kernels.cross_entropy_forward_backward(args)
}

/// What a backend supplies. Shapes and types have been checked; a target past the vocabulary is an error.
pub trait Kernel {
    /// See [`forward`].
    fn cross_entropy_forward(&self, args: Forward<'_>) -> Result<(), OpError>;
    /// See [`forward_backward`].
    fn cross_entropy_forward_backward(&self, args: ForwardBackward<'_>) -> Result<(), OpError>;
}

//! AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2), f32 state.
//!
//! ```text
//! g     = grad * grad_scale
//! m     = fma(beta1, m, one_minus_beta1 * g)
//! v     = fma(beta2, v, (one_minus_beta2 * g) * g)
//! denom = sqrt(v) * inv_sqrt_bias2 + eps
//! param = fma(-step_size, m / denom, param * decay)
//! ```
//!
//! The scalars come from f64 on the host, rounded once: `step_size = lr / (1 - beta1^t)`,
//! `inv_sqrt_bias2 = 1 / sqrt(1 - beta2^t)`, `decay = 1 - lr * weight_decay`.

use super::{Kernels, OpError, expect_shape};
use crate::tensor::View;
use crate::tensor::ViewMut;

/// The scalars of one step, equal for all elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalars {
    /// Factor of every gradient: clipping.
    pub grad_scale: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// `1 - beta1`.
    pub one_minus_beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// `1 - beta2`.
    pub one_minus_beta2: f32,
    /// Learning rate over the first moment's bias correction.
    pub step_size: f32,
    /// One over the root of the second moment's bias correction.
    pub inv_sqrt_bias2: f32,
    /// Added to the denominator.
    pub eps: f32,
    /// Factor of the weight before the update: `1 - lr * weight_decay`, or 1.
    pub decay: f32,
}

/// Arguments of [`step`]. All four have one shape.
#[derive(Debug)]
pub struct Step<'a> {
    /// The weights, updated.
    pub param: ViewMut<'a>,
    /// First moments, updated.
    pub m: ViewMut<'a>,
    /// Second moments, updated.
    pub v: ViewMut<'a>,
    /// The gradient.
    pub grad: View<'a>,
    /// The step's scalars.
    pub scalars: Scalars,
}

/// One optimizer step of one tensor.
pub fn step(kernels: &dyn Kernels, args: Step<'_>) -> Result<(), OpError> {
    let shape = args.param.shape();
    expect_shape("adamw::step m", &args.m.shape(), &shape)?;
    expect_shape("adamw::step v", &args.v.shape(), &shape)?;
    expect_shape("adamw::step grad", &args.grad.shape(), &shape)?;
    kernels.adamw_step(args)
}

/// What a backend supplies. Shapes have been checked.
pub trait Kernel {
    /// See [`step`].
    fn adamw_step(&self, args: Step<'_>) -> Result<(), OpError>;
}

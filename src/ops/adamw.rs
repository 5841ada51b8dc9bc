//! AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2), f32 state; many tensors in
//! one call, which a GPU makes one launch.
//!
//! ```text
//! g     = grad * grad_scale
//! m     = fma(beta1, m, one_minus_beta1 * g)
//! v     = fma(beta2, v, (one_minus_beta2 * g) * g)
//! denom = sqrt(v) * inv_sqrt_bias2 + eps
//! param = fma(-step_size, m / denom, param * decay)
//! copy  = bf(param)                                      where there is a copy
//! ```
//!
//! The scalars come from f64 on the host, rounded once: `step_size = lr / (1 - beta1^t)`,
//! `inv_sqrt_bias2 = 1 / sqrt(1 - beta2^t)`, `decay = 1 - lr * weight_decay`.

use super::{Kernels, OpError, expect_dtype, expect_shape};
use crate::tensor::DType;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// The scalars of one step, equal for all tensors.
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
}

/// One weight of [`update`] and what belongs to it. All have one shape.
#[derive(Debug)]
pub struct Tensors<'a> {
    /// The weights, f32, updated.
    pub param: ViewMut<'a>,
    /// First moments, f32, updated.
    pub m: ViewMut<'a>,
    /// Second moments, f32, updated.
    pub v: ViewMut<'a>,
    /// The gradient, f32.
    pub grad: View<'a>,
    /// Overwritten with the new weights rounded to bf16 (nearest even, subnormals kept), where
    /// products read them from there.
    pub copy: Option<ViewMut<'a>>,
    /// Factor of the weights before the update: `1 - lr * weight_decay`, or 1.
    pub decay: f32,
}

/// One optimizer step of all `tensors`, each element on its own: how tensors are grouped into
/// calls, and in which order, changes nothing.
pub fn update(
    kernels: &dyn Kernels,
    tensors: &mut [Tensors<'_>],
    scalars: Scalars,
) -> Result<(), OpError> {
    for tensor in tensors.iter() {
        let shape = tensor.param.shape();
        expect_dtype("adamw::update param", tensor.param.dtype(), DType::F32)?;
        expect_shape("adamw::update m", &tensor.m.shape(), &shape)?;
        expect_dtype("adamw::update m", tensor.m.dtype(), DType::F32)?;
        expect_shape("adamw::update v", &tensor.v.shape(), &shape)?;
        expect_dtype("adamw::update v", tensor.v.dtype(), DType::F32)?;
        expect_shape("adamw::update grad", &tensor.grad.shape(), &shape)?;
        expect_dtype("adamw::update grad", tensor.grad.dtype(), DType::F32)?;
        if let Some(copy) = &tensor.copy {
            expect_shape("adamw::update copy", &copy.shape(), &shape)?;
            expect_dtype("adamw::update copy", copy.dtype(), DType::Bf16)?;
        }
    }
    kernels.adamw_update(tensors, &scalars)
}

/// What a backend supplies. Shapes and types have been checked.
pub trait Kernel {
    /// See [`update`].
    fn adamw_update(&self, tensors: &mut [Tensors<'_>], scalars: &Scalars) -> Result<(), OpError>;
}

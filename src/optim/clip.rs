//! Clipping by the global norm (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1).

use crate::model::Params;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::norm;
use crate::tensor::Tensor;

/// The square root of the sum of squares of all gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm(pub f64);

/// The global norm: tensors in canonical order, in the order of sums of `ops::norm`.
pub fn global_norm(kernels: &dyn Kernels, grads: &Params<Tensor>) -> Result<Norm, OpError> {
    let mut sum = 0.0;
    grads.as_ref().try_map(|_, grad| {
        sum = norm::sum_squares(kernels, sum, grad.view())?;
        Ok::<_, OpError>(())
    })?;
    Ok(Norm(sum.sqrt()))
}

/// The factor that brings a gradient of norm `norm` to at most `clip` (0: none), rounded once.
pub fn clip_scale(norm: Norm, clip: f64) -> f32 {
    if clip > 0.0 && norm.0 > clip { (clip / norm.0) as f32 } else { 1.0 }
}

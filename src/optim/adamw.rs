//! The step of the inner optimizer.

use super::Config;
use crate::model::is_norm;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::adamw;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// One step of AdamW, to be applied to every weight, in parts of any size.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    scalars: adamw::Scalars,
    /// Factor of the weights that decay.
    decay: f32,
}

impl Update {
    /// Step `step` (from 0) with learning rate `lr`; `grad_scale` is the factor of clipping.
    pub fn new(config: &Config, (step, lr): (u64, f64), grad_scale: f32) -> Self {
        let [beta1, beta2] = config.betas;
        let t = (step + 1) as f64;
        let bias1 = 1.0 - libm::pow(beta1, t);
        let bias2 = 1.0 - libm::pow(beta2, t);
        let scalars = adamw::Scalars {
            grad_scale,
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            step_size: (lr / bias1) as f32,
            inv_sqrt_bias2: (1.0 / bias2.sqrt()) as f32,
            eps: config.eps as f32,
        };
        Self { scalars, decay: (1.0 - lr * config.weight_decay) as f32 }
    }

    /// Elements of the weight called `name`, for [`Self::apply`]; all views are of the same ones.
    /// `copy` (bf16) receives the new weights where products read them from there.
    pub fn of<'a>(
        &self,
        name: &str,
        param: ViewMut<'a>,
        (m, v): (ViewMut<'a>, ViewMut<'a>),
        grad: View<'a>,
        copy: Option<ViewMut<'a>>,
    ) -> adamw::Tensors<'a> {
        let decay = if is_norm(name) { 1.0 } else { self.decay };
        adamw::Tensors { param, m, v, grad, copy, decay }
    }

    /// Moves all of `weights`, in one call of the device.
    pub fn apply(
        &self,
        kernels: &dyn Kernels,
        weights: &mut [adamw::Tensors<'_>],
    ) -> Result<(), OpError> {
        adamw::update(kernels, weights, self.scalars)
    }
}

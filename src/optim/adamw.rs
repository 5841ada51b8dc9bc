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
            decay: (1.0 - lr * config.weight_decay) as f32,
        };
        Self { scalars }
    }

    /// Moves elements of the weight called `name`; all four views are of the same elements.
    pub fn apply(
        &self,
        kernels: &dyn Kernels,
        name: &str,
        param: ViewMut<'_>,
        (m, v): (ViewMut<'_>, ViewMut<'_>),
        grad: View<'_>,
    ) -> Result<(), OpError> {
        let decay = if is_norm(name) { 1.0 } else { self.scalars.decay };
        let scalars = adamw::Scalars { decay, ..self.scalars };
        adamw::step(kernels, adamw::Step { param, m, v, grad, scalars })
    }
}

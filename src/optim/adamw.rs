//! State and step of the inner optimizer.

use super::Config;
use crate::model::Params;
use crate::model::is_norm;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::adamw;
use crate::tensor::Tensor;

/// The two moments of every weight.
#[derive(Debug)]
pub struct AdamW {
    /// First moments.
    pub m: Params<Tensor>,
    /// Second moments.
    pub v: Params<Tensor>,
}

impl AdamW {
    /// Moves every weight by one step; `step` counts from 0.
    ///
    /// `lr` is the step's learning rate, `grad_scale` the factor of clipping.
    pub fn step(
        &mut self,
        kernels: &dyn Kernels,
        config: &Config,
        (step, lr): (u64, f64),
        grad_scale: f32,
        params: &mut Params<Tensor>,
        grads: &Params<Tensor>,
    ) -> Result<(), OpError> {
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
        let moments = self.m.as_mut().zip(self.v.as_mut());
        let all = params.as_mut().zip(grads.as_ref()).zip(moments);
        all.try_map(|name, ((param, grad), (m, v))| {
            let decay = if is_norm(name) { 1.0 } else { scalars.decay };
            let args = adamw::Step {
                param: param.view_mut(),
                m: m.view_mut(),
                v: v.view_mut(),
                grad: grad.view(),
                scalars: adamw::Scalars { decay, ..scalars },
            };
            adamw::step(kernels, args)
        })?;
        Ok(())
    }
}

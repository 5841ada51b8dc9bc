//! How weights move: AdamW, its learning rate by step, clipping by the global norm.

mod adamw;
mod clip;
mod schedule;

pub use adamw::Update;
pub use clip::Norm;
pub use clip::clip_scale;
pub use schedule::Schedule;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// `[optim]`: AdamW, and the course of its learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moments, each below 1.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate; norm weights do not decay.
    pub weight_decay: f64,
    /// Largest global gradient norm; longer gradients are scaled down. 0: no clipping.
    pub clip: f64,
    /// Course of the learning rate after warm-up.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Learning rate at the end of `cosine` and `wsd`; `lr` at most.
    pub min_lr: f64,
    /// Steps of decay at the end of `wsd`; 0: a fifth of all steps.
    pub decay_steps: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lr: 6e-4,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.1,
            clip: 1.0,
            schedule: Schedule::Cosine,
            warmup_steps: 50,
            min_lr: 6e-5,
            decay_steps: 0,
        }
    }
}

impl Config {
    /// Everything that cannot be about this table in a run of `steps` steps, each as `key: why`.
    pub fn complaints(&self, steps: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, complaint: String| {
            if !holds {
                wrong.push(complaint);
            }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        check(positive(self.lr), format!("optim.lr: {} is not a positive number", self.lr));
        check(
            not_negative(self.min_lr) && self.min_lr <= self.lr,
            format!("optim.min_lr: {} is not between 0 and optim.lr = {}", self.min_lr, self.lr),
        );
        for beta in self.betas {
            check((0.0..1.0).contains(&beta), format!("optim.betas: {beta} is not in [0, 1)"));
        }
        check(positive(self.eps), format!("optim.eps: {} is not a positive number", self.eps));
        check(
            not_negative(self.weight_decay),
            format!("optim.weight_decay: {} is negative or no number", self.weight_decay),
        );
        check(
            not_negative(self.clip),
            format!("optim.clip: {} is negative or no number", self.clip),
        );
        check(
            self.decay_steps <= steps,
            format!("optim.decay_steps: {} is more than the {steps} steps", self.decay_steps),
        );
        wrong
    }
}

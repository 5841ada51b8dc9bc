//! The `[outer]` table.

use serde::Deserialize;
use serde::Serialize;

/// The rhythm and the optimizer of the outer loop. What is left open is decided by
/// [`Settings`](super::Settings), by H, the number of clusters and the codec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Inner steps of a round (H). Default 50.
    pub inner_steps: u64,
    /// How the outer weights move: `nesterov`, `heavy_ball` or `sgd` (no momentum). Default: as
    /// published for this H and codec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// Outer learning rate. Default: as published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Outer momentum. Default: as published; 0 for `sgd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Largest Euclidean norm of an outer step of a fragment; longer ones are scaled down. 0: no
    /// bound. Default 0.
    pub max_step_norm: f64,
    /// What a residual is multiplied with before it enters the next update. Default 0.95.
    pub residual_decay: f64,
    /// Fragments (P) that the model is exchanged in, at different times. Default 1.
    pub fragments: usize,
    /// Inner steps (tau) between a fragment's update and the outer step: what the exchange may take
    /// while training goes on. Below `inner_steps`. Default 0.
    pub overlap_steps: u64,
    /// How much of the local weights (alpha) stays when an outer step is applied: 0 none, below 1.
    /// Default 0.
    pub blend: f64,
    /// Whether the correlation of each pseudo-gradient, and of each aggregate, with the one before
    /// is logged; costs two more copies of the weights. Default true.
    pub correlation: bool,
}

/// How outer weights move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Momentum that looks ahead, in PyTorch's form.
    Nesterov,
    /// Momentum.
    HeavyBall,
    /// No momentum.
    Sgd,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_steps: 50,
            optimizer: None,
            lr: None,
            momentum: None,
            max_step_norm: 0.0,
            residual_decay: 0.95,
            fragments: 1,
            overlap_steps: 0,
            blend: 0.0,
            correlation: true,
        }
    }
}

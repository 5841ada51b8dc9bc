//! The `[outer]` table.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// `[outer]`: the rhythm and the optimizer of the outer loop, in which clusters exchange what they
/// have learnt. What is left open is as published for the length of a round, the number of clusters
/// and the codec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Inner steps of a round (H), 1 or more.
    pub inner_steps: u64,
    /// How the outer weights move. Default: as published: `"sgd"` for sparse updates (`codec.kind =
    /// "top_k"`) and for rounds below 30 inner steps, else `"nesterov"`. Where `momentum` is given:
    /// `"sgd"` if it is 0, else `"nesterov"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// Outer learning rate. Default: as published: 1 for sparse updates and for rounds below 30
    /// inner steps, else 0.4 to 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Outer momentum, below 1. Default: 0 for `"sgd"`, else 0.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Largest Euclidean norm of an outer step of a fragment; longer ones are scaled down. 0: no
    /// bound.
    pub max_step_norm: f64,
    /// What a residual (what updates have not said yet) is multiplied with before it enters the
    /// next update; 0 to 1.
    pub residual_decay: f64,
    /// Fragments (P) that the model is exchanged in, at different times; 1 to the number of layers.
    pub fragments: usize,
    /// Inner steps (tau) between a fragment's update and the outer step: what the exchange may take
    /// while training goes on. Below `inner_steps`; in a simulation below `inner_steps /
    /// fragments`.
    pub overlap_steps: u64,
    /// How much of the local weights (alpha) stays when an outer step is applied: 0 nothing, below
    /// 1.
    pub blend: f64,
    /// Whether the correlation of each pseudo-gradient, and of each aggregate, with the one before
    /// is logged; costs two more copies of the weights. Changes no result.
    pub correlation: bool,
}

/// How outer weights move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

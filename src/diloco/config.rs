//! The `[outer]` table.

use serde::Deserialize;
use serde::Serialize;

/// The rhythm and the optimizer of the outer loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Inner steps of a round (H). Default 50.
    pub inner_steps: u64,
    /// Outer learning rate. Default 0.7.
    pub lr: f64,
    /// Outer momentum. Default 0.9.
    pub momentum: f64,
    /// Whether momentum looks ahead. Default true.
    pub nesterov: bool,
    /// What a residual is multiplied with before it enters the next update. Default 0.95.
    pub residual_decay: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { inner_steps: 50, lr: 0.7, momentum: 0.9, nesterov: true, residual_decay: 0.95 }
    }
}

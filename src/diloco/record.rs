//! What a round did, for logs.

use serde::Deserialize;
use serde::Serialize;

use super::Moved;

/// This cluster's part of a round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contributed {
    /// Norm of the pseudo-gradient.
    pub pseudo_gradient_norm: f64,
    /// Cosine between it and the one of the round before, if both are there and not zero.
    pub pseudo_gradient_lag1: Option<f64>,
    /// Norm of what the update did not say.
    pub residual_norm: f64,
    /// Length of the update.
    pub update_bytes: u64,
    /// The same per weight of the fragment, in bits.
    pub bits_per_weight: f64,
}

/// A round of one fragment, complete. Every number is the same on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// Which round of the fragment, from 0.
    pub round: u64,
    /// Which fragment, from 0.
    pub fragment: usize,
    /// Inner steps done when it was applied.
    pub step: u64,
    /// What this cluster contributed; none if the round went on without it.
    pub contributed: Option<Contributed>,
    /// The outer step that all took.
    pub moved: Moved,
}

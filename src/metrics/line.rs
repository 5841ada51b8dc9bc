//! A line of `metrics.jsonl`, as a reader finds it.

use std::borrow::Cow;

use serde::Deserialize;

/// A line of the file. What is not there, or null (as JSON writes what is no number), is none.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Line {
    /// What it tells of.
    pub kind: Kind,
    /// Number of the step, from 1; of an evaluation, steps done before it.
    #[serde(default)]
    pub step: Option<f64>,
    /// Mean loss in nats.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Learning rate.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Global norm of the gradient before clipping.
    #[serde(default)]
    pub grad_norm: Option<f64>,
    /// Tokens trained on so far.
    #[serde(default)]
    pub tokens: Option<f64>,
    /// Duration of the step, in milliseconds.
    #[serde(default)]
    pub step_ms: Option<f64>,
    /// Of that, waiting for other ranks.
    #[serde(default)]
    pub exchange_ms: Option<f64>,
    /// Tokens of the step over its duration.
    #[serde(default)]
    pub tokens_per_s: Option<f64>,
    /// Model FLOP/s over the peak of the device.
    #[serde(default)]
    pub mfu: Option<f64>,
    /// Memory in use, in bytes.
    #[serde(default)]
    pub memory_bytes: Option<f64>,
    /// Duration of an evaluation, in milliseconds.
    #[serde(default)]
    pub eval_ms: Option<f64>,
    /// Whether the guard left the update out.
    #[serde(default)]
    pub skipped: Option<bool>,
}

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An optimizer step.
    Step,
    /// An evaluation on held-out data.
    Eval,
    /// Something that this program does not know.
    Other,
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = Cow::<'de, str>::deserialize(from)?;
        Ok(match word.as_ref() {
            "step" => Self::Step,
            "eval" => Self::Eval,
            _ => Self::Other,
        })
    }
}

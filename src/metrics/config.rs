//! The `[metrics]` table of a run file.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// `[metrics]`: what a run records beside `metrics.jsonl`, which it always writes. It never changes
/// results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the numbers of `metrics.jsonl` also go to a TensorBoard event file in the run's
    /// folder (`tensorboard --logdir runs`).
    pub tensorboard: bool,
}

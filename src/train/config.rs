//! The tables `[run]`, `[numerics]` and `[train]` of a run file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ops;
use crate::ops::Precision;

/// `[run]`: where a run is kept, and its seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Folder for `config.toml`, `metrics.jsonl` and `checkpoints/`. A run that is there is not
    /// overwritten: continue it with `--resume`, or name another folder.
    #[schemars(extend("format" = "path"))]
    pub dir: PathBuf,
    /// Seed of initial weights and of the order of the data; below 2^63.
    pub seed: u64,
}

impl Default for Run {
    fn default() -> Self {
        Self { dir: "runs/default".into(), seed: 1 }
    }
}

/// `[numerics]`: the arithmetic of the run. Each has the same bits on every device;
/// docs/ARITHMETIC.md defines them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Numerics {
    /// What matrix products round to, and how they sum.
    pub profile: Profile,
    /// Whose tensor-core sums the `tc` profile means. Other profiles do not look at it.
    pub tensor_core: TensorCore,
}

/// Whose tensor cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TensorCore {
    /// Hopper and Blackwell.
    #[default]
    Hopper,
    /// Ampere and Ada.
    Ampere,
}

impl TensorCore {
    /// Its name in a run file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hopper => "hopper",
            Self::Ampere => "ampere",
        }
    }
}

/// An arithmetic. All are exact to the bit on every device; see docs/ARITHMETIC.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Matrix products of f32 inputs.
    F32,
    /// Matrix products of inputs rounded to bf16, summed in f32; all else f32.
    #[default]
    Bf16,
    /// Matrix products as tensor cores compute them; activations in bf16.
    Tc,
}

impl Numerics {
    /// How matrix products round.
    pub fn precision(&self) -> Precision {
        match (self.profile, self.tensor_core) {
            (Profile::F32, _) => Precision::F32,
            (Profile::Bf16, _) => Precision::Bf16,
            (Profile::Tc, TensorCore::Hopper) => Precision::Tc(ops::TensorCore::Hopper),
            (Profile::Tc, TensorCore::Ampere) => Precision::Tc(ops::TensorCore::Ampere),
        }
    }
}

impl Profile {
    /// Its name in a run file.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Tc => "tc",
        }
    }
}

/// `[train]`: length and rhythm of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Optimizer steps of the whole schedule; 1 or more.
    pub steps: u64,
    /// End after this many steps, the schedule unchanged; 0: after all of them.
    pub stop_after: u64,
    /// Tokens in a sequence; even in the bf16 profile.
    pub seq_len: usize,
    /// Sequences in an optimizer step, over all ranks.
    pub batch_sequences: usize,
    /// Sequences computed at once, at most: decides memory, and results in the tc profile only,
    /// where it is part of the job. It is taken down to a divisor of the sequences of a shard
    /// (`batch_sequences / parallel.shards`). 0: 4, in the tc profile as many as have 16,384 tokens
    /// if that is more.
    pub micro_batch_sequences: usize,
    /// Steps between evaluations on held-out data; 0: only at the end.
    pub eval_every: u64,
    /// Held-out sequences per evaluation, from the first on; 0: no evaluation. A number past their
    /// count means all of them.
    pub eval_sequences: u64,
    /// Steps between checkpoints; 0: only at the end.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept, older ones are deleted; 0: all are kept.
    pub keep_checkpoints: usize,
    /// Seconds after which the run writes a checkpoint and ends, as if it had been asked to; the
    /// margin for that is kept. 0: no limit but that of the scheduler (`SLURM_JOB_END_TIME`).
    pub wall_clock_s: u64,
    /// A step is left out if its loss or gradient norm lies more than this many deviations above
    /// the running mean; 0: none ever is.
    pub guard_deviations: f64,
    /// Steps before the guard trusts its mean.
    pub guard_after: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            steps: 300,
            stop_after: 0,
            seq_len: 256,
            batch_sequences: 16,
            micro_batch_sequences: 0,
            eval_every: 50,
            eval_sequences: 32,
            checkpoint_every: 100,
            keep_checkpoints: 3,
            wall_clock_s: 0,
            guard_deviations: 0.0,
            guard_after: 50,
        }
    }
}

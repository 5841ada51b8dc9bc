//! The `[parallel]` table of a run file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::collective::DeviceWish;

/// `[parallel]`: how a training is spread over ranks. Only `shards` decides results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Logical shards S of the batch, a power of two that divides `train.batch_sequences`; the
    /// order of sums, hence the bits, depend on it, and at most S ranks can share a stage. 0: the
    /// largest power of two up to 8 that divides the batch.
    pub shards: usize,
    /// Stages: contiguous ranges of layers, each on ranks of its own; 1 to the number of layers.
    pub stages: usize,
    /// What the ranks of a stage divide among them (ZeRO): 0 nothing, 1 the moments, 2 also the
    /// gradients, 3 also the weights. The more is divided, the less memory a rank needs; 2 and 3 go
    /// with one stage (docs/SCALING.md).
    pub zero: Zero,
    /// Memory that a rank may use, in GiB: one value for all, or one for the ranks of each stage.
    /// Stages get as many layers as their memory holds. Empty: what each host has left, shared
    /// among its ranks.
    pub memory_gib: Vec<f64>,
    /// Steps between comparisons of the replicas' weights by hash; 0: never.
    pub compare_every: u64,
    /// Whether more threads than cores may run on a host.
    pub oversubscribe: bool,
    /// Whether ranks that share a host bind to cores of their own.
    pub bind: bool,
    /// How ranks on GPUs exchange gradients and weights.
    pub device_link: DeviceWish,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 0,
            stages: 1,
            zero: Zero::Moments,
            memory_gib: Vec::new(),
            compare_every: 20,
            oversubscribe: false,
            bind: true,
            device_link: DeviceWish::Auto,
        }
    }
}

/// What the data ranks of a stage divide among them (ZeRO stages 0 to 3).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u8", into = "u8")]
pub enum Zero {
    /// Nothing: every rank has everything.
    Nothing,
    /// The optimizer's moments.
    Moments,
    /// Moments and gradients.
    Gradients,
    /// Moments, gradients and weights.
    Weights,
}

impl Zero {
    /// All levels, least divided first.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Moments, Self::Gradients, Self::Weights];
}

impl TryFrom<u8> for Zero {
    type Error = String;

    fn try_from(level: u8) -> Result<Self, String> {
        match level {
            0 => Ok(Self::Nothing),
            1 => Ok(Self::Moments),
            2 => Ok(Self::Gradients),
            3 => Ok(Self::Weights),
            _ => Err(format!("{level} is not one of 0, 1, 2, 3")),
        }
    }
}

impl From<Zero> for u8 {
    fn from(zero: Zero) -> Self {
        zero as Self
    }
}

impl Config {
    /// Everything that cannot be about this table for a batch of `batch_sequences` sequences and
    /// a model of `layers` layers, each as `key: why`.
    pub fn complaints(&self, batch_sequences: usize, layers: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.shards > 0 && !self.shards.is_power_of_two() {
            let near = self.shards.next_power_of_two();
            wrong.push(format!("parallel.shards: {} is no power of two; take {near}", self.shards));
        } else if self.shards > 0 && !batch_sequences.is_multiple_of(self.shards) {
            wrong.push(format!(
                "parallel.shards: {} shards do not divide the batch of {batch_sequences} sequences \
                 (train.batch_sequences); take {}",
                self.shards,
                default_shards(batch_sequences)
            ));
        }
        if !(1..=layers.max(1)).contains(&self.stages) {
            wrong.push(format!(
                "parallel.stages: {} is not within 1..={layers}, the layers of the model",
                self.stages
            ));
        }
        let declared = &self.memory_gib;
        if ![0, 1, self.stages].contains(&declared.len()) {
            wrong.push(format!(
                "parallel.memory_gib: {} values for {} stages; give one for all, or one a stage",
                declared.len(),
                self.stages
            ));
        }
        if let Some(bad) = declared.iter().find(|gib| !(gib.is_finite() && **gib > 0.0)) {
            wrong.push(format!("parallel.memory_gib: {bad} is no size above 0, in GiB"));
        }
        wrong
    }

    /// The declared memory of each of `ranks` ranks, in bytes; none if none is declared.
    pub fn declared_bytes(&self, ranks: usize) -> Option<Vec<u64>> {
        let bytes = |gib: &f64| (gib * f64::from(1 << 30)) as u64;
        let in_stage = ranks.div_ceil(self.stages.max(1));
        match &self.memory_gib[..] {
            [] => None,
            [one] => Some(vec![bytes(one); ranks]),
            each => Some((0..ranks).filter_map(|r| each.get(r / in_stage).map(bytes)).collect()),
        }
    }

    /// S, with the default resolved.
    pub fn shards(&self, batch_sequences: usize) -> usize {
        if self.shards == 0 { default_shards(batch_sequences) } else { self.shards }
    }
}

/// The shards of a job that does not say: the largest power of two up to [`DEFAULT_SHARDS`] that
/// divides its batch.
pub fn default_shards(batch_sequences: usize) -> usize {
    1 << batch_sequences.trailing_zeros().min(DEFAULT_SHARDS.trailing_zeros())
}

/// Enough for eight ranks; few enough that the tree costs little on one.
pub const DEFAULT_SHARDS: usize = 8;

//! Which layers go to which stage: the fastest division that every rank's memory can hold.
//!
//! A stage has a contiguous range of blocks, the first one also the embedding, the last one also
//! the final norm and the LM head. A pipeline is as fast as its slowest stage, so of all divisions
//! that fit, one whose slowest stage is fastest is taken. Blocks are alike: only their number on
//! each stage counts, and adding one block after another where the stage's time then is least
//! gives the optimum, because the time of a stage grows by the same amount with every block. Ties
//! go to the earlier stage.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use serde::Serialize;

use super::memory::{Job, Place, RankMemory};
use super::remedy::{self, DoesNotFit};
use crate::model::Passes;
use crate::model::WeightSizes;

/// A job and the ranks it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementInput {
    /// The training.
    pub job: Job,
    /// Stages; they divide the number of ranks.
    pub stages: usize,
    /// Memory that each rank may use, in bytes, by world rank.
    pub memory_bytes: Vec<u64>,
}

/// Layers on stages, and what each stage's ranks need for them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placement {
    /// The blocks of each stage.
    pub stages: Vec<Range<usize>>,
    /// Ranks that share a stage.
    pub data_ranks: usize,
    /// What a rank of each stage needs.
    pub memory: Vec<RankMemory>,
    /// The least memory of each stage's ranks, in bytes.
    pub available_bytes: Vec<u64>,
}

/// Divides the layers of `input` among its stages, or says what would help.
pub fn place(input: &PlacementInput) -> Result<Placement, DoesNotFit> {
    input.fitting().ok_or_else(|| remedy::explain(input))
}

impl PlacementInput {
    /// A job for ranks of `memory_bytes` each, in `stages` stages; refuses what cannot be.
    pub fn new(job: Job, stages: usize, memory_bytes: Vec<u64>) -> Result<Self, String> {
        let ranks = memory_bytes.len();
        let layers = job.dims.layers;
        if !(1..=layers).contains(&stages) {
            return Err(format!("{stages} stages are not within 1..={layers}, the model's layers"));
        }
        if ranks == 0 || !ranks.is_multiple_of(stages) {
            return Err(format!(
                "{ranks} ranks cannot form {stages} stages; take a multiple of {stages}"
            ));
        }
        let (data_ranks, shards) = (ranks / stages, job.shards);
        if shards == 0 || !shards.is_multiple_of(data_ranks) || !data_ranks.is_power_of_two() {
            let each = if stages > 1 { " in each stage" } else { "" };
            return Err(format!(
                "{data_ranks} ranks{each} do not divide the {shards} shards of the batch \
                 (parallel.shards)"
            ));
        }
        Ok(Self { job, stages, memory_bytes })
    }

    /// Ranks that share a stage.
    pub fn data_ranks(&self) -> usize {
        self.memory_bytes.len() / self.stages
    }

    /// The place of the ranks of `stage` if it has `layers` blocks.
    pub(super) fn place_of(&self, stage: usize, layers: usize) -> Place {
        Place { stages: self.stages, stage, layers, data_ranks: self.data_ranks() }
    }

    /// The least memory of each stage's ranks.
    pub(super) fn available(&self) -> Vec<u64> {
        let stages = self.memory_bytes.chunks(self.data_ranks());
        stages.map(|ranks| ranks.iter().copied().min().unwrap_or(0)).collect()
    }

    /// The fastest division that fits.
    pub(super) fn fitting(&self) -> Option<Placement> {
        let available = self.available();
        let most = self.job.dims.layers + 1 - self.stages;
        let fits = |stage: usize, layers: usize| {
            RankMemory::of(&self.job, &self.place_of(stage, layers)).total() <= available[stage]
        };
        let caps: Vec<usize> = (0..self.stages)
            .map(|stage| {
                // Memory grows with the layers: the first count that does not fit bounds them.
                let (mut fitting, mut too_many) = (0, most + 1);
                while fitting + 1 < too_many {
                    let half = usize::midpoint(fitting, too_many);
                    if fits(stage, half) { fitting = half } else { too_many = half }
                }
                fitting
            })
            .collect();
        Some(self.placed(&balanced(&self.job, &caps)?, available))
    }

    /// The fastest division of all, whether or not it fits.
    pub(super) fn unbounded(&self) -> Option<Placement> {
        let caps = vec![self.job.dims.layers; self.stages];
        Some(self.placed(&balanced(&self.job, &caps)?, self.available()))
    }

    fn placed(&self, counts: &[usize], available_bytes: Vec<u64>) -> Placement {
        let mut next = 0;
        let stages = counts.iter().map(|&count| {
            next += count;
            next - count..next
        });
        let memory = counts
            .iter()
            .enumerate()
            .map(|(stage, &count)| RankMemory::of(&self.job, &self.place_of(stage, count)));
        Placement {
            stages: stages.collect(),
            memory: memory.collect(),
            data_ranks: self.data_ranks(),
            available_bytes,
        }
    }
}

/// Layers of each stage, at least one and at most `caps`, so that the slowest stage is as fast as
/// can be; none if they have no room.
fn balanced(job: &Job, caps: &[usize]) -> Option<Vec<usize>> {
    let (layers, stages) = (job.dims.layers, caps.len());
    let room = caps.iter().try_fold(0usize, |sum, &cap| {
        // A stage has at least one block.
        (cap > 0).then(|| sum.saturating_add(cap))
    })?;
    if room < layers || layers < stages {
        return None;
    }
    let costs = StageCosts::of(job);
    let mut counts = vec![1; stages];
    let after_one_more = |stage: usize, count: usize| {
        (caps[stage] > count).then(|| Reverse((costs.stage(stage, stages, count + 1), stage)))
    };
    let mut candidates: BinaryHeap<_> =
        (0..stages).filter_map(|stage| after_one_more(stage, 1)).collect();
    for _ in stages..layers {
        let Reverse((_, stage)) = candidates.pop()?;
        counts[stage] += 1;
        candidates.extend(after_one_more(stage, counts[stage]));
    }
    Some(counts)
}

/// FLOPs of training on one token, by piece of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageCosts {
    /// A block, forward and backward; causal attention counted once. A recomputed block's forward
    /// pass counts twice.
    pub block: u128,
    /// The embedding: a look-up and an addition.
    pub embedding: u128,
    /// The LM head.
    pub head: u128,
}

impl StageCosts {
    /// Those of a job.
    pub fn of(job: &Job) -> Self {
        let dims = &job.dims;
        let sizes = WeightSizes::of(dims);
        // Norms are no products; everything else in a block is.
        let products: u128 = sizes.block.iter().sum::<u128>() - 2 * dims.width as u128;
        let attention = dims.heads_width() as u128 * job.seq_len as u128;
        let forward = 2 * (products + attention);
        let passes = match job.passes {
            Passes::Forward => 1,
            Passes::Stored => 3,
            Passes::Recomputed => 4,
        };
        let head_passes = if job.passes == Passes::Forward { 1 } else { 3 };
        Self {
            block: passes * forward,
            embedding: 2 * dims.width as u128,
            head: 2 * head_passes * sizes.head,
        }
    }

    /// FLOPs of stage `stage` of `stages` with `layers` blocks.
    pub fn stage(&self, stage: usize, stages: usize, layers: usize) -> u128 {
        let first = if stage == 0 { self.embedding } else { 0 };
        let last = if stage + 1 == stages { self.head } else { 0 };
        first + layers as u128 * self.block + last
    }
}

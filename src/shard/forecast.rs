//! What a placed training will cost on given machines: time and bytes of one optimizer step.
//!
//! docs/SCALING.md writes the formulas out. They are those of an ideal: every rank computes at one
//! speed, a transfer takes its latency and its bytes over the bandwidth, nothing else is in the
//! way.

use serde::Serialize;

use super::config::Zero;
use super::memory::{Buckets, Of, Place};
use super::placement::{Placement, PlacementInput, StageCosts};
use crate::model::Passes;
use crate::tensor::DType;

/// Speeds of the machines that run a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// FLOP/s that a rank reaches in whole training steps.
    pub flops_per_s: f64,
    /// Bytes/s that a rank reads and writes in its own memory.
    pub memory_bytes_per_s: f64,
    /// Bytes/s that a rank sends to a rank of another host.
    pub network_bytes_per_s: f64,
    /// Bytes/s that a rank sends to a rank of its host.
    pub host_bytes_per_s: f64,
    /// Seconds until the first byte of a message is there.
    pub latency_s: f64,
    /// Ranks of one host, neighbours by number.
    pub host_ranks: usize,
}

/// Bytes that a rank of one stage sends in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Gradients on their way to their sum: reduce-scatter.
    pub reduce_scatter: u64,
    /// Sums of gradients (zero 0) or updated weights, from their owners to all: all-gather.
    pub all_gather: u64,
    /// The residual stream to the next stage, and its gradient to the one before.
    pub pipeline: u64,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// What a rank of each stage sends.
    pub traffic: Vec<Traffic>,
    /// Seconds of forward and backward of one micro-batch, by stage.
    pub micro_batch_s: Vec<f64>,
    /// Seconds of all micro-batches, with the pipeline's filling and draining.
    pub compute_s: f64,
    /// The part of the ranks' time in that in which they wait for other stages.
    pub bubble: f64,
    /// Seconds of exchanges among the data ranks that computation does not hide.
    pub exposed_s: f64,
    /// Seconds of exchanges among the data ranks in all, on the stage where they take longest.
    pub exchange_s: f64,
    /// Seconds of sums over local shards and of the update.
    pub update_s: f64,
    /// Seconds of the step.
    pub step_s: f64,
    /// Tokens per second of the whole job.
    pub tokens_per_s: f64,
}

impl Forecast {
    /// For `placement` of `input` on ranks like `machine`.
    pub fn of(input: &PlacementInput, placement: &Placement, machine: &Machine) -> Self {
        let stages: Vec<Stage<'_>> = (0..input.stages)
            .map(|stage| Stage::new(input, machine, stage, placement.stages[stage].len()))
            .collect();
        let job = &input.job;
        let micro_batches = job.micro_batches(input.data_ranks()) as f64;
        let times: Vec<f64> = stages.iter().map(Stage::micro_batch_s).collect();
        let all: f64 = times.iter().sum();
        let slowest = times.iter().copied().fold(0.0, f64::max);
        // A first micro-batch passes all stages; the others follow at the pace of the slowest.
        let mut passes_s = all + (micro_batches - 1.0) * slowest;
        if job.is_breadth_first() {
            // A stage hands on nothing before its last layer, which alone overlaps with the next.
            let layers = placement.stages.iter().map(|layers| layers.len() as f64);
            let mut before = times.iter().zip(layers);
            let last = before.next_back().map_or(0.0, |(t, _)| micro_batches * t);
            let chain = before.map(|(t, n)| t * (micro_batches * (1.0 - 1.0 / n) + 1.0 / n));
            passes_s = passes_s.max(chain.sum::<f64>() + last);
        }
        let compute_s = passes_s + 2.0 * (input.stages - 1) as f64 * stages[0].hop_s();
        let busy = micro_batches * all / (input.stages as f64 * compute_s);
        let longest = |of: fn(&Stage<'_>) -> f64| stages.iter().map(of).fold(0.0, f64::max);
        let exposed_s = longest(|stage| stage.exposed_s());
        let update_s = longest(|stage| stage.update_s());
        let step_s = compute_s + exposed_s + update_s;
        let tokens = job.batch_sequences as f64 * job.seq_len as f64;
        Self {
            traffic: stages.iter().map(Stage::traffic).collect(),
            micro_batch_s: times,
            compute_s,
            bubble: 1.0 - busy,
            exposed_s,
            exchange_s: longest(|stage| stage.reduce_s() + stage.gather_s()),
            update_s,
            step_s,
            tokens_per_s: tokens / step_s,
        }
    }
}

/// A stage of a pipeline on some machine.
struct Stage<'a> {
    input: &'a PlacementInput,
    machine: &'a Machine,
    place: Place,
    /// Elements of its weights.
    weights: f64,
    /// Elements of their gradients.
    gradients: f64,
    /// Bytes that all data ranks gather in a step: sums of gradients, or weights, those of the
    /// blocks twice where they are not kept.
    gathered: f64,
    /// Buckets that are exchanged one by one.
    buckets: f64,
}

impl<'a> Stage<'a> {
    fn new(input: &'a PlacementInput, machine: &'a Machine, stage: usize, layers: usize) -> Self {
        let (place, dims) = (input.place_of(stage, layers), &input.job.dims);
        let weights = Buckets::new(dims, &place, Of::Weights);
        let gradients = Buckets::new(dims, &place, Of::Gradients);
        let gathered = match input.job.zero {
            Zero::Nothing => 4 * gradients.elements(),
            Zero::Moments | Zero::Gradients => 4 * weights.elements(),
            Zero::Weights => {
                let precision = input.job.precision;
                let blocks = layers as u128 * weights.entering_block(dims, precision);
                weights.entering(dims, precision, |count| count) + blocks
            }
        };
        Self {
            input,
            machine,
            place,
            weights: weights.elements() as f64,
            gradients: gradients.elements() as f64,
            gathered: gathered as f64,
            buckets: gradients.len() as f64,
        }
    }

    fn zero(&self) -> Zero {
        self.input.job.zero
    }

    fn micro_batches(&self) -> f64 {
        self.input.job.micro_batches(self.place.data_ranks) as f64
    }

    fn traffic(&self) -> Traffic {
        let ranks = self.place.data_ranks as f64;
        let others = (ranks - 1.0) / ranks;
        let boundaries = usize::from(self.place.stage > 0)
            + usize::from(self.place.stage + 1 < self.place.stages);
        Traffic {
            reduce_scatter: (others * 4.0 * self.gradients) as u64,
            all_gather: (others * self.gathered) as u64,
            pipeline: (boundaries as f64 * self.micro_batches() * self.boundary_bytes()) as u64,
        }
    }

    /// Bytes of a micro-batch's residual stream.
    fn boundary_bytes(&self) -> f64 {
        self.input.job.stream_bytes() as f64
    }

    /// Seconds from one stage to the next.
    fn hop_s(&self) -> f64 {
        let inside = self.input.memory_bytes.len() <= self.machine.host_ranks;
        self.machine.latency_s + self.boundary_bytes() / self.machine.bandwidth(inside)
    }

    fn micro_batch_s(&self) -> f64 {
        let costs = StageCosts::of(&self.input.job);
        let flops = costs.stage(self.place.stage, self.place.stages, self.place.layers);
        flops as f64 * self.input.job.rows() as f64 / self.machine.flops_per_s
    }

    /// Seconds to sum the gradients of all data ranks; what a rank keeps halves at every level.
    fn reduce_s(&self) -> f64 {
        self.exchange_s(4.0 * self.gradients)
    }

    /// Seconds of all gathering: the same levels backwards.
    fn gather_s(&self) -> f64 {
        self.exchange_s(self.gathered)
    }

    fn exchange_s(&self, mut bytes: f64) -> f64 {
        let (mut distance, mut seconds) = (1, 0.0);
        while distance < self.place.data_ranks {
            bytes /= 2.0;
            let inside = 2 * distance <= self.machine.host_ranks;
            seconds +=
                self.buckets * self.machine.latency_s + bytes / self.machine.bandwidth(inside);
            distance *= 2;
        }
        seconds
    }

    /// Seconds of exchanges that nothing hides.
    fn exposed_s(&self) -> f64 {
        let (reduce, gather) = (self.reduce_s(), self.gather_s());
        let backward_part =
            if self.input.job.passes == Passes::Recomputed { 0.75 } else { 2.0 / 3.0 };
        let all = self.micro_batch_s() * self.micro_batches();
        // Gradients are final when the last micro-batch has passed; in breadth-first order those
        // of a layer are final while the layers below it are at work.
        let breadth_first = self.input.job.is_breadth_first();
        let window = backward_part * if breadth_first { all } else { self.micro_batch_s() };
        // What is under way when the last layer is done has nothing left to hide behind.
        let tail = reduce / self.buckets;
        let hidden = |seconds: f64, window: f64| (seconds - window).max(0.0);
        match self.zero() {
            Zero::Nothing => hidden(reduce + gather, window).max(2.0 * tail),
            Zero::Moments | Zero::Gradients => hidden(reduce, window).max(tail) + gather,
            Zero::Weights => {
                let backward = backward_part * all;
                hidden(gather / 2.0, all - backward).max(gather / (2.0 * self.buckets))
                    + hidden(gather / 2.0 + reduce, backward).max(tail)
            }
        }
    }

    /// Seconds of what reads and writes all gradients or moments once: sums of local shards (two
    /// read, one written), then AdamW (four read, three written, and what is rounded) on what the
    /// rank owns.
    fn update_s(&self) -> f64 {
        let ranks = self.place.data_ranks as f64;
        let sums = (self.input.job.shards as f64 / ranks - 1.0).max(0.0);
        let owned = if self.zero() == Zero::Nothing { 1.0 } else { ranks };
        let rounded = match self.input.job.precision.activations() {
            DType::F32 => 0.0,
            dtype => dtype.size_bytes() as f64,
        };
        let bytes = 12.0 * sums * self.gradients + (28.0 + rounded) * self.weights / owned;
        bytes / self.machine.memory_bytes_per_s
    }
}

impl Machine {
    fn bandwidth(&self, inside_host: bool) -> f64 {
        if inside_host { self.host_bytes_per_s } else { self.network_bytes_per_s }
    }
}

//! Memory of one rank by class, predicted from the job and the rank's place alone.

use std::fmt;

use serde::Serialize;

use super::config::Zero;
use super::plan::BLOCK_ELEMENTS;
use crate::model::ActivationSizes;
use crate::model::Dims;
use crate::model::Passes;
use crate::model::WeightSizes;

/// What a training asks of its ranks, however many there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The model's extents.
    pub dims: Dims,
    /// Sequences of an optimizer step.
    pub batch_sequences: usize,
    /// Sequences at once.
    pub micro_batch_sequences: usize,
    /// Tokens in a sequence.
    pub seq_len: usize,
    /// Logical shards S of the batch.
    pub shards: usize,
    /// What the data ranks of a stage divide among them.
    pub zero: Zero,
    /// Whether activations are stored or recomputed; [`Passes::Forward`] is a model that only
    /// evaluates.
    pub passes: Passes,
}

/// A rank's place in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Stages in all.
    pub stages: usize,
    /// The rank's stage, from 0.
    pub stage: usize,
    /// Blocks on this stage.
    pub layers: usize,
    /// Ranks that share a stage.
    pub data_ranks: usize,
}

/// Bytes of one rank by class: of the data rank of a stage that has the largest slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RankMemory {
    /// f32 weights that the rank keeps.
    pub weights: u64,
    /// Whole weights of the layers at work, where the rank keeps slices (zero 3).
    pub gathered: u64,
    /// f32 gradients: of all weights (a tied head has its own), or slices of them.
    pub gradients: u64,
    /// Gradients of shards that wait for their sibling in the tree of sums, and, where gradients
    /// are kept in slices, those of the layer at work.
    pub tree: u64,
    /// AdamW's two f32 moments.
    pub moments: u64,
    /// What forward keeps, of all micro-batches under way.
    pub activations: u64,
    /// Gradients of activations.
    pub scratch: u64,
    /// Logits of some rows at a time.
    pub logits: u64,
    /// Packed operands of matrix products.
    pub packing: u64,
    /// Sums and layer boundaries on their way between ranks.
    pub communication: u64,
    /// Evaluation between steps: forward only, one sequence at a time.
    pub evaluation: u64,
    /// The program itself, its libraries, threads and tables.
    pub program: u64,
}

impl Place {
    /// The only rank of a job.
    pub fn alone(dims: &Dims) -> Self {
        Self { stages: 1, stage: 0, layers: dims.layers, data_ranks: 1 }
    }

    fn is_first(&self) -> bool {
        self.stage == 0
    }

    fn is_last(&self) -> bool {
        self.stage + 1 == self.stages
    }
}

impl Job {
    /// Micro-batches that each data rank computes in a step.
    pub fn micro_batches(&self, data_ranks: usize) -> usize {
        (self.batch_sequences / (data_ranks * self.micro_batch_sequences).max(1)).max(1)
    }

    /// Rows of tokens in a micro-batch.
    pub fn rows(&self) -> u128 {
        self.micro_batch_sequences as u128 * self.seq_len as u128
    }

    /// Whether a layer's gradients of the whole step come one after another, before those of the
    /// layer below it, so that only one layer's need be whole at a time.
    pub fn is_breadth_first(&self, stages: usize) -> bool {
        stages == 1 && self.zero >= Zero::Gradients
    }

    /// Micro-batches whose activations a rank holds at a time.
    pub fn slots(&self, place: &Place) -> usize {
        let micro_batches = self.micro_batches(place.data_ranks);
        if self.passes == Passes::Forward {
            1
        } else if self.is_breadth_first(place.stages) {
            micro_batches
        } else {
            (place.stages - place.stage).min(micro_batches)
        }
    }
}

/// A group of tensors that is whole at a time: the embedding, one block, the final norm and head.
pub(super) type Group = Vec<u128>;

/// The groups of a stage in the order of forward: (group, how many of them).
pub(super) fn groups(dims: &Dims, place: &Place) -> Vec<(Group, u128)> {
    let sizes = WeightSizes::of(dims);
    let mut groups = Vec::new();
    if place.is_first() {
        groups.push((vec![sizes.embedding], 1));
    }
    groups.push((sizes.block.to_vec(), place.layers as u128));
    if place.is_last() {
        // With one stage a tied head is the embedding's table; else the last stage has a copy.
        let is_own = !dims.tied || !place.is_first();
        let head = is_own.then_some(sizes.head);
        groups.push(([sizes.final_norm].into_iter().chain(head).collect(), 1));
    }
    groups
}

/// Elements of a group's largest slice among `ranks` ranks.
pub(super) fn slice(group: &Group, ranks: usize) -> u128 {
    let block = BLOCK_ELEMENTS as u128;
    let of_tensor = |&len: &u128| (len.div_ceil(block).div_ceil(ranks as u128) * block).min(len);
    group.iter().map(of_tensor).sum()
}

impl RankMemory {
    /// What a rank at `place` needs for `job`.
    pub fn of(job: &Job, place: &Place) -> Self {
        let acts = ActivationSizes::of(&job.dims, job.micro_batch_sequences, job.seq_len);
        let trains = job.passes != Passes::Forward;
        let mut memory = Self {
            activations: bytes(activations(job, place, &acts)),
            scratch: bytes(if trains { acts.gradients } else { 0 }),
            logits: bytes(if place.is_last() { acts.logits } else { 0 }),
            packing: bytes(acts.packing),
            program: PROGRAM_BYTES,
            ..Self::default()
        };
        memory.add_state(job, place);
        if trains {
            let alone = Job { micro_batch_sequences: 1, passes: Passes::Forward, ..job.clone() };
            let one = ActivationSizes::of(&job.dims, 1, job.seq_len);
            let logits = if place.is_last() { one.logits } else { 0 };
            memory.evaluation = bytes(activations(&alone, place, &one) + logits);
        }
        memory
    }

    /// Weights, gradients, moments, and what moves of them.
    fn add_state(&mut self, job: &Job, place: &Place) {
        let groups = groups(&job.dims, place);
        let whole = |group: &Group| group.iter().sum::<u128>();
        let total = |size: &dyn Fn(&Group) -> u128| -> u128 {
            groups.iter().map(|(group, count)| size(group) * count).sum()
        };
        let (all, sliced) = (total(&whole), total(&|group| slice(group, place.data_ranks)));
        let largest = groups.iter().map(|(group, _)| whole(group)).max().unwrap_or(0);
        let divides = |from: Zero| job.zero >= from && place.data_ranks > 1;
        if divides(Zero::Weights) {
            self.weights = bytes(sliced);
            // The next layer's arrive while this one's are at work.
            self.gathered = bytes(2 * largest);
        } else {
            self.weights = bytes(all);
        }
        if job.passes == Passes::Forward {
            return;
        }
        self.moments = bytes(2 * if divides(Zero::Moments) { sliced } else { all });
        // A binary counter: one finished sum a level waits while the next shard is computed.
        let local_shards = (job.shards / place.data_ranks).max(1);
        let waiting = u128::from(local_shards.ilog2());
        let own_head = job.dims.tied && place.is_first() && place.is_last();
        let tied = if own_head { WeightSizes::of(&job.dims).head } else { 0 };
        if job.is_breadth_first(place.stages) {
            self.gradients = bytes(sliced + tied.div_ceil(place.data_ranks as u128));
            self.tree = bytes((waiting + 1) * largest);
        } else {
            self.gradients = bytes(all + tied);
            self.tree = bytes(waiting * (all + tied));
        }
        if place.data_ranks > 1 {
            // Half a group comes in while half of another goes out.
            self.communication = bytes(largest);
        }
        if place.stages > 1 {
            // Two boundaries in each direction, each once on its way in and once out.
            self.communication += bytes(4 * job.rows() * job.dims.width as u128);
        }
    }

    /// All classes together.
    pub fn total(&self) -> u64 {
        self.rows().iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Classes by name, in the order of tables.
    pub fn rows(&self) -> [(&'static str, u64); 12] {
        [
            ("weights (f32)", self.weights),
            ("gathered weights", self.gathered),
            ("gradients (f32)", self.gradients),
            ("tree of sums", self.tree),
            ("moments (2 x f32)", self.moments),
            ("activations", self.activations),
            ("activation gradients", self.scratch),
            ("logits", self.logits),
            ("packed operands", self.packing),
            ("communication", self.communication),
            ("evaluation", self.evaluation),
            ("program", self.program),
        ]
    }
}

/// Elements of what forward keeps: in the slots of the micro-batches under way, and shared by all.
fn activations(job: &Job, place: &Place, acts: &ActivationSizes) -> u128 {
    let (layers, slots) = (place.layers as u128, job.slots(place) as u128);
    let (in_slot, shared) = match job.passes {
        // The stream in two tensors in turn.
        Passes::Forward => (2 * acts.stream, acts.block + acts.stream),
        Passes::Stored => (layers * (acts.block + 2 * acts.stream) + acts.stream, 0),
        Passes::Recomputed => ((layers + 1) * acts.stream, acts.block + acts.stream),
    };
    let head = if place.is_last() { acts.stream + acts.tokens } else { 0 };
    // A slot has tokens, targets and losses; what a sublayer adds to the stream is shared.
    slots * (in_slot + 3 * acts.tokens) + shared + acts.stream + head
}

/// Bytes of `elements` elements; what no number holds is more than any machine has.
fn bytes(elements: u128) -> u64 {
    u64::try_from(4 * elements).unwrap_or(u64::MAX)
}

impl fmt::Display for RankMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, bytes: u64| {
            writeln!(f, "  {name:22} {:>12.1} MiB", bytes as f64 / f64::from(1 << 20))
        };
        for (name, bytes) in self.rows() {
            if bytes > 0 {
                line(f, name, bytes)?;
            }
        }
        line(f, "total", self.total())
    }
}

/// Measured with a model of some thousand weights: code, libraries and stacks.
const PROGRAM_BYTES: u64 = 11 << 20;
